#include "processor/core/arena.h"

#include "processor/core/alloc.h"

enum { ARENA_FIRST_BLOCK = 2048, ARENA_LAST_BLOCK = 65536 }; /* with their headers */

_Static_assert(sizeof(struct st_arena_block) % 16 == 0, "objects behind the header are aligned");

static struct st_arena_block *block_try(struct st_arena *a, size_t size)
{
    struct st_arena_block *b = st_try_malloc(sizeof(*b) + size);

    if (b == NULL)
        return NULL;
    b->size = size;
    a->heap_bytes += sizeof(*b) + size;
    return b;
}

void *st_arena_grow(struct st_arena *a, size_t size)
{
    /* Blocks of 2, 4, 8 ... KiB hold this much before the next one. */
    size_t next = a->heap_bytes + ARENA_FIRST_BLOCK;
    struct st_arena_block *b;

    if (size > SIZE_MAX / 2)
        return NULL;
    if (next > ARENA_LAST_BLOCK)
        next = ARENA_LAST_BLOCK;
    next -= sizeof(*b);
    if (size >= next) {
        /* A block of its own; what is free in the newest block stays in use. */
        b = block_try(a, size);
        if (b == NULL)
            return NULL;
        b->next = a->blocks;
        a->blocks = b;
        return b + 1;
    }
    b = block_try(a, next);
    if (b == NULL)
        return NULL;
    b->next = a->blocks;
    a->blocks = b;
    a->at = (char *)(b + 1);
    a->end = a->at + next;
    return st_arena_try(a, size);
}

void *st_arena_alloc(struct st_arena *a, size_t size)
{
    void *p = st_arena_try(a, size);

    ST_ASSERT(p != NULL);
    return p;
}

struct st_slice st_arena_copy(struct st_arena *a, struct st_slice s)
{
    char *p = st_arena_alloc(a, s.len + 1);

    if (s.len != 0)
        memcpy(p, s.ptr, s.len);
    p[s.len] = '\0';
    return (struct st_slice){p, s.len};
}

void st_arena_release_blocks(struct st_arena *a)
{
    struct st_arena_block *b = a->blocks, *next;

    for (; b != NULL; b = next) {
        next = b->next;
        free(b);
    }
    st_arena_init(a, NULL, 0);
}
