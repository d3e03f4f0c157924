#include "processor/pool.h"

#include <stdio.h>
#include <stdlib.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/event_time.h"
#include "processor/labels.h"
#include "processor/pool_int.h"
#include "processor/processor.h"
#include "processor/runtime.h"
#include "processor/slot.h"
#include "processor/trigger.h"

enum { PICK_DEPTH = 8, FEED_BATCH = 64 };

/* Of events that a worker gave back, where batches are made here. */
#define GROUP_GIVEN_BACK UINT32_MAX

/* Set-up */

struct st_worker *st_pool_worker_new(struct st_pool *pool, unsigned index, struct st_slot *slot,
                                     struct st_loop *loop, bool is_inline)
{
    struct st_worker *w = calloc(1, sizeof *w);
    struct st_labels labels;
    char number[16];

    ST_ASSERT(w != NULL);
    w->magic = ST_WORKER_MAGIC;
    w->index = index;
    w->pool = pool;
    w->runtime = pool->runtime;
    w->slot = slot;
    w->loop = loop;
    w->is_inline = is_inline;
    w->state = ST_WORKER_STARTING;
    snprintf(number, sizeof number, "%u", index);
    st_labels_for(&labels, pool->processor, pool->trigger_kind, pool->name);
    st_labels_add(&labels, "worker_index", number);
    w->metrics.duration_sum = st_metric_register(ST_METRIC_HANDLED_DURATION_SUM, labels.items);
    w->metrics.duration_count = st_metric_register(ST_METRIC_HANDLED_DURATION_COUNT, labels.items);
    pthread_mutex_lock(&pool->lock);
    TAILQ_INSERT_TAIL(&pool->lists[ST_WORKER_STARTING], w, link);
    pool->counts[ST_WORKER_STARTING]++;
    pthread_mutex_unlock(&pool->lock);
    return w;
}

static double queue_length(void *arg)
{
    struct st_pool *pool = arg;
    uint32_t n;

    pthread_mutex_lock(&pool->lock);
    n = pool->queued;
    pthread_mutex_unlock(&pool->lock);
    return n;
}

struct state_gauge {
    struct st_pool *pool;
    enum st_worker_state state;
};

static double workers_in_state(void *arg)
{
    struct state_gauge *g = arg;
    unsigned n;

    pthread_mutex_lock(&g->pool->lock);
    n = g->pool->counts[g->state];
    pthread_mutex_unlock(&g->pool->lock);
    return n;
}

static void register_metrics(struct st_pool *pool)
{
    struct st_labels base, labels;

    st_labels_for(&base, pool->processor, pool->trigger_kind, pool->name);
    pool->metrics.count = st_metric_register(ST_METRIC_ALLOCATION_COUNT, base.items);
    pool->metrics.wait_sum = st_metric_register(ST_METRIC_ALLOCATION_WAIT, base.items);
    pool->metrics.available = st_metric_register(ST_METRIC_ALLOCATION_AVAILABLE, base.items);
    labels = base;
    st_labels_add(&labels, "result", "success_immediate");
    pool->metrics.immediate = st_metric_register(ST_METRIC_ALLOCATION, labels.items);
    labels = base;
    st_labels_add(&labels, "result", "success_after_wait");
    pool->metrics.after_wait = st_metric_register(ST_METRIC_ALLOCATION, labels.items);
    labels = base;
    st_labels_add(&labels, "result", "error_timeout");
    pool->metrics.timeout = st_metric_register(ST_METRIC_ALLOCATION, labels.items);
    st_labels_own(&base, pool->processor, pool->name);
    pool->metrics.queue_wait = st_metric_register(ST_METRIC_QUEUE_WAIT, base.items);
    for (int i = 0; i < ST_LOSSES; i++) {
        labels = base;
        st_labels_add(&labels, "reason", st_worker_loss_name((enum st_worker_loss)i));
        pool->metrics.restarts[i] = st_metric_register(ST_METRIC_WORKER_RESTARTS, labels.items);
    }
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, base.items, queue_length, pool);
    pool->state_gauges = calloc(ST_WORKER_STATES, sizeof *pool->state_gauges);
    ST_ASSERT(pool->state_gauges != NULL);
    for (int i = 0; i < ST_WORKER_STATES; i++) {
        pool->state_gauges[i] = (struct state_gauge){pool, (enum st_worker_state)i};
        labels = base;
        st_labels_add(&labels, "state", st_worker_state_name((enum st_worker_state)i));
        st_metric_register_fn(ST_METRIC_WORKERS, labels.items, workers_in_state,
                              &pool->state_gauges[i]);
    }
}

