/* What /ready and /live want to know of a pool. */
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
