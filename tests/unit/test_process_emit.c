/* EMIT records: what a hostile worker says is copied, checked and bounded. */
#include "tests/unit/test_core.h"

#include <stdlib.h>

#include "processor/core/alloc.h"
#include "runtimes/process/emit.h"

/* A HEADERS section: count as it is said, then these lengths and bytes. */
struct section {
    uint32_t count;
    uint32_t lengths[8];
    char bytes[64];
};

static struct st_wire_view view_of(const void *headers, size_t len)
{
    return (struct st_wire_view){
        .kind = ST_WIRE_EMIT,
        .seq = 7,
        .name = ST_SLICE("orders"),
        .key = ST_SLICE("k"),
        .topic = ST_SLICE("t"),
        .body = ST_SLICE("value"),
        .headers = {headers, len},
    };
}

static void check_refused(struct st_wire_view view, const char *expected)
{
    struct st_emitted e;

    assert_string_equal(st_emitted_read(&e, &view), expected);
    st_emitted_drop(&e);
}

static void test_whole(void **state)
{
    struct {
        uint32_t count, lengths[4];
        char bytes[8];
    } headers = {2, {1, 2, 3, 0}, "abbccc"};
    struct st_wire_view view = view_of(&headers, sizeof headers.count + sizeof headers.lengths + 6);
    struct st_emitted e;

    (void)state;
    assert_null(st_emitted_read(&e, &view));
    memset(&headers, 0xff, sizeof headers); /* it was copied */
    assert_true(st_slice_eq(e.output, ST_SLICE("orders")));
    assert_true(st_slice_eq(e.m.key, ST_SLICE("k")));
    assert_true(st_slice_eq(e.m.topic, ST_SLICE("t")));
    assert_true(st_slice_eq(e.m.value, ST_SLICE("value")));
    assert_false(e.m.is_tombstone);
    assert_int_equal(e.m.header_count, 2);
    assert_memory_equal(e.m.headers[0].name, "a", 1);
    assert_int_equal(e.m.headers[0].value_len, 2);
    assert_memory_equal(e.m.headers[1].name, "ccc", 3);
    assert_int_equal(e.m.headers[1].value_len, 0);
    assert_null(e.copy);
    st_emitted_drop(&e);
}

static void test_little(void **state)
{
    struct st_wire_view view = {.kind = ST_WIRE_EMIT, .flags = ST_WIRE_NO_VALUE};
    struct st_emitted e;

    (void)state;
    assert_null(st_emitted_read(&e, &view));
    assert_null(e.m.key.ptr);
    assert_int_equal(e.m.header_count, 0);
    assert_true(e.m.is_tombstone);
    st_emitted_drop(&e);
    view.key = (struct st_slice){"", 0}; /* empty, not none */
    assert_null(st_emitted_read(&e, &view));
    assert_non_null(e.m.key.ptr);
    assert_int_equal(e.m.key.len, 0);
    st_emitted_drop(&e);
}

static void test_hostile_headers(void **state)
{
    static const struct section cases[] = {
        {.count = 1, .lengths = {200, 0}},        /* longer than what follows */
        {.count = 1, .lengths = {1, UINT32_MAX}}, /* the sum overflows 32 bits */
        {.count = 1, .lengths = {UINT32_MAX, UINT32_MAX}},
        {.count = 2, .lengths = {64, 64, 64, 64}},
        {.count = 200}, /* lengths behind the end */
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        /* From the heap, so that AddressSanitizer sees a byte too many. */
        struct section *copy = st_malloc(sizeof *copy);

        *copy = cases[i];
        check_refused(view_of(copy, sizeof *copy), "its headers are cut off");
        free(copy);
    }
    check_refused(view_of("\1\0", 2), "its headers are cut off");
    check_refused(view_of("\1\1\0\0\0\0\0\0", 8), "it has more than 256 headers");
    check_refused(view_of("\377\377\377\377\0\0\0\0", 8), "it has more than 256 headers");
}

static void test_bounds(void **state)
{
    static char large[256 * 1024];
    struct st_wire_view view = view_of(NULL, 0);
    struct st_emitted e;
    uint32_t one[3] = {1, UINT16_MAX + 1, 0};

    (void)state;
    view.key = (struct st_slice){large, ST_MESSAGE_KEY_BYTES};
    assert_null(st_emitted_read(&e, &view));
    assert_non_null(e.copy);
    st_emitted_drop(&e);
    view.key.len++;
    check_refused(view, "its key has more than 64 KiB");
    check_refused(view_of(large, sizeof large), "it has more than 64 KiB of headers");
    memcpy(large, one, sizeof one);
    check_refused(view_of(large, sizeof one + 1), "its headers are cut off");
    view = view_of(NULL, 0);
    view.topic = (struct st_slice){large, UINT16_MAX + 1};
    check_refused(view, "its topic or its output's name is too long");
    view = view_of(NULL, 0);
    view.name = (struct st_slice){large, UINT16_MAX + 1};
    check_refused(view, "its topic or its output's name is too long");
    view = view_of(NULL, 0);
    view.key = (struct st_slice){large, 4096};
    st_alloc_fail_in = 1;
    check_refused(view, "no memory for it");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_little),
        cmocka_unit_test(test_hostile_headers),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
