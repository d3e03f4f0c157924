/* What becomes of a message: every outcome under every policy, and how long it waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "processor/retry.h"

enum { MAX_ATTEMPTS = 5, DRAWS = 2000 };

static struct st_rand rnd;

static struct st_retry_policy policy_of(bool enabled, bool has_dead_letter, int on_exhausted)
{
    return (struct st_retry_policy){.enabled = enabled,
                                    .has_dead_letter = has_dead_letter,
                                    .on_exhausted = on_exhausted,
                                    .max_attempts = MAX_ATTEMPTS,
                                    .base_ns = 100 * ST_MSEC,
                                    .cap_ns = 30 * ST_SEC};
}

static const int on_exhausted[] = {ST_EXHAUSTED_DEAD_LETTER, ST_EXHAUSTED_ACK, ST_EXHAUSTED_STOP};

static enum st_verdict verdict_of(const struct st_retry_policy *p, enum st_outcome outcome,
                                  uint32_t attempt)
{
    return st_retry_decide(p, outcome, attempt, 0, &rnd).verdict;
}

/* As the table in retry.h has it; without dead letters (first row) and with them. */
struct row {
    enum st_outcome outcome;
    enum st_verdict off, early[2], last[3][2]; /* last: by on_exhausted */
};

#define SAME(v)  \
    {            \
        (v), (v) \
    }
#define EXHAUSTS                                                                \
    {                                                                           \
        {ST_VERDICT_STOP, ST_VERDICT_DEAD_LETTER}, SAME(ST_VERDICT_ACK_FAILED), \
            SAME(ST_VERDICT_STOP)                                               \
    }
#define ALWAYS(v)                 \
    {                             \
        SAME(v), SAME(v), SAME(v) \
    }
#define REJECTED                                      \
    {                                                 \
        ST_VERDICT_ACK_FAILED, ST_VERDICT_DEAD_LETTER \
    }

static const struct row rows[] = {
    {ST_OUTCOME_OK, ST_VERDICT_ACK, SAME(ST_VERDICT_ACK), ALWAYS(ST_VERDICT_ACK)},
    {ST_OUTCOME_DEFER, ST_VERDICT_ACK, SAME(ST_VERDICT_ACK), ALWAYS(ST_VERDICT_ACK)},
    {ST_OUTCOME_ERROR, ST_VERDICT_ACK_FAILED, SAME(ST_VERDICT_RETRY), EXHAUSTS},
    {ST_OUTCOME_RETRY, ST_VERDICT_RETRY, SAME(ST_VERDICT_RETRY), EXHAUSTS},
    {ST_OUTCOME_TIMEOUT, ST_VERDICT_RETRY, SAME(ST_VERDICT_RETRY), EXHAUSTS},
    {ST_OUTCOME_CRASH, ST_VERDICT_RETRY, SAME(ST_VERDICT_RETRY), EXHAUSTS},
    {ST_OUTCOME_REJECT, ST_VERDICT_ACK_FAILED, REJECTED, {REJECTED, REJECTED, REJECTED}},
    {ST_OUTCOME_NO_WORKER, ST_VERDICT_AGAIN, SAME(ST_VERDICT_AGAIN), ALWAYS(ST_VERDICT_AGAIN)},
    {ST_OUTCOME_NO_MEMORY, ST_VERDICT_AGAIN, SAME(ST_VERDICT_AGAIN), ALWAYS(ST_VERDICT_AGAIN)},
    {ST_OUTCOME_CANCELLED, ST_VERDICT_AGAIN, SAME(ST_VERDICT_AGAIN), ALWAYS(ST_VERDICT_AGAIN)},
};

static void test_table(void **state)
{
    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(rows); i++) {
        const struct row *r = &rows[i];

        for (int x = 0; x < 6; x++) {
            bool dead = x % 2 != 0;
            struct st_retry_policy p = policy_of(true, dead, on_exhausted[x / 2]);

            assert_int_equal(verdict_of(&p, r->outcome, 1), r->early[dead]);
            assert_int_equal(verdict_of(&p, r->outcome, MAX_ATTEMPTS - 1), r->early[dead]);
            assert_int_equal(verdict_of(&p, r->outcome, MAX_ATTEMPTS), r->last[x / 2][dead]);
            assert_int_equal(verdict_of(&p, r->outcome, UINT32_MAX), r->last[x / 2][dead]);
        }
        for (int x = 0; x < 3; x++) {
            struct st_retry_policy p = policy_of(false, false, on_exhausted[x]);

            assert_int_equal(verdict_of(&p, r->outcome, 1), r->off);
            assert_int_equal(verdict_of(&p, r->outcome, MAX_ATTEMPTS), r->off);
            assert_int_equal(verdict_of(&p, r->outcome, UINT32_MAX), r->off);
        }
    }
}

