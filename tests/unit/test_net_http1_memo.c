/* Recognised heads: a connection that keeps one understands every next request as a new connection
 * does, which parses it. */
#include "tests/unit/test_net_http1.h"

#include <stdlib.h>

#define REST " HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 3\r\n\r\nabc"

/* What became of an input: requests, replies, end. */
static void describe(char *to, size_t room, size_t requests_from, size_t replies_from)
{
    h1_replies(&rig, NULL);
    snprintf(to, room, "%s|%s|%d", rig.requests + requests_from, rig.replies + replies_from,
             rig.client.eof);
}

/* A new connection, on which the request with the target /kept has been seen often enough. */
static struct st_http1 *connect_warm(const char *method)
{
    struct st_http1 *h = h1_connect(&rig);
    char text[200];

    snprintf(text, sizeof text, "%s /kept" REST, method);
    for (int i = 0; i < 3; i++)
        h1_send_text(&rig, text);
    assert_non_null(h->memo);
    assert_int_equal(h->memo_misses, 0);
    return h;
}

/* The input on a new connection and on a warm one, cut there; returns whether it was recognised. */
static bool check(const char *method, const char *input, size_t cut)
{
    static char fresh[20000], warm[20000];
    struct st_http1 *h;
    size_t requests, replies;
    bool was_taken;

    h1_connect(&rig);
    requests = rig.requests_len;
    h1_send(&rig, input, cut);
    h1_send_text(&rig, input + cut);
    describe(fresh, sizeof fresh, requests, 0);
    h = connect_warm(method);
    requests = rig.requests_len;
    replies = strlen(h1_replies(&rig, NULL));
    h1_send(&rig, input, cut);
    was_taken = rig.requests_len > requests;
    h1_send_text(&rig, input + cut);
    was_taken = (was_taken || rig.requests_len > requests) && h->memo_misses == 0;
    describe(warm, sizeof warm, requests, replies);
    assert_string_equal(warm, fresh);
    return was_taken;
}

static void test_other_targets(void **state)
{
    static const char *const plain[] = {
        "/",     "/kept",    "/other", "/k",    "/a/b/c.d?e=f&g=%20h",
        "/?a;b", "/a:b@c,d", "//",     "/a?b?", "/~_-+"};
    static const char *const careful[] = {"",           "x",
                                          "*",          "?a",
                                          "http://a/b", "/a#b",
                                          "/a b",       "/a\tb",
                                          "/\"",        "/a<b>",
                                          "/\x7f",      "/\x80",
                                          "/\x01",      "/a\\b",
                                          "/[a]",       "/{a}",
                                          "/a|b",       "/a^b",
                                          "/a`b",       "/!$'()*",
                                          " /a",        "/a ",
                                          "/a\r\nb",    "/a\r",
                                          "/a\nb: c",   "/a HTTP/1.1\r\nHost: b\r\nX: "};
    char input[400];

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(plain); i++) {
        snprintf(input, sizeof input, "POST %s" REST, plain[i]);
        if (!check("POST", input, 0))
            fail_msg("%s is not recognised", plain[i]);
        for (size_t cut = 1; cut < strlen(input); cut++)
            assert_false(check("POST", input, cut));
    }
    for (size_t i = 0; i < ST_ARRAY_LEN(careful); i++) {
        snprintf(input, sizeof input, "POST %s" REST, careful[i]);
        if (check("POST", input, 0))
            fail_msg("%s is recognised", careful[i]);
    }
}

/* Anything else that differs is no head that is known. */
static void test_other_heads(void **state)
{
    static const char *const inputs[] = {
        "GET /other" REST,
        "PUT /other" REST,
        "post /other" REST,
        "POST/other" REST,
        "POST /other HTTP/1.0\r\nHost: a\r\nX: y\r\nContent-Length: 3\r\n\r\nabc",
        "POST /other HTTP/1.1\r\nHost: b\r\nX: y\r\nContent-Length: 3\r\n\r\nabc",
        "POST /other HTTP/1.1\r\nHost: a\r\nX: z\r\nContent-Length: 3\r\n\r\nabc",
        "POST /other HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /other HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 3\r\nY: z\r\n\r\nabc",
        "POST /other HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 3\r\n \r\n\r\nabc",
        "POST /other HTTP/1.1\nHost: a\r\nX: y\r\nContent-Length: 3\r\n\r\nabc",
        "\r\nPOST /other" REST,
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(inputs); i++)
        if (check("POST", inputs[i], 0))
            fail_msg("%s is recognised", inputs[i]);
}

/* A pipeline of them, with bodies of their own. */
static void test_many_targets(void **state)
{
    char input[8000] = "", want[8000] = "", *at = input, *to = want;
    size_t requests;

    (void)state;
    connect_warm("POST");
    requests = rig.requests_len;
    for (int i = 0; i < 100; i++) {
        at += sprintf(at, "POST /%d HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 3\r\n\r\n%03d",
                      i * 37, i);
        to += sprintf(to, "POST /%d 1.1 {Host=a}{X=y}{Content-Length=3} %03d\n", i * 37, i);
    }
    h1_send_text(&rig, input);
    assert_string_equal(rig.requests + requests, want);
}

/* The limit of heads holds for them, too. */
static void test_long_targets(void **state)
{
    static char input[6000];
    size_t rest = strlen("POST  HTTP/1.1\r\nHost: a\r\nX: y\r\nContent-Length: 3\r\n\r\n");

    (void)state;
    for (size_t target = 4096 - rest - 3; target <= 4096 - rest + 3; target++) {
        memcpy(input, "POST /", 6);
        memset(input + 6, 'x', target - 1);
        strcpy(input + 5 + target, REST);
        assert_true(check("POST", input, 0) == (target + rest <= 4096));
    }
}

/* Heads that always differ are not even compared any more, but for a try now and then. */
static void test_misses(void **state)
{
    struct st_http1 *h = connect_warm("POST");
    char input[200];

    (void)state;
    for (unsigned i = 1; i <= 100; i++) {
        snprintf(input, sizeof input, "GET /%u HTTP/1.1\r\nHost: a\r\nN: %u\r\n\r\n", i, i);
        h1_send_text(&rig, input);
        assert_int_equal(h->memo_misses, i);
    }
    for (unsigned i = 0; i < 40; i++)
        h1_send_text(&rig, "POST /again" REST);
    assert_int_equal(h->memo_misses, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_other_targets), TEST(test_other_heads), TEST(test_many_targets),
        TEST(test_long_targets),  TEST(test_misses),
    };

    return cmocka_run_group_tests_name("http1_memo", tests, NULL, NULL);
}
