/* The worker's ends of the two rings, and its pool. The main thread consumes; sections are sent
 * under the lock (host.h). */
#ifndef RUNTIMES_NATIVE_PROCESS_HOST_LINK_H
#define RUNTIMES_NATIVE_PROCESS_HOST_LINK_H

#include "processor/core/base.h"
#include "runtimes/process/wire.h"

/* Maps the memory; ends the worker when it makes no sense. */
void st_link_open(void);

/* Begins the next EVENT or BATCH; NULL: there is none. It stays where it is until the next
 * st_link_release. Records of other kinds before it have been passed to st_host_other. */
const struct st_wire_record *st_link_begin(void);

/* Passes on records of other kinds, also behind events that have not been begun. */
void st_link_scan(void);

/* Records that were begun are not needed any more; lazy: unless they are too few to matter. */
void st_link_release(bool lazy);

/* A part of a record. */
struct st_link_part {
    enum st_wire_id id;
    struct st_slice bytes; /* an empty part is left out, but for a KEY that has a pointer */
};

/* Sends a record of these parts; waits for room. */
void st_link_send(enum st_wire_kind kind, uint8_t flags, uint64_t seq,
                  const struct st_link_part *parts, size_t count);

/* Most bytes that the parts of a record may have. */
size_t st_link_max_bytes(void);

/* Bytes of the event's body, wherever it lies. */
struct st_slice st_link_down_body(const struct st_wire_ref *ref);

/* The pool to the processor: copies the body there. False: it is full. */
bool st_link_put_body(struct st_slice body, struct st_wire_ref *ref);
void st_link_free_body(const struct st_wire_ref *ref);

/* Wakes the processor if it sleeps and there is something new for it; late: only when that waits
 * for 50 us already. */
void st_link_announce(void);
void st_link_announce_late(uint64_t now_ns);

/* Sleeps until there is something to read: a record behind the last one that was begun, or, where
 * events must wait, behind those that st_link_scan saw; a control message, which is read; or
 * st_link_poke. */
void st_link_sleep(bool events_wait);

/* Reads control messages that are there. */
void st_link_poll(void);

/* Another thread has something for the main one. */
void st_link_poke(void);

#endif
