/* HTTP/1 replies: encoding, order, one write for many, 100 Continue, streams. */
#include "tests/unit/test_net_http1.h"

#include "processor/core/rand.h"

static int connect_client(void **state)
{
    set_up_keeping(state);
    h1_connect(&rig);
    return 0;
}

/* Forgets what the client got. */
static void forget(void)
{
    rig.client.len = 0;
    rig.client.in[0] = '\0';
}

static struct st_header header(const char *name, const char *value)
{
    return (struct st_header){.name = name,
                              .value = value,
                              .name_len = (uint16_t)strlen(name),
                              .value_len = (uint32_t)strlen(value)};
}

/* ---- Encoding ---- */

static void test_head_to_the_byte(void **state)
{
    struct st_header headers[] = {header("X-One", "1"), header("x-two", "")};
    struct st_http_response r = {.status = 200,
                                 .content_type = ST_SLICE("text/x"),
                                 .headers = headers,
                                 .header_count = 2,
                                 .body = ST_SLICE("abc")};

    (void)state;
    rig.net.loop.wall_offset = 784111777 * ST_SEC - rig.net.loop.now_ns;
    h1_send_text(&rig, GET("/"));
    h1_respond(&rig, 0, &r);
    h1_run(&rig);
    h1_receive(&rig);
    assert_string_equal(rig.client.in, "HTTP/1.1 200 OK\r\nServer: stator\r\n"
                                       "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                                       "Content-Type: text/x\r\nContent-Length: 3\r\n"
                                       "X-One: 1\r\nx-two: \r\n\r\nabc");
    forget();
    net_rig_advance(&rig.net, 999);
    h1_send_text(&rig, GET("/"));
    h1_ok(&rig, 1, "");
    assert_non_null(strstr(rig.client.in, " 08:49:37 "));
    forget();
    net_rig_advance(&rig.net, 1);
    h1_send_text(&rig, GET("/"));
    r.status = 404;
    h1_respond(&rig, 2, &r);
    h1_run(&rig);
    h1_receive(&rig);
    assert_non_null(strstr(rig.client.in, "HTTP/1.1 404 Not Found\r\nServer: stator\r\n"
                                          "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"));
}

