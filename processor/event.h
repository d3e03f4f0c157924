/* The event: one thing to handle, its memory, its one answer.
 *
 * Ownership. An event lives until its last reference is gone; references are held by its home loop
 * (from st_event_init until it is answered), by the worker that has it, by a deferred token, by
 * holds and by open streams. "Answered" and "released" differ: a timed-out event is answered while
 * its worker still reads it. The object goes back to its trigger on its home loop, whoever drops
 * the last reference.
 *
 * Threads. Fields marked [home] are touched by the home loop only. The description is written
 * before dispatch and constant afterwards. `arena` and `result` belong to the home loop until a
 * worker claims the event, then to that worker, then to the home loop again when the result has
 * come back.
 *
 * Claim. `claim` decides races over an event that waits in a worker's channel: it holds
 * {assignment number, state}, and whoever changes WAITING by compare-and-swap owns the next step.
 */
#ifndef PROCESSOR_EVENT_H
#define PROCESSOR_EVENT_H

#include <stdatomic.h>
#include <sys/queue.h>

#include "processor/core/arena.h"
#include "processor/core/base.h"
#include "processor/core/buf.h"
#include "processor/core/mailbox.h"
#include "processor/core/timer.h"
#include "processor/net/http_msg.h"

struct st_emit;
struct st_event_log;
struct st_loop;
struct st_pool;
struct st_trigger;
struct st_worker;

STAILQ_HEAD(st_emit_list, st_emit);

enum { ST_EVENT_MAGIC = 0x65766e74 };

/* How an event ended. */
enum st_outcome {
    ST_OUTCOME_OK,
    ST_OUTCOME_ERROR,     /* the handler failed: status and body say how */
    ST_OUTCOME_RETRY,     /* the handler wants it again; retry_after_ms */
    ST_OUTCOME_REJECT,    /* the handler never wants it again; body is the reason */
    ST_OUTCOME_DEFER,     /* no result yet: a token will bring it; never finished with this */
    ST_OUTCOME_TIMEOUT,   /* eventTimeout passed */
    ST_OUTCOME_NO_WORKER, /* no worker within the wait, or the queue is full */
    ST_OUTCOME_NO_MEMORY, /* bodyMemory is used up */
    ST_OUTCOME_CRASH,     /* the worker died or broke its protocol; body is the text */
    ST_OUTCOME_CANCELLED  /* nobody waits for the answer any more */
};

/* A result. Slices live as long as the event, but for what body_owner holds. */
struct st_result {
    enum st_outcome outcome;
    uint16_t status;              /* HTTP terms; 0: by outcome */
    bool streamed;                /* the body has left in pieces: only the end is missing */
    uint32_t retry_after_ms;      /* 0: unknown */
    struct st_slice content_type; /* empty: the default of the runtime */
    const struct st_header *headers;
    size_t header_count;
    struct st_slice body;
    struct st_buf body_owner; /* empty, or keeps the body's bytes alive */
};

/* Where an event stands in its source. */
struct st_position {
    struct st_slice topic;
    int32_t shard;   /* partition; -1: none */
    uint32_t shards; /* 0: unknown */
    uint64_t hi, lo; /* Kafka: hi = offset; Redis: milliseconds and sequence */
};

enum st_claim_state {
    ST_CLAIM_WAITING,
    ST_CLAIM_RUNNING,
    ST_CLAIM_CANCELLED,
    ST_CLAIM_DONE /* it ran: the result is on its way, nobody is stuck in it */
};

enum st_event_flag {
    ST_EVENT_BORROWS = 1,        /* bytes lie in a buffer of the trigger: detach before they go */
    ST_EVENT_BODY_STREAMING = 2, /* reserved: the body is not whole */
    ST_EVENT_TOMBSTONE = 4,      /* a message without a value, which is not an empty one */
    ST_EVENT_PATIENT = 8,        /* waits for a worker for ever: its source keeps it anyway */
    ST_EVENT_UNREAD = 16         /* borrows, and st_event_read makes its headers */
};

struct st_event {
    uint32_t magic;
    uint32_t flags;
    atomic_uint refs;
    atomic_uint claim; /* assignment << 2 | enum st_claim_state */

    struct st_trigger *trigger;
    struct st_loop *home;
    struct st_worker *worker;    /* that it is assigned to, or NULL; under the pool's lock */
    TAILQ_ENTRY(st_event) link;  /* in the pool's queue; under the pool's lock */
    uint32_t bound;              /* index + 1 of the worker that alone may have it; 0: any */
    uint32_t group;              /* of a batch made by its trigger; 0: the pool makes batches */
    bool in_queue;               /* under the pool's lock */
    bool answered;               /* [home] */
    bool has_result;             /* [home] result is there, holds delay the answer */
    bool counted;                /* [home] left the inline path: in the in-flight gauge */
    bool pending;                /* [home] was submitted to the pool */
    bool watched;                /* [home] answered, but its worker is still watched */
    int hold_error;              /* [home] of the first hold that failed */
    uint32_t holds;              /* [home] */
    char *hold_text;             /* [home] what it said, while others hold; or NULL */
    struct st_emit_list emits;   /* [home] that hold it; processor/output.c only */
    _Atomic uint32_t token;      /* processor/deferred.c only; 0: never deferred */
    struct st_mail mail;         /* for the one hand-over between loops that is under way */
    struct st_timer timer;       /* [home] end of the wait for a worker, then eventTimeout */
    uint64_t queued_ns;          /* when it began to wait for a worker; under the pool's lock */
    uint64_t arrived_ns;         /* CLOCK_MONOTONIC of the pass in which it was complete */
    _Atomic uint64_t started_ns; /* when the handler began; 0: not yet. Written by the worker */
    struct st_stream *_Atomic stream; /* streamed answer, or NULL; set once by the worker */
    struct st_event_log *log; /* what its client asked for, or NULL; constant once dispatched */

