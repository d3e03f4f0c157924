/* A processor whose client and handler are the test: fake triggers and a fake runtime on real
 * loops, pools and events. Loops without threads run in the test's thread, by fake_pass. */
#ifndef TESTS_SUPPORT_FAKE_H
#define TESTS_SUPPORT_FAKE_H

#include "processor/config/config.h"
#include "processor/core/loop.h"
#include "processor/event.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

enum { FAKE_LOOPS = 4, FAKE_POOLS = 4, FAKE_TRIGGERS = 6, FAKE_SLOTS = 32, FAKE_CALLS = 256 };

struct fake_pool_options {
    const struct st_runtime_kind *runtime; /* NULL: fake_runtime_kind */
    unsigned workers;                      /* 0: 1 */
    uint64_t wait_ns, event_timeout_ns;
    uint32_t max_queue;
    uint64_t max_queue_bytes;
    uint32_t batch_size;
    uint64_t batch_wait_ns;
};

struct fake_trigger_options {
    const struct st_trigger_kind *kind; /* NULL: fake_trigger_kind */
    unsigned pool;                      /* index */
};

struct fake_options {
    unsigned loops;    /* 0: 1 */
    bool threads;      /* loops run on threads of their own */
    bool manual_spawn; /* the test says whether workers start */
    bool manual_stop;  /* the test says when workers have stopped */
    bool slow;         /* bytes of streams are not sent before the test says so */
    uint32_t credits;  /* of a new worker of fake_runtime_kind; 0: 1 */
    unsigned pools;    /* 0: 1 */
    unsigned triggers; /* 0: 1 */
    struct fake_pool_options pool[FAKE_POOLS];
    struct fake_trigger_options trigger[FAKE_TRIGGERS];
};

/* What invoke() was given. */
struct fake_call {
    struct st_worker *w;
    struct st_event *ev;
    uint32_t assignment;
};

struct fake {
    struct fake_options options;
    struct st_config config;
    struct st_processor p;
    struct st_loop loops[FAKE_LOOPS];
    struct st_slot slots[FAKE_SLOTS];
    struct st_runtime runtimes[FAKE_POOLS];
    struct st_pool *pools[FAKE_POOLS];
    struct st_trigger triggers[FAKE_TRIGGERS];
    struct st_trigger *trigger_list[FAKE_TRIGGERS];
    struct st_trigger_loop trigger_loops[FAKE_TRIGGERS][FAKE_LOOPS];

    /* By fake_runtime_kind */
    struct fake_call calls[FAKE_CALLS]; /* in order */
    unsigned call_count, spawned, abandoned, stopped, batches;
    struct st_worker *last_abandoned;
};

/* What became of an event; outlives it. On its home loop. */
struct fake_answer {
    struct st_event *ev; /* NULL: released */
    unsigned completed, released, detached;
    int fail_detach; /* what detach() returns */
    enum st_outcome outcome;
    unsigned status;
    bool streamed;
    char *log; /* "head ", "piece:<text> ", "answer:<text>" as they came */
    size_t log_len;
    size_t unsent; /* bytes of the stream that the slow client has not taken */
    size_t bytes;  /* of the stream */
};

/* Events of fake_trigger_kind. Freed by release(), so that AddressSanitizer sees who is late. */
struct fake_event {
    struct st_event ev; /* first: release() gets it */
    struct fake_answer *answer;
    char *body;
    char space[256];
};

extern const struct st_trigger_kind fake_trigger_kind; /* can stream */
extern const struct st_trigger_kind fake_plain_kind;   /* can not */
extern const struct st_runtime_kind fake_runtime_kind;
extern const struct st_runtime_kind fake_process_kind; /* restart() counts as abandoned */
extern const struct st_runtime_kind fake_inline_kind;  /* its invoke() answers OK at once */

/* Loops, pools and triggers; workers are spawned, but with manual_spawn ready. */
void fake_open(struct fake *f, const struct fake_options *options);

/* Everything was released and every worker has stopped; but workers of abandoned fakes may be
 * stuck. */
void fake_close(struct fake *f);

struct fake *fake_of(struct st_processor *p);

/* One pass of a loop without thread that doesn't wait for anything. */
void fake_pass(struct st_loop *loop);

/* Passes of all loops without threads, until ms have passed. */
void fake_wait(struct fake *f, unsigned ms);
void fake_sleep_ms(unsigned ms);

/* An event with a body of its own (copied), not dispatched yet. Home loop. */
struct fake_answer *fake_new(struct fake *f, unsigned trigger, unsigned loop, const char *body);

/* The same, dispatched. */
struct fake_answer *fake_send(struct fake *f, unsigned trigger, unsigned loop, const char *body);

/* Asserts that it was completed and released once. */
void fake_free(struct fake_answer *a);

/* The worker of the call starts the event; false: somebody took it back. */
bool fake_begin(struct fake_call *c);

/* The worker's event is over, its result is `outcome`. Grants nothing. w->loop and home. */
void fake_end(struct fake_call *c, enum st_outcome outcome);

/* Begins, ends with OK and grants one credit. */
void fake_serve(struct fake_call *c);

/* Walks the pool's lists: state == list, counters == lengths, credits and running agree with the
 * state; panics otherwise. Returns how many workers there are. */
unsigned fake_check_pool(struct st_pool *pool);

/* Stops every pool (once) and passes until all are stopped. */
void fake_stop(struct fake *f);

#endif
