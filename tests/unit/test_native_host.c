/* The functions that handlers call, one by one: what they take, refuse and copy. */
#include "tests/unit/native.h"

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/loop.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/trigger.h"
#include "runtimes/native/native_int.h"

static const struct stator_host_v1 *const host = &st_native_host;
static struct st_processor processor;
static struct st_loop loop;
static struct st_trigger_loop trigger_loop = {.loop = &loop};
static struct st_event event;
static char space[512], body[] = "the body of the event";
static unsigned released;
static enum st_outcome outcome;
static char answer[256], header_text[256];

static void keep(struct st_event *ev, const struct st_result *r)
{
    size_t at = 0;

    (void)ev;
    outcome = r->outcome;
    snprintf(answer, sizeof answer, "%u %.*s: %.*s", r->status, (int)r->content_type.len,
             r->content_type.len != 0 ? r->content_type.ptr : "", (int)r->body.len,
             r->body.len != 0 ? r->body.ptr : "");
    header_text[0] = '\0';
    for (size_t i = 0; i < r->header_count; i++) {
        const struct st_header *h = &r->headers[i];

        at += (size_t)snprintf(header_text + at, sizeof header_text - at, "%.*s=%.*s;",
                               (int)h->name_len, h->name, (int)h->value_len, h->value);
    }
}

static void count_release(struct st_event *ev)
{
    (void)ev;
    released++;
}

static const struct st_trigger_kind kind = {
    .name = "test", .complete = keep, .release = count_release};

static struct st_pool pool; /* for its metrics */
static struct st_trigger trigger = {
    .kind = &kind, .name = "test", .processor = &processor, .pool = &pool, .loops = &trigger_loop};

/* An event as a handler of a worker thread sees it. */
static stator_event *begin(void)
{
    st_event_init(&event, &trigger, &loop, space, sizeof space);
    event.counted = true; /* it has left its trigger's buffers */
    event.body = (struct st_slice){body, sizeof body - 1};
    st_event_ref(&event);
    released = 0;
    return st_native_event(&event);
}

static void end(int rc)
{
    assert_true(st_native_settle(&event, rc));
    st_event_complete(&event);
    assert_int_equal(released, 1);
}

static void ends(int rc, const char *expected)
{
    end(rc);
    assert_string_equal(answer, expected);
}

static struct stator_str str(const char *text)
{
    return (struct stator_str){text, strlen(text)};
}

static struct stator_reply reply_of(const char *text)
{
    return (struct stator_reply){
        .size = sizeof(struct stator_reply), .body = text, .body_len = strlen(text)};
}

static void test_status(void **state)
{
    static const int bad[] = {-1, 1, 100, 199, 600, 65536 + 200, INT32_MIN, INT32_MAX};
    struct stator_reply r = reply_of("x");
    stator_event *ev = begin();

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        r.status = bad[i];
        assert_int_equal(host->reply(ev, &r), STATOR_INVALID);
        assert_int_equal(host->reply_text(ev, bad[i], "x"), STATOR_INVALID);
        assert_int_equal(host->resolve(1, STATOR_OK, &r), STATOR_INVALID);
    }
    ends(STATOR_OK, "0 : "); /* refused replies leave nothing behind */
    ev = begin();
    r.status = 599;
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    ends(STATOR_OK, "599 : x");
    ev = begin();
    assert_int_equal(host->reply_text(ev, 200, NULL), STATOR_DONE);
    ends(STATOR_OK, "200 : ");
}

static void test_arguments(void **state)
{
    struct stator_reply r = reply_of("x");
    stator_event *ev = begin();

    (void)state;
    assert_int_equal(host->reply(ev, NULL), STATOR_INVALID);
    r.size = 0;
    assert_int_equal(host->reply(ev, &r), STATOR_INVALID);
    r.size = sizeof r - 1;
    assert_int_equal(host->reply(ev, &r), STATOR_INVALID);
    r.size = sizeof r + 64; /* a newer header's */
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    r.body = NULL;
    assert_int_equal(host->reply(ev, &r), STATOR_INVALID);
    r.body_len = 0;
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    r.header_count = 1;
    assert_int_equal(host->reply(ev, &r), STATOR_INVALID);
    r.header_count = SIZE_MAX;
    r.headers = (struct stator_header[]){{{"a", 1}, {"b", 1}}};
    assert_int_equal(host->reply(ev, &r), STATOR_INVALID);
    assert_int_equal(host->write(ev, "x", 1), STATOR_INVALID);
    assert_int_equal(host->stream_open(ev, NULL), STATOR_INVALID);
    assert_int_equal(host->on_writable(ev, NULL, NULL), STATOR_INVALID);
    assert_int_equal(host->resolve(1, STATOR_DEFER, NULL), STATOR_INVALID);
    end(STATOR_OK);
}