/* An attempt that never began is made again soon, and only what waits has a delay. */
static void test_delays(void **state)
{
    struct st_retry_policy p = policy_of(true, true, ST_EXHAUSTED_DEAD_LETTER);

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(rows); i++) {
        struct st_decision d = st_retry_decide(&p, rows[i].outcome, 1, 0, &rnd);

        if (d.verdict == ST_VERDICT_AGAIN)
            assert_true(d.delay_ns > 0 && d.delay_ns <= ST_SEC);
        else if (d.verdict != ST_VERDICT_RETRY)
            assert_true(d.delay_ns == 0);
    }
}

/* The handler's own wish goes before the back-off and its cap; other outcomes have none. */
static void test_retry_after(void **state)
{
    struct st_retry_policy p = policy_of(true, false, ST_EXHAUSTED_STOP);
    struct st_decision d;

    (void)state;
    d = st_retry_decide(&p, ST_OUTCOME_RETRY, 1, 7, &rnd);
    assert_true(d.verdict == ST_VERDICT_RETRY && d.delay_ns == 7 * ST_MSEC);
    d = st_retry_decide(&p, ST_OUTCOME_RETRY, 1, UINT32_MAX, &rnd);
    assert_true(d.delay_ns == UINT32_MAX * ST_MSEC);
    d = st_retry_decide(&p, ST_OUTCOME_ERROR, 1, UINT32_MAX, &rnd);
    assert_true(d.verdict == ST_VERDICT_RETRY && d.delay_ns <= p.base_ns);
    d = st_retry_decide(&p, ST_OUTCOME_RETRY, MAX_ATTEMPTS, 7, &rnd);
    assert_int_equal(d.verdict, ST_VERDICT_STOP);
}

/* min(cap, base * 2^(n-1)), in numbers that are wide enough. */
static uint64_t most_of(const struct st_retry_policy *p, uint32_t attempt)
{
    unsigned __int128 most = p->base_ns;

    for (uint32_t n = 1; n < attempt && most < p->cap_ns && most > 0; n++)
        most *= 2;
    return most < p->cap_ns ? (uint64_t)most : p->cap_ns;
}

static uint64_t draw(const struct st_retry_policy *p, uint32_t attempt)
{
    struct st_decision d = st_retry_decide(p, ST_OUTCOME_CRASH, attempt, 0, &rnd);

    assert_int_equal(d.verdict, ST_VERDICT_RETRY);
    return d.delay_ns;
}

static void test_back_off(void **state)
{
    static const uint64_t bases[] = {0, 1, 3, 100 * ST_MSEC, ST_SEC, 1ull << 62, UINT64_MAX - 1};
    static const uint64_t caps[] = {0, 1, 1000, 30 * ST_SEC, 1ull << 63, UINT64_MAX - 1};
    static const uint32_t big[] = {1000, 1u << 31, UINT32_MAX - 1, UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(bases) * ST_ARRAY_LEN(caps); i++) {
        struct st_retry_policy p = {.max_attempts = 1, /* of no policy: without end */
                                    .base_ns = bases[i / ST_ARRAY_LEN(caps)],
                                    .cap_ns = caps[i % ST_ARRAY_LEN(caps)]};

        for (uint32_t n = 1; n <= 140; n++)
            for (unsigned k = 0; k < 20; k++)
                assert_true(draw(&p, n) <= most_of(&p, n));
        for (size_t k = 0; k < ST_ARRAY_LEN(big); k++)
            assert_true(draw(&p, big[k]) <= most_of(&p, big[k]));
    }
}

/* Full jitter: the whole range is used, evenly. */
static void test_jitter(void **state)
{
    struct st_retry_policy p = policy_of(false, false, ST_EXHAUSTED_STOP);

    (void)state;
    for (uint32_t n = 1; n <= 12; n++) {
        uint64_t most = most_of(&p, n);
        unsigned quarters[4] = {0};

        for (unsigned i = 0; i < DRAWS; i++)
            quarters[draw(&p, n) / (most / 4 + 1)]++;
        for (unsigned i = 0; i < 4; i++)
            assert_in_range(quarters[i], DRAWS / 4 - DRAWS / 16, DRAWS / 4 + DRAWS / 16);
    }
}

/* Both ends of the range are drawn, at every attempt. */
static void test_ends(void **state)
{
    static const uint32_t attempts[] = {1, 2, 3, 4, 5, 32, 33, 63, 64, 65, 66, 129, UINT32_MAX};
    struct st_retry_policy p = {.max_attempts = 1, .base_ns = 1, .cap_ns = 7};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(attempts); i++) {
        uint64_t low = UINT64_MAX, high = 0;

        for (unsigned k = 0; k < DRAWS; k++) {
            uint64_t ns = draw(&p, attempts[i]);

            low = ns < low ? ns : low;
            high = ns > high ? ns : high;
        }
        assert_true(low == 0 && high == most_of(&p, attempts[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),       cmocka_unit_test(test_delays),
        cmocka_unit_test(test_retry_after), cmocka_unit_test(test_back_off),
        cmocka_unit_test(test_jitter),      cmocka_unit_test(test_ends),
    };

    st_rand_seed(&rnd, 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
