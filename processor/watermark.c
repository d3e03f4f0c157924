#include "processor/watermark.h"

#include <stdlib.h>

#include "processor/core/alloc.h"

enum { WORD = 64 };

void st_watermark_init(struct st_watermark *wm, uint32_t window)
{
    uint32_t size = WORD;

    ST_ASSERT(window >= WORD && window <= 1u << 20);
    while (size < window)
        size *= 2;
    *wm = (struct st_watermark){.offsets = st_calloc(size, sizeof wm->offsets[0]),
                                .done = st_calloc(size / WORD, sizeof wm->done[0]),
                                .mask = size - 1};
}

void st_watermark_free(struct st_watermark *wm)
{
    free(wm->offsets);
    free(wm->done);
    *wm = (struct st_watermark){0};
}

uint32_t st_watermark_reset(struct st_watermark *wm)
{
    for (uint32_t i = 0; i <= wm->mask / WORD; i++)
        wm->done[i] = 0;
    wm->lo = wm->next = wm->end = 0;
    return ++wm->epoch;
}

static uint64_t bit_of(uint64_t seq)
{
    return 1ull << (seq % WORD);
}

static uint64_t *word_of(const struct st_watermark *wm, uint64_t seq)
{
    return &wm->done[(seq & wm->mask) / WORD];
}

uint64_t st_watermark_take(struct st_watermark *wm, uint64_t offset)
{
    ST_ASSERT(!st_watermark_is_full(wm) && offset >= wm->end);
    wm->offsets[wm->next & wm->mask] = offset;
    wm->end = offset + 1;
    return wm->next++;
}

bool st_watermark_done(struct st_watermark *wm, uint64_t seq, uint32_t epoch)
{
    if (st_unlikely(epoch != wm->epoch))
        return false;
    wm->ends++;
    ST_ASSERT(seq >= wm->lo && seq < wm->next && (*word_of(wm, seq) & bit_of(seq)) == 0);
    if (seq != wm->lo) {
        *word_of(wm, seq) |= bit_of(seq);
        return false;
    }
    for (wm->lo++; wm->lo < wm->next && (*word_of(wm, wm->lo) & bit_of(wm->lo)) != 0; wm->lo++)
        *word_of(wm, wm->lo) &= ~bit_of(wm->lo);
    return true;
}

bool st_watermark_position(const struct st_watermark *wm, uint64_t *offset)
{
    if (wm->next == 0)
        return false;
    /* Nothing open: behind the last one, so that gaps at the end are not read again. */
    *offset = wm->lo < wm->next ? wm->offsets[wm->lo & wm->mask] : wm->end;
    return true;
}

bool st_watermark_oldest(const struct st_watermark *wm, uint64_t *offset)
{
    if (wm->lo == wm->next)
        return false;
    *offset = wm->offsets[wm->lo & wm->mask];
    return true;
}

bool st_watermark_find(const struct st_watermark *wm, uint64_t offset, uint64_t *seq)
{
    uint64_t low = wm->lo, high = wm->next;

    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        uint64_t at = wm->offsets[mid & wm->mask];

        if (at == offset) {
            *seq = mid;
            return (*word_of(wm, mid) & bit_of(mid)) == 0;
        }
        if (at < offset)
            low = mid + 1;
        else
            high = mid;
    }
    return false;
}
