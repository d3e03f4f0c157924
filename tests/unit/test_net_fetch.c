/* Requests of our own, to a real server on a socket. */
#include "tests/unit/test_core.h"

#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/net/fetch.h"
#include "tests/support/http_stub.h"

struct outcome {
    struct st_fetch *fetch;
    bool over;
    int code;
    unsigned status, attempts;
    char body[4096], error[256];
};

static struct st_loop loop;
static struct st_fetcher *fetcher;
static struct http_stub *stub;
static char url[128];

static int set_up(void **state)
{
    struct st_error err;

    (void)state;
    unsetenv("http_proxy");
    assert_int_equal(st_loop_open(&loop, 0, "test", &err), ST_OK);
    assert_int_equal(st_fetcher_open(&fetcher, &loop, &err), ST_OK);
    stub = http_stub_start();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    http_stub_stop(stub);
    st_fetcher_close(fetcher);
    st_loop_settle(&loop);
    st_loop_close(&loop);
    st_metrics_reset();
    return 0;
}

static const char *url_of(const char *path)
{
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", http_stub_port(stub), path);
    return url;
}

static void note(void *arg, const struct st_fetch_reply *reply)
{
    struct outcome *o = arg;
    size_t n = reply->body.len < sizeof o->body - 1 ? reply->body.len : sizeof o->body - 1;

    assert_false(o->over);
    o->over = true;
    o->code = reply->code;
    o->status = reply->status;
    o->attempts = reply->attempts;
    if (n > 0)
        memcpy(o->body, reply->body.ptr, n);
    o->body[n] = '\0';
    snprintf(o->error, sizeof o->error, "%s", reply->error);
}

static struct st_fetch_request request_for(const char *path)
{
    return (struct st_fetch_request){
        .method = "GET", .url = url_of(path), .timeout_ns = 20 * ST_SEC, .max_reply = 65536};
}

static void start(struct outcome *o, const struct st_fetch_request *r)
{
    struct st_error err = {.text = ""};

    *o = (struct outcome){.over = false};
    o->fetch = st_fetch_start(fetcher, r, note, o, &err);
    if (o->fetch == NULL)
        fail_msg("%s", err.text);
    assert_false(o->over);
}

static void finish(struct outcome *o)
{
    while (!o->over)
        st_loop_pass(&loop);
}

static struct outcome *run(const struct st_fetch_request *r)
{
    static struct outcome o;

    start(&o, r);
    finish(&o);
    return &o;
}

/* ---- answers ---- */

static void test_status_and_body(void **state)
{
    struct st_fetch_request r = request_for("/status/204");
    struct outcome *o = run(&r);

    (void)state;
    assert_int_equal(o->code, ST_OK);
    assert_int_equal(o->status, 204);
    r = request_for("/status/404");
    o = run(&r);
    assert_int_equal(o->code, ST_OK);
    assert_int_equal(o->status, 404);
    assert_string_equal(o->body, "status");
    assert_string_equal(o->error, "");
    assert_int_equal(o->attempts, 1);
}

#define HEADER(n, v)                                                                     \
    {                                                                                    \
        .name = (n), .name_len = sizeof(n) - 1, .value = (v), .value_len = sizeof(v) - 1 \
    }

static void test_request_is_what_was_asked(void **state)
{
    const struct st_header headers[] = {HEADER("Content-Type", "text/x"), HEADER("X-Empty", "")};
    struct st_fetch_request r = request_for("/echo?a=b");
    struct outcome *o;
    char host[64];

    (void)state;
    r.method = "PUT";
    r.headers = headers;
    r.header_count = 2;
    r.body = ST_SLICE("a\nbody");
    o = run(&r);
    assert_memory_equal(o->body, "PUT /echo?a=b HTTP/1.1\r\n", 24);
    snprintf(host, sizeof host, "\r\nHost: 127.0.0.1:%u\r\n", http_stub_port(stub));
    assert_non_null(strstr(o->body, host));
    assert_non_null(strstr(o->body, "\r\nContent-Type: text/x\r\n"));
    assert_non_null(strstr(o->body, "\r\nX-Empty:\r\n"));
    assert_non_null(strstr(o->body, "\r\nContent-Length: 6\r\n"));
    assert_null(strstr(o->body, "Expect"));
    assert_non_null(strstr(o->body, "\r\n\r\na\nbody"));
}

