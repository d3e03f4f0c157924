/* One ring of records in shared memory (wire.h, docs/wire.md): its producer and its consumer.
 *
 * A side keeps its own indexes in private memory; what the other one wrote is read once, checked
 * and only then used, so neither can lead the other outside the ring. libc only: add-ons of
 * languages use it too. One thread a side. */
#ifndef RUNTIMES_PROCESS_RING_H
#define RUNTIMES_PROCESS_RING_H

#include <stdbool.h>
#include <stddef.h>

#include "runtimes/process/wire.h"

struct st_ring {
    struct st_wire_ring *index; /* shared */
    char *base;                 /* shared */
    uint64_t size;              /* a power of two */
    uint64_t tail;              /* producer: own; consumer: as last read */
    uint64_t head;              /* consumer: own; producer: as last read */
    uint64_t taken;             /* as last read, or moved */
    uint64_t place;             /* producer: of the record that is being written */
    uint32_t writing;           /* its size; 0: none */
};

enum st_ring_result {
    ST_RING_OK,
    ST_RING_NONE,  /* no record; no room */
    ST_RING_BROKEN /* the other side wrote nonsense: nothing more can be done with this ring */
};

/* At its begin: all indexes are 0. */
void st_ring_init(struct st_ring *r, struct st_wire_ring *index, char *base, uint64_t size);

static inline uint32_t st_ring_max_record(const struct st_ring *r)
{
    return (uint32_t)(r->size / 4);
}

/* ---- Producer ---- */

/* The slow part of st_ring_reserve. */
enum st_ring_result st_ring_make_room(struct st_ring *r, uint32_t size);

/* Room for a record of size bytes, a multiple of ST_WIRE_ALIGN up to a quarter of the ring, at *at.
 * NONE: there is none now; the consumer was told to say when it has moved. */
static inline enum st_ring_result st_ring_reserve(struct st_ring *r, uint32_t size, char **at)
{
    uint64_t place = r->tail & (r->size - 1);

    if (size > r->size - place || size > r->size - (r->tail - r->head)) {
        enum st_ring_result rc = st_ring_make_room(r, size);

        if (rc != ST_RING_OK)
            return rc;
        place = r->place & (r->size - 1);
    } else {
        r->place = r->tail;
    }
    r->writing = size;
    *at = r->base + place;
    return ST_RING_OK;
}

/* The record is written: the consumer may have it. Returns its place. */
static inline uint64_t st_ring_commit(struct st_ring *r)
{
    r->tail = r->place + r->writing;
    r->writing = 0;
    __atomic_store_n(&r->index->tail, r->tail, __ATOMIC_RELEASE);
    return r->place;
}

/* After commits: true when the consumer sleeps and must be woken; the next one answers false. */
static inline bool st_ring_must_wake(struct st_ring *r)
{
    return __atomic_exchange_n(&r->index->sleeping, 0, __ATOMIC_ACQ_REL) == 1;
}

/* Ring to the worker: whether the record at `place` has been begun. */
bool st_ring_has_begun(const struct st_ring *r, uint64_t place);

/* Ring to the worker: the records that have not been begun are the producer's again, those from
 * place *from on. NONE: there is none. */
enum st_ring_result st_ring_take_back(struct st_ring *r, uint64_t *from);

/* ---- Consumer ---- */

/* The next record: a copy of its struct, and where it lies; it stays there until
 * st_ring_release. */
enum st_ring_result st_ring_peek(struct st_ring *r, struct st_wire_record *record, const char **at);

/* Goes behind the record of the last peek. */
static inline void st_ring_skip(struct st_ring *r, uint32_t size)
{
    r->head += size;
}

/* The producer may have the place of what lies before `head`; *r keeps what it has seen. True: the
 * producer waits for room, wake it. */
static inline bool st_ring_release_to(struct st_ring *r, uint64_t head)
{
    __atomic_store_n(&r->index->head, head, __ATOMIC_RELEASE);
    return __atomic_exchange_n(&r->index->full, 0, __ATOMIC_ACQ_REL) == 1;
}

static inline bool st_ring_release(struct st_ring *r)
{
    return st_ring_release_to(r, r->head);
}

/* True: there is nothing, and the producer will wake this side. False: look again. */
bool st_ring_sleep(struct st_ring *r);

/* Consumer of the ring to the worker: as st_ring_peek, but the record is begun, so the producer
 * can't take it back, and passed: the next call is about the next one. r->head is behind it. What
 * was taken back is passed over, but for records that are no events. */
enum st_ring_result st_ring_begin(struct st_ring *r, struct st_wire_record *record,
                                  const char **at);

#endif
