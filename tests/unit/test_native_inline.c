/* Inline handlers: results, accessors, replies, deferral, streams. */
#include "tests/support/rig.h"
#include "tests/unit/native.h"

static struct rig rig;

static void start(const struct rig_options *options)
{
    if (!rig_start(&rig, options))
        fail_msg("%s", rig.failure);
}

static struct rig_event *run_event(struct rig_event *e)
{
    rig_run(e);
    assert_int_equal(e->completed, 1);
    assert_int_equal(e->released, 1);
    return e;
}

static struct rig_event *run(const char *body)
{
    return run_event(rig_event_new(&rig, body));
}

static void ends(const char *body, enum st_outcome outcome, unsigned status, const char *answer)
{
    struct rig_event *e = run(body);

    if (e->outcome != outcome || e->status != status || strcmp(e->answer, answer) != 0)
        fail_msg("%s: outcome %d, status %u, \"%s\"", body, (int)e->outcome, e->status, e->answer);
    assert_int_equal(e->content_type_text[0], 0);
    rig_event_free(e);
}

static void test_hello(void **state)
{
    (void)state;
    start(&(struct rig_options){.handler = "hello.so", .loops = 2});
    for (unsigned i = 0; i < 4; i++) {
        struct rig_event *e = rig_event_new(&rig, "");

        e->loop = i % 2;
        run_event(e);
        assert_int_equal(e->outcome, ST_OUTCOME_OK);
        assert_int_equal(e->status, 200);
        assert_string_equal(e->answer, "Hello, world!");
        rig_event_free(e);
    }
    rig_stop(&rig);
}

static void test_outcomes(void **state)
{
    struct rig_event *e;

    (void)state;
    start(&(struct rig_options){.handler = "outcome.so"});
    ends("empty", ST_OUTCOME_OK, 0, "");
    ends("ok-after-fail", ST_OUTCOME_OK, 0, "");
    ends("last-reply", ST_OUTCOME_OK, 202, "this one");
    ends("error", ST_OUTCOME_ERROR, 0, "");
    ends("error-418", ST_OUTCOME_ERROR, 418, "I am a teapot");
    ends("error-bad-status", ST_OUTCOME_ERROR, 0, "no such status");
    ends("error-after-reply", ST_OUTCOME_ERROR, 0, "");
    ends("unknown", ST_OUTCOME_ERROR, 0, "");
    ends("reject", ST_OUTCOME_REJECT, 0, "poison");
    ends("token-without-defer", ST_OUTCOME_OK, 200, "at once");
    ends("defer-without-token", ST_OUTCOME_ERROR, 0,
         "handler returned STATOR_DEFER without a token of defer()");
    e = run("retry");
    assert_int_equal(e->outcome, ST_OUTCOME_RETRY);
    assert_int_equal(e->retry_after_ms, 2500);
    assert_int_equal(e->status, 0);
    rig_event_free(e);
    e = run("retry-text");
    assert_int_equal(e->outcome, ST_OUTCOME_RETRY);
    assert_int_equal(e->retry_after_ms, 1000);
    assert_int_equal(e->status, 429);
    assert_string_equal(e->answer, "slow down");
    rig_event_free(e);
    rig_stop(&rig);
}

static void test_echo(void **state)
{
    struct rig_event *e;
    char *big = malloc(100001);

    (void)state;
    memset(big, 'b', 100000);
    big[100000] = '\0';
    start(&(struct rig_options){.handler = "echo.so"});
    e = rig_event_new(&rig, big);
    e->content_type = "application/json";
    run_event(e);
    assert_string_equal(e->content_type_text, "application/json");
    assert_string_equal(e->answer, big);
    assert_true(e->in_place); /* not copied */
    rig_event_free(e);
    e = rig_event_new(&rig, "small");
    e->content_type = "image/x-unheard-of";
    run_event(e);
    assert_string_equal(e->content_type_text, "image/x-unheard-of");
    assert_string_equal(e->answer, "small");
    rig_event_free(e);
    e = rig_event_new(&rig, "split");
    e->content_type = "text/plain\r\nX-Evil: 1";
    run_event(e);
    assert_int_equal(e->outcome, ST_OUTCOME_ERROR);
    assert_int_equal(e->content_type_text[0], 0);
    rig_event_free(e);
    free(big);
    rig_stop(&rig);
}