static void test_methods(void **state)
{
    static const char *const methods[] = {"GET", "POST", "DELETE", "PATCH", "OPTIONS"};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(methods); i++) {
        struct st_fetch_request r = request_for("/echo");
        struct outcome *o;

        r.method = methods[i];
        o = run(&r);
        assert_memory_equal(o->body, methods[i], strlen(methods[i]));
        assert_null(strstr(o->body, "Content-Type"));
        assert_int_equal(strstr(o->body, "Content-Length: 0\r\n") != NULL, i > 0);
    }
}

static void test_head_has_no_body(void **state)
{
    struct st_fetch_request r = request_for("/big/1000");
    struct outcome *o;

    (void)state;
    r.method = "HEAD";
    o = run(&r);
    assert_int_equal(o->status, 200);
    assert_string_equal(o->body, "");
}

static void test_many_at_once(void **state)
{
    enum { MANY = 30 };
    static struct outcome all[MANY];
    struct st_fetch_request r = request_for("/status/200");

    (void)state;
    for (int i = 0; i < MANY; i++)
        start(&all[i], &r);
    for (int i = 0; i < MANY; i++) {
        finish(&all[i]);
        assert_int_equal(all[i].status, 200);
    }
    assert_int_equal(http_stub_requests(stub), MANY);
}

/* ---- limits ---- */

static void test_large_replies(void **state)
{
    struct st_fetch_request r = request_for("/big/65536");
    struct outcome *o = run(&r);

    (void)state;
    assert_int_equal(o->code, ST_OK);
    assert_int_equal(strlen(o->body), sizeof o->body - 1);
    r = request_for("/big/65537");
    o = run(&r);
    assert_int_equal(o->code, ST_ERR_LIMIT);
    assert_int_equal(o->status, 0);
    assert_string_equal(o->body, "");
    assert_string_equal(o->error, "the reply is too large");
    r = request_for("/head/70000");
    assert_int_equal(run(&r)->code, ST_ERR_LIMIT);
}

static void test_timeout(void **state)
{
    struct st_fetch_request r = request_for("/hang");
    uint64_t began = st_clock_mono();
    struct outcome *o;

    (void)state;
    r.timeout_ns = 100 * ST_MSEC;
    o = run(&r);
    assert_int_equal(o->code, ST_ERR_TIMEOUT);
    assert_non_null(strstr(o->error, "timed out"));
    assert_true(st_clock_mono() - began >= 99 * ST_MSEC);
}

static void test_broken_connections(void **state)
{
    static const char *const paths[] = {"/close", "/half"};
    struct st_fetch_request r;
    struct outcome *o;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(paths); i++) {
        r = request_for(paths[i]);
        o = run(&r);
        assert_int_equal(o->code, ST_ERR_CLOSED);
        assert_int_equal(o->status, 0);
        assert_true(strlen(o->error) > 0);
    }
    r = request_for("/");
    r.url = "http://user:secret@127.0.0.1:1/"; /* nobody listens on it */
    o = run(&r);
    assert_int_equal(o->code, ST_ERR_CLOSED);
    assert_null(strstr(o->error, "secret"));
}

/* ---- again ---- */

static void test_tries_again(void **state)
{
    struct st_fetch_request r = request_for("/flaky/3");
    struct outcome *o;

    (void)state;
    r.attempts = 5;
    r.backoff_ns = ST_MSEC;
    r.backoff_cap_ns = 4 * ST_MSEC;
    o = run(&r);
    assert_int_equal(o->status, 200);
    assert_int_equal(o->attempts, 4);
    assert_int_equal(http_stub_requests(stub), 4);
}

static void test_gives_up(void **state)
{
    static const struct {
        const char *path;
        unsigned attempts;
    } cases[] = {{"/status/503", 3}, {"/status/429", 3}, {"/status/408", 3}, {"/close", 3},
                 {"/status/501", 1}, {"/status/404", 1}, {"/big/70000", 1}};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_fetch_request r = request_for(cases[i].path);
        unsigned before = http_stub_requests(stub);

        r.attempts = 3;
        r.backoff_ns = r.backoff_cap_ns = ST_MSEC;
        assert_int_equal(run(&r)->attempts, cases[i].attempts);
        assert_int_equal(http_stub_requests(stub) - before, cases[i].attempts);
    }
}

/* ---- ends ---- */

