/* stator-native-host: a worker process for one native handler. It loads the shared object, takes
 * events from the ring and is the handler's struct stator_host_v1 (docs/wire.md, handler.h).
 *
 * One thread, the main one, runs the handler and reads everything. Others come in by resolve() and
 * log() only: what resolve() shares with the main thread is under one lock, which the main thread
 * takes from the first defer() on. */
#ifndef RUNTIMES_NATIVE_PROCESS_HOST_HOST_H
#define RUNTIMES_NATIVE_PROCESS_HOST_HOST_H

#include <sys/queue.h>
#include <worker.pb-c.h>

#include "processor/core/arena.h"
#include "processor/core/base.h"
#include "processor/core/err.h"
#include "runtimes/native/load.h"
#include "runtimes/process/wire.h"

enum {
    ST_HOST_SECTIONS = ST_WIRE_TEXT + 1,
    ST_HOST_SPACE = 2048, /* of an event's first block */
    ST_HOST_EVENT_MAGIC = 0x6e657674
};

/* What the handler said so far. Outcomes are those of handle(). */
struct st_host_answer {
    int outcome;
    uint16_t status;
    struct st_slice content_type;
    struct st_slice headers; /* as the HEADERS section */
    struct st_slice body;
    bool in_pool; /* the body lies at ref */
    struct st_wire_ref ref;
};

/* Bytes of a stream that its window does not let go yet. */
struct st_host_stream {
    bool open;
    bool ended; /* RESULT follows the last byte */
    bool failed;
    uint64_t window; /* bytes that may be sent */
    char *bytes;     /* [from, to) wait */
    size_t from, to, room;
};

enum st_host_stage {
    ST_HOST_RUNNING, /* in handle() or handle_batch(), or before it */
    ST_HOST_WAITING, /* deferred */
    ST_HOST_ENDING   /* answered; its stream has bytes left */
};

/* An event, which handlers know as stator_event. */
struct st_host_event {
    uint32_t magic;
    enum st_host_stage stage;
    uint64_t seq;
    uint64_t begun_ns;
    struct st_wire_event meta;
    bool is_tombstone;
    struct st_slice sections[ST_HOST_SECTIONS]; /* by enum st_wire_id */
    const struct st_wire_record *record;
    struct stator_header *headers; /* made when somebody asks */
    uint32_t header_count;
    uint32_t retry_after_ms;
    struct st_host_answer answer;
    struct st_host_stream stream;
    bool in_ring; /* its record may go when handle() returns */
    bool logged;
    bool gone;                                        /* CANCEL: nobody waits */
    bool in_callback;                                 /* of on_writable() */
    stator_token token;                               /* 0: none */
    bool resolved;                                    /* `resolution` counts */
    bool has_reply;                                   /* and has more than an outcome */
    void (*on_writable)(stator_event *ev, void *arg); /* NULL: none */
    void *writable_arg;
    struct st_host_answer resolution; /* what resolve() said; in `late` */
    uint64_t duration_ns;
    TAILQ_ENTRY(st_host_event) link; /* of those that outlive handle(), or of unused ones */
    struct st_arena arena, late;
    _Alignas(16) char space[ST_HOST_SPACE];
};

TAILQ_HEAD(st_host_events, st_host_event);

/* The worker. Filled before the handler is called for the first time. */
struct st_host {
    struct st_native_handler handler;
    Stator__Worker__V1__ToWorker *told; /* holds the configuration */
    const Stator__Worker__V1__Configure *configure;
    struct stator_worker_v1 info;
    void *user;
    bool blocking;          /* the handler has no STATOR_NONBLOCKING: write() waits */
    bool stop;              /* Terminate */
    bool draining;          /* Drain: begin nothing, say when nothing runs */
    bool must_tell;         /* that nothing runs any more */
    bool look_for_writable; /* a callback of on_writable() may be due */
    bool shared;            /* other threads may use what the lock is for */
    uint64_t now_ns;        /* end of the last event; 0: long ago */
    uint64_t mean_ns;       /* of recent durations */
    uint32_t credits;       /* events at once that the processor knows of */
    uint32_t lasting;       /* in events */
    struct st_host_event *current;
    struct st_host_events events, unused; /* those that outlive handle(); spare ones */
    size_t batch_count;                   /* places in `batch` */
    /* Those of a batch that the handler has, or will have next; NULL: not any more. */
    struct st_host_event *batch[ST_WIRE_MAX_BATCH];
};

