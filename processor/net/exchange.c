#include "processor/net/exchange.h"

ptrdiff_t st_exchange_detach_head(struct st_exchange *x)
{
    char *copy;
    ptrdiff_t distance;

    if (x->detached)
        return 0;
    copy = st_arena_alloc(x->arena, x->head.len);
    memcpy(copy, x->head.ptr, x->head.len);
    distance = copy - x->head.ptr;
    x->head.ptr = copy;
    x->method.ptr += distance;
    x->target.ptr += distance;
    for (uint32_t i = 0; i < x->headers.count; i++) {
        x->headers.items[i].name += distance;
        x->headers.items[i].value += distance;
    }
    x->detached = true;
    return distance;
}
