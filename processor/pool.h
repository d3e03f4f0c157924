/* The workers that serve one trigger, or several when named, and the queue of events that wait for them.
 *
 * One mutex, held for a few pointer moves. A worker's channel belongs to its loop: an event for a
 * worker of another loop travels there by mailbox. Inline workers live outside the lists: each loop
 * reaches its own by inline_workers[loop->index] and never contends for it. */
#ifndef PROCESSOR_POOL_H
#define PROCESSOR_POOL_H

#include <pthread.h>

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/metrics.h"
#include "processor/event.h"
#include "processor/worker.h"

struct st_processor;

enum { ST_POOL_MAGIC = 0x706f6f6c };

struct st_pool {
    uint32_t magic;
    const char *name; /* of its trigger, or the allocator's */
    struct st_processor *processor;
    struct st_runtime *runtime;
    uint64_t wait_ns;          /* workerAvailabilityTimeoutMilliseconds; 0: do not wait */
    uint64_t event_timeout_ns; /* 0: none */
    uint64_t stop_ns;          /* workerTerminationTimeout */
    uint32_t max_queue;        /* events */
    uint64_t max_queue_bytes;  /* of bodies; 0: no bound of its own */

    struct st_worker **inline_workers; /* by loop index; entries may be NULL; NULL: none inline */
    unsigned inline_home; /* the loop whose inline worker serves loops that have none */

    pthread_mutex_t lock;
    struct st_worker **workers; /* by index */
    unsigned worker_count;      /* slots in workers */
    struct st_worker_list lists[ST_WORKER_STATES];
    unsigned counts[ST_WORKER_STATES];
    struct st_event_list queue;
    uint32_t queued;
    uint64_t queued_bytes;
    unsigned replacements; /* workers spawned for stuck ones */
    bool draining;
    struct {
        st_metric count, immediate, after_wait, timeout, wait_sum, available, queue_wait;
    } metrics;
};

/* numWorkers workers of the runtime (or inline ones), not spawned yet. Main thread. */
struct st_pool *st_pool_new(struct st_processor *p, const char *name, struct st_runtime *rt,
                            unsigned num_workers, struct st_error *err) ST_MUST_CHECK;

/* Spawns all workers, each on its loop. The loops run. Main thread. */
void st_pool_spawn(struct st_pool *pool);

/* An event needs a worker: runs inline, is handed over, or waits. Home loop. Always ends in one
 * answer. The event's home reference stays with the event. */
void st_pool_submit(struct st_pool *pool, struct st_event *ev);

/* Back from an abandoned worker, not started: first in the queue. Any loop. */
void st_pool_resubmit(struct st_pool *pool, struct st_event *ev);

/* Takes the event out of the queue or, if its worker has not started it, out of its channel. True: nobody
 * will run it. Home loop. */
bool st_pool_withdraw(struct st_pool *pool, struct st_event *ev);

/* The event runs past its timeout on w: the worker is stuck; a replacement is spawned while there
 * were fewer than worker_count. Home loop of the event. */
void st_pool_worker_stuck(struct st_pool *pool, struct st_worker *w);

/* True while some worker can take events now or later. */
bool st_pool_is_usable(struct st_pool *pool);

/* True when each worker was ready once. */
bool st_pool_was_ready(struct st_pool *pool);

/* False when more workers are stuck than may be replaced, or an inline handler is. */
bool st_pool_is_live(struct st_pool *pool);

/* Stops idle workers, and the others as they end; stopped() tells when. */
void st_pool_stop(struct st_pool *pool);
bool st_pool_is_stopped(struct st_pool *pool);
void st_pool_free(struct st_pool *pool);

/* The worker's thread claims the event before it starts; false: somebody took it back, drop the
 * reference and go on. */
static inline bool st_event_claim_start(struct st_event *ev, uint32_t assignment)
{
    unsigned waiting = assignment << 2 | ST_CLAIM_WAITING;

    return atomic_compare_exchange_strong_explicit(
        &ev->claim, &waiting, assignment << 2 | ST_CLAIM_RUNNING, memory_order_acq_rel,
        memory_order_relaxed);
}

#endif