    /* Description */
    uint8_t id[16]; /* UUIDv7 */
    struct st_slice method, target, path, query, scheme, content_type;
    struct st_headers headers;
    struct st_slice body;
    struct st_buf body_owner;   /* empty: the body lies in borrowed or arena memory */
    const struct st_peer *peer; /* NULL: the source has none */
    struct st_slice key;
    struct st_position position;
    struct st_slice trace_parent;
    uint64_t timestamp_ns; /* of the source, since the epoch */
    uint64_t deadline_ns;  /* CLOCK_MONOTONIC; 0: none. Not begun by then: answered TIMEOUT */
    uint32_t attempt;      /* from 1 */
    uint16_t http_version; /* 11, 10; 0: not HTTP */

    struct st_arena arena;
    struct st_result result;
};

TAILQ_HEAD(st_event_list, st_event);

/* What a trigger keeps of an event that it has let go of while emits hold it (st_outputs_keep).
 * Home loop. */
struct st_keep {
    /* The last hold has ended: 0, or the error of the first that failed and its text, valid during
     * the call. */
    void (*done)(struct st_keep *keep, int status, const char *text);

    /* event.c only */
    struct st_trigger *trigger;
    struct st_loop *home;
    uint64_t arrived_ns;
    char *text;
    int error;
    uint32_t holds; /* 0: not in use */
};

/* Starts an event of the trigger on its home loop with one reference, the home loop's. The memory
 * at `space` is the first block of its arena and part of the trigger's object. id and arrival are
 * set; slices are empty, shard is -1, attempt 1. */
void st_event_init(struct st_event *ev, struct st_trigger *trigger, struct st_loop *home,
                   void *space, size_t space_size);

/* Another reference; from a thread that holds one. */
static inline void st_event_ref(struct st_event *ev)
{
    atomic_fetch_add_explicit(&ev->refs, 1, memory_order_relaxed);
}

/* Any thread. The last one frees the arena and the body and gives the object to the trigger's
 * release(), on the home loop. */
void st_event_unref(struct st_event *ev);

/* Makes the event independent of its trigger's buffers: slices move. Home loop; before anything
 * that may keep the event beyond the call of st_dispatch. 0 or ST_ERR_NOMEM: no body memory is
 * left. */
int st_event_detach(struct st_event *ev) ST_MUST_CHECK;

void st_event_read_unread(struct st_event *ev); /* for st_event_read */

/* headers and content_type are there when this returns. Home loop, or once it borrows no more,
 * when they always are. */
static inline void st_event_read(struct st_event *ev)
{
    if (st_unlikely((ev->flags & ST_EVENT_UNREAD) != 0))
        st_event_read_unread(ev);
}

/* The event will outlive the call of st_dispatch: detaches and counts it, starts its timeout, which
 * runs from now. Home loop, once; called for inline events that are deferred or held (not
 * ev->counted), while their handler runs. 0 or ST_ERR_NOMEM. */
int st_event_outlive(struct st_event *ev) ST_MUST_CHECK;

/* The id as text, 36 characters and a NUL, in the arena. */
struct st_slice st_event_id_text(struct st_event *ev);
void st_uuid_text(const uint8_t id[16], char out[37]);

/* Delays the answer until the matching unhold, and keeps the event; home loop, before the event is
 * answered. The event must be counted (st_event_outlive). */
void st_event_hold(struct st_event *ev);

/* Ends a hold; status is 0 or a negative enum st_err that turns the result into an error. The last
 * one finishes the event if its result is there or a hold has failed. */
void st_event_unhold(struct st_event *ev, int status);

/* The same; where status is an error, the result has this text (copied), not the status's name. */
void st_event_unhold_as(struct st_event *ev, int status, const char *text);

/* True: an event that its trigger's held() is told of has nothing to it any more but its result and
 * these holds, and can be let go of. */
bool st_event_may_go(const struct st_event *ev, uint32_t holds);

/* Such an event is over without complete(): its holds are the keep's from now on, and what it adds
 * to the metrics is added when the last of them ends. The caller has set keep->done, and drops the
 * home loop's reference, the only one. */
void st_event_go(struct st_event *ev, struct st_keep *keep);

/* As st_event_unhold_as, for a hold of a keep. */
void st_keep_unhold(struct st_keep *keep, int status, const char *text);

/* The result in ev->result is final. Home loop; takes one reference of the caller (the worker's or
 * token's). Late results are counted and dropped; otherwise the event is finished as soon as
 * nothing holds. */
void st_event_complete(struct st_event *ev);

/* As st_event_complete from any thread: travels to the home loop by ev->mail. */
void st_event_complete_from(struct st_event *ev);

/* The one answer: calls the trigger's complete(), counts, and drops the home loop's reference. Home
 * loop; the event must not be answered yet. result may be ev->result or the caller's. */
void st_event_finish(struct st_event *ev, const struct st_result *result);

/* Short for finishing with an outcome, without status and body. */
void st_event_finish_as(struct st_event *ev, enum st_outcome outcome);

/* The source lost interest (client gone). A queued event is finished as CANCELLED; a running one
 * goes on, its result is dropped. Both are counted. Home loop. The trigger's complete() is called
 * at once with CANCELLED. */
void st_event_cancel(struct st_event *ev);

#endif
