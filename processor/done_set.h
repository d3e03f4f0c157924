/* Which messages beyond a committed position are done already, as text that travels with the commit
 * (Kafka: offset metadata). A reader that starts at the position skips them, so neither a clean
 * hand-over nor a crash repeats what had only overtaken a slower message. The idea is that of
 * Confluent's parallel consumer.
 *
 * Text: "s1" and base64 (RFC 4648 section 4, without padding) of a bitmap; bit i, lowest first, is
 * offset position + i. What lies further than ST_DONE_SET_SPAN is left out, and then repeated. */
#ifndef PROCESSOR_DONE_SET_H
#define PROCESSOR_DONE_SET_H

#include "processor/core/base.h"
#include "processor/watermark.h"

enum {
    ST_DONE_SET_SPAN = 24000,
    ST_DONE_SET_TEXT = 2 + ST_DONE_SET_SPAN / 6 + 1 /* brokers take 4096 by default */
};

/* Zeroed: empty. */
struct st_done_set {
    uint64_t position;
    uint32_t count; /* bits */
    uint8_t *bits;
};

/* Writes what is done beyond the position; returns the length, without the NUL: 0, nothing is.
 * before: what was done when the reader began; of it counts what has not been taken yet. */
size_t st_done_set_write(const struct st_watermark *wm, const struct st_done_set *before,
                         char out[ST_DONE_SET_TEXT + 1]);

/* Reads such a text; what is none of this version means an empty set. Frees what was in it. */
void st_done_set_read(struct st_done_set *set, uint64_t position, struct st_slice text);
void st_done_set_free(struct st_done_set *set);

/* The first offset that it says nothing about. */
static inline uint64_t st_done_set_end(const struct st_done_set *set)
{
    return set->position + set->count;
}

static inline bool st_done_set_has(const struct st_done_set *set, uint64_t offset)
{
    uint64_t i = offset - set->position;

    return i < set->count && (set->bits[i / 8] >> (i % 8) & 1) != 0;
}

#endif