static void test_headers(void **state)
{
    struct stator_header bad[] = {
        {{"", 0}, {"v", 1}},      {{NULL, 1}, {"v", 1}},  {{"a b", 3}, {"v", 1}},
        {{"a:", 2}, {"v", 1}},    {{"a", 1}, {NULL, 1}},  {{"a", 1}, {"v\n", 2}},
        {{"a", 1}, {"v\0w", 3}},  {{"a\r", 2}, {"v", 1}}, {{"a", 1}, {"v\r\nb: c", 7}},
        {{"a", 70000}, {"v", 1}},
    };
    struct stator_header good[] = {
        {{"X-A", 3}, {"", 0}},
        {{"Server", 6}, {"mine", 4}},
        {{"TE", 2}, {"gzip", 4}},
        {{"x-a", 3}, {"2", 1}},
        {{"content-type", 12}, {"a/b", 3}},
        {{"Upgrade", 7}, {"h2c", 3}},
        {{"Trailer", 7}, {"a", 1}},
        {{"Keep-Alive", 10}, {"1", 1}},
    };
    struct stator_reply r = reply_of("x");
    stator_event *ev = begin();

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        r.headers = &bad[i];
        r.header_count = 1;
        assert_int_equal(host->reply(ev, &r), STATOR_INVALID);
    }
    r.headers = good;
    r.header_count = sizeof good / sizeof good[0];
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    memset(good, 0, sizeof good); /* copied */
    ends(STATOR_OK, "0 a/b: x");
    assert_string_equal(header_text, "X-A=;x-a=2;");
}

static void test_content_types(void **state)
{
    static const char *const types[] = {"text/html",
                                        "text/plain",
                                        "application/json",
                                        "text/html; charset=utf-8",
                                        "application/octet-stream",
                                        "text/plain; charset=utf-8",
                                        "application/json; charset=utf-8",
                                        "text/htmX",
                                        "image/pngX",
                                        "application/jsoX"};
    char text[64], expected[80];

    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct stator_reply r = reply_of("");
        stator_event *ev = begin();

        snprintf(text, sizeof text, "%s", types[i]);
        r.content_type = str(text);
        assert_int_equal(host->reply(ev, &r), STATOR_DONE);
        memset(text, 'z', sizeof text);
        snprintf(expected, sizeof expected, "0 %s: ", types[i]);
        ends(STATOR_OK, expected);
    }
}

static void test_bodies(void **state)
{
    static const char constant[] = "constant";
    struct stator_reply r = {.size = sizeof r};
    stator_event *ev = begin();
    char *big = host->alloc(ev, 100000), *small = host->alloc(ev, 16), local[] = "local";

    (void)state;
    assert_non_null(big);
    assert_non_null(small);
    assert_non_null(host->alloc(ev, 0));
    assert_null(host->alloc(ev, SIZE_MAX));
    assert_int_equal((uintptr_t)small % 16, 0);
    r.body = body + 4;
    r.body_len = 4;
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    assert_ptr_equal(event.result.body.ptr, body + 4);
    r.body = big + 5;
    r.body_len = 1000;
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    assert_ptr_equal(event.result.body.ptr, big + 5);
    r.flags = STATOR_BODY_STATIC;
    r.body = constant;
    r.body_len = sizeof constant - 1;
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    assert_ptr_equal(event.result.body.ptr, constant);
    r.flags = 0;
    r.body = local;
    r.body_len = 5;
    assert_int_equal(host->reply(ev, &r), STATOR_DONE);
    memset(local, 'z', 5);
    ends(STATOR_OK, "0 : local");
}