/* Framing and connection headers, Date and Server are the server's; Content-Type has its place. */
static void test_headers(void **state)
{
    static const char *const good[] = {"X-One",          "1",        "x-one",      "2",
                                       "Content-Length", "99",       "Connection", "close",
                                       "CONTENT-TYPE",   "text/css", "Set-Cookie", "a=b",
                                       "Date",           "today",    NULL};
    static const char *const bad[] = {"X-Split", "a\r\nX-Evil: 1", NULL};
    struct rig_event *e;

    (void)state;
    start(&(struct rig_options){.handler = "headers.so"});
    e = rig_event_new(&rig, "");
    e->headers = good;
    run_event(e);
    assert_int_equal(e->outcome, ST_OUTCOME_OK);
    assert_string_equal(e->header_text, "X-One: 1\nx-one: 2\nSet-Cookie: a=b\n");
    assert_string_equal(e->content_type_text, "text/css");
    assert_non_null(strstr(e->answer, "Content-Length: 99\nConnection: close\n"));
    rig_event_free(e);
    e = rig_event_new(&rig, "");
    e->headers = bad;
    run_event(e);
    assert_int_equal(e->outcome, ST_OUTCOME_ERROR);
    assert_string_equal(e->header_text, "");
    rig_event_free(e);
    rig_stop(&rig);
}

static void has_line(const struct rig_event *e, const char *line)
{
    if (strstr(e->answer, line) == NULL)
        fail_msg("\"%s\" is not in:\n%s", line, e->answer);
}

static void test_describe(void **state)
{
    static const char *const headers[] = {"X-Test", "first", "x-TEST", "last", NULL};
    struct rig_event *e;

    (void)state;
    start(&(struct rig_options){.handler = "describe.so", .event_timeout_ns = 5 * ST_SEC});
    e = rig_event_new(&rig, "the body");
    e->headers = headers;
    e->path = "/a b";
    e->query = "x=1";
    e->content_type = "text/plain";
    run_event(e);
    assert_int_equal(e->outcome, ST_OUTCOME_OK);
    has_line(e, "trigger_kind=rig\ntrigger_name=rig-trigger\nmethod=POST\n");
    has_line(e,
             "path=/a b\nquery=x=1\ncontent_type=text/plain\nbody=the body\nkey=\ntopic=\npeer=\n");
    has_line(e, "headers=2\nx-test=last\nshard=-1\noffset=0\nattempt=1\ntimestamp_ns=1");
    has_line(e, "time_left_ms=4");
    has_line(e, "is_tombstone=0\n");
    assert_memory_equal(e->answer, "id=0", 4);
    assert_int_equal(e->answer[3 + 36], '\n');
    rig_event_free(e);
    rig_stop(&rig);
}

static void test_old_headers(void **state)
{
    struct rig_event *e;

    (void)state;
    start(&(struct rig_options){.handler = "abi_v1_0.so"});
    e = run("x");
    assert_string_equal(e->answer, "POST");
    assert_string_equal(e->header_text, "X-Abi: 1.0\n");
    rig_event_free(e);
    rig_stop(&rig);
    start(&(struct rig_options){.handler = "old_size.so"});
    ends("x", ST_OUTCOME_OK, 200, "small");
    rig_stop(&rig);
    start(&(struct rig_options){.handler = "newer_minor.so"});
    ends("x", ST_OUTCOME_OK, 200, "from the future");
    rig_stop(&rig);
}

static void test_init_fails(void **state)
{
    (void)state;
    assert_false(rig_start(&rig, &(struct rig_options){.handler = "init_fails_inline.so"}));
    assert_non_null(strstr(rig.failure, "init() of handler"));
    assert_non_null(strstr(rig.failure, "returned 42"));
    rig_stop(&rig);
    assert_false(rig_start(&rig, &(struct rig_options){.handler = "no_such_handler"}));
    assert_non_null(strstr(rig.failure, "no_such_handler"));
}

