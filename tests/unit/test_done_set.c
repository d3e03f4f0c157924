/* Done sets: what comes back is what was done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "processor/core/rand.h"
#include "processor/done_set.h"

enum { WINDOW = 512, ROUNDS = 400 };

static const struct st_done_set none;

static struct st_slice text_of(const char *text, size_t len)
{
    return (struct st_slice){text, len};
}

static void test_nothing(void **state)
{
    char text[ST_DONE_SET_TEXT + 1] = "x";
    struct st_done_set set = {0};
    struct st_watermark wm;

    (void)state;
    st_watermark_init(&wm, WINDOW);
    st_watermark_reset(&wm);
    assert_int_equal(st_done_set_write(&wm, &none, text), 0);
    assert_string_equal(text, "");
    st_watermark_done(&wm, st_watermark_take(&wm, 7), wm.epoch);
    st_watermark_take(&wm, 8);
    assert_int_equal(st_done_set_write(&wm, &none, text), 0); /* 7 is behind the position */
    assert_false(st_done_set_has(&set, 0));
    assert_false(st_done_set_has(&set, 8));
    st_watermark_free(&wm);
}

/* Texts of others, cut ones and huge ones: an empty set. */
static void test_foreign(void **state)
{
    static const char *const texts[] = {"", "s", "s1", "s2AAAA", "hello", "s1*", "s1AA=="};
    char big[ST_DONE_SET_TEXT + 8];
    struct st_done_set set = {0};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(texts); i++) {
        st_done_set_read(&set, 100, st_slice_of(texts[i]));
        for (uint64_t offset = 90; offset < 140; offset++)
            assert_false(st_done_set_has(&set, offset));
    }
    memset(big, '/', sizeof big);
    memcpy(big, "s1", 2);
    st_done_set_read(&set, 100, text_of(big, sizeof big));
    assert_false(st_done_set_has(&set, 101));
    st_done_set_free(&set);
}

/* RFC 4648 section 10 has "Zm9vYmFy" for "foobar": bits of those bytes. */
static void test_known(void **state)
{
    static const char bytes[] = "foobar";
    struct st_done_set set = {0};

    (void)state;
    st_done_set_read(&set, 1000, st_slice_of("s1Zm9vYmFy"));
    for (uint64_t i = 0; i < 48; i++)
        assert_int_equal(st_done_set_has(&set, 1000 + i), bytes[i / 8] >> (i % 8) & 1);
    assert_false(st_done_set_has(&set, 999));
    assert_false(st_done_set_has(&set, 1048));
    st_done_set_free(&set);
}

/* Random offsets with gaps, random ends: exactly what is done beyond the position comes back, as
 * far as the span goes. */
static void round_trip(struct st_rand *r, uint64_t gap)
{
    uint64_t offsets[WINDOW], position, at = st_rand_below(r, 1000000);
    bool done[WINDOW] = {false};
    char text[ST_DONE_SET_TEXT + 1];
    unsigned n = 1 + (unsigned)st_rand_below(r, WINDOW);
    struct st_done_set set = {0};
    struct st_watermark wm;
    size_t len;

    st_watermark_init(&wm, WINDOW);
    st_watermark_reset(&wm);
    for (unsigned i = 0; i < n; i++) {
        at += 1 + st_rand_below(r, gap);
        offsets[i] = at;
        st_watermark_take(&wm, at);
    }
    for (unsigned i = 0; i < n; i++) {
        done[i] = st_rand_below(r, 3) != 0;
        if (done[i])
            st_watermark_done(&wm, i, wm.epoch);
    }
    assert_true(st_watermark_position(&wm, &position));
    len = st_done_set_write(&wm, &none, text);
    assert_int_equal(len, strlen(text));
    assert_true(len <= ST_DONE_SET_TEXT);
    st_done_set_read(&set, position, text_of(text, len));
    for (unsigned i = 0; i < n; i++) {
        bool within = offsets[i] >= position && offsets[i] - position < ST_DONE_SET_SPAN;
        assert_int_equal(st_done_set_has(&set, offsets[i]), within && done[i]);
        assert_false(i > 0 && offsets[i] > offsets[i - 1] + 1 &&
                     st_done_set_has(&set, offsets[i] - 1));
    }
    st_done_set_free(&set);
    st_watermark_free(&wm);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct st_rand r;

        st_rand_seed(&r, seed);
        round_trip(&r, seed % 3 == 0 ? 1 : seed % 3 == 1 ? 20 : 500);
    }
}

/* A reader that goes soon after it came hands on what it has not seen of what it was told. */
static void hand_on(struct st_rand *r)
{
    uint64_t start = st_rand_below(r, 1000000), position, seen = 1 + st_rand_below(r, WINDOW);
    bool done[WINDOW] = {false};
    char text[ST_DONE_SET_TEXT + 1];
    struct st_done_set before = {0}, after = {0};
    struct st_watermark wm;
    size_t len;

    st_watermark_init(&wm, WINDOW);
    st_watermark_reset(&wm);
    for (unsigned i = 0; i < WINDOW; i++)
        st_watermark_take(&wm, start + i);
    for (unsigned i = 1; i < WINDOW; i++) {
        done[i] = st_rand_below(r, 2) != 0;
        if (done[i])
            st_watermark_done(&wm, i, wm.epoch);
    }
    len = st_done_set_write(&wm, &none, text);
    st_done_set_read(&before, start, text_of(text, len));
    st_watermark_reset(&wm);
    for (unsigned i = 0; i < seen; i++) {
        uint64_t seq = st_watermark_take(&wm, start + i);

        done[i] = done[i] || st_rand_below(r, 2) != 0;
        if (done[i])
            st_watermark_done(&wm, seq, wm.epoch);
    }
    assert_true(st_watermark_position(&wm, &position));
    len = st_done_set_write(&wm, &before, text);
    st_done_set_read(&after, position, text_of(text, len));
    for (unsigned i = 0; i < WINDOW; i++)
        if (start + i >= position)
            assert_int_equal(st_done_set_has(&after, start + i), done[i]);
    assert_false(st_done_set_has(&after, start + WINDOW));
    st_done_set_free(&before);
    st_done_set_free(&after);
    st_watermark_free(&wm);
}

static void test_handed_on(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < ROUNDS; seed++) {
        struct st_rand r;

        st_rand_seed(&r, seed);
        hand_on(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing),   cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_known),     cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_handed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
