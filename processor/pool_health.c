/* What is asked of a pool: by /ready and /live, and which processes are its own. */
#include "processor/pool.h"

bool st_pool_is_usable(struct st_pool *pool)
{
    bool usable;

    pthread_mutex_lock(&pool->lock);
    usable =
        pool->counts[ST_WORKER_IDLE] + pool->counts[ST_WORKER_BUSY] + pool->counts[ST_WORKER_FULL] >
        0;
    pthread_mutex_unlock(&pool->lock);
    return usable;
}

bool st_pool_was_ready(struct st_pool *pool)
{
    bool ready;

    pthread_mutex_lock(&pool->lock);
    ready = pool->readied >= pool->worker_count;
    pthread_mutex_unlock(&pool->lock);
    return ready;
}

bool st_pool_is_live(struct st_pool *pool)
{
    bool live;

    pthread_mutex_lock(&pool->lock);
    live = pool->stuck <= pool->worker_count;
    pthread_mutex_unlock(&pool->lock);
    return live;
}

bool st_pool_has_process(struct st_pool *pool, int pid)
{
    const struct st_worker *w;
    bool found = false;

    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < ST_WORKER_STATES; i++)
        TAILQ_FOREACH (w, &pool->lists[i], link)
            found |= atomic_load_explicit(&w->pid, memory_order_relaxed) == pid;
    pthread_mutex_unlock(&pool->lock);
    return found;
}

unsigned st_pool_processes(struct st_pool *pool, int *pids, unsigned most)
{
    unsigned n = 0;

    pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < pool->worker_count && n < most; i++) {
        pids[n] = atomic_load_explicit(&pool->workers[i]->pid, memory_order_relaxed);
        n += pids[n] != 0;
    }
    pthread_mutex_unlock(&pool->lock);
    return n;
}
