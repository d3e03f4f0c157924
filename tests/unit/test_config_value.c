/* Syntaxes of values, expansions, and the search for the nearest name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "processor/config/expand.h"
#include "processor/config/names.h"
#include "processor/config/scalar.h"
#include "tests/support/config_kit.h"

static void test_durations(void **state)
{
    static const struct {
        const char *text;
        int rc;
        int64_t ns;
    } cases[] = {
        {"0", 0, 0},
        {"0s", 0, 0},
        {"+0", 0, 0},
        {"1ns", 0, 1},
        {"1us", 0, 1000},
        {"1\xc2\xb5s", 0, 1000},
        {"1\xce\xbcs", 0, 1000},
        {"100ms", 0, 100000000},
        {"1m30s", 0, 90000000000},
        {"1.5h", 0, 5400000000000},
        {".5s", 0, 500000000},
        {"1.s", 0, 1000000000},
        {"-1s", 0, -1000000000},
        {"-1m1s", 0, -61000000000},
        {"1h2m3s4ms5us6ns", 0, 3723004005006},
        {"1.0000000001s", 0, 1000000000},
        {"0.3333333333333333333h", 0, 1199999999999},
        {"2562047h47m16.854775807s", 0, INT64_MAX},
        {"2562047h47m16.854775808s", ST_ERR_LIMIT, 0},
        {"99999999999999999999999999999999999999999h", ST_ERR_LIMIT, 0},
        {"", ST_ERR_INVALID, 0},
        {"-", ST_ERR_INVALID, 0},
        {"1", ST_ERR_INVALID, 0},
        {"s", ST_ERR_INVALID, 0},
        {".s", ST_ERR_INVALID, 0},
        {"1d", ST_ERR_INVALID, 0},
        {"1s2", ST_ERR_INVALID, 0},
        {"1 s", ST_ERR_INVALID, 0},
        {"1S", ST_ERR_INVALID, 0},
        {"1s-1s", ST_ERR_INVALID, 0},
        {"1e3s", ST_ERR_INVALID, 0},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        int64_t ns;
        int rc = st_scalar_duration(st_slice_of(cases[i].text), &ns);

        if (rc != cases[i].rc || (rc == 0 && ns != cases[i].ns))
            fail_msg("%s: %d, %lld", cases[i].text, rc, (long long)ns);
    }
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        int rc;
        uint64_t bytes;
    } cases[] = {
        {"0", 0, 0},
        {"16384", 0, 16384},
        {"64Mi", 0, 64ull << 20},
        {"1Ki", 0, 1024},
        {"2Gi", 0, 2ull << 30},
        {"1Ti", 0, 1ull << 40},
        {"1Pi", 0, 1ull << 50},
        {"1Ei", 0, 1ull << 60},
        {"1k", 0, 1000},
        {"1M", 0, 1000000},
        {"1G", 0, 1000000000},
        {"1T", 0, 1000000000000},
        {"1P", 0, 1000000000000000},
        {"1E", 0, 1000000000000000000},
        {"1.5Gi", 0, 3ull << 29},
        {"0.1k", 0, 100},
        {"1500m", 0, 2},
        {"128974848000m", 0, 128974848},
        {"1n", 0, 1},
        {"5u", 0, 1},
        {"1e3", 0, 1000},
        {"12E2", 0, 1200},
        {"15e-1", 0, 2},
        {"+5", 0, 5},
        {"0.0000000000000000000001", 0, 1},
        {"16Ei", ST_ERR_LIMIT, 0},
        {"1e30", ST_ERR_LIMIT, 0},
        {"99999999999999999999999999999999999999", ST_ERR_LIMIT, 0},
        {"-1", ST_ERR_LIMIT, 0},
        {"-0", 0, 0},
        {"", ST_ERR_INVALID, 0},
        {"Mi", ST_ERR_INVALID, 0},
        {"1MB", ST_ERR_INVALID, 0},
        {"1 Mi", ST_ERR_INVALID, 0},
        {"1mi", ST_ERR_INVALID, 0},
        {"1K", ST_ERR_INVALID, 0},
        {"1.2.3", ST_ERR_INVALID, 0},
        {"1e", ST_ERR_INVALID, 0},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        uint64_t bytes;
        int rc = st_scalar_size(st_slice_of(cases[i].text), &bytes);

        if (rc != cases[i].rc || (rc == 0 && bytes != cases[i].bytes))
            fail_msg("%s: %d, %llu", cases[i].text, rc, (unsigned long long)bytes);
    }
}

static void test_integers(void **state)
{
    static const struct {
        const char *text;
        int rc;
        int64_t value;
    } cases[] = {
        {"0", 0, 0},
        {"-7", 0, -7},
        {"+7", 0, 7},
        {"0x40", 0, 64},
        {"-0x40", 0, -64},
        {"0b101", 0, 5},
        {"0o17", 0, 15},
        {"017", 0, 15},
        {"1_000", 0, 1000},
        {"1.0", 0, 1},
        {"1e3", 0, 1000},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", ST_ERR_LIMIT, 0},
        {"1e19", ST_ERR_LIMIT, 0},
        {"1.5", ST_ERR_INVALID, 0},
        {"08", 0, 8}, /* no octal number, so a float, as in Nuclio's reader */
        {"_1", ST_ERR_INVALID, 0},
        {"", ST_ERR_INVALID, 0},
        {"-", ST_ERR_INVALID, 0},
        {"0x", ST_ERR_INVALID, 0},
        {"1a", ST_ERR_INVALID, 0},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        int64_t value;
        int rc = st_scalar_int(st_slice_of(cases[i].text), &value);

        if (rc != cases[i].rc || (rc == 0 && value != cases[i].value))
            fail_msg("%s: %d, %lld", cases[i].text, rc, (long long)value);
    }
}

