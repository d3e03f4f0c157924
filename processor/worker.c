#include "processor/worker.h"

#include <stdio.h>

#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/runtime.h"

enum {
    RETRY_FIRST_MS = 100, /* after the second failure in a row; after the first there is none */
    RETRY_LAST_MS = 30000,
    READY_FAILURES = 5, /* lives that were ready count no further: a second or so between two */
    GOOD_LEAST_MS = 100,
    GOOD_STARTS = 4,
    WASTE_MS = 2000 /* so long may starts take that led to nothing before they are failures */
};

#define TO(state) (1u << ST_WORKER_##state)

/* Where each state may go. */
static const unsigned edges[ST_WORKER_STATES] = {
    [ST_WORKER_STARTING] = TO(IDLE) | TO(FULL) | TO(RESTARTING) | TO(DRAINING) | TO(DEAD),
    [ST_WORKER_IDLE] = TO(BUSY) | TO(FULL) | TO(DRAINING) | TO(RESTARTING) | TO(DEAD),
    [ST_WORKER_BUSY] = TO(IDLE) | TO(FULL) | TO(DRAINING) | TO(STUCK) | TO(RESTARTING) | TO(DEAD),
    [ST_WORKER_FULL] = TO(IDLE) | TO(BUSY) | TO(DRAINING) | TO(STUCK) | TO(RESTARTING) | TO(DEAD),
    [ST_WORKER_DRAINING] = TO(DEAD) | TO(STUCK),
    [ST_WORKER_STUCK] = TO(DEAD),
    [ST_WORKER_RESTARTING] = TO(STARTING) | TO(DRAINING) | TO(DEAD),
    [ST_WORKER_DEAD] = 0,
};

static const char *const state_names[ST_WORKER_STATES] = {
    "starting", "idle", "busy", "full", "draining", "stuck", "restarting", "dead"};

static const char *const loss_names[ST_LOSSES] = {
    "stuck", "crash", "exit", "timeout", "memory", "recycled", "protocol", "start", "code"};

const char *st_worker_loss_name(enum st_worker_loss loss)
{
    return loss_names[loss];
}

const char *st_worker_state_name(enum st_worker_state state)
{
    return state_names[state];
}

void st_worker_set_state(struct st_worker *w, enum st_worker_state state)
{
    struct st_pool *pool = w->pool;

    if (w->state == state)
        return;
    ST_ASSERT((edges[w->state] & 1u << state) != 0);
    TAILQ_REMOVE(&pool->lists[w->state], w, link);
    pool->counts[w->state]--;
    w->state = state;
    /* The one that ran last has the warmest caches: it is the next one to be taken. */
    TAILQ_INSERT_HEAD(&pool->lists[state], w, link);
    pool->counts[state]++;
}

/* Credits and running events decide between IDLE, BUSY and FULL. Under the lock. */
static void worker_settle(struct st_worker *w)
{
    if (w->state == ST_WORKER_STARTING || w->state == ST_WORKER_IDLE ||
        w->state == ST_WORKER_BUSY || w->state == ST_WORKER_FULL)
        st_worker_set_state(w, w->credits == 0   ? ST_WORKER_FULL
                               : w->running == 0 ? ST_WORKER_IDLE
                                                 : ST_WORKER_BUSY);
}

void st_worker_take_event(struct st_worker *w)
{
    ST_ASSERT(w->credits > 0);
    w->credits--;
    w->running++;
    worker_settle(w);
}

bool st_worker_take_stop(struct st_worker *w)
{
    if (w->state != ST_WORKER_DRAINING || w->running > 0 || w->stop_called)
        return false;
    w->stop_called = true;
    return true;
}

void st_worker_spawn(struct st_worker *w)
{
    w->spawned_ns = st_loop_now(w->loop);
    w->ready_ns = 0;
    w->runtime->kind->spawn(w);
}

/* So long must a worker be ready for its life to be a good one: several times what its start took,
 * so that starts have a small part of its time at most. */
static uint64_t good_life(const struct st_worker *w)
{
    uint64_t life = GOOD_STARTS * (w->ready_ns - w->spawned_ns);

    return life > GOOD_LEAST_MS * ST_MSEC ? life : GOOD_LEAST_MS * ST_MSEC;
}

static void worker_proved(struct st_timer *t)
{
    struct st_worker *w = ST_CONTAINER_OF(t, struct st_worker, retry);

    w->wasted_ns = 0;
    pthread_mutex_lock(&w->pool->lock);
    w->failures = 0;
    pthread_mutex_unlock(&w->pool->lock);
}

