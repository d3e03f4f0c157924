#include "tests/unit/test_core.h"

#include <ctype.h>

#include "processor/core/rand.h"
#include "processor/net/http_msg.h"

/* ---- Header names ---- */

#define ROW(id, name) {ST_HDR_##id, name},
static const struct {
    uint8_t id;
    const char *name;
} known[] = {ST_HTTP_HEADER_TABLE(ROW)};
#undef ROW

static uint8_t id_of(const char *name)
{
    return st_header_id_of(name, strlen(name));
}

static void test_ids_in_any_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(known); i++) {
        size_t len = strlen(known[i].name);

        assert_true(len < 32);
        for (unsigned mask = 0; mask < 512; mask++) {
            /* A block of its own: a read behind the name is seen. */
            char *name = malloc(len);

            assert_non_null(name);
            for (size_t k = 0; k < len; k++)
                name[k] =
                    (char)((mask >> k % 9 & 1) != 0 ? toupper(known[i].name[k]) : known[i].name[k]);
            assert_int_equal(st_header_id_of(name, len), known[i].id);
            free(name);
        }
    }
}

static bool is_known(const char *name)
{
    for (size_t i = 0; i < ST_ARRAY_LEN(known); i++)
        if (strcasecmp(name, known[i].name) == 0)
            return true;
    return false;
}

/* Every name with one character replaced, left out or added: another name, or none. */
static void test_ids_near_misses(void **state)
{
    static const char tokens[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                 "!#$%&'*+-.^_`|~";
    char name[64];

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(known); i++) {
        size_t len = strlen(known[i].name);

        for (size_t k = 0; k < len; k++) {
            for (const char *c = tokens; *c != '\0'; c++) {
                strcpy(name, known[i].name);
                name[k] = *c;
                assert_int_equal(id_of(name) != ST_HDR_OTHER, is_known(name));
                memcpy(name + k + 1, known[i].name + k, len - k + 1);
                assert_int_equal(id_of(name) != ST_HDR_OTHER, is_known(name));
            }
            strcpy(name, known[i].name);
            memmove(name + k, name + k + 1, len - k);
            assert_int_equal(id_of(name) != ST_HDR_OTHER, is_known(name));
        }
    }
    assert_int_equal(st_header_id_of("", 0), ST_HDR_OTHER);
    memset(name, 'x', sizeof name);
    for (size_t len = 1; len <= sizeof name; len++)
        assert_int_equal(st_header_id_of(name, len), ST_HDR_OTHER);
}

static void add(struct st_headers *h, struct st_header *items, const char *name, const char *value)
{
    struct st_header *it = &items[h->count++];

    h->items = items;
    *it = (struct st_header){name, value, (uint32_t)strlen(value), (uint16_t)strlen(name),
                             id_of(name)};
    if (it->id != ST_HDR_OTHER)
        h->last[it->id] = (uint8_t)h->count;
}

static const char *found(const struct st_headers *h, const char *name)
{
    const struct st_header *it = st_headers_find(h, st_slice_of(name));

    return it != NULL ? it->value : NULL;
}

static void test_find(void **state)
{
    struct st_header items[8];
    struct st_headers h = {0};

    (void)state;
    assert_null(found(&h, "host"));
    assert_null(found(&h, "x-one"));
    assert_null(found(&h, ""));
    add(&h, items, "Host", "a");
    add(&h, items, "X-One", "1");
    add(&h, items, "ACCEPT", "b");
    add(&h, items, "x-one", "2");
    add(&h, items, "accept", "c");
    add(&h, items, "X-Two", "3");
    assert_string_equal(found(&h, "hOST"), "a");
    assert_string_equal(found(&h, "Accept"), "c"); /* the last one */
    assert_string_equal(found(&h, "x-ONE"), "2");
    assert_string_equal(found(&h, "x-two"), "3");
    assert_null(found(&h, "x-tw"));
    assert_null(found(&h, "x-twoo"));
    assert_null(found(&h, "date"));
    assert_ptr_equal(st_headers_known(&h, ST_HDR_HOST), &items[0]);
    assert_ptr_equal(st_headers_known(&h, ST_HDR_ACCEPT), &items[4]);
    assert_null(st_headers_known(&h, ST_HDR_DATE));
}

/* ---- Values ---- */

static void test_tokens(void **state)
{
    static const struct {
        const char *value, *token;
        bool has;
    } rows[] = {
        {"close", "close", true},
        {"Close", "close", true},
        {"close", "CLOSE", true},
        {"keep-alive, close", "close", true},
        {"close,keep-alive", "close", true},
        {" \t close \t ,x", "close", true},
        {",,close", "close", true},
        {"a,,b", "b", true},
        {"", "close", false},
        {",", "close", false},
        {"closed", "close", false},
        {"xclose", "close", false},
        {"clos", "close", false},
        {"close x", "close", false},
        {"close;q=1", "close", false},
        {"\"close\"", "close", false},
        {"close\r", "close", false},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(rows); i++)
        if (st_http_has_token(st_slice_of(rows[i].value), rows[i].token) != rows[i].has)
            fail_msg("\"%s\" in \"%s\"", rows[i].token, rows[i].value);
    assert_false(st_http_has_token((struct st_slice){NULL, 0}, "close"));
}