struct st_pool *st_pool_new(struct st_processor *p, const struct st_pool_options *opt)
{
    struct st_pool *pool = calloc(1, sizeof *pool);
    bool is_inline = opt->runtime->kind->is_inline(opt->runtime);

    ST_ASSERT(pool != NULL);
    pool->magic = ST_POOL_MAGIC;
    pool->name = opt->name;
    pool->trigger_kind = opt->trigger_kind;
    pool->processor = p;
    pool->runtime = opt->runtime;
    pool->wait_ns = opt->wait_ns;
    pool->event_timeout_ns = opt->event_timeout_ns;
    pool->max_queue = opt->max_queue;
    pool->max_queue_bytes = opt->max_queue_bytes;
    pool->max_concurrency = opt->max_concurrency > 0 ? opt->max_concurrency : 1;
    pool->batch_size = opt->batch_size;
    pool->batch_wait_ns = opt->batch_size != 0 ? opt->batch_wait_ns : 0;
    pthread_mutex_init(&pool->lock, NULL);
    TAILQ_INIT(&pool->queue);
    TAILQ_INIT(&pool->past);
    for (int i = 0; i < ST_WORKER_STATES; i++)
        TAILQ_INIT(&pool->lists[i]);
    pool->worker_count = opt->workers;
    pool->workers = calloc(opt->workers, sizeof(struct st_worker *));
    ST_ASSERT(pool->workers != NULL);
    if (is_inline && pool->batch_size == 0) {
        pool->inline_workers = calloc(p->loop_count, sizeof(struct st_worker *));
        ST_ASSERT(pool->inline_workers != NULL);
    }
    register_metrics(pool);
    for (unsigned i = 0; i < opt->workers; i++)
        pool->workers[i] =
            st_pool_worker_new(pool, i, &opt->slots[i], &p->loops[i % p->loop_count], is_inline);
    return pool;
}

static void deliver_spawn(struct st_loop *loop, struct st_mail *mail)
{
    struct st_worker *w = ST_CONTAINER_OF(mail, struct st_worker, mail);
    struct st_error err;

    (void)loop;
    if (w->is_inline && w->slot->pinned && st_slot_bind_thread(w->slot, &err) != ST_OK) {
        st_worker_failed(w, err.text);
        return;
    }
    st_worker_spawn(w);
}

void st_pool_worker_spawn(struct st_worker *w)
{
    st_loop_post(w->loop, &w->mail, deliver_spawn);
}

void st_pool_spawn(struct st_pool *pool)
{
    for (unsigned i = 0; i < pool->worker_count; i++)
        st_pool_worker_spawn(pool->workers[i]);
}

/* Assignment. Functions named pool_* are called under the lock. */

/* A worker with a credit: idle before busy, of this loop before others. */
static struct st_worker *pool_pick(struct st_pool *pool, struct st_loop *home)
{
    struct st_worker *w, *first = NULL;
    int seen = 0;

    TAILQ_FOREACH (w, &pool->lists[ST_WORKER_IDLE], link) {
        if (w->loop == home)
            return w;
        if (first == NULL)
            first = w;
        if (++seen == PICK_DEPTH)
            break;
    }
    if (first != NULL)
        return first;
    TAILQ_FOREACH (w, &pool->lists[ST_WORKER_BUSY], link) {
        if (w->loop == home)
            return w;
        if (first == NULL)
            first = w;
        if (++seen == PICK_DEPTH)
            break;
    }
    return first;
}

/* Has a credit, and is neither stuck nor draining. */
static bool pool_takes(const struct st_worker *w)
{
    return (w->state == ST_WORKER_IDLE || w->state == ST_WORKER_BUSY) &&
           w->pool->inline_workers == NULL;
}

/* The same for this event: one that is bound has no choice, and passes others that wait. */
static struct st_worker *pool_pick_for(struct st_pool *pool, const struct st_event *ev)
{
    struct st_worker *w;

