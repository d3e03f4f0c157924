#include "processor/event_time.h"

#include "processor/core/alloc.h"
#include "processor/core/loop.h"
#include "processor/deferred.h"
#include "processor/event.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

/* Its handler came back, and the result has at most a hop or two before it. */
static bool is_done(struct st_event *ev)
{
    return (atomic_load_explicit(&ev->claim, memory_order_acquire) & 3u) == ST_CLAIM_DONE;
}

static struct st_worker *worker_of(struct st_pool *pool, struct st_event *ev)
{
    struct st_worker *w;

    pthread_mutex_lock(&pool->lock);
    w = ev->worker;
    pthread_mutex_unlock(&pool->lock);
    return w;
}

/* Until when it waits for a worker. */
static uint64_t wait_end(const struct st_event *ev)
{
    if (ev->flags & ST_EVENT_PATIENT)
        return UINT64_MAX;
    return ev->queued_ns + ev->trigger->pool->wait_ns;
}

/* An assignment by another loop is noticed within a quarter of the event timeout. */
void st_event_time_wait(struct st_event *ev)
{
    const struct st_pool *pool = ev->trigger->pool;
    uint64_t now = st_loop_now(ev->home), end = wait_end(ev), left;
    uint64_t step = pool->event_timeout_ns / 4;

    if (ev->deadline_ns != 0 && ev->deadline_ns < end)
        end = ev->deadline_ns;
    if (now < ev->queued_ns + pool->batch_wait_ns && ev->queued_ns + pool->batch_wait_ns < end)
        end = ev->queued_ns + pool->batch_wait_ns;
    if (end == UINT64_MAX && step == 0)
        return; /* nothing to wait for */
    left = end > now ? end - now : 0;
    st_loop_timer_arm(ev->home, &ev->timer, step != 0 && step < left ? step : left);
}

/* A hint to the worker. It needs a mail of its own: the event's may be on its way. */
struct notice {
    struct st_mail mail;
    struct st_worker *w;
    struct st_event *ev;
};

static void deliver_notice(struct st_loop *loop, struct st_mail *mail)
{
    struct notice *n = ST_CONTAINER_OF(mail, struct notice, mail);
    struct st_worker *w = n->w;
    bool runs;

    (void)loop;
    pthread_mutex_lock(&w->pool->lock);
    runs = w->running > 0 && w->state != ST_WORKER_DEAD;
    pthread_mutex_unlock(&w->pool->lock);
    if (runs && !w->abandoned)
        w->runtime->kind->cancel(w, n->ev);
    st_event_unref(n->ev);
    free(n);
}

void st_pool_tell_worker(struct st_pool *pool, struct st_event *ev)
{
    struct st_worker *w;
    struct notice *n;

    if (pool->runtime->kind->cancel == NULL || ev->has_result || is_done(ev) ||
        atomic_load_explicit(&ev->token, memory_order_relaxed) != 0)
        return;
    w = worker_of(pool, ev);
    if (w == NULL || w->is_inline)
        return;
    n = st_try_malloc(sizeof *n);
    if (n == NULL)
        return;
    *n = (struct notice){.w = w, .ev = ev};
    st_event_ref(ev);
    st_loop_post(w->loop, &n->mail, deliver_notice);
}

static void timed_out(struct st_pool *pool, struct st_event *ev, struct st_worker *w)
{
    bool returned = ev->token != 0 && st_deferred_close(pool->processor->deferred, ev);
    bool stuck = !returned && !ev->has_result && w != NULL && !w->is_inline && !is_done(ev);

    if (stuck)
        st_pool_tell_worker(pool, ev);
    st_event_finish_as(ev, ST_OUTCOME_TIMEOUT);
    if (stuck)
        st_pool_worker_stuck(pool, w);
}

