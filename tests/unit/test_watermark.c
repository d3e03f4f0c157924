/* Watermarks: the position is the smallest offset that is not done, whatever the order of the ends;
 * checked against a plain list of offsets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "processor/core/rand.h"
#include "processor/watermark.h"

enum { WINDOW = 64, SEEDS = 300, STEPS = 2000, MOST = STEPS + 1 };

static void test_empty(void **state)
{
    struct st_watermark wm;
    uint64_t out;

    (void)state;
    st_watermark_init(&wm, WINDOW);
    assert_false(st_watermark_position(&wm, &out));
    assert_false(st_watermark_oldest(&wm, &out));
    assert_false(st_watermark_find(&wm, 0, &out));
    assert_false(st_watermark_has_taken(&wm, 0));
    assert_int_equal(st_watermark_open(&wm), 0);
    st_watermark_free(&wm);
}

/* Rounded up to a power of two; full is full until the oldest one is done. */
static void test_window(void **state)
{
    struct st_watermark wm;
    uint64_t position;

    (void)state;
    st_watermark_init(&wm, WINDOW + 1);
    for (uint64_t i = 0; i < 2 * WINDOW; i++) {
        assert_false(st_watermark_is_full(&wm));
        assert_true(st_watermark_take(&wm, 10 * i) == i);
    }
    assert_true(st_watermark_is_full(&wm));
    for (uint64_t i = 2 * WINDOW; i-- > 1;)
        assert_false(st_watermark_done(&wm, i, wm.epoch));
    assert_true(st_watermark_is_full(&wm));
    assert_true(st_watermark_position(&wm, &position) && position == 0);
    assert_true(st_watermark_done(&wm, 0, wm.epoch));
    assert_int_equal(st_watermark_open(&wm), 0);
    assert_true(st_watermark_position(&wm, &position) && position == 10 * (2 * WINDOW - 1) + 1);
    st_watermark_free(&wm);
}

/* What ends late moves nothing in the next epoch, although its number is open there too. */
static void test_late(void **state)
{
    struct st_watermark wm;
    uint64_t seq, position;
    uint32_t old;

    (void)state;
    st_watermark_init(&wm, WINDOW);
    old = st_watermark_reset(&wm);
    seq = st_watermark_take(&wm, 500);
    assert_int_equal(st_watermark_reset(&wm), old + 1);
    assert_false(st_watermark_has_taken(&wm, 500));
    assert_true(st_watermark_take(&wm, 100) == seq);
    assert_false(st_watermark_done(&wm, seq, old));
    assert_true(st_watermark_position(&wm, &position) && position == 100);
    assert_true(st_watermark_done(&wm, seq, wm.epoch));
    assert_true(st_watermark_position(&wm, &position) && position == 101);
    st_watermark_free(&wm);
}

/* ---- the model ---- */

struct model {
    struct st_watermark wm;
    struct st_rand rand;
    uint64_t seed, ends, next_offset;
    uint64_t offsets[MOST]; /* of this epoch, by sequence number */
    bool done[MOST];
    unsigned count, step, window;
    uint32_t epoch;
};

#define MUST(m, cond)                                                                         \
    do {                                                                                      \
        if (!(cond)) {                                                                        \
            print_error("seed %llu, step %u: %s\n", (unsigned long long)(m)->seed, (m)->step, \
                        #cond);                                                               \
            fail();                                                                           \
        }                                                                                     \
    } while (0)

/* The first that is not done; count: none. */
static unsigned lowest(const struct model *m)
{
    unsigned i = 0;

    while (i < m->count && m->done[i])
        i++;
    return i;
}

static void take(struct model *m)
{
    static const uint64_t gaps[] = {1, 1, 2, 10, 1ull << 40};

    if (m->count - lowest(m) == m->window) {
        MUST(m, st_watermark_is_full(&m->wm));
        return;
    }
    m->next_offset += st_rand_below(&m->rand, gaps[st_rand_below(&m->rand, 5)]);
    MUST(m, !st_watermark_is_full(&m->wm) && !st_watermark_has_taken(&m->wm, m->next_offset));
    MUST(m, st_watermark_take(&m->wm, m->next_offset) == m->count);
    m->offsets[m->count] = m->next_offset++;
    m->done[m->count++] = false;
}

static void end(struct model *m)
{
    unsigned from = lowest(m), seq = from;
    bool moves;

    if (from == m->count)
        return;
    if (st_rand_below(&m->rand, 3) != 0) /* else the oldest */
        seq += (unsigned)st_rand_below(&m->rand, m->count - from);
    if (m->done[seq])
        return;
    MUST(m, !st_watermark_done(&m->wm, seq, m->epoch - 1));
    moves = seq == from;
    m->done[seq] = true;
    m->ends++;
    MUST(m, st_watermark_done(&m->wm, seq, m->epoch) == moves);
}

static void reset(struct model *m)
{
    m->epoch++;
    MUST(m, st_watermark_reset(&m->wm) == m->epoch);
    m->count = 0;
    m->next_offset = st_rand_below(&m->rand, 1000);
}

static void find(struct model *m, uint64_t offset)
{
    uint64_t seq;
    bool found = st_watermark_find(&m->wm, offset, &seq), open = false;

    for (unsigned i = 0; i < m->count; i++) {
        if (m->offsets[i] != offset || m->done[i])
            continue;
        open = true;
        MUST(m, found && seq == i);
    }
    MUST(m, found == open);
}

static void check(struct model *m)
{
    unsigned low = lowest(m);
    uint64_t offset = UINT64_MAX;

    MUST(m, m->wm.ends == m->ends && m->wm.epoch == m->epoch);
    MUST(m, st_watermark_open(&m->wm) == m->count - low);
    MUST(m, st_watermark_position(&m->wm, &offset) == (m->count > 0));
    if (m->count > 0)
        MUST(m, offset == (low < m->count ? m->offsets[low] : m->offsets[m->count - 1] + 1));
    MUST(m, st_watermark_oldest(&m->wm, &offset) == (low < m->count));
    MUST(m, low == m->count || offset == m->offsets[low]);
    for (unsigned i = low; i < m->count; i++)
        MUST(m, st_watermark_is_done(&m->wm, i) == m->done[i]);
    if (m->count > 0) {
        MUST(m, st_watermark_has_taken(&m->wm, m->offsets[m->count - 1]));
        find(m, m->offsets[st_rand_below(&m->rand, m->count)]);
        find(m, m->offsets[st_rand_below(&m->rand, m->count)] + 1);
    }
    MUST(m, !st_watermark_has_taken(&m->wm, m->next_offset) || m->count == 0);
    find(m, m->next_offset);
}

static void play(uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);

    assert_non_null(m);
    st_rand_seed(&m->rand, seed);
    m->seed = seed;
    m->window = (unsigned)WINDOW << st_rand_below(&m->rand, 3);
    st_watermark_init(&m->wm, m->window);
    reset(m);
    for (m->step = 0; m->step < STEPS; m->step++) {
        /* Now the window fills, now it empties. */
        uint64_t takes = m->step / 250 % 2 == 0 ? 600 : 400, what = st_rand_below(&m->rand, 1000);

        if (what == 0)
            reset(m);
        else if (what < takes)
            take(m);
        else
            end(m);
        if (m->step % 4 == 0)
            check(m);
    }
    while (lowest(m) < m->count)
        end(m);
    check(m);
    st_watermark_free(&m->wm);
    free(m);
}

static void test_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        play(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_window),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