    if (st_likely(ev->bound == 0))
        return TAILQ_EMPTY(&pool->queue) ? pool_pick(pool, ev->home) : NULL;
    w = pool->workers[(ev->bound - 1) % pool->worker_count];
    return pool_takes(w) ? w : NULL;
}

/* Returns the assignment number that the worker must find when it starts the event. */
static uint32_t pool_assign(struct st_worker *w, struct st_event *ev)
{
    uint32_t a = (atomic_load_explicit(&ev->claim, memory_order_relaxed) >> 2) + 1;

    st_worker_take_event(w);
    ev->worker = w;
    atomic_store_explicit(&ev->claim, a << 2 | ST_CLAIM_WAITING, memory_order_release);
    return a & (UINT32_MAX >> 2);
}

static void pool_enqueue(struct st_pool *pool, struct st_event *ev, bool first)
{
    if (first)
        TAILQ_INSERT_HEAD(&pool->queue, ev, link);
    else
        TAILQ_INSERT_TAIL(&pool->queue, ev, link);
    ev->in_queue = true;
    ev->worker = NULL;
    pool->queued++;
    pool->queued_bytes += ev->body.len;
}

static void pool_dequeue(struct st_pool *pool, struct st_event *ev)
{
    TAILQ_REMOVE(&pool->queue, ev, link);
    ev->in_queue = false;
    pool->queued--;
    pool->queued_bytes -= ev->body.len;
}

static bool pool_has_room(struct st_pool *pool, struct st_event *ev)
{
    return pool->queued < pool->max_queue &&
           (pool->max_queue_bytes == 0 ||
            pool->queued_bytes + ev->body.len <= pool->max_queue_bytes);
}

static void deliver_invoke(struct st_loop *loop, struct st_mail *mail)
{
    struct st_event *ev = ST_CONTAINER_OF(mail, struct st_event, mail);
    struct st_worker *w;
    struct st_pool *pool = ev->trigger->pool;
    uint32_t a;
    bool gone;

    (void)loop;
    pthread_mutex_lock(&pool->lock);
    w = ev->worker;
    a = atomic_load_explicit(&ev->claim, memory_order_relaxed) >> 2;
    /* A stuck one may have come back and ended; one that is started again stays itself. */
    gone = w->state == ST_WORKER_STUCK || w->state == ST_WORKER_DEAD;
    if (w->state == ST_WORKER_RESTARTING || w->state == ST_WORKER_STARTING) {
        gone = true;
        w->running--;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!gone)
        w->runtime->kind->invoke(w, ev, a);
    else if (st_event_recall(ev, a))
        st_pool_resubmit(pool, ev);
    else
        st_event_unref(ev); /* taken back by its home loop meanwhile */
}

static void hand_over(struct st_worker *w, struct st_event *ev, uint32_t a)
{
    st_event_ref(ev);
    if (st_likely(st_loop_is_current(w->loop)))
        w->runtime->kind->invoke(w, ev, a);
    else
        st_loop_post(w->loop, &ev->mail, deliver_invoke);
}

/* Submission */

void st_pool_run_inline(struct st_worker *w, struct st_event *ev)
{
    ev->worker = w;
    atomic_store_explicit(&ev->claim, ST_CLAIM_RUNNING, memory_order_relaxed);
    /* The event is new: this thread has the only reference, the second one is the worker's. */
    atomic_store_explicit(&ev->refs, 2, memory_order_relaxed);
    w->runtime->kind->invoke(w, ev, 0);
}

static void deliver_inline(struct st_loop *loop, struct st_mail *mail)
{
    struct st_event *ev = ST_CONTAINER_OF(mail, struct st_event, mail);
    struct st_pool *pool = ev->trigger->pool;
    struct st_worker *w = pool->inline_workers[loop->index];
    uint64_t now;

    pthread_mutex_lock(&pool->lock);
    if (ev->in_queue)
        pool_dequeue(pool, ev);
    ev->worker = w;
    pthread_mutex_unlock(&pool->lock);
    if (!st_event_claim_start(ev, 0)) {
        st_event_unref(ev);
    } else if (st_likely(w != NULL)) {
        /* This pass may be older than the event. */
        now = st_loop_now(loop);
        atomic_store_explicit(&ev->started_ns, now > ev->queued_ns ? now : ev->queued_ns,
                              memory_order_relaxed);
        w->runtime->kind->invoke(w, ev, 0);
    } else { /* it has stopped */
        st_metric_add(loop->metrics, ev->trigger->metrics.no_worker, 1);
        ev->result.outcome = ST_OUTCOME_NO_WORKER;
        st_event_complete_from(ev);
    }
}

