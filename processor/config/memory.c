#include "processor/config/memory.h"

#include <stdarg.h>
#include <stdio.h>

#include "processor/core/alloc.h"

struct st_config_memory *st_config_memory_new(void)
{
    struct st_config_memory *mem = st_malloc(sizeof(*mem));

    st_arena_init(&mem->arena, NULL, 0);
    return mem;
}

void st_config_memory_free(struct st_config_memory *mem)
{
    if (mem == NULL)
        return;
    st_arena_release(&mem->arena);
    free(mem);
}

void *st_config_alloc(struct st_config_memory *mem, size_t size)
{
    void *p = st_arena_alloc(&mem->arena, size);

    memset(p, 0, size);
    return p;
}

char *st_config_text(struct st_config_memory *mem, struct st_slice text)
{
    char *copy = st_arena_alloc(&mem->arena, text.len + 1);

    if (text.len > 0)
        memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return copy;
}

char *st_config_printf(struct st_config_memory *mem, const char *fmt, ...)
{
    va_list args, again;
    int len;
    char *text;

    va_start(args, fmt);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, fmt, args);
    ST_ASSERT(len >= 0);
    text = st_arena_alloc(&mem->arena, (size_t)len + 1);
    vsnprintf(text, (size_t)len + 1, fmt, again);
    va_end(again);
    va_end(args);
    return text;
}
