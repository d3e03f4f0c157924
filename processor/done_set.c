#include "processor/done_set.h"

#include <stdlib.h>

#include "processor/core/alloc.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* Six bits a character, lowest first within the bitmap's bytes as base64 orders them: the first of
 * three bytes gives the first character its high bits. */
static size_t encode(const uint8_t *in, size_t len, char *out)
{
    char *at = out;

    for (size_t i = 0; i < len; i += 3) {
        uint32_t left = (uint32_t)(len - i), v = (uint32_t)in[i] << 16;

        v |= left > 1 ? (uint32_t)in[i + 1] << 8 : 0;
        v |= left > 2 ? in[i + 2] : 0;
        *at++ = digits[v >> 18];
        *at++ = digits[v >> 12 & 63];
        if (left > 1)
            *at++ = digits[v >> 6 & 63];
        if (left > 2)
            *at++ = digits[v & 63];
    }
    *at = '\0';
    return (size_t)(at - out);
}

static int value_of(char c)
{
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* Returns the number of bytes; 0: no base64. */
static size_t decode(struct st_slice in, uint8_t *out)
{
    uint32_t v = 0;
    unsigned bits = 0;
    size_t n = 0;

    for (size_t i = 0; i < in.len; i++) {
        int digit = value_of(in.ptr[i]);

        if (digit < 0)
            return 0;
        v = v << 6 | (uint32_t)digit;
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            out[n++] = (uint8_t)(v >> bits);
        }
    }
    return n;
}

struct bitmap {
    uint8_t bits[ST_DONE_SET_SPAN / 8];
    size_t len; /* bytes up to the last one that is not 0 */
};

/* Others than those within the span are left out. */
static void set(struct bitmap *map, uint64_t i)
{
    if (i >= ST_DONE_SET_SPAN)
        return;
    map->bits[i / 8] |= (uint8_t)(1u << (i % 8));
    if (map->len <= i / 8)
        map->len = (size_t)i / 8 + 1;
}

size_t st_done_set_write(const struct st_watermark *wm, const struct st_done_set *before,
                         char out[ST_DONE_SET_TEXT + 1])
{
    struct bitmap map = {.len = 0};
    uint64_t position;

    out[0] = '\0';
    if (!st_watermark_position(wm, &position))
        return 0;
    for (uint64_t seq = wm->lo; seq < wm->next; seq++) {
        uint64_t i = wm->offsets[seq & wm->mask] - position;

        if (i >= ST_DONE_SET_SPAN)
            break;
        if (st_watermark_is_done(wm, seq))
            set(&map, i);
    }
    for (uint64_t offset = wm->end; offset < st_done_set_end(before); offset++)
        if (st_done_set_has(before, offset))
            set(&map, offset - position);
    if (map.len == 0)
        return 0;
    memcpy(out, "s1", 2);
    return 2 + encode(map.bits, map.len, out + 2);
}

void st_done_set_free(struct st_done_set *set)
{
    free(set->bits);
    *set = (struct st_done_set){0};
}

void st_done_set_read(struct st_done_set *set, uint64_t position, struct st_slice text)
{
    size_t bytes;

    st_done_set_free(set);
    if (text.len <= 2 || text.len > ST_DONE_SET_TEXT || memcmp(text.ptr, "s1", 2) != 0)
        return;
    set->bits = st_calloc(1, text.len);
    bytes = decode((struct st_slice){text.ptr + 2, text.len - 2}, set->bits);
    set->position = position;
    set->count = (uint32_t)bytes * 8;
}
