/* The pool to the processor: bodies that are too long for a record. */
#include "runtimes/process/extent.h"
#include "runtimes/python/ext/ext_int.h"

static struct st_extents extents;

int py_pool_open(uint64_t size)
{
    if (!st_extents_init(&extents, size)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void py_pool_close(void)
{
    st_extents_end(&extents);
}

bool py_pool_take(uint64_t size, struct st_wire_ref *ref)
{
    *ref = (struct st_wire_ref){.region = ST_WIRE_UP, .length = size};
    return st_extents_take(&extents, size, &ref->offset);
}

void py_pool_free(const struct st_wire_ref *ref)
{
    /* False: the processor gives back what it has given back before; nothing has changed. */
    (void)st_extents_give(&extents, ref->offset, ref->length);
}
