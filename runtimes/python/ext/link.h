/* The worker's end of the data plane: docs/wire.md, "Shared memory". One thread uses it, the one
 * that runs the worker's loop and holds the GIL. */
#ifndef RUNTIMES_PYTHON_EXT_LINK_H
#define RUNTIMES_PYTHON_EXT_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtimes/process/wire.h"

/* What a record of another kind than EVENT and BATCH does; `arg` is py_link.arg. */
typedef void py_link_fn(void *arg, const struct st_wire_record *record);

struct py_link {
    char *map;
    size_t map_size;
    struct st_wire_ring *down, *up; /* to the worker, to the processor */
    char *down_base, *up_base, *pool[2];
    uint64_t down_size, up_size, pool_size[2];
    uint64_t next;      /* the first record that has not been begun */
    uint64_t seen;      /* records of other kinds before it, or before `next`, were passed on */
    uint64_t released;  /* head, as it was stored */
    uint64_t tail;      /* of the ring to the processor */
    uint64_t silent_ns; /* since when a record waits to be announced; 0: none does */
    unsigned unread;    /* wake-ups that may lie in the pipe, at most */
    int wake_fd, peer_fd, control_fd, epoll_fd;
    py_link_fn *other;
    void *arg;
};

enum py_ready { PY_READY_CONTROL = 1, PY_READY_WAKE = 2 };

/* Maps the memory and looks at its header. 0, or -1 with a Python exception. The descriptors stay
 * the caller's. */
int py_link_open(struct py_link *link, int memory_fd, int wake_fd, int peer_fd, int control_fd);
void py_link_close(struct py_link *link);

/* Begins the next EVENT or BATCH and returns it; NULL: there is none, or, with an exception set,
 * the ring makes no sense. It stays where it is until py_link_release. */
const struct st_wire_record *py_link_take(struct py_link *link);

/* Passes on records of other kinds that lie behind events which have not been begun. */
void py_link_scan(struct py_link *link);

/* All records that were begun are not needed any more. `lazy`: unless it is too few to matter. */
void py_link_release(struct py_link *link, bool lazy);

/* Room for a record of `size` bytes (16-aligned, at most py_link_max_record). Waits for it without
 * the GIL. NULL with an exception: the processor is gone. Nothing else may be reserved before it is
 * committed. */
char *py_link_reserve(struct py_link *link, size_t size);
size_t py_link_max_record(const struct py_link *link);

/* The record is there. `now_ns`: when it was made, for py_link_is_late; 0: now. */
void py_link_commit(struct py_link *link, size_t size, uint64_t now_ns);

/* Records have waited long enough to be announced. */
bool py_link_is_late(const struct py_link *link, uint64_t now_ns);

/* Wakes the processor if it sleeps and there is something new for it. */
void py_link_announce(struct py_link *link);

/* Sleeps, without the GIL, until there is a record behind `looked` or a control message; at most
 * timeout_ms (-1: for ever). Bits of enum py_ready, or -1 with an exception of a signal handler. */
int py_link_sleep(struct py_link *link, uint64_t looked, int timeout_ms);

/* For a caller that sleeps elsewhere: tells the processor to write the pipe (false: there is
 * something already, do not sleep), and that it need not any more. */
bool py_link_doze(struct py_link *link, uint64_t looked);
void py_link_awake(struct py_link *link);

/* What is ready just now, without waiting: bits of enum py_ready. */
int py_link_poll(struct py_link *link);

uint64_t py_link_tail(const struct py_link *link);

/* CLOCK_MONOTONIC. */
uint64_t py_clock_ns(void);

#endif
