/* Heap of core: plain calls abort when memory is out, `try` calls return NULL.
 *
 * Everything in core allocates here, so that a test can make the n-th allocation fail. */
#ifndef PROCESSOR_CORE_ALLOC_H
#define PROCESSOR_CORE_ALLOC_H

#include <stdlib.h>

#include "processor/core/base.h"

/* For tests: n makes the n-th allocation of this thread from now fail, once; 0: off. */
extern _Thread_local unsigned st_alloc_fail_in;

static inline bool st_alloc_must_fail(void)
{
    return st_unlikely(st_alloc_fail_in != 0) && --st_alloc_fail_in == 0;
}

/* size bytes, not zeroed; NULL when memory is out. Freed by free(). */
static inline void *st_try_malloc(size_t size)
{
    return st_alloc_must_fail() ? NULL : malloc(size);
}

/* As st_try_malloc for count * size zeroed bytes; the product is checked. */
static inline void *st_try_calloc(size_t count, size_t size)
{
    return st_alloc_must_fail() ? NULL : calloc(count, size);
}

/* As realloc(3); on NULL the old block stays. */
static inline void *st_try_realloc(void *p, size_t size)
{
    return st_alloc_must_fail() ? NULL : realloc(p, size);
}

/* The same, aborting when memory is out: never NULL, also for size 0. */
void *st_malloc(size_t size);
void *st_calloc(size_t count, size_t size);
void *st_realloc(void *p, size_t size);
char *st_strdup(const char *text);

#endif