static void test_cancel(void **state)
{
    struct st_fetch_request r = request_for("/hang"), again = request_for("/status/503");
    struct outcome hanging, waiting, fine;

    (void)state;
    again.attempts = 2;
    again.backoff_ns = again.backoff_cap_ns = 3600 * ST_SEC;
    start(&waiting, &again);
    while (http_stub_requests(stub) == 0)
        st_loop_pass(&loop);
    start(&hanging, &r);
    st_loop_pass(&loop);
    st_fetch_cancel(hanging.fetch);
    st_fetch_cancel(waiting.fetch);
    r = request_for("/status/200");
    start(&fine, &r);
    finish(&fine);
    assert_false(hanging.over);
    assert_false(waiting.over);
    start(&hanging, &r); /* tear_down closes with this one under way */
}

static void start_next(void *arg, const struct st_fetch_reply *reply)
{
    struct outcome *o = arg;
    struct st_fetch_request r = request_for("/status/201");

    assert_int_equal(reply->status, 200);
    start(o, &r);
}

static void test_callback_starts_another(void **state)
{
    struct st_fetch_request r = request_for("/status/200");
    static struct outcome next;
    struct st_error err;

    (void)state;
    assert_non_null(st_fetch_start(fetcher, &r, start_next, &next, &err));
    finish(&next);
    assert_int_equal(next.status, 201);
}

/* ---- requests that can't be sent ---- */

static void test_urls(void **state)
{
    static const char *const good[] = {"http://a",       "HTTPS://a:443/x?y#z", "http://[::1]:1/",
                                       "http://[::1]",   "http://u:p@a:1",      "http://u:p@b@a/",
                                       "http://a/x@y:z", "http://a?b:c"};
    static const char *const bad[] = {"",
                                      "a",
                                      ":9091",
                                      "ftp://a",
                                      "http://",
                                      "http:///x",
                                      "http://a:",
                                      "http://a:0",
                                      "http://a:x",
                                      "http://a b",
                                      "http://[::1",
                                      "http://:1",
                                      "http://[]:1",
                                      "http://a:65536",
                                      "http://[::1]x",
                                      "http://a\r\nX: y",
                                      "http://u@"};
    struct st_error err;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(good); i++)
        if (st_fetch_check_url(good[i], &err) != ST_OK)
            fail_msg("%s is good", good[i]);
    for (size_t i = 0; i < ST_ARRAY_LEN(bad); i++)
        if (st_fetch_check_url(bad[i], &err) != ST_ERR_INVALID)
            fail_msg("%s is bad", bad[i]);
}

static void test_redaction(void **state)
{
    char out[64];

    (void)state;
    st_fetch_redact_url("https://user:se@cret@host:1/x@y", out, sizeof out);
    assert_string_equal(out, "https://host:1/x@y");
    st_fetch_redact_url("http://host/", out, sizeof out);
    assert_string_equal(out, "http://host/");
    st_fetch_redact_url("other", out, sizeof out);
    assert_string_equal(out, "other");
}

static void assert_refused(const struct st_fetch_request *r, const char *text)
{
    struct st_error err = {.text = ""};

    assert_null(st_fetch_start(fetcher, r, note, NULL, &err));
    assert_int_equal(err.code, ST_ERR_INVALID);
    assert_non_null(strstr(err.text, text));
}

static void test_bad_requests(void **state)
{
    const struct st_header name = HEADER("a b", ""), value = HEADER("a", "b\r\nc: d");
    struct st_fetch_request r = request_for("/");

    (void)state;
    r.method = "GET /";
    assert_refused(&r, "\"GET /\" is no method");
    r.method = "GET";
    r.headers = &name;
    r.header_count = 1;
    assert_refused(&r, "\"a b\" is no header");
    r.headers = &value;
    assert_refused(&r, "\"a\" is no header");
    r.header_count = 0;
    r.url = "file:///etc/passwd";
    assert_refused(&r, "expected a URL");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_status_and_body),
        TEST(test_request_is_what_was_asked),
        TEST(test_methods),
        TEST(test_head_has_no_body),
        TEST(test_many_at_once),
        TEST(test_large_replies),
        TEST(test_timeout),
        TEST(test_broken_connections),
        TEST(test_tries_again),
        TEST(test_gives_up),
        TEST(test_cancel),
        TEST(test_callback_starts_another),
        TEST(test_urls),
        TEST(test_redaction),
        TEST(test_bad_requests),
    };
#undef TEST

    return cmocka_run_group_tests_name("net fetch", tests, NULL, NULL);
}