void st_worker_ready(struct st_worker *w, uint32_t credits)
{
    struct st_pool *pool = w->pool;
    bool on_trial, is_new;

    ST_CHECK(w, ST_WORKER_MAGIC);
    pthread_mutex_lock(&pool->lock);
    if (!w->was_ready) {
        w->was_ready = true;
        pool->readied++;
    }
    w->ready_ns = st_loop_now(w->loop);
    on_trial = w->failures > 0 || w->wasted_ns > 0;
    is_new = st_pool_candidate_ready(w);
    pthread_mutex_unlock(&pool->lock);
    if (is_new)
        st_metric_add(w->loop->metrics, pool->metrics.restarts[ST_LOST_CODE], 1);
    if (pool->inline_workers != NULL)
        pool->inline_workers[w->loop->index] = w;
    if (on_trial) {
        st_timer_init(&w->retry, worker_proved);
        st_loop_timer_arm(w->loop, &w->retry, good_life(w));
    }
    st_worker_credit(w, credits);
    st_processor_notify(pool->processor);
}

static void worker_retry(struct st_timer *t)
{
    struct st_worker *w = ST_CONTAINER_OF(t, struct st_worker, retry);
    bool wanted;

    pthread_mutex_lock(&w->pool->lock);
    wanted = w->state == ST_WORKER_RESTARTING; /* the pool may have stopped in this pass */
    if (wanted)
        st_worker_set_state(w, ST_WORKER_STARTING);
    pthread_mutex_unlock(&w->pool->lock);
    if (wanted)
        st_worker_spawn(w);
}

/* Arms the next start; the state is RESTARTING. Returns the delay. On w->loop. */
static uint64_t retry_later(struct st_worker *w)
{
    uint64_t ms = RETRY_FIRST_MS;

    for (unsigned i = 2; i < w->failures && ms < RETRY_LAST_MS; i++)
        ms *= 2;
    ms = ms < RETRY_LAST_MS ? ms : RETRY_LAST_MS;
    ms = w->failures < 2 ? 0 : ms / 2 + st_rand_below(&w->loop->rand, ms);
    st_timer_init(&w->retry, worker_retry);
    st_loop_timer_arm(w->loop, &w->retry, ms * ST_MSEC);
    return ms;
}

/* What the life that ends counts for. One that was killed from outside does not speak against the
 * worker, nor does a crash now and then, but who is out of memory is killed too, at every start: so
 * much time may be lost by them, and what is above it are failures. Under the lock. */
static void judge_life(struct st_worker *w, enum st_worker_loss loss)
{
    bool was_ready = w->ready_ns != 0;
    uint64_t now = st_loop_now(w->loop);

    if (loss == ST_LOST_START) {
        w->failures++;
        return;
    }
    if (loss == ST_LOST_RECYCLED || (was_ready && now - w->ready_ns >= good_life(w))) {
        w->failures = 0;
        w->wasted_ns = 0;
        return;
    }
    w->wasted_ns += (was_ready ? w->ready_ns : now) - w->spawned_ns;
    if (w->wasted_ns > WASTE_MS * ST_MSEC)
        w->failures++;
    if (was_ready && w->failures > READY_FAILURES)
        w->failures = READY_FAILURES;
}

/* It is no more, for this reason. False: it drains, and has stopped by this. On w->loop. */
static bool worker_out(struct st_worker *w, enum st_worker_loss loss, const char *text)
{
    struct st_pool *pool = w->pool;
    bool wanted;

    st_loop_timer_cancel(w->loop, &w->retry);
    pthread_mutex_lock(&pool->lock);
    if (pool->candidate == w)
        st_pool_candidate_failed(w, text);
    wanted = w->state != ST_WORKER_DRAINING;
    if (wanted) {
        st_worker_set_state(w, ST_WORKER_RESTARTING);
        w->restarts += loss != ST_LOST_START;
        judge_life(w, loss);
    }
    w->credits = 0;
    w->restart_called = false;
    snprintf(w->last_error, sizeof w->last_error, "%s", text);
    pthread_mutex_unlock(&pool->lock);
    st_metric_add(w->loop->metrics, pool->metrics.restarts[loss], 1);
    if (!wanted)
        st_worker_stopped(w);
    return wanted;
}

