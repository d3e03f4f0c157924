/* Bump allocator for what dies together, one per event: no free of single objects.
 *
 * An arena belongs to one thread at a time; whoever owns the event owns its arena. The first block
 * may be part of the object that holds the arena, so small events allocate nothing. */
#ifndef PROCESSOR_CORE_ARENA_H
#define PROCESSOR_CORE_ARENA_H

#include "processor/core/base.h"

struct st_arena_block {
    struct st_arena_block *next;
    size_t size; /* of the bytes behind this header */
};

struct st_arena {
    char *at, *end;                /* free bytes of the newest block */
    struct st_arena_block *blocks; /* heap blocks, newest first; NULL: none */
    size_t heap_bytes;             /* in heap blocks, for accounting */
};

/* Starts an arena on borrowed memory (which may be NULL with size 0) that outlives it. */
static inline void st_arena_init(struct st_arena *a, void *borrow, size_t size)
{
    a->at = borrow;
    a->end = size != 0 ? (char *)borrow + size : borrow; /* NULL + 0 is undefined in C */
    a->blocks = NULL;
    a->heap_bytes = 0;
}

/* The slow half of st_arena_try: a new heap block. NULL when memory is out. */
void *st_arena_grow(struct st_arena *a, size_t size);

/* size bytes, aligned for any type and not zeroed; NULL when memory is out. For sizes that a
 * peer chose; the caller has checked its limit. */
static inline void *st_arena_try(struct st_arena *a, size_t size)
{
    uintptr_t at = ((uintptr_t)a->at + 15u) & ~(uintptr_t)15u;

    /* >=: with nothing left even 0 bytes need a block, NULL would look like no memory. */
    if (st_unlikely(at > (uintptr_t)a->end || size >= (size_t)((uintptr_t)a->end - at)))
        return st_arena_grow(a, size);
    a->at = (char *)at + size;
    return (void *)at;
}

/* As st_arena_try, but aborts when memory is out. */
void *st_arena_alloc(struct st_arena *a, size_t size);

/* A copy of the slice in the arena, with a NUL behind it. Aborts when memory is out. */
struct st_slice st_arena_copy(struct st_arena *a, struct st_slice s);

/* Frees the heap blocks; the arena is as after st_arena_init(a, NULL, 0). */
void st_arena_release_blocks(struct st_arena *a);

static inline void st_arena_release(struct st_arena *a)
{
    if (st_unlikely(a->blocks != NULL))
        st_arena_release_blocks(a);
}

#endif
