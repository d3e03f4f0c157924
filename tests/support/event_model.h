/* A model of what lies between triggers and handlers, beside the real thing, on one loop without a
 * thread: who has which event, which references there are, what may be answered now. The operations
 * (tests/unit/test_event_path.c) tell it what is due and call the real functions; the fake kinds
 * here are called back by those and compare. Every broken rule ends the test with its seed. */
#ifndef TESTS_SUPPORT_EVENT_MODEL_H
#define TESTS_SUPPORT_EVENT_MODEL_H

#include "processor/core/rand.h"
#include "tests/support/fake.h"

/* Pools: two triggers share the first, the second never waits, the third is inline, the fourth has
 * workers that ask and no event timeout. */
enum { POOL_SHARED, POOL_EAGER, POOL_INLINE, POOL_PULL, MODEL_POOLS };
enum { TRIGGER_SHARED, TRIGGER_PLAIN, TRIGGER_EAGER, TRIGGER_INLINE, TRIGGER_PULL, MODEL_TRIGGERS };

enum model_place {
    PLACE_NEW,     /* is being dispatched */
    PLACE_TRANSIT, /* on its way to an inline worker that has gone */
    PLACE_QUEUED,
    PLACE_BACK,    /* recalled, is being resubmitted */
    PLACE_SENT,    /* in a worker's channel */
    PLACE_RUNNING, /* begun */
    PLACE_OUT,     /* its handler returned "deferred" */
    PLACE_OVER     /* nobody works on it */
};

struct model_worker {
    struct st_worker *w; /* NULL: free */
    unsigned pool, credits, running;
    unsigned owed; /* events that were done without a new credit */
    bool ready, restarting, draining, stop_called, stuck, abandoned, dead;
};

struct model_stream {
    bool open, head, closed, waits;
    unsigned written, passed; /* pieces */
    size_t pending, unsent, bytes;
};

struct model_event {
    struct st_event ev; /* first */
    TAILQ_ENTRY(model_event) all, queue;
    unsigned pool, trigger;
    enum model_place place;
    struct model_worker *w;
    uint32_t assignment;
    bool due; /* complete() must come in this operation, with: */
    enum st_outcome outcome;
    bool answered, has_result, pending, counted, watched, fail_detach, listed;
    bool worker_ref, token_live, token_issued, early;
    bool coming; /* its result is on its way by mail */
    bool told;   /* its worker is told that nobody waits, by mail */
    enum st_outcome result;
    unsigned holds, refs;
    int hold_error;
    uint64_t token, queued_ns, started_ns;
    struct model_stream s;
    char *body;
    char space[64];
};

TAILQ_HEAD(model_list, model_event);

struct model_pool {
    struct model_list queue;
    unsigned queued, stuck, restarts, spawned;
    uint64_t bytes, count, immediate, after_wait, timeout;
    bool draining;
    struct model_worker *places[4]; /* NULL: not spawned yet */
};

struct model_trigger {
    uint64_t dispatched, ok, failed, late, gone_queued, gone_running, no_worker, no_memory;
    uint64_t in_flight;
};

struct model {
    struct fake f;
    uint64_t seed;
    unsigned step;
    const char *op;
    struct st_rand rand;
    bool in_pass, flushed;
    unsigned due, live;
    void (*inline_handler)(struct model_event *e); /* answers, or makes it PLACE_OUT */
    struct model_list all;
    struct model_worker workers[FAKE_SLOTS * 4];
    unsigned worker_count;
    struct model_pool pools[MODEL_POOLS];
    struct model_trigger triggers[MODEL_TRIGGERS];
    unsigned outcomes[ST_OUTCOME_CANCELLED + 1];
    unsigned early_answers; /* kept by the table of tokens */
};

extern struct model m;

#define CHECK(cond)                                  \
    do {                                             \
        if (st_unlikely(!(cond)))                    \
            model_broken(__FILE__, __LINE__, #cond); \
    } while (0)

ST_NORETURN void model_broken(const char *file, int line, const char *what);

/* A world of the seed; its workers are ready. */
void model_open(uint64_t seed, void (*inline_handler)(struct model_event *e));

/* Everything was released, all pools have stopped. */
void model_close(void);

unsigned model_random(unsigned below);

/* True about once in n. */
bool model_chance(unsigned n);

/* True when the worker takes new events. */
bool model_takes(const struct model_worker *w);

/* Some worker of the pool does, and nobody waits. */
bool model_is_free(unsigned pool);

/* The pool's queue has room for the event. */
bool model_has_room(const struct model_event *e);

unsigned model_refs(const struct model_event *e);

/* complete() must follow at once. */
void model_expect(struct model_event *e, enum st_outcome outcome);

/* It is about to be answered without its result: is its worker told? */
void model_predict_told(struct model_event *e);

void model_enqueue(struct model_event *e, bool first);

/* The stuck worker has come back and ends: empty places are filled. */
void model_came_back(struct model_worker *w);

/* The loop's clock; outside of passes it stands still until the next one. */
uint64_t model_now(void);

/* One pass of the loop; what it brings is checked against the clock. */
void model_pass(void);

/* Compares everything; after each operation. */
void model_check(void);

/* Makes an event that is not dispatched. */
struct model_event *model_event_new(unsigned trigger);

/* Takes up to n SENT events from the worker, newest first; those that nobody has withdrawn are
 * resubmitted. */
void model_give_back(struct model_worker *w, unsigned n);

/* A random event that fits, or NULL. */
struct model_event *model_pick(bool (*fits)(const struct model_event *e));

#endif
