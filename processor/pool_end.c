/* How workers leave a pool: for new ones that take their places, or with the pool. */
#include <stdio.h>
#include <stdlib.h>

#include "processor/core/loop.h"
#include "processor/pool.h"
#include "processor/pool_int.h"
#include "processor/processor.h"
#include "processor/runtime.h"

static void deliver_stop(struct st_loop *loop, struct st_mail *mail)
{
    struct st_worker *w = ST_CONTAINER_OF(mail, struct st_worker, stop_mail);
    bool now;

    pthread_mutex_lock(&w->pool->lock);
    now = st_worker_take_stop(w);
    pthread_mutex_unlock(&w->pool->lock);
    st_loop_timer_cancel(loop, &w->retry);
    if (now)
        w->runtime->kind->stop(w);
    else
        st_processor_notify(w->pool->processor); /* it may be dead */
}

/* Ends it when it has nothing any more. Under the lock. */
static void stop_worker(struct st_worker *w)
{
    /* Nothing is left of one that waits for its next start. */
    st_worker_set_state(w, w->state == ST_WORKER_RESTARTING && !w->restart_called
                               ? ST_WORKER_DEAD
                               : ST_WORKER_DRAINING);
    st_loop_post(w->loop, &w->stop_mail, deliver_stop);
}

void st_pool_stop(struct st_pool *pool)
{
    struct st_worker *w;

    pthread_mutex_lock(&pool->lock);
    pool->draining = true;
    pool->candidate = NULL;
    for (int i = 0; i < ST_WORKER_STATES; i++)
        while (i != ST_WORKER_DRAINING && i != ST_WORKER_STUCK && i != ST_WORKER_DEAD &&
               (w = TAILQ_FIRST(&pool->lists[i])) != NULL)
            stop_worker(w);
    pthread_mutex_unlock(&pool->lock);
}

bool st_pool_is_stopped(struct st_pool *pool)
{
    unsigned left = 0;

    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < ST_WORKER_STATES; i++)
        if (i != ST_WORKER_STUCK && i != ST_WORKER_DEAD)
            left += pool->counts[i];
    pthread_mutex_unlock(&pool->lock);
    return left == 0;
}

/* New workers for old ones */

void st_pool_renew(struct st_pool *pool, unsigned index)
{
    struct st_worker *old = pool->workers[index];
    struct st_worker *w = st_pool_worker_new(pool, index, old->slot, old->loop, false);

    ST_ASSERT(pool->candidate == NULL && !pool->draining);
    pthread_mutex_lock(&pool->lock);
    w->is_past = true; /* until it has the place */
    pool->candidate = w;
    pool->renewal_error[0] = '\0';
    pthread_mutex_unlock(&pool->lock);
    st_pool_worker_spawn(w);
}

bool st_pool_candidate_ready(struct st_worker *w)
{
    struct st_pool *pool = w->pool;
    struct st_worker *old = pool->workers[w->index];

    if (st_likely(pool->candidate != w))
        return false;
    pool->candidate = NULL;
    pool->workers[w->index] = w;
    w->is_past = false;
    w->restarts = old->restarts + 1;
    old->is_past = true;
    stop_worker(old);
    if (old->state == ST_WORKER_DEAD)
        st_pool_forget(old);
    return true;
}

void st_pool_candidate_failed(struct st_worker *w, const char *text)
{
    w->pool->candidate = NULL;
    snprintf(w->pool->renewal_error, sizeof w->pool->renewal_error, "%s", text);
    st_worker_set_state(w, ST_WORKER_DRAINING);
}

enum st_renewal st_pool_renewal(struct st_pool *pool, char *text, size_t n)
{
    enum st_renewal renewal = ST_RENEWAL_DONE;

    pthread_mutex_lock(&pool->lock);
    if (pool->candidate != NULL)
        renewal = ST_RENEWAL_GOES_ON;
    else if (pool->renewal_error[0] != '\0')
        renewal = ST_RENEWAL_FAILED;
    snprintf(text, n, "%s", pool->renewal_error);
    pthread_mutex_unlock(&pool->lock);
    return renewal;
}

void st_pool_cancel_renewal(struct st_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    if (pool->candidate != NULL)
        stop_worker(pool->candidate);
    pool->candidate = NULL;
    pthread_mutex_unlock(&pool->lock);
}

void st_pool_forget(struct st_worker *w)
{
    struct st_pool *pool = w->pool;

    TAILQ_REMOVE(&pool->lists[ST_WORKER_DEAD], w, link);
    pool->counts[ST_WORKER_DEAD]--;
    TAILQ_INSERT_TAIL(&pool->past, w, link);
}

/* The end */

static void free_workers(struct st_worker_list *list)
{
    struct st_worker *w;

    while ((w = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, w, link);
        free(w);
    }
}

void st_pool_free(struct st_pool *pool)
{
    if (pool == NULL)
        return;
    /* A stuck worker's thread may still come back to its struct: that one is left to the exit. */
    free_workers(&pool->lists[ST_WORKER_DEAD]);
    free_workers(&pool->past);
    free_workers(&pool->lists[ST_WORKER_STARTING]); /* never spawned: the start failed before */
    if (TAILQ_EMPTY(&pool->lists[ST_WORKER_STUCK]))
        pthread_mutex_destroy(&pool->lock);
    free(pool->state_gauges);
    free(pool->inline_workers);
    free(pool->workers);
    if (TAILQ_EMPTY(&pool->lists[ST_WORKER_STUCK]))
        free(pool);
}
