/* The workers that serve one trigger, or several when named, and the queue of events that wait for
 * them.
 *
 * One mutex, held for a few pointer moves. A worker's channel belongs to its loop: an event for a
 * worker of another loop travels there by mailbox. Inline workers live outside the lists: each loop
 * reaches its own by inline_workers[loop->index] and never contends for it. Where the pool makes
 * batches they take them as others do, on their loops. */
#ifndef PROCESSOR_POOL_H
#define PROCESSOR_POOL_H

#include <pthread.h>

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/metrics.h"
#include "processor/event.h"
#include "processor/worker.h"

struct st_processor;
struct st_slot;
struct state_gauge;

enum { ST_POOL_MAGIC = 0x706f6f6c, ST_POOL_ERROR_MAX = 1024 };

struct st_pool {
    uint32_t magic;
    const char *name;         /* of its trigger, or the allocator's */
    const char *trigger_kind; /* "" when shared */
    struct st_processor *processor;
    struct st_runtime *runtime;
    uint64_t wait_ns;          /* workerAvailabilityTimeoutMilliseconds; 0: do not wait */
    uint64_t event_timeout_ns; /* 0: none */
    uint32_t max_queue;        /* events */
    uint64_t max_queue_bytes;  /* of bodies; 0: no bound of its own */
    uint32_t max_concurrency;  /* events that a worker may have at once, at least 1 */
    uint32_t batch_size;       /* events of a full batch; 0: no batches */
    uint64_t batch_wait_ns;    /* how long the first event of a batch waits for others */
    uint32_t last_group;       /* st_event.group; under the lock */
    bool binds;                /* some events of batches were bound to a worker; under the lock */

    /* By loop index, NULL where a loop has none; NULL: workers are not inline, or take batches.
     * Entries are set and read on their own loop. */
    struct st_worker **inline_workers;
    struct state_gauge *state_gauges;

    pthread_mutex_t lock;
    struct st_worker **workers; /* by index */
    unsigned worker_count;
    struct st_worker_list lists[ST_WORKER_STATES];
    unsigned counts[ST_WORKER_STATES];
    struct st_event_list queue;
    uint32_t queued;
    uint64_t queued_bytes;
    unsigned stuck;   /* workers given up and not back */
    unsigned readied; /* workers that were ready once */
    unsigned stopped; /* workers that ended as asked */
    bool draining;
    struct st_worker *candidate;           /* takes its place when it is ready; NULL: nobody does */
    char renewal_error[ST_POOL_ERROR_MAX]; /* why the last candidate failed; "": it did not */
    struct st_worker_list past;            /* ended, and another has their place */
    struct {
        st_metric count, immediate, after_wait, timeout, wait_sum, available, queue_wait;
        st_metric restarts[ST_LOSSES];
    } metrics;
};

struct st_pool_options {
    const char *name;         /* borrowed */
    const char *trigger_kind; /* for metrics; "" when shared */
    struct st_runtime *runtime;
    unsigned workers;      /* at least 1; inline: at most one a loop */
    struct st_slot *slots; /* one a worker; borrowed */
    uint64_t wait_ns, event_timeout_ns;
    uint32_t max_queue;
    uint64_t max_queue_bytes;
    uint32_t max_concurrency; /* 0: 1 */
    uint32_t batch_size;      /* 0: no batches */
    uint64_t batch_wait_ns;
};

/* A pool whose workers are not spawned yet. Main thread; aborts when memory is out. */
struct st_pool *st_pool_new(struct st_processor *p, const struct st_pool_options *opt);

/* Spawns all workers, each on its loop. The loops run. Main thread. */
void st_pool_spawn(struct st_pool *pool);

/* An event needs a worker: runs inline, is handed over, or waits. Home loop. Always ends in one
 * answer. The event's home reference stays with the event. */
void st_pool_submit(struct st_pool *pool, struct st_event *ev);

/* The same for the n events of one batch that their trigger made: they wait for a worker together
 * and go to it together. For pools with batches; the events are PATIENT. */
void st_pool_submit_batch(struct st_pool *pool, struct st_event *const *events, unsigned n);

/* Runs the event on its loop's inline worker. Home loop of the event and loop of the worker. */
void st_pool_run_inline(struct st_worker *w, struct st_event *ev);

/* Hands waiting events to the worker while it has credits; or a batch, when one is due and the
 * worker has nothing. On w->loop. */
void st_pool_feed(struct st_pool *pool, struct st_worker *w);

/* A batch may be due: it is full, or its first event has waited long enough. An idle worker looks;
 * all of them, where events may be bound to one. Any loop. */
void st_pool_batch(struct st_pool *pool);

/* Back from an abandoned worker, not started: first in the queue; one of st_pool_submit_batch is
 * answered NO_WORKER instead, since its trigger knows the order. Takes the caller's reference. Any
 * loop. */
void st_pool_resubmit(struct st_pool *pool, struct st_event *ev);