static void test_reasons(void **state)
{
    (void)state;
    assert_true(st_slice_eq(st_http_reason(200), ST_SLICE("OK")));
    assert_true(st_slice_eq(st_http_reason(413), ST_SLICE("Content Too Large")));
    assert_true(st_slice_eq(st_http_reason(431), ST_SLICE("Request Header Fields Too Large")));
    for (unsigned status = 0; status < 1100; status++) {
        struct st_slice reason = st_http_reason(status);

        assert_non_null(reason.ptr); /* "" where there is none */
        assert_true(st_http_value_ok(reason));
        if (status < 100 || status > 599)
            assert_int_equal(reason.len, 0);
    }
}

static void test_names_and_values(void **state)
{
    (void)state;
    assert_false(st_http_name_ok(ST_SLICE("")));
    assert_true(st_http_name_ok(ST_SLICE("X-Nuclio_Log.Level~1")));
    assert_true(st_http_value_ok(ST_SLICE("")));
    assert_true(st_http_value_ok(ST_SLICE("a\tb \"\x80\xff")));
    for (unsigned c = 0; c < 256; c++) {
        char text[3] = {'a', (char)c, 'b'};
        bool token = c != 0 && c < 128 &&
                     (isalnum((int)c) != 0 || strchr("!#$%&'*+-.^_`|~", (int)c) != NULL);

        assert_int_equal(st_http_name_ok((struct st_slice){text, 3}), token);
        assert_int_equal(st_http_name_ok((struct st_slice){text + 1, 1}), token);
        assert_int_equal(st_http_value_ok((struct st_slice){text, 3}),
                         c != '\0' && c != '\r' && c != '\n');
    }
}

/* ---- Targets ---- */

static void assert_slice(struct st_slice got, const char *want, const char *what)
{
    struct st_slice expected = st_slice_of(want);

    if (!st_slice_eq(got, expected))
        fail_msg("%s: got \"%.*s\", not \"%.*s\"", what, (int)got.len, got.ptr, (int)expected.len,
                 expected.ptr);
}

static void test_split_target(void **state)
{
    static const struct {
        const char *target, *scheme, *authority, *path, *query;
    } rows[] = {
        {"/", "", "", "/", ""},
        {"/a", "", "", "/a", ""},
        {"/a?", "", "", "/a", ""},
        {"/a?b=c", "", "", "/a", "b=c"},
        {"/a?b?c", "", "", "/a", "b?c"},
        {"/a#f", "", "", "/a", ""},
        {"/a?b#f", "", "", "/a", "b"},
        {"/a#f?b", "", "", "/a", ""},
        {"/?b", "", "", "/", "b"},
        {"//a//b", "", "", "//a//b", ""},
        {"/a://b", "", "", "/a://b", ""},
        {"*", "", "", "*", ""},
        {"http://h/a?b", "http", "h", "/a", "b"},
        {"http://h", "http", "h", "/", ""},
        {"http://h/", "http", "h", "/", ""},
        {"http://h?b", "http", "h", "/", "b"},
        {"http://h#f", "http", "h", "/", ""},
        {"HTTPS://[::1]:80/a", "HTTPS", "[::1]:80", "/a", ""},
        {"x+y://u@h:1/a?b#c", "x+y", "u@h:1", "/a", "b"},
    };
    static const char *const bad[] = {"",        "a",  "a/b", "h:80", "://h/a", "http:///a",
                                      "http://", "**", "*/",  "?a",   "#a",     "http:/h/a"};
    struct st_slice scheme, authority, path, query;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(rows); i++) {
        const char *t = rows[i].target;

        if (!st_http_split_target(st_slice_of(t), &scheme, &authority, &path, &query))
            fail_msg("\"%s\" is refused", t);
        assert_slice(scheme, rows[i].scheme, t);
        assert_slice(authority, rows[i].authority, t);
        assert_slice(path, rows[i].path, t);
        assert_slice(query, rows[i].query, t);
    }
    for (size_t i = 0; i < ST_ARRAY_LEN(bad); i++)
        if (st_http_split_target(st_slice_of(bad[i]), &scheme, &authority, &path, &query))
            fail_msg("\"%s\" is taken", bad[i]);
}

/* ---- Paths ---- */