static void test_no_memory(void **state)
{
    struct stator_header header = {{"a", 1}, {"b", 1}};
    char *text = malloc(5000);
    stator_event *ev = begin();
    struct stator_reply r = {.size = sizeof r, .body = text, .body_len = 5000};

    (void)state;
    memset(text, 't', 5000);
    text[4999] = '\0';
    host->reply_text(ev, 200, "before");
    st_alloc_fail_in = 1;
    assert_int_equal(host->reply(ev, &r), STATOR_NOMEM);
    st_alloc_fail_in = 1;
    assert_int_equal(host->reply_text(ev, 200, text), STATOR_NOMEM);
    st_alloc_fail_in = 1;
    assert_null(host->alloc(ev, 5000));
    ends(STATOR_OK, "200 : before");
    ev = begin();
    host->alloc(ev, 500); /* the first block is full */
    r.body_len = 0;
    r.headers = &header;
    r.header_count = 1;
    st_alloc_fail_in = 1;
    assert_int_equal(host->reply(ev, &r), STATOR_NOMEM);
    r.header_count = 0;
    r.content_type = str("image/of-a-kind");
    st_alloc_fail_in = 1;
    assert_int_equal(host->reply(ev, &r), STATOR_NOMEM);
    /* Without memory for the text the status is what is left. */
    st_alloc_fail_in = 1;
    (host->fail)(ev, 507, text);
    assert_int_equal(event.result.status, 507);
    st_alloc_fail_in = 1;
    host->reject(ev, text);
    ends(STATOR_REJECT, "0 : ");
    st_alloc_fail_in = 0;
    free(text);
}

/* Every allocation of a resolve() fails once; the token survives that. */
static void test_resolve(void **state)
{
    struct stator_header headers[] = {{{"X-A", 3}, {"1", 1}}, {{"Date", 4}, {"now", 3}}};
    char text[] = "late", type[] = "image/of-a-kind";
    struct stator_reply r = reply_of(text);
    stator_event *ev = begin();
    stator_token token = host->defer(ev);

    (void)state;
    assert_true(token != 0);
    assert_true(host->defer(ev) == token);
    assert_false(st_native_settle(&event, STATOR_DEFER));
    st_event_unref(&event);
    r.status = 201;
    r.content_type = str(type);
    r.headers = headers;
    r.header_count = 2;
    for (unsigned n = 1; n <= 2; n++) {
        st_alloc_fail_in = n;
        assert_int_equal(host->resolve(token, STATOR_OK, &r), STATOR_NOMEM);
    }
    st_alloc_fail_in = 0;
    assert_int_equal(host->resolve(token, STATOR_OK, &r), STATOR_DONE);
    memset(text, 'z', sizeof text);
    memset(type, 'z', sizeof type);
    memset(headers, 0, sizeof headers);
    assert_int_equal(host->resolve(token, STATOR_OK, NULL), STATOR_GONE);
    st_loop_pass(&loop);
    assert_int_equal(released, 1);
    assert_string_equal(answer, "201 image/of-a-kind: late");
    assert_string_equal(header_text, "X-A=1;");

    /* No memory where the answer meets the event. */
    ev = begin();
    token = host->defer(ev);
    host->alloc(ev, 500);
    assert_false(st_native_settle(&event, STATOR_DEFER));
    st_event_unref(&event);
    r = reply_of("x");
    r.content_type = str("image/of-a-kind");
    st_alloc_fail_in = 3;
    assert_int_equal(host->resolve(token, STATOR_OK, &r), STATOR_DONE);
    st_alloc_fail_in = 0;
    st_loop_pass(&loop);
    assert_string_equal(answer, "0 : out of memory for the reply");
    assert_int_equal(outcome, ST_OUTCOME_ERROR);
}

static void resolves(int rc, int said, const struct stator_reply *r, const char *expected)
{
    stator_event *ev = begin();
    stator_token token = host->defer(ev);

    if (said == 1)
        host->reply_text(ev, 202, "said");
    else if (said == 2)
        (host->fail)(ev, 404, "missing");
    assert_false(st_native_settle(&event, STATOR_DEFER));
    st_event_unref(&event);
    assert_int_equal(host->resolve(token, rc, r), STATOR_DONE);
    st_loop_pass(&loop);
    assert_int_equal(released, 1);
    assert_string_equal(answer, expected);
    assert_int_equal(outcome, rc == STATOR_OK       ? ST_OUTCOME_OK
                              : rc == STATOR_RETRY  ? ST_OUTCOME_RETRY
                              : rc == STATOR_REJECT ? ST_OUTCOME_REJECT
                                                    : ST_OUTCOME_ERROR);
}

