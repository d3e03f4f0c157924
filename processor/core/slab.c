#include "processor/core/slab.h"

#include "processor/core/alloc.h"

void st_slab_init(struct st_slab *s, const char *name, size_t size, size_t keep)
{
    *s = (struct st_slab){.name = name, .size = size, .keep = keep};
    if (s->size < sizeof(struct st_slab_free))
        s->size = sizeof(struct st_slab_free);
}

void *st_slab_try_heap(struct st_slab *s)
{
    void *obj = st_try_malloc(s->size);

    if (obj != NULL)
        s->in_use++;
    return obj;
}

void st_slab_put_heap(struct st_slab *s, void *obj)
{
    if (obj == NULL)
        return;
    ST_ASSERT(s->in_use > 0);
    s->in_use--;
    free(obj);
}

void *st_slab_get(struct st_slab *s)
{
    void *obj = st_slab_try(s);

    ST_ASSERT(obj != NULL);
    return obj;
}

void st_slab_close(struct st_slab *s)
{
    struct st_slab_free *f = s->free, *next;

    ST_ASSERT(s->in_use == 0);
    for (; f != NULL; f = next) {
        next = f->next;
        free(f);
    }
    s->free = NULL;
    s->idle = 0;
}
