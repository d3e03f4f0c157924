#include "runtimes/process/extent.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 16 };

static uint64_t round_up(uint64_t size)
{
    return (size + ST_EXTENT_ALIGN - 1) & ~(uint64_t)(ST_EXTENT_ALIGN - 1);
}

bool st_extents_init(struct st_extents *x, uint64_t size)
{
    size &= ~(uint64_t)(ST_EXTENT_ALIGN - 1);
    memset(x, 0, sizeof *x);
    x->holes = malloc(FIRST_ROOM * sizeof *x->holes);
    if (x->holes == NULL)
        return false;
    x->room = FIRST_ROOM;
    x->holes[0] = (struct st_extent){0, size};
    x->count = size != 0;
    x->size = x->free_bytes = size;
    return true;
}

void st_extents_end(struct st_extents *x)
{
    free(x->holes);
    memset(x, 0, sizeof *x);
}

/* n extents leave at most n + 1 holes: with room for those, giving back needs no memory. */
static bool grow(struct st_extents *x)
{
    struct st_extent *holes;

    if (x->taken + 2 < x->room)
        return true;
    holes = realloc(x->holes, 2 * x->room * sizeof *holes);
    if (holes == NULL)
        return false;
    x->holes = holes;
    x->room *= 2;
    return true;
}

static void remove_hole(struct st_extents *x, size_t i)
{
    x->count--;
    memmove(&x->holes[i], &x->holes[i + 1], (x->count - i) * sizeof *x->holes);
}

bool st_extents_take(struct st_extents *x, uint64_t size, uint64_t *offset)
{
    if (size == 0 || size > x->free_bytes || !grow(x))
        return false;
    size = round_up(size);
    for (size_t i = 0; i < x->count; i++) {
        struct st_extent *hole = &x->holes[i];

        if (hole->size < size)
            continue;
        *offset = hole->offset;
        hole->offset += size;
        hole->size -= size;
        if (hole->size == 0)
            remove_hole(x, i);
        x->taken++;
        x->free_bytes -= size;
        return true;
    }
    return false;
}

/* The first hole that begins behind the offset. */
static size_t find(const struct st_extents *x, uint64_t offset)
{
    size_t low = 0, high = x->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (x->holes[middle].offset > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool st_extents_give(struct st_extents *x, uint64_t offset, uint64_t size)
{
    size_t i = find(x, offset);
    struct st_extent *before = i > 0 ? &x->holes[i - 1] : NULL;
    struct st_extent *behind = i < x->count ? &x->holes[i] : NULL;

    size = round_up(size);
    if (x->holes == NULL || x->taken == 0 || size == 0 || offset > x->size ||
        size > x->size - offset || (before != NULL && before->offset + before->size > offset) ||
        (behind != NULL && offset + size > behind->offset))
        return false;
    x->taken--;
    x->free_bytes += size;
    if (before != NULL && before->offset + before->size == offset) {
        before->size += size;
        if (behind != NULL && offset + size == behind->offset) {
            before->size += behind->size;
            remove_hole(x, i);
        }
        return true;
    }
    if (behind != NULL && offset + size == behind->offset) {
        behind->offset = offset;
        behind->size += size;
        return true;
    }
    memmove(&x->holes[i + 1], &x->holes[i], (x->count - i) * sizeof *x->holes);
    x->holes[i] = (struct st_extent){offset, size};
    x->count++;
    return true;
}