static void test_resolve_results(void **state)
{
    static const char constant[] = "static";
    struct stator_reply r = reply_of("reply");

    (void)state;
    resolves(STATOR_OK, 0, NULL, "0 : ");
    resolves(STATOR_OK, 1, NULL, "202 : said");
    resolves(STATOR_OK, 2, NULL, "0 : ");
    resolves(STATOR_OK, 1, &r, "0 : reply");
    resolves(STATOR_ERROR, 1, NULL, "0 : ");
    resolves(STATOR_ERROR, 2, NULL, "404 : missing");
    resolves(STATOR_ERROR, 2, &r, "0 : reply");
    r.status = 503;
    resolves(STATOR_RETRY, 0, &r, "503 : reply");
    r.status = 200;
    resolves(STATOR_REJECT, 0, &r, "0 : reply");
    resolves(12345, 0, &r, "0 : reply");
    r = reply_of(constant);
    r.flags = STATOR_BODY_STATIC;
    resolves(STATOR_OK, 0, &r, "0 : static");
}

static void test_no_processor(void **state)
{
    (void)state;
    st_native_set_deferred(NULL);
    assert_int_equal(host->resolve(1, STATOR_OK, NULL), STATOR_GONE);
    st_native_set_deferred(processor.deferred);
    assert_int_equal(host->resolve(0, STATOR_OK, NULL), STATOR_GONE);
    assert_int_equal(host->resolve(UINT64_MAX, STATOR_OK, NULL), STATOR_GONE);
}

static void is(struct stator_str s, const char *text)
{
    assert_int_equal(s.len, strlen(text));
    assert_memory_equal(s.ptr != NULL ? s.ptr : "", text, s.len);
}

static void test_accessors(void **state)
{
    struct st_peer v4 = {"192.0.2.7", 50122}, v6 = {"2001:db8::7", 1}, local = {"", 0};
    struct st_native_worker worker = {.timeout_ns = 10 * ST_SEC};
    stator_event *ev = begin();
    struct stator_header none = host->header_at(ev, 0);

    (void)state;
    is(none.name, "");
    is(host->header(ev, "x"), "");
    is(host->header(ev, NULL), "");
    is(host->peer(ev), "");
    event.peer = &local;
    is(host->peer(ev), "");
    event.peer = &v4;
    is(host->peer(ev), "192.0.2.7:50122");
    event.peer = &v6;
    is(host->peer(ev), "[2001:db8::7]:1");
    event.position.topic = ST_SLICE("orders");
    event.position.hi = 42;
    event.key = ST_SLICE("k");
    is(host->topic(ev), "orders");
    is(host->key(ev), "k");
    assert_true(host->offset(ev) == 42);
    assert_int_equal(host->time_left_ms(ev), -1);
    event.deadline_ns = st_clock_mono() + 5 * ST_SEC;
    assert_in_range(host->time_left_ms(ev), 4000, 5000);
    st_native_context.worker = &worker;
    assert_in_range(host->time_left_ms(ev), 4000, 5000);
    event.deadline_ns = 0;
    assert_in_range(host->time_left_ms(ev), 8000, 10000);
    event.started_ns = st_clock_mono() - 20 * ST_SEC;
    assert_int_equal(host->time_left_ms(ev), 0);
    st_native_context.worker = NULL;
    host->log(ev, -5, "below the lowest level");
    host->log(ev, 99, NULL);
    host->log(NULL, STATOR_LOG_WARN, "no event");
    end(STATOR_OK);
}

static int setup(void **state)
{
    struct st_error err;

    (void)state;
    processor.deferred = st_deferred_new();
    st_native_set_deferred(processor.deferred);
    trigger_loop.trigger = &trigger;
    return st_loop_open(&loop, 0, "test", &err);
}

static int teardown(void **state)
{
    (void)state;
    assert_int_equal(st_deferred_count(processor.deferred), 0);
    st_native_set_deferred(NULL);
    st_deferred_free(processor.deferred);
    st_loop_close(&loop);
    st_metrics_reset();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_status),       cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_headers),      cmocka_unit_test(test_content_types),
        cmocka_unit_test(test_bodies),       cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_resolve),      cmocka_unit_test(test_resolve_results),
        cmocka_unit_test(test_no_processor), cmocka_unit_test(test_accessors),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
