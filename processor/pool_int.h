/* Between pool.c (workers and their events) and pool_end.c (how workers leave). */
#ifndef PROCESSOR_POOL_INT_H
#define PROCESSOR_POOL_INT_H

#include "processor/pool.h"

/* A worker of this pool, STARTING, for the place `index`. Any thread, without the lock. */
struct st_worker *st_pool_worker_new(struct st_pool *pool, unsigned index, struct st_slot *slot,
                                     struct st_loop *loop, bool is_inline);

/* Starts it, on its loop. Any thread. */
void st_pool_worker_spawn(struct st_worker *w);

#endif