/* The loop has no inline worker (numWorkers is smaller than the number of loops): another one has.
 */
static void submit_to_inline(struct st_pool *pool, struct st_event *ev)
{
    struct st_loop *to = &pool->processor->loops[ev->home->index % pool->worker_count];
    bool room;

    pthread_mutex_lock(&pool->lock);
    room = pool_has_room(pool, ev);
    if (room) {
        pool_enqueue(pool, ev, false);
        ev->queued_ns = st_loop_now(ev->home);
    }
    pthread_mutex_unlock(&pool->lock);
    st_metric_add(ev->home->metrics, pool->metrics.count, 1);
    if (!room) {
        st_metric_add(ev->home->metrics, pool->metrics.timeout, 1);
        st_event_finish_as(ev, ST_OUTCOME_NO_WORKER);
        return;
    }
    st_metric_add(ev->home->metrics, pool->metrics.immediate, 1);
    st_event_ref(ev);
    st_loop_post(to, &ev->mail, deliver_inline);
}

/* It waits for its batch. */
static void submit_to_batch(struct st_pool *pool, struct st_event *ev)
{
    struct st_metrics_shard *shard = ev->home->metrics;
    bool room, full;

    pthread_mutex_lock(&pool->lock);
    room = pool_has_room(pool, ev);
    if (room) {
        ev->queued_ns = st_loop_now(ev->home);
        pool_enqueue(pool, ev, false);
    }
    full = pool->queued >= pool->batch_size;
    pthread_mutex_unlock(&pool->lock);
    st_metric_add(shard, pool->metrics.count, 1);
    if (!room) {
        st_metric_add(shard, pool->metrics.timeout, 1);
        st_event_finish_as(ev, ST_OUTCOME_NO_WORKER);
        return;
    }
    st_event_time_wait(ev);
    if (full)
        st_pool_batch(pool);
}

void st_pool_submit_batch(struct st_pool *pool, struct st_event *const *events, unsigned n)
{
    struct st_loop *home = events[0]->home;
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        ST_ASSERT(events[i]->flags & ST_EVENT_PATIENT);
        events[i]->pending = st_event_time_submitted(events[i]) == ST_OK;
        events[i]->queued_ns = st_loop_now(home);
    }
    pthread_mutex_lock(&pool->lock);
    if (++pool->last_group == GROUP_GIVEN_BACK)
        pool->last_group = 1;
    for (; kept < n && events[kept]->pending && pool_has_room(pool, events[kept]); kept++) {
        events[kept]->group = pool->last_group;
        pool->binds |= events[kept]->bound != 0;
        pool_enqueue(pool, events[kept], false);
    }
    pthread_mutex_unlock(&pool->lock);
    st_metric_add(home->metrics, pool->metrics.count, n);
    for (unsigned i = kept; i < n; i++)
        st_event_finish_as(events[i],
                           events[i]->pending ? ST_OUTCOME_NO_WORKER : ST_OUTCOME_NO_MEMORY);
    if (kept > 0)
        st_pool_batch(pool);
}

