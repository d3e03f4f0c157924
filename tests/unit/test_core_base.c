#include "tests/unit/test_core.h"

#include <errno.h>

#include "processor/core/alloc.h"
#include "processor/core/base.h"
#include "processor/core/err.h"

static void broken_assert(void)
{
    int answer = (int)getpid();

    ST_ASSERT(answer < 0);
}

struct thing {
    uint32_t magic;
};

static void wrong_magic(void)
{
    struct thing t = {.magic = 1};

    ST_CHECK(&t, 2u);
}

static void null_object(void)
{
    struct thing *volatile t = NULL;

    ST_CHECK(t, 2u);
}

static void long_panic(void)
{
    static char what[4096];

    memset(what, 'x', sizeof(what) - 1);
    st_panic("file.c", 2147483647, what);
}

static void test_panic(void **state)
{
    (void)state;
    assert_panics(broken_assert, "test_core_base.c:");
    assert_panics(broken_assert, ": answer < 0\n");
    assert_panics(wrong_magic, "magic == (2u)");
    assert_panics(null_object, "!= NULL");
    assert_panics(long_panic, "file.c:2147483647: xxxx");
}

static void test_check_passes(void **state)
{
    struct thing t = {.magic = 2};

    (void)state;
    ST_CHECK(&t, 2u);
    ST_ASSERT(t.magic == 2);
}

static void test_slices(void **state)
{
    struct st_slice none = {NULL, 0};

    (void)state;
    assert_true(st_slice_eq(ST_SLICE("abc"), st_slice_of("abc")));
    assert_false(st_slice_eq(ST_SLICE("abc"), st_slice_of("abd")));
    assert_false(st_slice_eq(ST_SLICE("abc"), ST_SLICE("ab")));
    assert_true(st_slice_eq(none, ST_SLICE("")));
    assert_true(st_slice_eq(none, st_slice_of(NULL)));

    assert_true(st_slice_ieq(ST_SLICE("Content-Length"), ST_SLICE("cONTENT-lENGTH")));
    assert_false(st_slice_ieq(ST_SLICE("abc"), ST_SLICE("abcd")));
    assert_false(st_slice_ieq(ST_SLICE("abc"), ST_SLICE("abd")));
    assert_true(st_slice_ieq(none, ST_SLICE("")));
    /* Neighbours of the letters, and bytes that some locale calls letters, are not folded. */
    assert_false(st_slice_ieq(ST_SLICE("@[`{"), ST_SLICE("`{@[")));
    assert_false(st_slice_ieq(ST_SLICE("\xc4"), ST_SLICE("\xe4")));
    assert_true(st_slice_ieq(ST_SLICE("\xc4\0z"), ST_SLICE("\xc4\0Z")));
    for (int c = 0; c < 256; c++) {
        char a[1] = {(char)c};

        for (int d = 0; d < 256; d++) {
            char b[1] = {(char)d};
            int lower_c = c >= 'A' && c <= 'Z' ? c + 32 : c;
            int lower_d = d >= 'A' && d <= 'Z' ? d + 32 : d;

            assert_int_equal(st_slice_ieq((struct st_slice){a, 1}, (struct st_slice){b, 1}),
                             lower_c == lower_d);
        }
    }
}

static void test_error_set(void **state)
{
    struct st_error err;
    char big[2000];

    (void)state;
    memset(&err, 0xee, sizeof(err));
    assert_int_equal(st_error_set(&err, ST_ERR_INVALID, "%s:%d: bad", "f.yaml", 3), ST_ERR_INVALID);
    assert_int_equal(err.code, ST_ERR_INVALID);
    assert_int_equal(err.sys_errno, 0);
    assert_false(err.retriable);
    assert_string_equal(err.text, "f.yaml:3: bad");

    assert_int_equal(st_error_sys(&err, ENOENT, "can't open %s", "x"), ST_ERR_SYSTEM);
    assert_int_equal(err.code, ST_ERR_SYSTEM);
    assert_int_equal(err.sys_errno, ENOENT);
    assert_string_equal(err.text, "can't open x: No such file or directory");

    memset(big, 'b', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    st_error_set(&err, ST_ERR_LIMIT, "%s", big);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    st_error_sys(&err, EIO, "%s", big);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);

    assert_int_equal(st_error_set(NULL, ST_ERR_CLOSED, "x"), ST_ERR_CLOSED);
    assert_int_equal(st_error_sys(NULL, EIO, "x"), ST_ERR_SYSTEM);
}

static void test_err_names(void **state)
{
    (void)state;
    assert_string_equal(st_err_name(ST_OK), "ok");
    assert_string_equal(st_err_name(ST_ERR_TIMEOUT), "timeout");
    assert_string_equal(st_err_name(-12345), "unknown");
    for (int a = ST_OK; a >= ST_ERR_NOTFOUND; a--) {
        assert_string_not_equal(st_err_name(a), "unknown");
        for (int b = a - 1; b >= ST_ERR_NOTFOUND; b--)
            assert_string_not_equal(st_err_name(a), st_err_name(b));
    }
}

static void malloc_fails(void)
{
    st_alloc_fail_in = 1;
    free(st_malloc(1));
}

static void calloc_fails(void)
{
    st_alloc_fail_in = 1;
    free(st_calloc(1, 1));
}

static void realloc_fails(void)
{
    st_alloc_fail_in = 1;
    free(st_realloc(NULL, 1));
}

static void strdup_fails(void)
{
    st_alloc_fail_in = 1;
    free(st_strdup("x"));
}

static void test_alloc(void **state)
{
    char *p = st_malloc(0), *q;

    (void)state;
    assert_non_null(p);
    p = st_realloc(p, 0);
    assert_non_null(p);
    p = st_realloc(p, 100);
    memset(p, 1, 100);
    free(p);
    p = st_calloc(0, 0);
    assert_non_null(p);
    free(p);
    p = st_calloc(3, 5);
    for (size_t i = 0; i < 15; i++)
        assert_int_equal(p[i], 0);
    free(p);
    p = st_strdup("text");
    assert_string_equal(p, "text");

    /* The second one fails, then none. */
    st_alloc_fail_in = 2;
    q = st_try_realloc(p, 64);
    assert_non_null(q);
    assert_null(st_try_calloc(1, 1));
    p = st_try_malloc(8);
    assert_non_null(p);
    free(p);
    free(q);
    st_alloc_fail_in = 1;
    assert_null(st_try_realloc(NULL, 1));
    assert_int_equal(st_alloc_fail_in, 0);
}

static void test_out_of_memory_aborts(void **state)
{
    (void)state;
    assert_panics(malloc_fails, "p != NULL");
    assert_panics(calloc_fails, "p != NULL");
    assert_panics(realloc_fails, "p != NULL");
    assert_panics(strdup_fails, "p != NULL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_panic),
        cmocka_unit_test(test_check_passes),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_error_set),
        cmocka_unit_test(test_err_names),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_out_of_memory_aborts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