void st_pool_watch(struct st_pool *pool, struct st_event *ev)
{
    struct st_worker *w = worker_of(pool, ev);

    if (ev->has_result || pool->event_timeout_ns == 0 || !st_timer_armed(&ev->timer) || w == NULL ||
        w->is_inline)
        return;
    /* A token's reference may go without a word, so none may come after this look. */
    if (!st_deferred_refuse(pool->processor->deferred, ev))
        return;
    ev->watched = true;
    st_event_ref(ev);
}

void st_pool_unwatch(struct st_event *ev)
{
    ev->watched = false;
    st_loop_timer_cancel(ev->home, &ev->timer);
    st_event_unref(ev);
}

/* The worker of a watched event has not come back; unless nobody else holds the event any more. */
static void watch_ends(struct st_pool *pool, struct st_event *ev, struct st_worker *w)
{
    if (atomic_load_explicit(&ev->refs, memory_order_acquire) > 1 && !is_done(ev))
        st_pool_worker_stuck(pool, w);
    st_pool_unwatch(ev);
}

/* It has a worker. What that one has not begun by its deadline is not wanted any more. */
static void check_worker(struct st_pool *pool, struct st_event *ev, struct st_worker *w)
{
    uint64_t started = atomic_load_explicit(&ev->started_ns, memory_order_relaxed);
    uint64_t now = st_loop_now(ev->home), end = UINT64_MAX;

    if (pool->event_timeout_ns != 0)
        end = (started != 0 ? started : now) + pool->event_timeout_ns;
    if (started == 0 && ev->deadline_ns > now && ev->deadline_ns < end)
        end = ev->deadline_ns;
    if (end <= now && !ev->answered)
        timed_out(pool, ev, w);
    else if (end <= now)
        watch_ends(pool, ev, w);
    else if (end != UINT64_MAX)
        st_loop_timer_arm(ev->home, &ev->timer, end - now);
}

static void on_event_timer(struct st_timer *t)
{
    struct st_event *ev = ST_CONTAINER_OF(t, struct st_event, timer);
    struct st_pool *pool = ev->trigger->pool;
    uint64_t now = st_loop_now(ev->home);
    bool expired = ev->deadline_ns != 0 && ev->deadline_ns <= now && !ev->answered, waits, over;
    struct st_worker *w;

    pthread_mutex_lock(&pool->lock);
    waits = ev->in_queue;
    w = ev->worker;
    pthread_mutex_unlock(&pool->lock);
    over = expired || (waits && wait_end(ev) <= now);
    if (over && st_pool_withdraw(pool, ev)) {
        if (waits)
            st_metric_add(ev->home->metrics, pool->metrics.timeout, 1);
        st_pool_tell_worker(pool, ev);
        st_event_finish_as(ev, expired ? ST_OUTCOME_TIMEOUT : ST_OUTCOME_NO_WORKER);
    } else if (waits) {
        if (pool->batch_size != 0)
            st_pool_batch(pool);
        st_event_time_wait(ev);
    } else {
        check_worker(pool, ev, w);
    }
}

int st_event_time_submitted(struct st_event *ev)
{
    uint64_t left = ev->trigger->pool->event_timeout_ns, now;
    int code = st_event_detach(ev);

    if (code != ST_OK)
        return code;
    ev->counted = true;
    st_metric_add(ev->home->metrics, ev->trigger->metrics.in_flight, 1);
    st_timer_init(&ev->timer, on_event_timer);
    if (st_unlikely(ev->deadline_ns != 0)) {
        now = st_loop_now(ev->home);
        if (left == 0 || ev->deadline_ns < now + left)
            left = ev->deadline_ns > now ? ev->deadline_ns - now : 1;
    }
    if (left != 0)
        st_loop_timer_arm(ev->home, &ev->timer, left);
    return ST_OK;
}

int st_event_outlive(struct st_event *ev)
{
    int code = st_event_time_submitted(ev);

    if (code == ST_OK)
        atomic_store_explicit(&ev->started_ns, st_loop_now(ev->home), memory_order_relaxed);
    return code;
}