void st_pool_submit(struct st_pool *pool, struct st_event *ev)
{
    struct st_metrics_shard *shard = ev->home->metrics;
    struct st_worker *w;
    uint32_t a = 0;
    unsigned idle;
    bool room = false;

    if (st_event_time_submitted(ev) != ST_OK) {
        st_event_finish_as(ev, ST_OUTCOME_NO_MEMORY);
        return;
    }
    ev->pending = true;
    if (pool->inline_workers != NULL) {
        submit_to_inline(pool, ev);
        return;
    }
    if (pool->batch_size != 0) {
        submit_to_batch(pool, ev);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    idle = pool->counts[ST_WORKER_IDLE];
    w = pool_pick_for(pool, ev);
    if (st_likely(w != NULL)) {
        a = pool_assign(w, ev);
    } else {
        room =
            (pool->wait_ns > 0 || (ev->flags & ST_EVENT_PATIENT) != 0) && pool_has_room(pool, ev);
        if (room) {
            ev->queued_ns = st_loop_now(ev->home);
            pool_enqueue(pool, ev, false);
        }
    }
    pthread_mutex_unlock(&pool->lock);
    st_metric_add(shard, pool->metrics.count, 1);
    st_metric_add(shard, pool->metrics.available, 100 * idle / pool->worker_count);
    if (w != NULL) {
        st_metric_add(shard, pool->metrics.immediate, 1);
        hand_over(w, ev, a);
    } else if (room) {
        st_event_time_wait(ev);
    } else {
        st_metric_add(shard, pool->metrics.timeout, 1);
        st_event_finish_as(ev, ST_OUTCOME_NO_WORKER);
    }
}

/* Takes up to `most` events that waited for the worker; of one group, where there are groups. */
static unsigned pool_take(struct st_pool *pool, struct st_worker *w, struct st_event **events,
                          uint32_t *assignments, unsigned most)
{
    uint64_t now = st_loop_now(w->loop);
    struct st_event *ev, *next;
    unsigned n = 0;

    for (ev = TAILQ_FIRST(&pool->queue); n < most && ev != NULL && pool_takes(w); ev = next) {
        uint64_t waited = now > ev->queued_ns ? now - ev->queued_ns : 0;

        next = TAILQ_NEXT(ev, link);
        if (st_unlikely(ev->bound != 0) && pool->workers[(ev->bound - 1) % pool->worker_count] != w)
            continue;
        if (st_unlikely(ev->group != 0) && n > 0 && ev->group != events[0]->group)
            break;
        pool_dequeue(pool, ev);
        assignments[n] = pool_assign(w, ev);
        /* Its home loop may time it out and drop it as soon as the lock is open. */
        st_event_ref(ev);
        events[n++] = ev;
        st_metric_add(w->loop->metrics, pool->metrics.after_wait, 1);
        st_metric_add(w->loop->metrics, pool->metrics.wait_sum, (int64_t)(waited / 1000));
        st_metric_observe(w->loop->metrics, pool->metrics.queue_wait, waited, 1);
    }
    return n;
}

static bool pool_batch_is_due(const struct st_pool *pool, uint64_t now)
{
    const struct st_event *first = TAILQ_FIRST(&pool->queue);

    return first != NULL && (first->group != 0 || pool->queued >= pool->batch_size ||
                             first->queued_ns + pool->batch_wait_ns <= now);
}

static void feed_batch(struct st_pool *pool, struct st_worker *w)
{
    struct st_event **events = st_calloc(pool->batch_size, sizeof(void *));
    uint32_t *assignments = st_calloc(pool->batch_size, sizeof assignments[0]);
    unsigned n = 0;

    pthread_mutex_lock(&pool->lock);
    /* The loop's own clock may be older than what has just fallen due. */
    if (w->running == 0 &&
        (pool_batch_is_due(pool, st_loop_now(w->loop)) || pool_batch_is_due(pool, st_clock_mono())))
        n = pool_take(pool, w, events, assignments, pool->batch_size);
    pthread_mutex_unlock(&pool->lock);
    if (n > 0)
        w->runtime->kind->invoke_batch(w, events, assignments, n);
    free(events);
    free(assignments);
}

static void deliver_feed(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct st_worker *w = ST_CONTAINER_OF(mail, struct st_worker, feed_mail);
    bool takes;

    pthread_mutex_lock(&w->pool->lock);
    w->feed_posted = false;
    takes = pool_takes(w);
    pthread_mutex_unlock(&w->pool->lock);
    if (takes)
        feed_batch(w->pool, w);
    else /* it has gone since; another one shall know */
        st_pool_batch(w->pool);
}

/* By mail also on the worker's own loop: the caller may be in the middle of something. */
void st_pool_batch(struct st_pool *pool)
{
    struct st_worker *w;
    bool found = false;

    pthread_mutex_lock(&pool->lock);
    w = TAILQ_EMPTY(&pool->queue) ? NULL : TAILQ_FIRST(&pool->lists[ST_WORKER_IDLE]);
    for (; w != NULL && (!found || pool->binds); w = TAILQ_NEXT(w, link)) {
        if (w->feed_posted)
            continue;
        w->feed_posted = found = true;
        st_loop_post(w->loop, &w->feed_mail, deliver_feed);
    }
    pthread_mutex_unlock(&pool->lock);
}

void st_pool_feed(struct st_pool *pool, struct st_worker *w)
{
    struct st_event *batch[FEED_BATCH];
    uint32_t assignments[FEED_BATCH];
    unsigned n;

    if (pool->batch_size != 0) {
        feed_batch(pool, w);
        return;
    }
    do {
        pthread_mutex_lock(&pool->lock);
        n = pool_take(pool, w, batch, assignments, FEED_BATCH);
        pthread_mutex_unlock(&pool->lock);
        for (unsigned i = 0; i < n; i++)
            w->runtime->kind->invoke(w, batch[i], assignments[i]);
    } while (n == FEED_BATCH);
}

static struct st_worker *pool_any_with_credit(struct st_pool *pool, const struct st_event *ev)
{
    struct st_worker *w;

    if (st_unlikely(ev->bound != 0))
        return pool_pick_for(pool, ev);
    w = TAILQ_FIRST(&pool->lists[ST_WORKER_IDLE]);
    return w != NULL ? w : TAILQ_FIRST(&pool->lists[ST_WORKER_BUSY]);
}

/* One of a batch that its trigger has made, whose other parts may still run, or wait for another
 * attempt: only the trigger knows when its key may go on. */
static bool is_of_trigger(const struct st_event *ev)
{
    return ev->group != 0 && ev->group != GROUP_GIVEN_BACK;
}

/* On the event's home loop, whose timer ends the wait; takes a reference. */
static void resubmit(struct st_pool *pool, struct st_event *ev)
{
    struct st_worker *w;
    uint32_t a = 0;
    bool gone, refused;

    pthread_mutex_lock(&pool->lock);
    /* Withdrawn between the recall and here, or timed out before that. */
    gone = ev->answered ||
           (atomic_load_explicit(&ev->claim, memory_order_relaxed) & 3u) == ST_CLAIM_CANCELLED;
    refused = !gone && is_of_trigger(ev);
    w = gone || pool->batch_size != 0 ? NULL : pool_any_with_credit(pool, ev);
    ev->queued_ns = st_loop_now(ev->home);
    if (pool->batch_size != 0 && ev->group == 0)
        ev->group = GROUP_GIVEN_BACK; /* it has waited for its batch once */
    if (w != NULL)
        a = pool_assign(w, ev);
    else if (!gone && !refused)
        pool_enqueue(pool, ev, true);
    pthread_mutex_unlock(&pool->lock);
    if (w != NULL) {
        hand_over(w, ev, a);
    } else if (refused) {
        st_event_finish_as(ev, ST_OUTCOME_NO_WORKER);
    } else if (!gone) {
        st_event_time_wait(ev);
        if (pool->batch_size != 0)
            st_pool_batch(pool);
    }
    st_event_unref(ev);
}

static void deliver_resubmit(struct st_loop *loop, struct st_mail *mail)
{
    struct st_event *ev = ST_CONTAINER_OF(mail, struct st_event, mail);

    (void)loop;
    resubmit(ev->trigger->pool, ev);
}

void st_pool_resubmit(struct st_pool *pool, struct st_event *ev)
{
    if (st_loop_is_current(ev->home))
        resubmit(pool, ev);
    else
        st_loop_post(ev->home, &ev->mail, deliver_resubmit);
}

bool st_pool_withdraw(struct st_pool *pool, struct st_event *ev)
{
    bool taken = false;
    unsigned claim;

    /* All of it under the lock: a resubmission must see either the queue or the claim. */
    pthread_mutex_lock(&pool->lock);
    if (ev->in_queue)
        pool_dequeue(pool, ev);
    claim = atomic_load_explicit(&ev->claim, memory_order_relaxed);
    while (!taken && (claim & 3u) == ST_CLAIM_WAITING)
        taken = atomic_compare_exchange_weak_explicit(&ev->claim, &claim,
                                                      (claim & ~3u) | ST_CLAIM_CANCELLED,
                                                      memory_order_acq_rel, memory_order_relaxed);
    pthread_mutex_unlock(&pool->lock);
    return taken;
}

/* Stuck workers */

static void deliver_abandon(struct st_loop *loop, struct st_mail *mail)
{
    struct st_worker *w = ST_CONTAINER_OF(mail, struct st_worker, mail);

    st_loop_timer_cancel(loop, &w->retry);
    w->abandoned = true;
    w->runtime->kind->abandon(w);
}

/* A new worker for w's place, unless another loop did it since a moment ago, or the pool stops. */
static void replace_worker(struct st_pool *pool, struct st_worker *w)
{
    struct st_worker *next = st_pool_worker_new(pool, w->index, w->slot, w->loop, false);
    bool wanted;

    pthread_mutex_lock(&pool->lock);
    wanted = pool->workers[w->index] == w && !pool->draining;
    if (wanted) {
        pool->workers[w->index] = next;
        st_pool_worker_spawn(next); /* before a stop */
    } else {
        st_worker_set_state(next, ST_WORKER_DEAD);
    }
    pthread_mutex_unlock(&pool->lock);
    if (wanted)
        st_metric_add(st_processor_shard(pool->processor), pool->metrics.restarts[ST_LOST_STUCK],
                      1);
}

/* A place whose worker is stuck or has ended, if a new one may be started for it. */
static struct st_worker *pool_vacant(struct st_pool *pool)
{
    for (unsigned i = 0; i < pool->worker_count && !pool->draining; i++) {
        struct st_worker *w = pool->workers[i];
        if (w->state == ST_WORKER_DEAD ||
            (w->state == ST_WORKER_STUCK && pool->stuck <= pool->worker_count))
            return w;
    }
    return NULL;
}

void st_pool_refill(struct st_pool *pool)
{
    struct st_worker *w;

    do {
        pthread_mutex_lock(&pool->lock);
        w = pool_vacant(pool);
        pthread_mutex_unlock(&pool->lock);
        if (w != NULL)
            replace_worker(pool, w);
    } while (w != NULL);
}

static void deliver_restart(struct st_loop *loop, struct st_mail *mail)
{
    struct st_worker *w = ST_CONTAINER_OF(mail, struct st_worker, mail);

    (void)loop;
    w->runtime->kind->restart(w);
}

/* Ends it by force; it takes nothing until it is back. */
static void restart_worker(struct st_pool *pool, struct st_worker *w)
{
    bool is_new;

    pthread_mutex_lock(&pool->lock);
    is_new = !w->restart_called && w->running > 0 &&
             (w->state == ST_WORKER_BUSY || w->state == ST_WORKER_FULL ||
              w->state == ST_WORKER_DRAINING);
    if (is_new) {
        w->restart_called = true;
        w->credits = 0;
        if (w->state != ST_WORKER_DRAINING)
            st_worker_set_state(w, ST_WORKER_RESTARTING);
    }
    pthread_mutex_unlock(&pool->lock);
    if (is_new)
        st_loop_post(w->loop, &w->mail, deliver_restart);
}

void st_pool_worker_stuck(struct st_pool *pool, struct st_worker *w)
{
    bool replace, is_new;

    if (pool->runtime->kind->restart != NULL) {
        restart_worker(pool, w);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    /* Where nothing runs the result is on its way, and the worker may have been told to stop. */
    is_new = w->running > 0 && (w->state == ST_WORKER_BUSY || w->state == ST_WORKER_FULL ||
                                w->state == ST_WORKER_DRAINING);
    replace = is_new && w->state != ST_WORKER_DRAINING && pool->stuck < pool->worker_count;
    if (is_new) {
        st_worker_set_state(w, ST_WORKER_STUCK);
        pool->stuck++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!is_new)
        return;
    ST_LOG(ST_LOG_ERROR, "processor.pool",
           replace
               ? "A worker is stuck past eventTimeout; a new one takes its place"
               : "A worker is stuck past eventTimeout and is not replaced any more; /live fails",
           ST_KV_STR("pool", pool->name), ST_KV_UINT("worker", w->index));
    st_loop_post(w->loop, &w->mail, deliver_abandon);
    if (replace)
        replace_worker(pool, w);
}