static const struct {
    const char *raw, *path; /* path NULL: the raw one itself */
} paths[] = {
    {"", NULL},
    {"/", NULL},
    {"*", NULL},
    {"/a", NULL},
    {"/a/", NULL},
    {"/a/b.c/d..e", NULL},
    {"/a;x=1", NULL},
    {"/a+b", NULL},
    {"a%41", NULL}, /* no path */
    {"/%41", "/A"},
    {"/%4a%4A", "/JJ"},
    {"/a%2Fb", "/a/b"},
    {"/a%2fb", "/a/b"},
    {"/a%2F%2Fb", "/a/b"},
    {"/%2525", "/%25"}, /* once */
    {"/a%20b", "/a b"},
    {"/%c3%a4", "/\xc3\xa4"},
    {"/%", "/%"},
    {"/a%4", "/a%4"},
    {"/%zz", "/%zz"},
    {"/%4z%41", "/%4zA"},
    {"/%%41", "/%A"},
    {"/a%3fb%23c", "/a?b#c"},
    {"//", "/"},
    {"///", "/"},
    {"//a///b//", "/a/b/"},
    {"/.", "/"},
    {"/./", "/"},
    {"/..", "/"},
    {"/../", "/"},
    {"/../..", "/"},
    {"/a/.", "/a/"},
    {"/a/./b", "/a/b"},
    {"/a/..", "/"},
    {"/a/../", "/"},
    {"/a/../b", "/b"},
    {"/a/b/..", "/a/"},
    {"/a/b/../", "/a/"},
    {"/a/b/../../c", "/c"},
    {"/a/../../../b", "/b"},
    {"/a//../b", "/b"},
    {"/...", "/..."},
    {"/.a", "/.a"},
    {"/..a/.b", "/..a/.b"},
    {"/%2e%2e/a", "/a"},
    {"/a/%2e%2E", "/"},
    {"/a/.%2e/b", "/b"},
    {"/a%2f..%2fb", "/b"},
};

static void test_decode_path(void **state)
{
    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(paths); i++) {
        size_t len = strlen(paths[i].raw);
        char *raw = malloc(len != 0 ? len : 1);
        struct st_arena arena;
        struct st_slice path;

        assert_non_null(raw);
        memcpy(raw, paths[i].raw, len);
        st_arena_init(&arena, NULL, 0);
        path = st_http_decode_path(&arena, (struct st_slice){raw, len});
        assert_slice(path, paths[i].path != NULL ? paths[i].path : paths[i].raw, paths[i].raw);
        if (paths[i].path == NULL)
            assert_ptr_equal(path.ptr, raw);
        st_arena_release(&arena);
        free(raw);
    }
}

static void test_decode_path_nul(void **state)
{
    struct st_arena arena;
    struct st_slice path;

    (void)state;
    st_arena_init(&arena, NULL, 0);
    path = st_http_decode_path(&arena, ST_SLICE("/a%00b"));
    assert_int_equal(path.len, 4);
    assert_memory_equal(path.ptr, "/a\0b", 4);
    st_arena_release(&arena);
}

static void replace_all(char *s, const char *what, const char *with)
{
    char *at;

    while ((at = strstr(s, what)) != NULL) {
        memmove(at + strlen(with), at + strlen(what), strlen(at + strlen(what)) + 1);
        memcpy(at, with, strlen(with));
    }
}

/* What fasthttp's normalizePath() does, step by step; beyond it a final "/." goes, too (RFC 3986
 * section 5.2.4). */
static void reference_normalize(char *s)
{
    char *at, *from;

    replace_all(s, "//", "/");
    if (strlen(s) >= 2 && strcmp(s + strlen(s) - 2, "/.") == 0)
        strcat(s, "/");
    replace_all(s, "/./", "/");
    if (strlen(s) >= 3 && strcmp(s + strlen(s) - 3, "/..") == 0)
        strcat(s, "/");
    while ((at = strstr(s, "/../")) != NULL) {
        from = at;
        while (from > s && *--from != '/')
            ;
        memmove(from, at + 3, strlen(at + 3) + 1);
    }
}

static void test_decode_path_against_reference(void **state)
{
    static const char *const parts[] = {"/", "/", ".", "..", "a", "bc", "%2f", "%2e", "/./"};
    struct st_rand r;
    char raw[256], want[256];

    (void)state;
    st_rand_seed(&r, 7);
    for (int round = 0; round < 50000; round++) {
        struct st_arena arena;
        struct st_slice path;

        strcpy(raw, "/");
        for (uint64_t n = st_rand_below(&r, 12); n > 0; n--)
            strcat(raw, parts[st_rand_below(&r, ST_ARRAY_LEN(parts))]);
        strcpy(want, raw);
        replace_all(want, "%2f", "/");
        replace_all(want, "%2e", ".");
        reference_normalize(want);
        st_arena_init(&arena, NULL, 0);
        path = st_http_decode_path(&arena, st_slice_of(raw));
        assert_slice(path, want, raw);
        st_arena_release(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ids_in_any_case),
        cmocka_unit_test(test_ids_near_misses),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_names_and_values),
        cmocka_unit_test(test_split_target),
        cmocka_unit_test(test_decode_path),
        cmocka_unit_test(test_decode_path_nul),
        cmocka_unit_test(test_decode_path_against_reference),
    };

    return cmocka_run_group_tests_name("http_msg", tests, NULL, NULL);
}
