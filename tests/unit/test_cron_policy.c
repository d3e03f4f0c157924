/* Missed ticks, concurrency and clocks that are set, in virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "triggers/cron/policy.h"

#define S ((int64_t)ST_SEC)
#define M (60 * S)
#define H (60 * M)
#define DAY (24 * H)

static const struct st_cron_times minutely = {.start_ns = 0, .interval_ns = M};

static struct st_cron_policy policy(enum st_cron_missed missed, enum st_cron_concurrency c,
                                    unsigned max)
{
    struct st_cron_policy p;

    st_cron_policy_init(&p, missed, c, max, 0);
    return p;
}

/* What runs now, in seconds; "1 2 " */
static const char *taken(struct st_cron_policy *p)
{
    static char text[512];
    size_t n = 0;
    int64_t tick;

    text[0] = '\0';
    while (st_cron_policy_take(p, &tick))
        n += (size_t)snprintf(text + n, sizeof text - n, "%lld ", (long long)(tick / S));
    return text;
}

static void test_on_time(void **state)
{
    (void)state;
    for (int missed = ST_CRON_SKIP; missed <= ST_CRON_ALL; missed++) {
        struct st_cron_policy p = policy((enum st_cron_missed)missed, ST_CRON_FORBID, 3);

        assert_int_equal(st_cron_policy_wake(&p, &minutely, 0), M);
        assert_string_equal(taken(&p), "");
        assert_int_equal(st_cron_policy_wake(&p, &minutely, M - 1), M);
        assert_string_equal(taken(&p), "");
        assert_int_equal(st_cron_policy_wake(&p, &minutely, M + 1), 2 * M);
        assert_string_equal(taken(&p), "60 ");
        st_cron_policy_done(&p);
        assert_string_equal(taken(&p), "");
        assert_int_equal(st_cron_policy_wake(&p, &minutely, 2 * M), 3 * M);
        assert_string_equal(taken(&p), "120 ");
        assert_int_equal(p.dropped, 0);
        st_cron_policy_free(&p);
    }
}

/* The clock goes from 0 to ten minutes and ten seconds. */
static void test_missed_by_sleep(void **state)
{
    static const struct {
        enum st_cron_missed missed;
        unsigned max, dropped;
        const char *runs;
    } cases[] = {
        {ST_CRON_SKIP, 1, 9, "600 "},
        {ST_CRON_ONCE, 1, 9, "600 "},
        {ST_CRON_ALL, 3, 7, "480 540 600 "},
        {ST_CRON_ALL, 100, 0, "60 120 180 240 300 360 420 480 540 600 "},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_cron_policy p = policy(cases[i].missed, ST_CRON_ALLOW, cases[i].max);

        assert_int_equal(st_cron_policy_wake(&p, &minutely, 10 * M + 10 * S), 11 * M);
        assert_string_equal(taken(&p), cases[i].runs);
        assert_true(p.dropped <= cases[i].dropped);
        st_cron_policy_free(&p);
    }
}

/* A daily tick, five hours late. */
static void test_late(void **state)
{
    static const struct st_cron_times daily = {.start_ns = 0, .interval_ns = DAY};
    static const char *const runs[] = {"", "86400 ", "86400 "};

    (void)state;
    for (int missed = ST_CRON_SKIP; missed <= ST_CRON_ALL; missed++) {
        struct st_cron_policy p = policy((enum st_cron_missed)missed, ST_CRON_FORBID, 3);

        assert_int_equal(st_cron_policy_wake(&p, &daily, DAY + 5 * H), 2 * DAY);
        assert_string_equal(taken(&p), runs[missed]);
        assert_int_equal(p.dropped, missed == ST_CRON_SKIP);
        st_cron_policy_free(&p);
    }
}

