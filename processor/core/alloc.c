#include "processor/core/alloc.h"

_Thread_local unsigned st_alloc_fail_in;

void *st_malloc(size_t size)
{
    void *p = st_try_malloc(size != 0 ? size : 1);

    ST_ASSERT(p != NULL);
    return p;
}

void *st_calloc(size_t count, size_t size)
{
    void *p = st_try_calloc(count != 0 ? count : 1, size != 0 ? size : 1);

    ST_ASSERT(p != NULL);
    return p;
}

void *st_realloc(void *p, size_t size)
{
    p = st_try_realloc(p, size != 0 ? size : 1);
    ST_ASSERT(p != NULL);
    return p;
}

char *st_strdup(const char *text)
{
    size_t size = strlen(text) + 1;

    return memcpy(st_malloc(size), text, size);
}
