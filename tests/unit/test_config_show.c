/* Configuration as JSON: every type of option, and no secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "processor/config/show.h"
#include "processor/core/clock.h"

struct item {
    char *key;
    int64_t n;
};

struct all {
    char *text, *none, *url, *secret, *no_secret;
    bool flag;
    int64_t number;
    uint64_t size, duration, millis;
    struct st_string_list list, secrets;
    struct st_string_map map, secret_map;
    int choice;
    struct item *items;
    size_t item_count;
    struct item *entries;
    size_t entry_count;
};

#define AT(member) offsetof(struct all, member)

static const char *const choices[] = {"a", "b", NULL};
static const struct st_option item_table[] = {
    {.name = "n", .type = ST_OPT_INT, .offset = offsetof(struct item, n)}, {.name = NULL}};
static const struct st_option object_table[] = {
    {.name = "flag", .type = ST_OPT_BOOL, .offset = AT(flag)}, {.name = NULL}};
static const struct st_option table[] = {
    {.name = "text", .type = ST_OPT_STRING, .offset = AT(text)},
    {.name = "none", .type = ST_OPT_STRING, .offset = AT(none)},
    {.name = "url", .type = ST_OPT_STRING, .offset = AT(url)},
    {.name = "secret", .type = ST_OPT_STRING, .offset = AT(secret), .flags = ST_OPT_SECRET},
    {.name = "noSecret", .type = ST_OPT_STRING, .offset = AT(no_secret), .flags = ST_OPT_SECRET},
    {.name = "number", .type = ST_OPT_INT, .offset = AT(number)},
    {.name = "size", .type = ST_OPT_SIZE, .offset = AT(size)},
    {.name = "duration", .type = ST_OPT_DURATION, .offset = AT(duration)},
    {.name = "millis", .type = ST_OPT_MILLIS, .offset = AT(millis)},
    {.name = "list", .type = ST_OPT_STRING_LIST, .offset = AT(list)},
    {.name = "secrets", .type = ST_OPT_STRING_LIST, .offset = AT(secrets), .flags = ST_OPT_SECRET},
    {.name = "map", .type = ST_OPT_STRING_MAP, .offset = AT(map)},
    {.name = "secretMap",
     .type = ST_OPT_STRING_MAP,
     .offset = AT(secret_map),
     .flags = ST_OPT_SECRET},
    {.name = "choice", .type = ST_OPT_ENUM, .offset = AT(choice), .values = choices},
    {.name = "items",
     .type = ST_OPT_LIST,
     .offset = AT(items),
     .table = item_table,
     .item_size = sizeof(struct item)},
    {.name = "entries",
     .type = ST_OPT_MAP,
     .offset = AT(entries),
     .table = item_table,
     .item_size = sizeof(struct item)},
    {.name = "object", .type = ST_OPT_OBJECT, .table = object_table},
    {.name = "any", .type = ST_OPT_ANY},
    {.name = NULL},
};
#undef AT

static void assert_shown(const struct all *all, const char *key, const char *expected)
{
    json_t *json = st_config_show(table, all);
    char *text = json_dumps(json_object_get(json, key), JSON_ENCODE_ANY | JSON_COMPACT);

    if (expected == NULL)
        assert_null(text);
    else
        assert_string_equal(text, expected);
    free(text);
    json_decref(json);
}

static void test_types(void **state)
{
    char a[] = "a", b[] = "b", *words[] = {a, b};
    struct st_string_pair pair = {a, b};
    struct item items[] = {{a, 1}, {b, -2}};
    const struct all all = {
        .text = a,
        .flag = true,
        .number = INT64_MIN,
        .size = 1 << 20,
        .millis = 1500 * ST_MSEC,
        .list = {words, 2},
        .map = {&pair, 1},
        .choice = 1,
        .items = items,
        .item_count = 2,
        .entries = items,
        .entry_count = 2,
    };

    (void)state;
    assert_shown(&all, "text", "\"a\"");
    assert_shown(&all, "none", "\"\"");
    assert_shown(&all, "number", "-9223372036854775808");
    assert_shown(&all, "size", "1048576");
    assert_shown(&all, "millis", "1500");
    assert_shown(&all, "list", "[\"a\",\"b\"]");
    assert_shown(&all, "map", "{\"a\":\"b\"}");
    assert_shown(&all, "choice", "\"b\"");
    assert_shown(&all, "items", "[{\"n\":1},{\"n\":-2}]");
    assert_shown(&all, "entries", "{\"a\":{\"n\":1},\"b\":{\"n\":-2}}");
    assert_shown(&all, "object", "{\"flag\":true}");
    assert_shown(&all, "any", NULL);
}

/* As Go's time.Duration prints them. */
static void test_durations(void **state)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        {0, "\"0s\""},
        {1, "\"1ns\""},
        {1500, "\"1.5\xc2\xb5s\""},
        {999999, "\"999.999\xc2\xb5s\""},
        {100 * ST_MSEC, "\"100ms\""},
        {100 * ST_MSEC + 1, "\"100.000001ms\""},
        {1500 * ST_MSEC, "\"1.5s\""},
        {60 * ST_SEC, "\"1m0s\""},
        {60 * ST_SEC + 1, "\"1m0.000000001s\""},
        {3600 * ST_SEC + 50 * ST_MSEC, "\"1h0m0.05s\""},
        {90 * ST_SEC + 1, "\"1m30.000000001s\""},
        {3600 * ST_SEC, "\"1h0m0s\""},
        {90061 * ST_SEC, "\"25h1m1s\""},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        const struct all all = {.duration = cases[i].ns};

        assert_shown(&all, "duration", cases[i].text);
    }
}

static void test_secrets(void **state)
{
    char hidden[] = "hidden", name[] = "name", *words[] = {hidden};
    struct st_string_pair pair = {name, hidden};
    const struct all all = {
        .secret = hidden, .secrets = {words, 1}, .secret_map = {&pair, 1}, .no_secret = NULL};

    (void)state;
    assert_shown(&all, "secret", "\"[redacted]\"");
    assert_shown(&all, "noSecret", "\"\""); /* that it is missing is no secret */
    assert_shown(&all, "secrets", "[\"[redacted]\"]");
    assert_shown(&all, "secretMap", "{\"name\":\"[redacted]\"}");
}

static void test_passwords_in_urls(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"redis://me:hidden@host:1/0", "\"redis://[redacted]@host:1/0\""},
        {"redis://me:hi@dden@host", "\"redis://[redacted]@host\""},
        {"nats://token@host", "\"nats://[redacted]@host\""},
        {"http://host/a@b", "\"http://host/a@b\""},
        {"http://host?a@b", "\"http://host?a@b\""},
        {"me@host", "\"me@host\""},
        {":8080", "\":8080\""},
        {"unix:/run/a@b", "\"unix:/run/a@b\""},
        {"\xff", "\"(not UTF-8)\""},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        char *url = strdup(cases[i].in);
        const struct all all = {.url = url};

        assert_shown(&all, "url", cases[i].out);
        free(url);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_secrets),
        cmocka_unit_test(test_passwords_in_urls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