/* One runs from the first minute until after the fourth. */
static void test_forbid(void **state)
{
    static const struct {
        enum st_cron_missed missed;
        unsigned max, dropped;
        const char *runs[4];
    } cases[] = {
        {ST_CRON_SKIP, 1, 3, {""}},
        {ST_CRON_ONCE, 1, 2, {"240 ", ""}},
        {ST_CRON_ALL, 2, 1, {"180 ", "240 ", ""}},
        {ST_CRON_ALL, 9, 0, {"120 ", "180 ", "240 ", ""}},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_cron_policy p = policy(cases[i].missed, ST_CRON_FORBID, cases[i].max);

        st_cron_policy_wake(&p, &minutely, M);
        assert_string_equal(taken(&p), "60 ");
        for (int64_t t = 2 * M; t <= 4 * M; t += M) {
            assert_int_equal(st_cron_policy_wake(&p, &minutely, t), t + M);
            assert_string_equal(taken(&p), "");
        }
        for (size_t k = 0; k < 4 && cases[i].runs[k] != NULL; k++) {
            st_cron_policy_done(&p);
            assert_string_equal(taken(&p), cases[i].runs[k]);
        }
        assert_int_equal(p.running, 0);
        assert_int_equal(p.dropped, cases[i].dropped);
        st_cron_policy_wake(&p, &minutely, 5 * M);
        assert_string_equal(taken(&p), "300 ");
        st_cron_policy_free(&p);
    }
}

static void test_allow_and_replace(void **state)
{
    struct st_cron_policy p = policy(ST_CRON_SKIP, ST_CRON_ALLOW, 1);

    (void)state;
    for (int64_t t = M; t <= 3 * M; t += M) {
        st_cron_policy_wake(&p, &minutely, t);
        assert_string_not_equal(taken(&p), "");
    }
    assert_int_equal(p.running, 3);
    st_cron_policy_free(&p);

    p = policy(ST_CRON_ALL, ST_CRON_REPLACE, 5);
    for (int64_t t = M, tick; t <= 3 * M; t += M) {
        st_cron_policy_wake(&p, &minutely, t);
        assert_true(st_cron_policy_take(&p, &tick));
        assert_int_equal(tick, t);
        assert_false(st_cron_policy_take(&p, &tick));
    }
    /* of several only the latest is worth a start */
    st_cron_policy_wake(&p, &minutely, 6 * M);
    assert_string_equal(taken(&p), "360 ");
    assert_int_equal(p.dropped, 2);
    st_cron_policy_free(&p);
}

static void test_pause(void **state)
{
    static const char *const runs[] = {"", "180 ", "120 180 "};

    (void)state;
    for (int missed = ST_CRON_SKIP; missed <= ST_CRON_ALL; missed++) {
        struct st_cron_policy p = policy((enum st_cron_missed)missed, ST_CRON_ALLOW, 2);

        p.paused = true;
        for (int64_t t = M; t <= 3 * M; t += M) {
            st_cron_policy_wake(&p, &minutely, t);
            assert_string_equal(taken(&p), "");
        }
        p.paused = false;
        assert_string_equal(taken(&p), runs[missed]);
        assert_int_equal(p.dropped, missed == ST_CRON_SKIP ? 3 : missed == ST_CRON_ONCE ? 2 : 1);
        st_cron_policy_clear(&p);
        assert_string_equal(taken(&p), "");
        st_cron_policy_free(&p);
    }
}

/* A year of seconds, slept through: found without a walk through all of them. */
static void test_long_sleep(void **state)
{
    static const struct st_cron_times millis = {.start_ns = 0, .interval_ns = (int64_t)ST_MSEC};
    struct st_cron_policy p = policy(ST_CRON_ALL, ST_CRON_ALLOW, 3);
    int64_t tick, now = 365 * DAY;

    (void)state;
    assert_int_equal(st_cron_policy_wake(&p, &millis, now), now + (int64_t)ST_MSEC);
    for (int64_t i = 2; i >= 0; i--) {
        assert_true(st_cron_policy_take(&p, &tick));
        assert_int_equal(tick, now - i * (int64_t)ST_MSEC);
    }
    assert_true(p.dropped > 0);
    st_cron_policy_free(&p);
}

/* ---- the wall clock is set ---- */

struct wall {
    struct st_cron_expression expression;
    struct st_cron_zone *zone;
    struct st_cron_times times;
    struct st_cron_policy p;
};