extern struct st_host st_host;

uint64_t st_host_clock(void);

/* The worker can't go on: one line on stderr, which is its log, and the end. */
ST_NORETURN void st_host_die(const char *text);

/* For what several threads use; cheap while there is only one. Nothing of the handler is called
 * between. True: give it back. */
bool st_host_lock(void);
void st_host_unlock(bool locked);

/* main.c: a record of another kind than EVENT and BATCH. */
void st_host_other(const struct st_wire_record *record);

/* event.c */
struct st_slice st_host_section(const struct st_wire_record *record, enum st_wire_id id);
struct st_host_event *st_host_event_new(const struct st_wire_record *record);
void st_host_event_free(struct st_host_event *ev); /* under the lock */

/* Makes it independent of the ring. False: no memory. */
bool st_host_event_keep(struct st_host_event *ev);
extern const struct stator_host_v1 st_host_table;

static inline struct st_host_event *st_host_from(stator_event *event)
{
    struct st_host_event *ev = (struct st_host_event *)event;

    ST_CHECK(ev, ST_HOST_EVENT_MAGIC);
    return ev;
}

static inline stator_event *st_host_to(struct st_host_event *ev)
{
    return (stator_event *)ev;
}

/* answer.c: host functions, and what follows from them. */
int st_host_reply(stator_event *ev, const struct stator_reply *reply);
int st_host_reply_text(stator_event *ev, int status, const char *text);
void st_host_fail(stator_event *ev, int status, const char *text);
void st_host_retry_after(stator_event *ev, uint32_t ms);
void st_host_reject(stator_event *ev, const char *reason);

/* Copies a reply that is ok into the answer, which may hold another one: STATOR_DONE, or
 * STATOR_NOMEM and the answer is as it was. Under the lock. */
int st_host_answer_put(struct st_host_answer *a, struct st_arena *arena,
                       const struct st_host_event *ev, const struct stator_reply *reply);

/* Lets go of a body in the pool. Under the lock. */
void st_host_answer_drop(struct st_host_answer *a);

/* Closes the answer with a result of handle(), or as an error of the handler. Under the lock. */
void st_host_answer_end(struct st_host_event *ev, int rc);
void st_host_answer_failed(struct st_host_event *ev, const char *text);

/* Sends it; the event is over at once, or when its stream is through. Under the lock. */
void st_host_answer_send(struct st_host_event *ev);

/* stream.c */
int st_host_stream_open(stator_event *ev, const struct stator_reply *head);
int st_host_write(stator_event *ev, const void *bytes, size_t len);
int st_host_on_writable(stator_event *ev, void (*fn)(stator_event *ev, void *arg), void *arg);

/* Begins a stream with the answer's head. Under the lock, as the next two. */
void st_host_stream_begin(struct st_host_event *ev);

/* Sends bytes behind what waits. False: no memory. */
bool st_host_stream_put(struct st_host_event *ev, struct st_slice bytes);

/* Sends what the window allows; true: nothing is left. */
bool st_host_stream_flush(struct st_host_event *ev);

void st_host_stream_credit(uint64_t seq, uint32_t n);

/* Runs callbacks of streams that can be written to. True: one ran. */
bool st_host_stream_call(void);

/* emit.c */
int st_host_emit(stator_event *ev, const char *output, const struct stator_message *message);

/* deferred.c */
stator_token st_host_defer(stator_event *ev);
int st_host_resolve(stator_token token, int result, const struct stator_reply *reply);

/* handle() returned: the event goes on by itself, or its answer is sent. */
void st_host_returned(struct st_host_event *ev, int rc);

/* A callback of on_writable() returned. Under the lock. */
void st_host_callback_returned(struct st_host_event *ev);

/* The event outlives handle(). Under the lock. */
void st_host_event_last(struct st_host_event *ev, enum st_host_stage stage);

/* The event that the record is about, or NULL. Under the lock. */
struct st_host_event *st_host_event_find(uint64_t seq);
void st_host_cancel(uint64_t seq);

/* control.c */

/* Says Hello and waits for the configuration. */
void st_host_control_open(void);
void st_host_control_ready(uint32_t credits);
ST_NORETURN void st_host_control_failed(const char *text);
void st_host_control_drained(void);
void st_host_log(stator_event *ev, int level, const char *text); /* any thread */

/* Reads what is there, without waiting. */
void st_host_control_read(void);

#endif
