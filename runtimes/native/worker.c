/* What inline workers and worker threads have in common. */
#include "processor/worker.h"

#include "processor/config/config.h"
#include "processor/pool.h"
#include "processor/slot.h"
#include "runtimes/native/native_int.h"

void st_native_worker_init(struct st_native_worker *nw, struct st_worker *w)
{
    const struct st_native *rt = ST_CONTAINER_OF(w->runtime, struct st_native, base);

    *nw = (struct st_native_worker){
        .handle = rt->handler.handle,
        .w = w,
        .handler = &rt->handler,
        .loop = w->loop,
        .index = w->index,
        .pool_name = w->pool->name,
        .timeout_ns = w->pool->event_timeout_ns,
        .batches = w->pool->batch_size != 0 && rt->handler.handle_batch != NULL,
        .info =
            {
                .size = sizeof nw->info,
                .index = w->index,
                .count = w->pool->worker_count,
                .function = rt->base.config->name,
                .trigger = w->pool->name,
                .slot = w->slot != NULL ? w->slot->name : "",
            },
    };
}

int st_native_worker_begin(struct st_native_worker *nw)
{
    struct st_native_context outer = st_native_context;
    int rc = 0;

    st_native_crash_stack(nw);
    st_native_context = (struct st_native_context){NULL, nw};
    if (nw->handler->init != NULL)
        rc = nw->handler->init(&st_native_host, &nw->info, &nw->user);
    st_native_context = outer;
    if (rc != 0)
        st_native_crash_stack_end(nw);
    return rc;
}

void st_native_worker_end(struct st_native_worker *nw)
{
    struct st_native_context outer = st_native_context;

    st_native_context = (struct st_native_context){NULL, nw};
    if (nw->handler->fini != NULL)
        nw->handler->fini(&st_native_host, nw->user);
    st_native_context = outer;
    st_native_crash_stack_end(nw);
}