static void test_statuses(void **state)
{
    static const struct {
        unsigned status;
        const char *reply;
    } rows[] = {
        {201, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nab"},
        {204, "HTTP/1.1 204 No Content\r\n\r\n"},
        {304, "HTTP/1.1 304 Not Modified\r\n\r\n"},
        {205, "HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nab"},
        {500, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nab"},
        {599, "HTTP/1.1 599 \r\nContent-Length: 2\r\n\r\nab"},
    };

    (void)state;
    for (unsigned i = 0; i < ST_ARRAY_LEN(rows); i++) {
        struct st_http_response r = {.status = rows[i].status, .body = ST_SLICE("ab")};

        forget();
        h1_send_text(&rig, GET("/"));
        h1_respond(&rig, i, &r);
        assert_replies(rows[i].reply);
    }
}

/* A content type, header values and a head that are larger than any room that is kept for them. */
static void test_long_heads(void **state)
{
    static char type[3000], value[20000];
    struct st_header headers[20];
    struct st_http_response r = {.status = 200, .headers = headers, .body = ST_SLICE("end")};
    char *want = malloc(1 << 20), *at = want;

    (void)state;
    memset(type, 't', sizeof type - 1);
    memset(value, 'v', sizeof value - 1);
    for (size_t n = 1; n < sizeof type; n = n * 2 + 100) {
        r.content_type = (struct st_slice){type, n};
        at = want + sprintf(want, "HTTP/1.1 200 OK\r\n");
        for (size_t i = 0; i < ST_ARRAY_LEN(headers); i++) {
            headers[i] = header("X-Value", value);
            headers[i].value_len = (uint32_t)(i * 1000 + n % 7);
        }
        r.header_count = n % 3 == 0 ? 0 : ST_ARRAY_LEN(headers);
        /* A short type stands before the length, a long one behind it. */
        if (n <= 256)
            at += sprintf(at, "Content-Type: %.*s\r\n", (int)n, type);
        at += sprintf(at, "Content-Length: 3\r\n");
        if (n > 256)
            at += sprintf(at, "Content-Type: %.*s\r\n", (int)n, type);
        for (size_t i = 0; i < r.header_count; i++)
            at += sprintf(at, "X-Value: %.*s\r\n", (int)headers[i].value_len, value);
        sprintf(at, "\r\nend");
        forget();
        h1_send_text(&rig, GET("/"));
        h1_respond(&rig, rig.count - 1, &r);
        assert_replies(want);
    }
    free(want);
}

static void fill(char *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (char)('a' + i % 23);
}

/* Large bodies are referenced where they have an owner, copied where they don't. */
static void test_large_bodies(void **state)
{
    static const size_t sizes[] = {1, 16384, 16385, 100000, 1000000};

    (void)state;
    for (size_t i = 0; i < 2 * ST_ARRAY_LEN(sizes); i++) {
        size_t n = sizes[i / 2];
        struct st_region *region = st_region_try_new(n + 20);
        struct st_buf owner = {region, 3, n + 10};
        struct st_http_response r = {.status = 200, .body = {region->base + 10, n}};
        char head[100];

        fill(region->base + 10, n);
        if (i % 2 == 0)
            r.body_owner = &owner;
        forget();
        h1_send_text(&rig, GET("/"));
        h1_respond(&rig, rig.count - 1, &r);
        assert_int_equal(st_region_is_sole(region), i % 2 != 0 || n <= ST_OUTQ_COPY_MAX);
        h1_run(&rig);
        h1_receive(&rig);
        assert_true(st_region_is_sole(region));
        sprintf(head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
        h1_replies(&rig, NULL);
        assert_memory_equal(rig.replies, head, strlen(head));
        assert_int_equal(strlen(rig.replies), strlen(head) + n);
        assert_memory_equal(rig.replies + strlen(head), region->base + 10, n);
        st_region_unref(region);
    }
}

static void test_head_request(void **state)
{
    struct st_http_response r = {.status = 200, .body = ST_SLICE("hello")};

    (void)state;
    h1_send_text(&rig, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" GET("/"));
    h1_respond(&rig, 0, &r);
    h1_respond(&rig, 1, &r);
    assert_replies("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
                   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

/* ---- Order ---- */

static void test_one_write_for_a_read(void **state)
{
    char input[4000] = "";

    (void)state;
    rig.on_request = NULL; /* answered at once */
    for (int i = 0; i < 50; i++)
        strcat(input, GET("/"));
    h1_send_text(&rig, input);
    assert_int_equal(rig.count, 50);
    assert_int_equal(rig.net.writes, 1);
    assert_int_equal(rig.net.reads, 1);
    assert_int_equal(rig.net.iovs, 1);
}

static void test_one_write_for_a_pass(void **state)
{
    struct st_http_response r = {.status = 200, .body = ST_SLICE("ok")};

    (void)state;
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2") GET("/3"));
    h1_respond(&rig, 2, &r);
    h1_respond(&rig, 1, &r);
    h1_run(&rig);
    assert_int_equal(rig.net.writes, 0);
    assert_int_equal(rig.done, 0);
    h1_respond(&rig, 0, &r); /* takes 1 and 2 along */
    assert_int_equal(rig.done, 2);
    h1_respond(&rig, 3, &r);
    assert_int_equal(rig.net.writes, 0); /* at the end of the pass */
    assert_replies(OK_REPLY OK_REPLY OK_REPLY OK_REPLY);
    assert_int_equal(rig.net.writes, 1);
}

/* Any order of answers, any pieces of input: replies come in the order of the requests. */
static void test_random_order(void **state)
{
    struct st_rand r;

    (void)state;
    st_rand_seed(&r, 11);
    for (int round = 0; round < 300; round++) {
        unsigned total = 1 + (unsigned)st_rand_below(&r, 60), first = 0;
        char input[8000] = "", want[8000] = "", *at = input, *end;

        for (unsigned i = 0; i < total; i++) {
            size_t n = (size_t)st_rand_below(&r, 20);
            at += sprintf(at, "POST /%u HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n%.*s", i,
                          n, (int)n, "01234567890123456789");
            sprintf(want + strlen(want), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%u",
                    i < 10 ? 1 : 2, i);
        }
        end = at;
        h1_connect(&rig);
        first = rig.count;
        at = input;
        while (at < end || rig.begun > rig.ended) {
            unsigned pick = first + (unsigned)st_rand_below(&r, total);
            char body[16];

            if (at < end && st_rand_below(&r, 2) == 0) {
                size_t n = (size_t)st_rand_below(&r, (uint64_t)(end - at) / 2 + 2);
                n = n < (size_t)(end - at) ? n : (size_t)(end - at);
                h1_send(&rig, at, n);
                at += n;
            }
            sprintf(body, "%u", pick - first);
            if (pick < rig.count && rig.all[pick] != NULL && rig.all[pick]->is_open)
                h1_ok(&rig, pick, body);
        }
        assert_string_equal(h1_replies(&rig, NULL), want);
        assert_int_equal(rig.count - first, total);
        net_client_close(&rig.client, false);
        h1_run(&rig);
    }
}

/* A reply that ends the connection: what stands behind it is not answered any more. */
static void test_reply_closes(void **state)
{
    struct st_http_response r = {.status = 200, .body = ST_SLICE("ok")}, last = r;

    (void)state;
    last.close = true;
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2") GET("/3") "GET /4 HT");
    h1_respond(&rig, 2, &r);
    h1_respond(&rig, 1, &last);
    assert_int_equal(rig.gone, 0);
    h1_respond(&rig, 0, &r);
    assert_int_equal(rig.gone, 1); /* 3 */
    assert_int_equal(rig.done, 2);
    h1_respond(&rig, 3, &r); /* harmless */
    assert_replies(OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    assert_true(rig.client.eof);
    assert_int_equal(rig.closed, 1);
    assert_int_equal(rig.dropped, 1); /* 4 */
}

static void close_at_once(struct h1_exchange *e)
{
    struct st_http_response r = {.status = 200, .body = ST_SLICE("ok"), .close = e->index == 1};

    h1_respond(e->rig, e->index, &r);
}

static void test_reply_closes_in_read(void **state)
{
    (void)state;
    rig.on_request = close_at_once;
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2"));
    assert_int_equal(rig.count, 2);
    assert_replies(OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    assert_true(rig.client.eof);
}

/* ---- 100 Continue ---- */

#define EXPECT(n) \
    "POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: " n "\r\n\r\n"

static void test_continue(void **state)
{
    (void)state;
    h1_send_text(&rig, EXPECT("5"));
    assert_replies(CONTINUE);
    h1_send_text(&rig, "he");
    h1_send_text(&rig, "llo");
    assert_replies(CONTINUE); /* once */
    h1_ok(&rig, 0, "ok");
    assert_replies(CONTINUE OK_REPLY);
    forget();
    h1_send_text(&rig, EXPECT("5") "h"); /* it has begun: not needed */
    h1_send_text(&rig, "ello");
    h1_send_text(&rig, EXPECT("0"));
    assert_replies("");
    h1_ok(&rig, 1, "ok");
    h1_ok(&rig, 2, "ok");
    assert_replies(OK_REPLY OK_REPLY);
    forget();
    h1_send_text(&rig, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                       "Transfer-Encoding: chunked\r\n\r\n");
    assert_replies(CONTINUE);
    h1_send_text(&rig, "0\r\n\r\n");
    h1_ok(&rig, 3, "ok");
    assert_replies(CONTINUE OK_REPLY);
}

/* The interim reply has its turn, too. */
static void test_continue_behind_others(void **state)
{
    (void)state;
    h1_send_text(&rig, GET("/0") GET("/1") EXPECT("2"));
    assert_replies("");
    h1_ok(&rig, 1, "ok");
    assert_replies("");
    h1_ok(&rig, 0, "ok");
    assert_replies(OK_REPLY OK_REPLY CONTINUE);
    h1_send_text(&rig, "ab");
    h1_ok(&rig, 2, "ok");
    assert_replies(OK_REPLY OK_REPLY CONTINUE OK_REPLY);
}

static void test_continue_refused(void **state)
{
    (void)state;
    h1_send_text(&rig, GET("/0") EXPECT("10001"));
    h1_ok(&rig, 0, "ok");
    h1_run(&rig);
    h1_receive(&rig);
    h1_replies(&rig, NULL);
    assert_memory_equal(rig.replies, OK_REPLY, sizeof OK_REPLY - 1);
    assert_string_equal(rig.replies + sizeof OK_REPLY - 1, h1_refusal(413));
    assert_true(rig.client.eof);
}

/* ---- Streams ---- */

#define STREAM_HEAD "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct st_http_response stream_head = {.status = 200, .content_type = {"a/b", 3}};

static void test_stream(void **state)
{
    char big[100] = "";

    (void)state;
    memset(big, 'x', 99);
    h1_send_text(&rig, GET("/0"));
    h1_stream_head(&rig, 0, &stream_head);
    assert_replies(STREAM_HEAD); /* the head doesn't wait for the first bytes */
    h1_stream_write(&rig, 0, "hello", 5);
    h1_stream_write(&rig, 0, "", 0); /* nothing: must not end the stream */
    assert_replies(STREAM_HEAD "5\r\nhello\r\n");
    assert_int_equal(rig.all[0]->sent, 5);
    forget();
    h1_stream_write(&rig, 0, big, 99);
    h1_stream_write(&rig, 0, big, 16);
    assert_replies(
        "63\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxxxx\r\n10\r\nxxxxxxxxxxxxxxxx\r\n");
    assert_int_equal(rig.all[0]->sent, 120);
    forget();
    h1_stream_end(&rig, 0, true);
    assert_replies("0\r\n\r\n");
    forget();
    h1_send_text(&rig, GET("/1"));
    h1_ok(&rig, 1, "ok"); /* the connection goes on */
    assert_replies(OK_REPLY);
}

static void stream_at_once(struct h1_exchange *e)
{
    struct h1_rig *r = e->rig;
    unsigned i = e->index;

    h1_stream_head(r, i, &stream_head);
    h1_stream_write(r, i, "abc", 3);
    h1_stream_end(r, i, true);
}

static void test_stream_in_read(void **state)
{
    (void)state;
    rig.on_request = stream_at_once;
    h1_send_text(&rig, GET("/0") GET("/1"));
    assert_replies(STREAM_HEAD "3\r\nabc\r\n0\r\n\r\n" STREAM_HEAD "3\r\nabc\r\n0\r\n\r\n");
    assert_int_equal(rig.net.writes, 1);
}

/* To HTTP/1.0 without chunks, up to the close. */
static void test_stream_to_1_0(void **state)
{
    (void)state;
    h1_send_text(&rig, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    h1_stream_head(&rig, 0, &stream_head);
    h1_stream_write(&rig, 0, "hello", 5);
    h1_stream_write(&rig, 0, "world", 5);
    assert_replies("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nConnection: close\r\n\r\nhelloworld");
    assert_false(rig.client.eof);
    h1_stream_end(&rig, 0, true);
    h1_run(&rig);
    h1_receive(&rig);
    assert_true(rig.client.eof);
}

static void test_stream_closes(void **state)
{
    struct st_http_response r = stream_head;

    (void)state;
    r.close = true;
    h1_send_text(&rig, GET("/0") GET("/1"));
    h1_stream_head(&rig, 0, &r);
    h1_stream_write(&rig, 0, "abc", 3);
    h1_stream_end(&rig, 0, true);
    assert_replies("HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n"
                   "Connection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    assert_true(rig.client.eof);
    assert_int_equal(rig.gone, 1);
}

/* Statuses and methods whose replies have no body: none is sent, whatever the handler streams. */
static void test_stream_without_body(void **state)
{
    struct st_http_response r = stream_head;

    (void)state;
    h1_send_text(&rig, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" GET("/1") GET("/2") GET("/3"));
    for (unsigned i = 0; i < 3; i++) {
        r.status = i == 0 ? 200 : i == 1 ? 204 : 304;
        h1_stream_head(&rig, i, &r);
        h1_stream_write(&rig, i, "hello", 5);
        assert_int_equal(rig.all[i]->sent, 5); /* it goes on */
        h1_stream_end(&rig, i, true);
    }
    h1_ok(&rig, 3, "ok");
    assert_replies(STREAM_HEAD "HTTP/1.1 204 No Content\r\nContent-Type: a/b\r\n\r\n"
                               "HTTP/1.1 304 Not Modified\r\nContent-Type: a/b\r\n\r\n" OK_REPLY);
}

/* It begins before its turn, and goes on in its turn. */
static void test_stream_behind_others(void **state)
{
    (void)state;
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2"));
    h1_stream_head(&rig, 1, &stream_head);
    h1_stream_write(&rig, 1, "abc", 3);
    h1_ok(&rig, 2, "ok");
    assert_replies("");
    assert_int_equal(rig.all[1]->sent, 0);
    h1_ok(&rig, 0, "ok");
    assert_replies(OK_REPLY STREAM_HEAD "3\r\nabc\r\n");
    assert_int_equal(rig.all[1]->sent, 3);
    h1_stream_write(&rig, 1, "de", 2);
    h1_stream_end(&rig, 1, true);
    assert_replies(OK_REPLY STREAM_HEAD "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" OK_REPLY);
}

static void test_stream_ended_behind_others(void **state)
{
    (void)state;
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2"));
    h1_stream_head(&rig, 1, &stream_head);
    h1_stream_write(&rig, 1, "abc", 3);
    h1_stream_end(&rig, 1, true);
    h1_ok(&rig, 0, "ok");
    h1_ok(&rig, 2, "ok");
    assert_replies(OK_REPLY STREAM_HEAD "3\r\nabc\r\n0\r\n\r\n" OK_REPLY);
    assert_int_equal(rig.done, 1);
}

/* A stream that ends badly: what was written arrives, then the connection ends without the last
 * chunk; replies before it are not lost. */
static void test_stream_cut(void **state)
{
    (void)state;
    h1_send_text(&rig, GET("/0") GET("/1"));
    h1_stream_head(&rig, 0, &stream_head);
    h1_stream_write(&rig, 0, "abc", 3);
    h1_stream_end(&rig, 0, false);
    assert_replies(STREAM_HEAD "3\r\nabc\r\n");
    assert_true(rig.client.eof || rig.client.error != 0);
    assert_int_equal(rig.gone, 1);
    assert_int_equal(rig.closed, 1);
}

static void test_stream_cut_behind_others(void **state)
{
    (void)state;
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2"));
    h1_stream_head(&rig, 1, &stream_head);
    h1_stream_write(&rig, 1, "abc", 3);
    h1_stream_end(&rig, 1, false);
    assert_replies("");
    h1_ok(&rig, 0, "ok");
    assert_replies(OK_REPLY STREAM_HEAD "3\r\nabc\r\n");
    assert_true(rig.client.eof || rig.client.error != 0);
    assert_int_equal(rig.gone, 1);
    assert_int_equal(rig.done, 1);
}

static void test_stream_cut_in_read(void **state)
{
    (void)state;
    h1_send_text(&rig, GET("/0") GET("/1"));
    h1_stream_head(&rig, 1, &stream_head);
    h1_stream_end(&rig, 1, false);
    h1_send_text(&rig, GET("/2"));
    h1_ok(&rig, 0, "ok");
    assert_replies(OK_REPLY STREAM_HEAD);
    assert_int_equal(rig.gone, 1);
}

/* `sent` counts what the socket took: a stream that waits for it is bound by the client. */
static void test_stream_flow(void **state)
{
    static char block[50000];
    size_t given = 0, taken = 0;

    (void)state;
    fill(block, sizeof block);
    h1_send_text(&rig, GET("/0"));
    h1_stream_head(&rig, 0, &stream_head);
    for (int i = 0; i < 100; i++) {
        h1_stream_write(&rig, 0, block, sizeof block);
        given += sizeof block;
        h1_run(&rig);
        assert_true(rig.all[0]->sent <= given);
        if (i % 3 == 2)
            taken += net_client_read(&rig.client, 70000);
        /* Never more is said to have left than the client and the socket have. */
        assert_true(rig.all[0]->sent <= taken + (1 << 20));
    }
    assert_true(rig.all[0]->sent < given);
    h1_receive(&rig);
    h1_run(&rig);
    assert_int_equal(rig.all[0]->sent, given);
    h1_stream_end(&rig, 0, true);
    h1_run(&rig);
    h1_receive(&rig);
    assert_string_equal(rig.client.in + rig.client.len - 7, "\r\n0\r\n\r\n");
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, connect_client, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_head_to_the_byte),
        TEST(test_statuses),
        TEST(test_long_heads),
        TEST(test_large_bodies),
        TEST(test_head_request),
        TEST(test_one_write_for_a_read),
        TEST(test_one_write_for_a_pass),
        TEST(test_random_order),
        TEST(test_reply_closes),
        TEST(test_reply_closes_in_read),
        TEST(test_continue),
        TEST(test_continue_behind_others),
        TEST(test_continue_refused),
        TEST(test_stream),
        TEST(test_stream_in_read),
        TEST(test_stream_to_1_0),
        TEST(test_stream_closes),
        TEST(test_stream_without_body),
        TEST(test_stream_behind_others),
        TEST(test_stream_ended_behind_others),
        TEST(test_stream_cut),
        TEST(test_stream_cut_behind_others),
        TEST(test_stream_cut_in_read),
        TEST(test_stream_flow),
    };

    return cmocka_run_group_tests_name("http1_reply", tests, NULL, NULL);
}
