/* Objects of one size on a free list, for the hot path of one thread. No locks. */
#ifndef PROCESSOR_CORE_SLAB_H
#define PROCESSOR_CORE_SLAB_H

#include "processor/core/base.h"

struct st_slab_free {
    struct st_slab_free *next;
};

struct st_slab {
    struct st_slab_free *free;
    const char *name; /* for people; static text */
    size_t size;      /* of one object */
    size_t in_use;    /* handed out now */
    size_t idle;      /* on the free list */
    size_t keep;      /* most idle objects; beyond it they go back to the heap */
};

/* keep bounds the memory that lies idle after a peak. */
void st_slab_init(struct st_slab *s, const char *name, size_t size, size_t keep);

/* The slow halves: heap. */
void *st_slab_try_heap(struct st_slab *s);
void st_slab_put_heap(struct st_slab *s, void *obj);

/* An object, not zeroed; NULL when memory is out. */
static inline void *st_slab_try(struct st_slab *s)
{
    struct st_slab_free *f = s->free;

    if (st_unlikely(f == NULL))
        return st_slab_try_heap(s);
    s->free = f->next;
    s->idle--;
    s->in_use++;
    return f;
}

/* As st_slab_try, but aborts when memory is out. */
void *st_slab_get(struct st_slab *s);

/* Gives an object of this slab back; NULL is ignored. */
static inline void st_slab_put(struct st_slab *s, void *obj)
{
    struct st_slab_free *f = obj;

    if (st_unlikely(f == NULL || s->idle >= s->keep)) {
        st_slab_put_heap(s, obj);
        return;
    }
    f->next = s->free;
    s->free = f;
    s->idle++;
    s->in_use--;
}

/* Frees the idle objects; asserts that none is in use. */
void st_slab_close(struct st_slab *s);

#endif