void st_worker_failed(struct st_worker *w, const char *text)
{
    uint64_t ms;

    if (st_processor_phase(w->pool->processor) == ST_PHASE_STARTING) {
        st_processor_start_failed(w->pool->processor, text);
        return;
    }
    if (!worker_out(w, ST_LOST_START, text))
        return;
    ms = retry_later(w);
    ST_LOG(ST_LOG_ERROR, "processor.worker", "A worker did not start; it is tried again",
           ST_KV_STR("pool", w->pool->name), ST_KV_UINT("worker", w->index),
           ST_KV_STR("error", text), ST_KV_UINT("retry_ms", ms));
}

void st_worker_lost(struct st_worker *w, enum st_worker_loss loss, const char *text)
{
    enum st_log_level level = loss == ST_LOST_RECYCLED ? ST_LOG_INFO : ST_LOG_ERROR;
    uint64_t ms;

    if (w->ready_ns == 0 && st_processor_phase(w->pool->processor) == ST_PHASE_STARTING) {
        st_processor_start_failed(w->pool->processor, text);
        return;
    }
    if (!worker_out(w, loss, text))
        return;
    ms = retry_later(w);
    ST_LOG(level, "processor.worker", "A worker has ended and is started again",
           ST_KV_STR("pool", w->pool->name), ST_KV_UINT("worker", w->index),
           ST_KV_STR("reason", st_worker_loss_name(loss)), ST_KV_STR("error", text),
           ST_KV_UINT("retry_ms", ms));
}

void st_worker_event_done(struct st_worker *w, uint64_t duration_ns)
{
    struct st_pool *pool = w->pool;
    bool stop;

    pthread_mutex_lock(&pool->lock);
    ST_ASSERT(w->running > 0);
    w->running--;
    worker_settle(w);
    stop = st_worker_take_stop(w);
    pthread_mutex_unlock(&pool->lock);
    st_metric_add(w->loop->metrics, w->metrics.duration_sum, (int64_t)(duration_ns / 1000));
    st_metric_add(w->loop->metrics, w->metrics.duration_count, 1);
    if (st_unlikely(stop))
        w->runtime->kind->stop(w);
}

void st_worker_batch_done(struct st_worker *w, uint32_t n, uint64_t duration_ns)
{
    struct st_pool *pool = w->pool;
    bool stop;

    pthread_mutex_lock(&pool->lock);
    ST_ASSERT(w->running == n);
    w->running = 0;
    w->credits += n;
    worker_settle(w);
    stop = st_worker_take_stop(w);
    pthread_mutex_unlock(&pool->lock);
    st_metric_add(w->loop->metrics, w->metrics.duration_sum, (int64_t)(duration_ns / 1000));
    st_metric_add(w->loop->metrics, w->metrics.duration_count, n);
    if (st_unlikely(pool->event_timeout_ns != 0 && duration_ns > pool->event_timeout_ns))
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.worker",
                       "A NONBLOCKING handler held its loop longer than eventTimeout with a batch; "
                       "no 408 can be given: make it faster, or leave the flag out",
                       ST_KV_STR("pool", pool->name),
                       ST_KV_UINT("milliseconds", duration_ns / ST_MSEC));
    if (st_unlikely(stop))
        w->runtime->kind->stop(w);
    else
        st_pool_batch(pool);
}

uint32_t st_worker_retreat(struct st_worker *w, uint32_t events)
{
    struct st_pool *pool = w->pool;
    uint32_t unused;
    bool stop;

    pthread_mutex_lock(&pool->lock);
    ST_ASSERT(w->running >= events);
    w->running -= events;
    unused = w->credits;
    w->credits = 0;
    worker_settle(w);
    stop = st_worker_take_stop(w);
    pthread_mutex_unlock(&pool->lock);
    if (st_unlikely(stop))
        w->runtime->kind->stop(w);
    return unused;
}

void st_worker_credit(struct st_worker *w, uint32_t n)
{
    struct st_pool *pool = w->pool;

    pthread_mutex_lock(&pool->lock);
    w->credits += n;
    worker_settle(w);
    pthread_mutex_unlock(&pool->lock);
    st_pool_feed(pool, w);
}

void st_worker_stopped(struct st_worker *w)
{
    struct st_pool *pool = w->pool;
    bool came_back;

    pthread_mutex_lock(&pool->lock);
    came_back = w->state == ST_WORKER_STUCK;
    if (came_back)
        pool->stuck--;
    else
        pool->stopped++;
    st_worker_set_state(w, ST_WORKER_DEAD);
    if (w->is_past)
        st_pool_forget(w);
    if (pool->inline_workers != NULL)
        pool->inline_workers[w->loop->index] = NULL;
    pthread_mutex_unlock(&pool->lock);
    if (came_back)
        st_pool_refill(pool);
    st_processor_notify(pool->processor);
}