static void test_words(void **state)
{
    static const struct {
        const char *text;
        enum st_scalar_type type;
    } cases[] = {
        {"", ST_SCALAR_NULL},        {"~", ST_SCALAR_NULL},      {"null", ST_SCALAR_NULL},
        {"y", ST_SCALAR_BOOL},       {"No", ST_SCALAR_BOOL},     {"ON", ST_SCALAR_BOOL},
        {"off", ST_SCALAR_BOOL},     {"True", ST_SCALAR_BOOL},   {"tRue", ST_SCALAR_TEXT},
        {"12", ST_SCALAR_INT},       {"0x1F", ST_SCALAR_INT},    {"-1", ST_SCALAR_INT},
        {"1.5", ST_SCALAR_FLOAT},    {".5", ST_SCALAR_FLOAT},    {"1e5", ST_SCALAR_FLOAT},
        {".inf", ST_SCALAR_FLOAT},   {"-.INF", ST_SCALAR_FLOAT}, {".nan", ST_SCALAR_FLOAT},
        {"1.2.3", ST_SCALAR_TEXT},   {"10s", ST_SCALAR_TEXT},    {"1e", ST_SCALAR_TEXT},
        {"hello", ST_SCALAR_TEXT},   {":8080", ST_SCALAR_TEXT},  {".", ST_SCALAR_TEXT},
        {"yes sir", ST_SCALAR_TEXT}, {"-", ST_SCALAR_TEXT},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        if (st_scalar_resolve(st_slice_of(cases[i].text)) != cases[i].type)
            fail_msg("%s", cases[i].text);
    }
}