/* Begins on a Thursday, 1970, at the hour. */
static void wall_open(struct wall *w, const char *expression, int64_t now)
{
    assert_int_equal(st_cron_parse(&w->expression, expression, NULL), ST_OK);
    assert_int_equal(st_cron_zone_open(&w->zone, "UTC", NULL), ST_OK);
    w->times = (struct st_cron_times){.expression = &w->expression, .zone = w->zone};
    st_cron_policy_init(&w->p, ST_CRON_ONCE, ST_CRON_ALLOW, 1, now);
}

static void wall_close(struct wall *w)
{
    st_cron_policy_free(&w->p);
    st_cron_zone_free(w->zone);
}

/* Passes to `now` by a step of the clock alone. Returns the next tick. */
static int64_t set_clock(struct wall *w, int64_t now, int64_t step)
{
    st_cron_policy_clock_set(&w->p, &w->times, now, step);
    return st_cron_policy_wake(&w->p, &w->times, now);
}

static void test_clock_forward(void **state)
{
    struct wall w;

    (void)state;
    /* two hours over the tick at 03:00: it was missed */
    wall_open(&w, "0 3 * * *", 2 * H);
    assert_int_equal(set_clock(&w, 4 * H, 2 * H), DAY + 3 * H);
    assert_string_equal(taken(&w.p), "10800 ");
    wall_close(&w);
    /* fifty years: the clock was wrong before, nothing was missed */
    wall_open(&w, "0 3 * * *", 2 * H);
    assert_int_equal(set_clock(&w, 18000 * DAY, 18000 * DAY), 18000 * DAY + 3 * H);
    assert_string_equal(taken(&w.p), "");
    wall_close(&w);
}

static void test_clock_back(void **state)
{
    struct wall w;

    (void)state;
    /* an hour back over the tick at 03:00: it has had its run */
    wall_open(&w, "0 3 * * *", 2 * H);
    assert_int_equal(st_cron_policy_wake(&w.p, &w.times, 3 * H + 10 * M), DAY + 3 * H);
    assert_string_equal(taken(&w.p), "10800 ");
    assert_int_equal(set_clock(&w, 2 * H + 10 * M, -H), DAY + 3 * H);
    assert_string_equal(taken(&w.p), "");
    wall_close(&w);
    /* every minute goes on */
    wall_open(&w, "* * * * *", 2 * H);
    assert_int_equal(set_clock(&w, H + S, -H), H + M);
    wall_close(&w);
    /* days back: the clock was wrong before */
    wall_open(&w, "0 3 * * *", 10 * DAY);
    assert_int_equal(set_clock(&w, 2 * DAY, -8 * DAY), 2 * DAY + 3 * H);
    wall_close(&w);
}

static void test_times(void **state)
{
    struct st_cron_times t = {.start_ns = 5 * S, .interval_ns = 10 * S};
    struct wall w;

    (void)state;
    assert_int_equal(st_cron_times_next(&t, 0), 15 * S);
    assert_int_equal(st_cron_times_next(&t, 5 * S), 15 * S);
    assert_int_equal(st_cron_times_next(&t, 15 * S - 1), 15 * S);
    assert_int_equal(st_cron_times_next(&t, 15 * S), 25 * S);
    assert_int_equal(st_cron_times_next(&t, INT64_MAX - 1), ST_CRON_NEVER);
    wall_open(&w, "*/1 * * * * *", 0);
    assert_int_equal(st_cron_times_next(&w.times, 7 * S + 1), 8 * S);
    assert_int_equal(st_cron_times_next(&w.times, 8 * S), 9 * S);
    assert_int_equal(st_cron_times_next(&w.times, INT64_MAX - 1), ST_CRON_NEVER);
    wall_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_on_time),
        cmocka_unit_test(test_missed_by_sleep),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_forbid),
        cmocka_unit_test(test_allow_and_replace),
        cmocka_unit_test(test_pause),
        cmocka_unit_test(test_long_sleep),
        cmocka_unit_test(test_clock_forward),
        cmocka_unit_test(test_clock_back),
        cmocka_unit_test(test_times),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
