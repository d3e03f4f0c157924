/* How far a shard of a source is done when its messages end out of order: the offset that may be
 * committed, because every message before it is done.
 *
 * A ring of messages, not of offsets: each message that is taken gets the next sequence number, and
 * the ring holds its offset and whether it is done. So gaps between offsets (compaction, control
 * records, aborted transactions) cost nothing, however wide they are.
 *
 * Epoch. Each assignment of the shard is one; what ends in an older one is dropped, because the
 * shard may be somebody else's by now. No locks: one thread. */
#ifndef PROCESSOR_WATERMARK_H
#define PROCESSOR_WATERMARK_H

#include "processor/core/base.h"

struct st_watermark {
    uint64_t *offsets; /* by sequence number & mask */
    uint64_t *done;    /* a bit each */
    uint64_t lo, next; /* sequence numbers: oldest that is not done, next to be given */
    uint64_t ends;     /* how often something was done, ever; tells a change */
    uint64_t end;      /* offset after the last message taken; 0: none yet */
    uint32_t mask;
    uint32_t epoch;
};

/* window: messages that may be open at once, 64 to 2^20, rounded up to a power of two. Aborts when
 * memory is out. */
void st_watermark_init(struct st_watermark *wm, uint32_t window);
void st_watermark_free(struct st_watermark *wm);

/* A new assignment: nothing is open. Returns the new epoch. */
uint32_t st_watermark_reset(struct st_watermark *wm);

/* Messages taken and not passed by the position. */
static inline uint32_t st_watermark_open(const struct st_watermark *wm)
{
    return (uint32_t)(wm->next - wm->lo);
}

static inline bool st_watermark_is_full(const struct st_watermark *wm)
{
    return st_watermark_open(wm) > wm->mask;
}

/* An open message's state; lo <= seq < next. */
static inline bool st_watermark_is_done(const struct st_watermark *wm, uint64_t seq)
{
    uint64_t at = seq & wm->mask;

    return (wm->done[at / 64] >> (at % 64) & 1) != 0;
}

/* True when this epoch has taken the offset already, or a later one. */
static inline bool st_watermark_has_taken(const struct st_watermark *wm, uint64_t offset)
{
    return offset < wm->end;
}

/* A message is taken: its sequence number. Offsets only grow; the window must not be full. */
uint64_t st_watermark_take(struct st_watermark *wm, uint64_t offset);

/* It is done, once. True: the position has moved. False: it has not, or the epoch is over. */
bool st_watermark_done(struct st_watermark *wm, uint64_t seq, uint32_t epoch);

/* What may be committed: the offset of the next message to be read after a restart. False: this
 * epoch has taken nothing. */
bool st_watermark_position(const struct st_watermark *wm, uint64_t *offset);

/* The oldest open message's offset; false: nothing is open. */
bool st_watermark_oldest(const struct st_watermark *wm, uint64_t *offset);

/* The sequence number of an open message; false: no such message is open. By bisection. */
bool st_watermark_find(const struct st_watermark *wm, uint64_t offset, uint64_t *seq);

#endif
