/* Which bytes of a pool are taken: first fit over a sorted list of holes. The bytes themselves are
 * never touched and what is known of them lies in private memory, so that the other process can
 * break nothing.
 *
 * libc only: add-ons of languages use it for the pool of their side. Not for several threads. */
#ifndef RUNTIMES_PROCESS_EXTENT_H
#define RUNTIMES_PROCESS_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ST_EXTENT_ALIGN = 64 }; /* of offsets; sizes are rounded up to it */

struct st_extent {
    uint64_t offset, size;
};

struct st_extents {
    struct st_extent *holes; /* by offset; none touches the next */
    size_t count, room; /* of holes; there is always room for one more than extents are taken */
    size_t taken;       /* extents */
    uint64_t size, free_bytes;
};

/* A pool of that size (rounded down to ST_EXTENT_ALIGN), all free. False: no memory. */
bool st_extents_init(struct st_extents *x, uint64_t size);
void st_extents_end(struct st_extents *x);

/* Takes size > 0 bytes. False: no hole is large enough (or there is no memory). */
bool st_extents_take(struct st_extents *x, uint64_t size, uint64_t *offset);

/* Gives them back; the same two numbers. False: they were not taken, and nothing has changed. */
bool st_extents_give(struct st_extents *x, uint64_t offset, uint64_t size);

#endif
