/* Refcounted bytes: a buffer is a slice {region, offset, length} of a region.
 *
 * A region is freed by whoever drops its last reference, on any thread. Later kinds of regions (a
 * function's memfd pool, pinned memory) differ in their `release` only; code that handles buffers
 * doesn't see it, and {offset, length} is what travels to a worker process. */
#ifndef PROCESSOR_CORE_BUF_H
#define PROCESSOR_CORE_BUF_H

#include <stdatomic.h>

#include "processor/core/base.h"

struct st_region {
    atomic_uint refs;
    char *base;
    size_t size;
    void (*release)(struct st_region *r); /* called once, when refs reaches 0 */
};

/* Owns one reference of its region while region is not NULL; a zeroed buffer is empty. */
struct st_buf {
    struct st_region *region;
    size_t offset, length;
};

/* A heap region of size bytes with one reference; NULL when memory is out. */
struct st_region *st_region_try_new(size_t size);

static inline void st_region_ref(struct st_region *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
}

void st_region_unref(struct st_region *r);

/* True when the caller holds the only reference, and so may write or grow the region. */
static inline bool st_region_is_sole(struct st_region *r)
{
    return atomic_load_explicit(&r->refs, memory_order_acquire) == 1;
}

/* A buffer with a copy of the slice; 0 or ST_ERR_NOMEM. *out is empty on failure. */
int st_buf_try_copy(struct st_buf *out, struct st_slice s) ST_MUST_CHECK;

static inline char *st_buf_data(const struct st_buf *b)
{
    return b->region != NULL ? b->region->base + b->offset : NULL;
}

static inline struct st_slice st_buf_slice(const struct st_buf *b)
{
    return (struct st_slice){st_buf_data(b), b->length};
}

/* Another reference to the same bytes. */
static inline struct st_buf st_buf_ref(const struct st_buf *b)
{
    if (b->region != NULL)
        st_region_ref(b->region);
    return *b;
}

/* Drops the reference; *b is empty afterwards. */
static inline void st_buf_drop(struct st_buf *b)
{
    if (b->region != NULL)
        st_region_unref(b->region);
    *b = (struct st_buf){0};
}

#endif