/* Takes the event out of the queue or, if its worker has not started it, out of its channel. True:
 * nobody will run it. Home loop. */
bool st_pool_withdraw(struct st_pool *pool, struct st_event *ev);

/* The event is about to be answered without its worker: tells that one, if it has the event and its
 * runtime wants to know (st_runtime_kind.cancel). Home loop. */
void st_pool_tell_worker(struct st_pool *pool, struct st_event *ev);

/* The event is about to be answered although a handler may run it: its timer goes on, with a
 * reference of the event, so that a worker that never comes back is found out. Home loop. */
void st_pool_watch(struct st_pool *pool, struct st_event *ev);

/* The handler came back. Home loop. */
void st_pool_unwatch(struct st_event *ev);

/* The event runs past its timeout on w: the worker is stuck. It is restarted, where its runtime
 * can; otherwise a replacement is spawned while there were fewer than worker_count. Home loop of
 * the event. */
void st_pool_worker_stuck(struct st_pool *pool, struct st_worker *w);

/* A stuck worker came back and ended: fills the places that had to stay empty. Any loop. */
void st_pool_refill(struct st_pool *pool);

/* True while some worker can take events now or later. */
bool st_pool_is_usable(struct st_pool *pool);

/* Whether this is the number of a worker's process, also of one that comes or goes. Any thread. */
bool st_pool_has_process(struct st_pool *pool, int pid);

/* Numbers of the processes of at most `most` workers; how many those are. Any thread. */
unsigned st_pool_processes(struct st_pool *pool, int *pids, unsigned most);

/* True when each worker was ready once. */
bool st_pool_was_ready(struct st_pool *pool);

/* False when more workers are stuck than may be replaced, or an inline handler is. */
bool st_pool_is_live(struct st_pool *pool);

/* Starts a worker that takes the place `index` as soon as it is ready. The one that has the place
 * serves until then, and ends when it has finished what it has. Only for runtimes whose workers are
 * processes, one at a time in a pool, while the processor serves. Main thread; the processor is
 * notified when it is over. */
void st_pool_renew(struct st_pool *pool, unsigned index);

/* How the last one goes. FAILED: the worker did not start, everything is as before, and text (of
 * size n) says why. */
enum st_renewal { ST_RENEWAL_GOES_ON, ST_RENEWAL_DONE, ST_RENEWAL_FAILED };
enum st_renewal st_pool_renewal(struct st_pool *pool, char *text, size_t n);

/* Gives up on the worker that is about to take a place, if there is one. Main thread. */
void st_pool_cancel_renewal(struct st_pool *pool);

/* Of workers, under the lock. True: it was started to take a place, and has it now. */
bool st_pool_candidate_ready(struct st_worker *w);

/* It was started to take a place, and is no more: it counts as one that drains. */
void st_pool_candidate_failed(struct st_worker *w, const char *text);

/* DEAD and without a place: nobody sees it any more. */
void st_pool_forget(struct st_worker *w);

/* Stops idle workers, and the others as they end; stopped() tells when. */
void st_pool_stop(struct st_pool *pool);
bool st_pool_is_stopped(struct st_pool *pool);
void st_pool_free(struct st_pool *pool);

/* The worker's thread claims the event before it starts; false: somebody took it back, drop the
 * reference and go on. */
static inline bool st_event_claim_start(struct st_event *ev, uint32_t assignment)
{
    unsigned waiting = assignment << 2 | ST_CLAIM_WAITING;

    return atomic_compare_exchange_strong_explicit(&ev->claim, &waiting,
                                                   assignment << 2 | ST_CLAIM_RUNNING,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* By whoever runs the event: the handler came back and the result will follow. */
static inline void st_event_claim_done(struct st_event *ev)
{
    unsigned claim = atomic_load_explicit(&ev->claim, memory_order_relaxed);

    atomic_store_explicit(&ev->claim, claim | ST_CLAIM_DONE, memory_order_release);
}

/* Takes an event back that its worker has not started; true: the caller owns the worker's reference
 * and resubmits. */
static inline bool st_event_recall(struct st_event *ev, uint32_t assignment)
{
    unsigned waiting = assignment << 2 | ST_CLAIM_WAITING;

    return atomic_compare_exchange_strong_explicit(&ev->claim, &waiting,
                                                   (assignment + 1) << 2 | ST_CLAIM_WAITING,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

/* The worker that had claimed it went away without having begun it after all; true: the caller owns
 * the worker's reference and resubmits. */
static inline bool st_event_unstart(struct st_event *ev, uint32_t assignment)
{
    unsigned running = assignment << 2 | ST_CLAIM_RUNNING;

    atomic_store_explicit(&ev->started_ns, 0, memory_order_relaxed);
    return atomic_compare_exchange_strong_explicit(&ev->claim, &running,
                                                   (assignment + 1) << 2 | ST_CLAIM_WAITING,
                                                   memory_order_acq_rel, memory_order_relaxed);
}

#endif
