#include "tests/unit/test_core.h"

#include "processor/core/alloc.h"
#include "processor/core/arena.h"
#include "processor/core/rand.h"

static void test_borrowed_first(void **state)
{
    _Alignas(16) char memory[256];
    struct st_arena a;
    char *p, *q;

    (void)state;
    st_arena_init(&a, memory, sizeof(memory));
    p = st_arena_alloc(&a, 1);
    q = st_arena_alloc(&a, 100);
    assert_ptr_equal(p, memory);
    assert_ptr_equal(q, memory + 16);
    assert_null(a.blocks);
    assert_int_equal(a.heap_bytes, 0);
    st_arena_release(&a); /* nothing to free: stays as it is */
    p = st_arena_alloc(&a, 1000);
    assert_true(p < memory || p >= memory + sizeof(memory));
    assert_non_null(a.blocks);
    st_arena_release(&a);
    assert_null(a.blocks);
    assert_int_equal(a.heap_bytes, 0);
    assert_null(a.at);
}

static void test_unaligned_borrow(void **state)
{
    _Alignas(16) char memory[64];
    struct st_arena a;
    char *p;

    (void)state;
    st_arena_init(&a, memory + 1, 20);
    p = st_arena_alloc(&a, 4);
    assert_ptr_equal(p, memory + 16);
    /* The next aligned place lies behind the end. */
    p = st_arena_alloc(&a, 1);
    assert_true(p < memory || p >= memory + sizeof(memory));
    st_arena_release(&a);
}

static void test_zero_bytes(void **state)
{
    struct st_arena a;

    (void)state;
    st_arena_init(&a, NULL, 0);
    assert_non_null(st_arena_try(&a, 0));
    assert_non_null(st_arena_alloc(&a, 0));
    st_arena_release(&a);
}

static void test_block_sizes(void **state)
{
    static const size_t totals[] = {2048, 4096, 8192, 16384, 32768, 65536, 65536, 65536};
    struct st_arena a;
    struct st_arena_block *last;

    (void)state;
    st_arena_init(&a, NULL, 0);
    for (size_t i = 0; i < ST_ARRAY_LEN(totals); i++) {
        last = a.blocks;
        while (a.blocks == last)
            memset(st_arena_alloc(&a, 16), 0x5a, 16);
        assert_int_equal(a.blocks->size + sizeof(*a.blocks), totals[i]);
    }
    st_arena_release(&a);
}

static void test_big_has_own_block(void **state)
{
    struct st_arena a;
    char *small, *big, *next;

    (void)state;
    st_arena_init(&a, NULL, 0);
    small = st_arena_alloc(&a, 16);
    big = st_arena_alloc(&a, 1 << 20);
    memset(big, 1, 1 << 20);
    next = st_arena_alloc(&a, 16);
    assert_ptr_equal(next, small + 16); /* the old block's rest stays in use */
    assert_int_equal(a.blocks->size, 1 << 20);
    st_arena_release(&a);
}

static void test_sizes_around_a_block(void **state)
{
    struct st_arena a;
    char *p;

    (void)state;
    for (size_t size = 2000; size < 2100; size++) {
        st_arena_init(&a, NULL, 0);
        p = st_arena_alloc(&a, size);
        assert_ptr_equal(p, a.blocks + 1);
        assert_true(a.blocks->size >= size);
        memset(p, 1, size);
        st_arena_release(&a);
    }
}

static void test_copy(void **state)
{
    struct st_arena a;
    struct st_slice s;

    (void)state;
    st_arena_init(&a, NULL, 0);
    s = st_arena_copy(&a, ST_SLICE("he\0llo"));
    assert_int_equal(s.len, 6);
    assert_memory_equal(s.ptr, "he\0llo", 7);
    s = st_arena_copy(&a, (struct st_slice){NULL, 0});
    assert_int_equal(s.len, 0);
    assert_non_null(s.ptr);
    assert_int_equal(s.ptr[0], 0);
    st_arena_release(&a);
}

static void test_random_sizes_do_not_overlap(void **state)
{
    static struct {
        unsigned char *p;
        size_t size;
    } got[3000];
    struct st_rand r;
    struct st_arena a;

    (void)state;
    st_rand_seed(&r, 1);
    st_arena_init(&a, NULL, 0);
    for (size_t i = 0; i < ST_ARRAY_LEN(got); i++) {
        got[i].size = (size_t)st_rand_below(&r, (uint64_t)1 << st_rand_below(&r, 14));
        got[i].p = st_arena_alloc(&a, got[i].size);
        assert_int_equal((uintptr_t)got[i].p % 16, 0);
        memset(got[i].p, (int)(i & 0xff), got[i].size);
    }
    for (size_t i = 0; i < ST_ARRAY_LEN(got); i++)
        for (size_t k = 0; k < got[i].size; k++)
            assert_int_equal(got[i].p[k], i & 0xff);
    st_arena_release(&a);
}

static void alloc_without_memory(void)
{
    struct st_arena a;

    st_arena_init(&a, NULL, 0);
    st_alloc_fail_in = 1;
    st_arena_alloc(&a, 8);
}

static void test_no_memory(void **state)
{
    struct st_arena a;
    struct st_arena before;
    volatile size_t huge = SIZE_MAX;

    (void)state;
    st_arena_init(&a, NULL, 0);
    st_alloc_fail_in = 1;
    assert_null(st_arena_try(&a, 8));
    st_alloc_fail_in = 1;
    assert_null(st_arena_try(&a, 100000));
    assert_null(a.blocks);
    assert_non_null(st_arena_try(&a, 8));
    before = a;
    for (size_t less = 0; less < 64; less++)
        assert_null(st_arena_try(&a, huge - less));
    assert_memory_equal(&a, &before, sizeof(a));
    st_arena_release(&a);
    assert_panics(alloc_without_memory, "p != NULL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_borrowed_first),
        cmocka_unit_test(test_unaligned_borrow),
        cmocka_unit_test(test_zero_bytes),
        cmocka_unit_test(test_block_sizes),
        cmocka_unit_test(test_big_has_own_block),
        cmocka_unit_test(test_sizes_around_a_block),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_random_sizes_do_not_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