/* One worker and three loops: events of the others travel to the one that runs the handler. */
static void test_one_worker_many_loops(void **state)
{
    struct rig_event *events[30];
    unsigned seen = 0;

    (void)state;
    start(&(struct rig_options){.handler = "count_inline.so", .loops = 3, .workers = 1});
    for (unsigned i = 0; i < 30; i++) {
        events[i] = rig_event_new(&rig, "");
        events[i]->loop = i % 3;
        rig_send(events[i]);
    }
    for (unsigned i = 0; i < 30; i++) {
        unsigned n;

        assert_true(rig_wait_released(events[i]));
        assert_int_equal(events[i]->outcome, ST_OUTCOME_OK);
        assert_int_equal(sscanf(events[i]->answer, "0/1 %u", &n), 1);
        seen |= 1u << n;
        rig_event_free(events[i]);
    }
    assert_int_equal(seen, 0x7ffffffe); /* each number from 1 to 30 once */
    rig_stop(&rig);
}

static void stream_bytes(const struct rig_event *e, size_t len)
{
    assert_int_equal(e->answer_len, len);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)e->answer[i] != i % 251)
            fail_msg("byte %zu differs", i);
}

static void stream(unsigned loop, const char *kib, size_t len)
{
    struct rig_event *e = rig_event_new(&rig, "");

    e->loop = loop;
    e->query = kib;
    run_event(e);
    assert_int_equal(e->outcome, ST_OUTCOME_OK);
    assert_false(e->streamed); /* collected */
    stream_bytes(e, len);
    rig_event_free(e);
}

static void test_stream(void **state)
{
    struct rig_event *e;

    (void)state;
    /* A collected stream, on its own loop and from another one. */
    start(&(struct rig_options){.handler = "stream_inline.so", .loops = 2, .workers = 1});
    stream(0, "2000", 2000 * 1024);
    stream(1, "2000", 2000 * 1024);
    stream(0, "0", 0);
    rig_stop(&rig);
    for (unsigned loop = 0; loop < 2; loop++) {
        start(&(struct rig_options){.handler = "stream_inline.so",
                                    .loops = 2,
                                    .workers = 1,
                                    .can_stream = true,
                                    .slow_stream = true});
        e = rig_event_new(&rig, "");
        e->loop = loop;
        e->query = "3000";
        rig_send(e);
        rig_sleep_ms(30);
        assert_int_equal(rig_now(e, &e->completed), 0);
        rig_stream_go(e);
        assert_true(rig_wait_released(e));
        assert_int_equal(e->heads, 1);
        assert_true(e->streamed);
        stream_bytes(e, 3000 * 1024);
        rig_event_free(e);
        rig_stop(&rig);
    }
}

/* The client leaves while the handler waits for it. */
static void test_stream_cancel(void **state)
{
    (void)state;
    for (unsigned loop = 0; loop < 2; loop++) {
        struct rig_event *e;

        start(&(struct rig_options){.handler = "stream_inline.so",
                                    .loops = 2,
                                    .workers = 1,
                                    .can_stream = true,
                                    .slow_stream = true});
        e = rig_event_new(&rig, "");
        e->loop = loop;
        e->query = "3000";
        rig_send(e);
        rig_sleep_ms(20);
        rig_cancel(e);
        assert_true(rig_wait_released(e));
        assert_int_equal(e->completed, 1);
        assert_int_equal(e->outcome, ST_OUTCOME_CANCELLED);
        rig_event_free(e);
        rig_stop(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),      cmocka_unit_test(test_outcomes),
        cmocka_unit_test(test_echo),       cmocka_unit_test(test_headers),
        cmocka_unit_test(test_describe),   cmocka_unit_test(test_old_headers),
        cmocka_unit_test(test_init_fails), cmocka_unit_test(test_one_worker_many_loops),
        cmocka_unit_test(test_stream),     cmocka_unit_test(test_stream_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