static void test_expansions(void **state)
{
    static const struct {
        const char *text, *result; /* result NULL: a fault */
        bool expanded;
    } cases[] = {
        {"plain", "plain", false},
        {"", "", false},
        {"$HOME $$ $", "$HOME $$ $", false},
        {"${KIT_A}", "alpha", true},
        {"<${KIT_A}-${KIT_A}>", "<alpha-alpha>", true},
        {"${KIT_NONE:-dflt}", "dflt", true},
        {"${KIT_NONE:-}", "", true},
        {"${KIT_EMPTY:-dflt}", "dflt", true},
        {"${KIT_EMPTY}", "", true},
        {"${KIT_A:-dflt}", "alpha", true},
        {"${KIT_NONE:-a:-b}", "a:-b", true},
        {"$${KIT_A}", "${KIT_A}", false},
        {"$${x}${KIT_A}", "${x}alpha", true},
        {"${file:key}", "secret", true},
        {"x${file:empty}y", "xy", true},
        {"${KIT_NONE}", NULL, false},
        {"${}", NULL, false},
        {"${1A}", NULL, false},
        {"${a b}", NULL, false},
        {"${KIT_A", NULL, false},
        {"${file:nowhere}", NULL, false},
        {"${file:}", NULL, false},
    };
    struct st_config_memory *mem = st_config_memory_new();

    (void)state;
    setenv("KIT_A", "alpha", 1);
    setenv("KIT_EMPTY", "", 1);
    unsetenv("KIT_NONE");
    kit_write("key", "secret\n");
    kit_write("empty", "");
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_expansion e;
        int rc = st_expand(&e, st_slice_of(cases[i].text), mem);

        if ((rc == 0) != (cases[i].result != NULL))
            fail_msg("%s: %d %s", cases[i].text, rc, e.fault);
        if (rc != 0)
            assert_true(strstr(e.fault, "found ") == e.fault &&
                        strstr(e.fault, ", expected ") != NULL);
        else if (!st_slice_eq(e.text, st_slice_of(cases[i].result)) ||
                 e.expanded != cases[i].expanded)
            fail_msg("%s: %.*s", cases[i].text, (int)e.text.len, e.text.ptr);
    }
    st_config_memory_free(mem);
}

static void test_long_expansion(void **state)
{
    struct st_config_memory *mem = st_config_memory_new();
    size_t big = 1024 * 1024 + 1;
    char *text = malloc(big + 1);
    struct st_expansion e;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', big);
    text[big] = '\0';
    kit_write_bytes("big", text, big - 1);
    assert_int_equal(st_expand(&e, ST_SLICE("${file:big}${file:big}"), mem), 0);
    assert_int_equal(e.text.len, 2 * (big - 1));
    kit_write_bytes("big", text, big);
    assert_int_equal(st_expand(&e, ST_SLICE("${file:big}"), mem), ST_ERR_INVALID);
    assert_string_equal(e.fault,
                        "found ${file:big}, which can't be read (it is longer than 1 MiB), "
                        "expected a readable file");
    free(text);
    st_config_memory_free(mem);
}

static unsigned distance(const char *a, const char *b, unsigned limit)
{
    return st_name_distance(st_slice_of(a), st_slice_of(b), limit);
}

static void test_distances(void **state)
{
    char longest[80];

    (void)state;
    assert_int_equal(distance("handler", "handler", 9), 0);
    assert_int_equal(distance("Handler", "hANDLER", 9), 0);
    assert_int_equal(distance("hander", "handler", 9), 1);
    assert_int_equal(distance("ahndler", "handler", 9), 1);
    assert_int_equal(distance("kitten", "sitting", 9), 3);
    assert_int_equal(distance("kitten", "sitting", 2), 3);
    assert_int_equal(distance("", "abc", 9), 3);
    assert_int_equal(distance("abc", "", 9), 3);
    assert_int_equal(distance("a", "abcdefgh", 3), 4);
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_int_equal(distance(longest, longest, 9), 10); /* too long to look at */
}

static void test_nearest(void **state)
{
    static const char *const names[] = {"handler", "runtime", "env", "triggers", NULL};
    static const struct {
        const char *wanted, *name;
    } cases[] = {{"hander", "handler"}, {"trigers", "triggers"},
                 {"evn", "env"},        {"zzz", NULL},
                 {"x", NULL},           {"", NULL}};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_nearest n;

        st_nearest_init(&n, st_slice_of(cases[i].wanted));
        for (const char *const *name = names; *name != NULL; name++)
            st_nearest_try(&n, *name);
        if (cases[i].name == NULL)
            assert_null(n.name);
        else
            assert_string_equal(n.name, cases[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_words),
        cmocka_unit_test_setup_teardown(test_expansions, kit_setup, kit_teardown),
        cmocka_unit_test_setup_teardown(test_long_expansion, kit_setup, kit_teardown),
        cmocka_unit_test(test_distances),
        cmocka_unit_test(test_nearest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
