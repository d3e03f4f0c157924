/* Calls of handle_batch(). */
#include "processor/core/alloc.h"
#include "processor/pool.h"
#include "runtimes/native/native_int.h"

_Thread_local size_t st_native_batch_count;

struct st_native_batch *st_native_batch_new(size_t n)
{
    struct st_native_batch *b = st_malloc(sizeof *b + n * (sizeof(void *) + sizeof(int)));

    b->count = 0;
    b->results = (int *)(b->events + n);
    return b;
}

bool st_native_batch_add(struct st_native_batch *b, struct st_event *ev, uint32_t assignment,
                         uint64_t now_ns)
{
    if (!st_event_claim_start(ev, assignment))
        return false;
    atomic_store_explicit(&ev->started_ns, now_ns, memory_order_relaxed);
    /* What the handler forgets must not count as handled. */
    b->results[b->count] = STATOR_ERROR;
    b->events[b->count++] = st_native_event(ev);
    return true;
}

void st_native_batch_run(struct st_native_worker *nw, struct st_native_batch *b)
{
    struct st_native_context outer = st_native_context;

    if (b->count == 0)
        return;
    st_native_context = (struct st_native_context){st_native_from(b->events[0]), nw};
    st_native_batch_count = b->count;
    nw->handler->handle_batch(&st_native_host, nw->user, b->events, b->results, b->count);
    st_native_batch_count = 0;
    st_native_context = outer;
}
