#include "tests/unit/test_core.h"

#include "processor/core/alloc.h"
#include "processor/core/slab.h"

static void test_reuse(void **state)
{
    struct st_slab s;
    void *a, *b;

    (void)state;
    st_slab_init(&s, "thing", 40, 8);
    a = st_slab_get(&s);
    b = st_slab_get(&s);
    assert_ptr_not_equal(a, b);
    assert_int_equal(s.in_use, 2);
    memset(a, 1, 40);
    memset(b, 2, 40);
    st_slab_put(&s, a);
    assert_int_equal(s.in_use, 1);
    assert_int_equal(s.idle, 1);
    assert_ptr_equal(st_slab_get(&s), a);
    assert_int_equal(s.idle, 0);
    st_slab_put(&s, a);
    st_slab_put(&s, b);
    assert_ptr_equal(st_slab_get(&s), b); /* the last is warm */
    st_slab_put(&s, b);
    st_slab_put(&s, NULL);
    assert_int_equal(s.in_use, 0);
    assert_int_equal(s.idle, 2);
    st_slab_close(&s);
    assert_int_equal(s.idle, 0);
}

static void test_keep(void **state)
{
    struct st_slab s;
    void *objs[10];

    (void)state;
    st_slab_init(&s, "thing", 1, 3); /* smaller than its link */
    for (size_t i = 0; i < 10; i++)
        objs[i] = st_slab_get(&s);
    assert_int_equal(s.in_use, 10);
    for (size_t i = 0; i < 10; i++) {
        st_slab_put(&s, objs[i]);
        assert_int_equal(s.idle, i < 3 ? i + 1 : 3);
        assert_int_equal(s.in_use, 9 - i);
    }
    st_slab_close(&s);

    st_slab_init(&s, "none", 64, 0);
    st_slab_put(&s, st_slab_get(&s));
    assert_int_equal(s.idle, 0);
    assert_int_equal(s.in_use, 0);
    st_slab_close(&s);
}

static void get_without_memory(void)
{
    struct st_slab s;

    st_slab_init(&s, "thing", 8, 1);
    st_alloc_fail_in = 1;
    st_slab_get(&s);
}

static void close_in_use(void)
{
    struct st_slab s;

    st_slab_init(&s, "thing", 8, 1);
    st_slab_get(&s);
    st_slab_close(&s);
}

static void put_too_many(void)
{
    struct st_slab s;

    st_slab_init(&s, "thing", 8, 0);
    st_slab_put(&s, malloc(8));
}

static void test_no_memory(void **state)
{
    struct st_slab s;

    (void)state;
    st_slab_init(&s, "thing", 8, 1);
    st_alloc_fail_in = 1;
    assert_null(st_slab_try(&s));
    assert_int_equal(s.in_use, 0);
    st_slab_close(&s);
    assert_panics(get_without_memory, "obj != NULL");
}

static void test_misuse(void **state)
{
    (void)state;
    assert_panics(close_in_use, "s->in_use == 0");
    assert_panics(put_too_many, "s->in_use > 0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_misuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
