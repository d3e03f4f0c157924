#include "tests/unit/test_core.h"

#include "processor/core/rand.h"

/* Numbers of the authors' reference code, xoshiro256starstar.c with the state {1, 2, 3, 4}. */
static void test_reference(void **state)
{
    static const uint64_t expected[] = {11520ull,
                                        0ull,
                                        1509978240ull,
                                        1215971899390074240ull,
                                        1216172134540287360ull,
                                        607988272756665600ull,
                                        16172922978634559625ull,
                                        8476171486693032832ull,
                                        10595114339597558777ull,
                                        2904607092377533576ull};
    struct st_rand r = {{1, 2, 3, 4}};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(expected); i++)
        assert_true(st_rand_next(&r) == expected[i]);
}

static void test_seed(void **state)
{
    struct st_rand a, b, c;

    (void)state;
    /* The first number of splitmix64.c for the seed 1234567. */
    st_rand_seed(&a, 1234567);
    assert_true(a.s[0] == 6457827717110365317ull);
    assert_true(a.s[1] == 3203168211198807973ull);
    st_rand_seed(&b, 1234567);
    st_rand_seed(&c, 1234568);
    for (int i = 0; i < 100; i++) {
        uint64_t x = st_rand_next(&a);

        assert_true(x == st_rand_next(&b));
        assert_true(x != st_rand_next(&c));
    }
    st_rand_seed_os(&a);
    st_rand_seed_os(&b);
    assert_true(st_rand_next(&a) != st_rand_next(&b));
}

static void test_below(void **state)
{
    unsigned seen[10] = {0};
    struct st_rand r;

    (void)state;
    st_rand_seed(&r, 7);
    for (int i = 0; i < 10000; i++) {
        uint64_t n = st_rand_below(&r, 10);

        assert_true(n < 10);
        seen[n]++;
        assert_true(st_rand_below(&r, 1) == 0);
        assert_true(st_rand_below(&r, UINT64_MAX) < UINT64_MAX);
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(seen[i], 850, 1150);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_seed),
        cmocka_unit_test(test_below),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
