#include "processor/core/buf.h"

#include "processor/core/alloc.h"
#include "processor/core/err.h"

static void heap_release(struct st_region *r)
{
    free(r);
}

struct st_region *st_region_try_new(size_t size)
{
    size_t head = (sizeof(struct st_region) + 15u) & ~(size_t)15u;
    struct st_region *r;

    if (size > SIZE_MAX - head)
        return NULL;
    r = st_try_malloc(head + size);
    if (r == NULL)
        return NULL;
    atomic_init(&r->refs, 1);
    r->base = (char *)r + head;
    r->size = size;
    r->release = heap_release;
    return r;
}

void st_region_unref(struct st_region *r)
{
    /* Nobody can add a reference to one that only we hold: no locked instruction for those. */
    if (st_region_is_sole(r) || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) == 1)
        r->release(r);
}

int st_buf_try_copy(struct st_buf *out, struct st_slice s)
{
    *out = (struct st_buf){0};
    if (s.len == 0)
        return ST_OK;
    out->region = st_region_try_new(s.len);
    if (out->region == NULL)
        return ST_ERR_NOMEM;
    memcpy(out->region->base, s.ptr, s.len);
    out->length = s.len;
    return ST_OK;
}
