#include "tests/unit/test_core.h"

#include <pthread.h>

#include "processor/core/alloc.h"
#include "processor/core/buf.h"
#include "processor/core/err.h"

static int releases;

static void count_release(struct st_region *r)
{
    (void)r;
    releases++;
}

static void assert_bytes(const struct st_buf *b, const char *text)
{
    assert_int_equal(b->length, strlen(text));
    assert_memory_equal(st_buf_data(b), text, b->length);
    assert_ptr_equal(st_buf_slice(b).ptr, st_buf_data(b));
    assert_int_equal(st_buf_slice(b).len, b->length);
}

static void test_copy(void **state)
{
    struct st_buf b, c;

    (void)state;
    assert_int_equal(st_buf_try_copy(&b, ST_SLICE("hello")), ST_OK);
    assert_bytes(&b, "hello");
    assert_int_equal((uintptr_t)st_buf_data(&b) % 16, 0);
    assert_true(st_region_is_sole(b.region));
    c = st_buf_ref(&b);
    assert_false(st_region_is_sole(b.region));
    assert_ptr_equal(st_buf_data(&b), st_buf_data(&c));
    c.offset = 1;
    c.length = 3;
    assert_bytes(&c, "ell");
    st_buf_drop(&b);
    assert_null(b.region);
    assert_int_equal(b.length, 0);
    assert_true(st_region_is_sole(c.region));
    assert_bytes(&c, "ell");
    st_buf_drop(&c);
}

static void test_empty(void **state)
{
    struct st_buf b = {0}, c;

    (void)state;
    assert_null(st_buf_data(&b));
    assert_true(st_slice_eq(st_buf_slice(&b), ST_SLICE("")));
    c = st_buf_ref(&b);
    st_buf_drop(&c);
    st_buf_drop(&b);
    memset(&b, 0xff, sizeof(b));
    assert_int_equal(st_buf_try_copy(&b, (struct st_slice){NULL, 0}), ST_OK);
    assert_null(b.region);
    assert_int_equal(b.length, 0);
    assert_int_equal(b.offset, 0);
}

static void test_release_once(void **state)
{
    char bytes[8];
    struct st_region r = {.base = bytes, .size = sizeof(bytes), .release = count_release};

    (void)state;
    atomic_init(&r.refs, 1);
    st_region_ref(&r);
    st_region_ref(&r);
    st_region_unref(&r);
    st_region_unref(&r);
    assert_int_equal(releases, 0);
    assert_true(st_region_is_sole(&r));
    st_region_unref(&r);
    assert_int_equal(releases, 1);
}

static void test_no_memory(void **state)
{
    struct st_buf b;
    volatile size_t huge = SIZE_MAX;

    (void)state;
    memset(&b, 0xff, sizeof(b));
    st_alloc_fail_in = 1;
    assert_int_equal(st_buf_try_copy(&b, ST_SLICE("x")), ST_ERR_NOMEM);
    assert_null(b.region);
    assert_int_equal(b.length, 0);
    st_alloc_fail_in = 1;
    assert_null(st_region_try_new(1));
    for (size_t less = 0; less < 32; less++)
        assert_null(st_region_try_new(huge - less));
}

enum { SHARED = 2000 };

static struct st_buf shared[2][SHARED];

static void *dropper(void *arg)
{
    struct st_buf *mine = arg;
    size_t sum = 0;

    for (size_t i = 0; i < SHARED; i++) {
        for (size_t k = 0; k < mine[i].length; k++)
            sum += (unsigned char)st_buf_data(&mine[i])[k];
        st_buf_drop(&mine[i]);
    }
    return (void *)sum;
}

/* Two threads drop the two references of each region, whoever is last frees. */
static void test_threads(void **state)
{
    pthread_t threads[2];
    void *sums[2];

    (void)state;
    for (size_t i = 0; i < SHARED; i++) {
        assert_int_equal(st_buf_try_copy(&shared[0][i], ST_SLICE("body")), ST_OK);
        shared[1][i] = st_buf_ref(&shared[0][i]);
    }
    for (int t = 0; t < 2; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, dropper, shared[t]), 0);
    for (int t = 0; t < 2; t++)
        assert_int_equal(pthread_join(threads[t], &sums[t]), 0);
    assert_int_equal((size_t)sums[0], SHARED * ('b' + 'o' + 'd' + 'y'));
    assert_int_equal((size_t)sums[1], (size_t)sums[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),         cmocka_unit_test(test_empty),
        cmocka_unit_test(test_release_once), cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
