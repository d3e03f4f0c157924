#include "runtimes/process/ring.h"

#include <string.h>

enum { TAKE_BACK_TRIES = 64 }; /* a worker that begins so many records meanwhile needs no help */

void st_ring_init(struct st_ring *r, struct st_wire_ring *index, char *base, uint64_t size)
{
    memset(r, 0, sizeof *r);
    r->index = index;
    r->base = base;
    r->size = size;
}

/* An index that the other side wrote: it only grows, up to a limit, by whole places. */
static bool index_ok(uint64_t value, uint64_t last, uint64_t limit)
{
    return value >= last && value <= limit && value % ST_WIRE_ALIGN == 0;
}

static uint64_t room_of(const struct st_ring *r)
{
    return r->size - (r->tail - r->head);
}

static enum st_ring_result read_head(struct st_ring *r)
{
    uint64_t head = __atomic_load_n(&r->index->head, __ATOMIC_ACQUIRE);

    if (!index_ok(head, r->head, r->tail))
        return ST_RING_BROKEN;
    r->head = head;
    return ST_RING_OK;
}

/* Covers `left` bytes up to the ring's end. */
static void fill(struct st_ring *r, uint64_t left)
{
    struct st_wire_record record = {
        .size = (uint32_t)left, .header_size = sizeof record, .kind = ST_WIRE_FILL};

    memcpy(r->base + (r->tail & (r->size - 1)), &record, sizeof record);
}

enum st_ring_result st_ring_make_room(struct st_ring *r, uint32_t size)
{
    uint64_t left = r->size - (r->tail & (r->size - 1)), gap = size > left ? left : 0;

    if (room_of(r) < gap + size && read_head(r) != ST_RING_OK)
        return ST_RING_BROKEN;
    if (room_of(r) < gap + size) {
        /* Set before the last look: that sees a head that was stored before the consumer's
         * exchange, or that exchange sees the 1. */
        __atomic_exchange_n(&r->index->full, 1, __ATOMIC_ACQ_REL);
        if (read_head(r) != ST_RING_OK)
            return ST_RING_BROKEN;
        if (room_of(r) < gap + size)
            return ST_RING_NONE;
    }
    if (gap != 0)
        fill(r, gap);
    r->place = r->tail + gap;
    return ST_RING_OK;
}

bool st_ring_has_begun(const struct st_ring *r, uint64_t place)
{
    return place < __atomic_load_n(&r->index->taken, __ATOMIC_ACQUIRE);
}

enum st_ring_result st_ring_take_back(struct st_ring *r, uint64_t *from)
{
    uint64_t taken = __atomic_load_n(&r->index->taken, __ATOMIC_ACQUIRE);

    for (int i = 0; i < TAKE_BACK_TRIES; i++) {
        if (!index_ok(taken, r->taken, r->tail))
            return ST_RING_BROKEN;
        r->taken = taken;
        if (taken == r->tail)
            return ST_RING_NONE;
        if (__atomic_compare_exchange_n(&r->index->taken, &taken, r->tail, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE)) {
            *from = taken;
            r->taken = r->tail;
            return ST_RING_OK;
        }
    }
    return ST_RING_NONE;
}

/* What lies at `place`, up to r->tail. The copy is taken once: the compiler must not read the
 * shared bytes again after the checks. */
static enum st_ring_result read_record(struct st_ring *r, uint64_t place,
                                       struct st_wire_record *record)
{
    uint64_t at = place & (r->size - 1), left = r->size - at;

    memcpy(record, r->base + at, sizeof *record);
    __asm__ volatile("" : : : "memory");
    if (record->size < sizeof *record || record->size % ST_WIRE_ALIGN != 0 ||
        record->size > r->tail - place || record->size > left ||
        (record->kind == ST_WIRE_FILL ? record->size != left : record->size > r->size / 4))
        return ST_RING_BROKEN;
    return ST_RING_OK;
}

/* Reads the tail when what was seen of it ends at `place`. */
static enum st_ring_result read_tail(struct st_ring *r, uint64_t place)
{
    uint64_t tail;

    if (place < r->tail)
        return ST_RING_OK;
    tail = __atomic_load_n(&r->index->tail, __ATOMIC_ACQUIRE);
    if (!index_ok(tail, place, r->head + r->size))
        return ST_RING_BROKEN;
    r->tail = tail;
    return place < tail ? ST_RING_OK : ST_RING_NONE;
}

enum st_ring_result st_ring_peek(struct st_ring *r, struct st_wire_record *record, const char **at)
{
    for (;;) {
        enum st_ring_result rc = read_tail(r, r->head);

        if (rc == ST_RING_OK)
            rc = read_record(r, r->head, record);
        if (rc != ST_RING_OK)
            return rc;
        if (record->kind != ST_WIRE_FILL)
            break;
        r->head += record->size;
    }
    *at = r->base + (r->head & (r->size - 1));
    return ST_RING_OK;
}

bool st_ring_sleep(struct st_ring *r)
{
    /* Set before the last look, see st_ring_make_room. */
    __atomic_exchange_n(&r->index->sleeping, 1, __ATOMIC_ACQ_REL);
    if (__atomic_load_n(&r->index->tail, __ATOMIC_ACQUIRE) == r->head)
        return true;
    __atomic_store_n(&r->index->sleeping, 0, __ATOMIC_RELAXED);
    return false;
}

/* Events that the producer has taken back are gone, other records count as before. */
static bool is_gone(const struct st_wire_record *record)
{
    return record->kind == ST_WIRE_EVENT || record->kind == ST_WIRE_BATCH ||
           record->kind == ST_WIRE_FILL;
}

enum st_ring_result st_ring_begin(struct st_ring *r, struct st_wire_record *record, const char **at)
{
    uint64_t taken = __atomic_load_n(&r->index->taken, __ATOMIC_ACQUIRE), place;
    bool gone;

    do {
        enum st_ring_result rc;

        place = r->head;
        rc = read_tail(r, place);
        if (rc == ST_RING_OK)
            rc = read_record(r, place, record);
        if (rc != ST_RING_OK)
            return rc;
        /* A failed exchange has read where the producer moved it. */
        if (place >= taken &&
            __atomic_compare_exchange_n(&r->index->taken, &taken, place + record->size, false,
                                        __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            taken = place + record->size;
            gone = record->kind == ST_WIRE_FILL;
        } else {
            gone = is_gone(record);
        }
        r->head = place + record->size;
    } while (gone);
    *at = r->base + (place & (r->size - 1));
    return ST_RING_OK;
}
