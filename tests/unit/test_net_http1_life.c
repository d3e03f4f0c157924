/* The life of HTTP/1 sessions: backlogs, drain. */
#include "tests/unit/test_net_http1.h"

#include <sys/socket.h>

static unsigned count_replies(void)
{
    unsigned n = 0;

    for (const char *at = rig.client.in; (at = strstr(at, "HTTP/1.1 200 ")) != NULL; at++)
        n++;
    return n;
}

/* ---- Backlog ---- */

enum { MANY = 1000 };

static char *many_requests(size_t *len)
{
    char *text = malloc(MANY * 64), *at = text;

    assert_non_null(text);
    for (int i = 0; i < MANY; i++)
        at += sprintf(at, "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", i);
    *len = (size_t)(at - text);
    return text;
}

/* Every reply says the number of its request. */
static void assert_many_replies(void)
{
    const char *at = rig.client.in;
    char body[32];

    for (int i = 0; i < MANY; i++) {
        snprintf(body, sizeof body, "\r\n\r\n<%d>", i);
        at = strstr(at, body);
        if (at == NULL)
            fail_msg("reply %d is missing", i);
    }
    assert_int_equal(count_replies(), MANY);
}

static void answer_many(struct st_http1 *h, const char *rest, size_t len)
{
    char body[32];

    for (unsigned i = 0; i < MANY; i++) {
        size_t n = net_client_write(&rig.client, rest, len);

        rest += n;
        len -= n;
        h1_run(&rig);
        assert_true(h->outstanding <= ST_HTTP1_MAX_PIPELINE);
        assert_true(rig.count <= i + ST_HTTP1_MAX_PIPELINE);
        snprintf(body, sizeof body, "<%u>", i);
        h1_ok(&rig, i, body);
    }
    assert_many_replies();
    assert_false(rig.client.eof);
}

static void test_backlog(void **state)
{
    size_t len;
    char *text = many_requests(&len);
    struct st_http1 *h = h1_connect(&rig);
    size_t n;

    (void)state;
    n = net_client_write(&rig.client, text, len);
    h1_run(&rig);
    assert_int_equal(rig.count, ST_HTTP1_MAX_PIPELINE);
    assert_true(h->backlogged);
    assert_false(h->conn.reading);
    net_rig_advance(&rig.net, 3600 * 1000); /* that is nobody's fault */
    answer_many(h, text + n, len - n);
    free(text);
}

/* Sends single requests as long as the socket takes them; returns how many it has taken in all. */
static int send_singly(int sent, struct st_http1 *h)
{
    for (; sent < MANY && net_client_write(&rig.client, GET("/"), strlen(GET("/"))) > 0; sent++) {
        h1_run(&rig);
        assert_true(h->outstanding <= ST_HTTP1_MAX_PIPELINE);
    }
    return sent;
}

/* The same where every request comes alone: nothing of it is left over. */
static void test_backlog_of_single_reads(void **state)
{
    struct st_http1 *h = h1_connect(&rig);
    int sent = send_singly(0, h);
    char body[32];

    (void)state;
    assert_true(sent > ST_HTTP1_MAX_PIPELINE);
    assert_int_equal(rig.count, ST_HTTP1_MAX_PIPELINE);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(body, sizeof body, "<%u>", i);
        h1_ok(&rig, i, body);
        sent = send_singly(sent, h);
    }
    assert_many_replies();
}

/* The client has sent everything and half-closed: all of it is answered, then comes the close. */
static void test_backlog_half_closed(void **state)
{
    size_t len;
    char *text = many_requests(&len), body[32];

    (void)state;
    h1_connect(&rig);
    assert_int_equal(net_client_write(&rig.client, text, len), len);
    shutdown(rig.client.fd, SHUT_WR);
    h1_run(&rig);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(body, sizeof body, "<%u>", i);
        h1_ok(&rig, i, body);
    }
    assert_many_replies();
    assert_true(rig.client.eof);
    assert_int_equal(rig.closed, 1);
    free(text);
}

static char big[100000];

static void answer_big(struct h1_exchange *e)
{
    struct st_http_response r = {.status = 200, .body = {big, sizeof big}};

    h1_respond(e->rig, e->index, &r);
}

/* A client that asks and doesn't read: what waits for it is bounded, and so is what is read. */
static void test_high_water(void **state)
{
    const unsigned total = 200;
    struct st_http1 *h = h1_connect(&rig);
    char input[200 * 32] = "";

    (void)state;
    for (unsigned i = 0; i < total; i++)
        strcat(input, GET("/"));
    memset(big, 'x', sizeof big);
    rig.on_request = answer_big;
    assert_true(net_client_write(&rig.client, input, strlen(input)) == strlen(input));
    h1_run(&rig);
    assert_true(h->conn.out.bytes > ST_CONN_LOW);
    assert_true(h->conn.out.bytes <= ST_CONN_HIGH + sizeof big + 1000);
    assert_false(h->conn.reading);
    assert_true(rig.count < 20);
    while (rig.client.len < total * sizeof big) {
        assert_true(net_client_read(&rig.client, 150000) > 0);
        h1_run(&rig);
        assert_true(h->conn.out.bytes <= ST_CONN_HIGH + sizeof big + 1000);
    }
    h1_receive(&rig);
    assert_int_equal(rig.count, total);
    assert_int_equal(count_replies(), total);
    assert_true(h->conn.reading);
}

/* Answers all that have come but the first, until no more come. */
static void answer_behind_first(unsigned from)
{
    for (unsigned i = from; i < rig.count; i++) {
        answer_big(rig.all[i]);
        h1_run(&rig);
    }
}

/* Replies that wait for an earlier one count as output: while they wait, reading stops. */
static void test_high_water_out_of_turn(void **state)
{
    const unsigned total = 200;
    struct st_http1 *h = h1_connect(&rig);
    unsigned sent = 0, seen;

    (void)state;
    memset(big, 'x', sizeof big);
    for (; sent < 2; sent++)
        h1_send_text(&rig, GET("/"));
    /* Each comes alone, after the one before it is answered: the pipeline is never full. */
    for (; sent < total && net_client_write(&rig.client, GET("/"), strlen(GET("/"))) > 0; sent++) {
        h1_run(&rig);
        answer_behind_first(sent == 2 ? 1 : sent);
    }
    assert_int_equal(sent, total);
    seen = rig.count;
    assert_true(seen < 6);
    assert_int_equal(h->outstanding, seen);
    assert_int_equal(h->conn.out.bytes, 0);
    assert_true(h->waiting >= ST_CONN_HIGH && h->waiting <= ST_CONN_HIGH + 2 * sizeof big);
    assert_false(h->conn.reading);
    net_rig_advance(&rig.net, 3600 * 1000); /* the client waits for us */
    assert_int_equal(rig.count, seen);
    /* It goes on where the client has read what waited. */
    rig.on_request = answer_big;
    answer_big(rig.all[0]);
    assert_int_equal(h->waiting, 0);
    assert_true(h->conn.out.bytes > ST_CONN_LOW);
    assert_int_equal(rig.count, seen);
    h1_run(&rig);
    h1_receive(&rig);
    assert_int_equal(rig.count, total);
    assert_int_equal(count_replies(), total);
    assert_true(h->conn.reading);
}

/* The same with a stream that waits: its end and what was written of it count and are let go. */
static void test_high_water_stream_out_of_turn(void **state)
{
    static const struct st_http_response r = {.status = 200};
    struct st_http1 *h = h1_connect(&rig);

    (void)state;
    memset(big, 'x', sizeof big);
    h1_send_text(&rig, GET("/0") GET("/1"));
    h1_stream_head(&rig, 1, &r);
    for (int i = 0; i < 3; i++)
        h1_stream_write(&rig, 1, big, sizeof big);
    assert_true(h->waiting > 3 * sizeof big && h->waiting < 3 * sizeof big + 1000);
    h1_send_text(&rig, GET("/2") GET("/3"));
    assert_int_equal(rig.count, 3);
    assert_true(h->backlogged);
    h1_stream_end(&rig, 1, true);
    h1_ok(&rig, 2, "ok");
    assert_int_equal(rig.count, 3);
    h1_ok(&rig, 0, "ok");
    assert_int_equal(h->waiting, 0);
    assert_int_equal(rig.count, 4);
    h1_ok(&rig, 3, "ok");
    assert_int_equal(count_replies(), 4);
    assert_false(h->backlogged);
}

/* The last reply of a drain, with requests that were never read: no reset may destroy it. */
static void test_high_water_and_drain(void **state)
{
    struct st_http1 *h = h1_connect(&rig);

    (void)state;
    memset(big, 'x', sizeof big);
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2") GET("/3") GET("/4"));
    answer_behind_first(1);
    h1_send_text(&rig, GET("/5"));
    assert_true(h->backlogged);
    h1_send_text(&rig, GET("/6"));
    st_http_server_drain(&rig.server, true);
    answer_big(rig.all[5]);
    h1_ok(&rig, 0, "ok");
    h1_run(&rig);
    h1_receive(&rig);
    assert_int_equal(count_replies(), rig.count);
    assert_true(rig.client.eof);
    assert_int_equal(rig.client.error, 0);
}

static uintptr_t highest, lowest;

static void answer_and_measure(struct h1_exchange *e)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    highest = here > highest ? here : highest;
    lowest = here < lowest ? here : lowest;
    answer_big(e);
}

/* A client that reads as fast as it asks: going on is a loop, not a recursion. */
static void test_resume_is_no_recursion(void **state)
{
    static char text[60000];
    size_t len = 0;

    (void)state;
    while (len + 100 < sizeof text)
        len += (size_t)sprintf(text + len, GET("/"));
    highest = 0;
    lowest = UINTPTR_MAX;
    rig.net.write_sink = true;
    rig.on_request = answer_and_measure;
    h1_connect(&rig);
    h1_send(&rig, text, len);
    assert_int_equal(rig.count, len / strlen(GET("/")));
    if (highest - lowest > 8192)
        fail_msg("%zu bytes of stack", (size_t)(highest - lowest));
}

/* ---- Drain ---- */

static void drain(bool close_idle)
{
    st_http_server_drain(&rig.server, close_idle);
    h1_run(&rig);
    h1_receive(&rig);
}

static void undrain(void)
{
    rig.server.closing = rig.server.close_idle = false;
}

static void test_drain_idle(void **state)
{
    (void)state;
    rig.on_request = NULL;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0"));
    drain(false);
    assert_false(rig.client.eof); /* not yet */
    drain(true);
    assert_true(rig.client.eof);
    assert_int_equal(rig.server.conns.open, 0);
}

/* A client that has just connected gets its time to ask. */
static void test_drain_fresh(void **state)
{
    (void)state;
    rig.on_request = NULL;
    h1_connect(&rig);
    drain(true);
    net_rig_advance(&rig.net, 499);
    assert_int_equal(rig.closed, 0);
    h1_send_text(&rig, GET("/0"));
    assert_replies(OK_CLOSE);
    assert_true(rig.client.eof);
    h1_connect(&rig);
    drain(true);
    net_rig_advance(&rig.net, 500);
    assert_int_equal(rig.closed, 2);
}

/* What has arrived, but was not read, counts. */
static void test_drain_unread(void **state)
{
    (void)state;
    rig.on_request = NULL;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0"));
    net_client_write(&rig.client, GET("/1") GET("/2"), 2 * strlen(GET("/1")));
    drain(true);
    assert_replies(OK_REPLY OK_REPLY OK_CLOSE);
    assert_true(rig.client.eof);
}

static void test_drain_half_a_request(void **state)
{
    static const char *const first[] = {"GE", "GET / HTTP/1.1\r\nHo",
                                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na"};
    static const char *const rest[] = {"T / HTTP/1.1\r\nHost: a\r\n\r\n", "st: a\r\n\r\n", "b"};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(first); i++) {
        undrain();
        rig.on_request = NULL;
        h1_connect(&rig);
        h1_send_text(&rig, GET("/0"));
        h1_send_text(&rig, first[i]);
        drain(true);
        h1_send_text(&rig, rest[i]);
        assert_replies(OK_REPLY OK_CLOSE);
        assert_true(rig.client.eof);
    }
}

static void test_drain_outstanding(void **state)
{
    (void)state;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0") GET("/1"));
    drain(true);
    h1_ok(&rig, 0, "ok");
    h1_ok(&rig, 1, "ok");
    assert_replies(OK_REPLY OK_CLOSE);
    assert_true(rig.client.eof);
}

/* Out of order: whichever comes last, the session ends with the replies. */
static void test_drain_outstanding_out_of_order(void **state)
{
    (void)state;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0") GET("/1"));
    drain(true);
    h1_ok(&rig, 1, "ok");
    h1_ok(&rig, 0, "ok");
    h1_run(&rig);
    h1_receive(&rig);
    assert_int_equal(count_replies(), 2);
    assert_true(rig.client.eof);
    assert_int_equal(rig.server.conns.open, 0);
}

/* Answered out of turn before the drain, passed on after it began. */
static void test_drain_answered_before(void **state)
{
    (void)state;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0") GET("/1"));
    h1_ok(&rig, 1, "ok");
    drain(true);
    h1_ok(&rig, 0, "ok");
    h1_run(&rig);
    h1_receive(&rig);
    assert_int_equal(count_replies(), 2);
    assert_true(rig.client.eof);
}

static void test_drain_stream(void **state)
{
    static const struct st_http_response r = {.status = 200};

    (void)state;
    for (int before = 0; before < 2; before++) {
        unsigned first = rig.count;

        undrain();
        h1_connect(&rig);
        h1_send_text(&rig, GET("/0"));
        if (before != 0)
            h1_stream_head(&rig, first, &r);
        drain(true);
        if (before == 0)
            h1_stream_head(&rig, first, &r);
        h1_stream_write(&rig, first, "abc", 3);
        h1_stream_end(&rig, first, true);
        h1_run(&rig);
        h1_receive(&rig);
        assert_int_equal(count_replies(), 1);
        assert_non_null(strstr(rig.client.in, "\r\n3\r\nabc\r\n0\r\n\r\n"));
        assert_true(rig.client.eof);
    }
}

/* More than a pipeline's worth: nothing that the client sent is lost. */
static void test_drain_backlog(void **state)
{
    size_t len;
    char *text = many_requests(&len), body[32];

    (void)state;
    h1_connect(&rig);
    assert_int_equal(net_client_write(&rig.client, text, len), len);
    h1_run(&rig);
    drain(true);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(body, sizeof body, "<%u>", i);
        assert_true(i < rig.count);
        h1_ok(&rig, i, body);
    }
    assert_many_replies();
    assert_non_null(strstr(rig.client.in, "Connection: close\r\n\r\n<999>"));
    assert_true(rig.client.eof);
    free(text);
}

/* Output that the client has not taken yet is not cut. */
static void test_drain_slow_reader(void **state)
{
    (void)state;
    rig.on_request = answer_big;
    rig.net.write_max = 5000;
    h1_connect(&rig);
    rig.net.write_blocked = true;
    net_client_write(&rig.client, GET("/0"), strlen(GET("/0")));
    h1_run(&rig);
    drain(true);
    assert_int_equal(rig.closed, 0);
    rig.net.write_blocked = false;
    h1_run(&rig);
    h1_receive(&rig);
    assert_true(rig.client.len > sizeof big);
    assert_true(rig.client.eof);
}

/* A reply from before the drain that the client takes later did not say that it closes: the
 * client has until the end to ask again. */
static void test_drain_undelivered(void **state)
{
    (void)state;
    rig.on_request = answer_big;
    rig.net.write_max = 5000;
    h1_connect(&rig);
    rig.net.write_blocked = true;
    net_client_write(&rig.client, GET("/0"), strlen(GET("/0")));
    h1_run(&rig);
    drain(false);
    rig.net.write_blocked = false;
    h1_run(&rig);
    h1_receive(&rig);
    assert_true(rig.client.len > sizeof big);
    assert_false(rig.client.eof);
    rig.on_request = NULL;
    h1_send_text(&rig, GET("/1"));
    assert_non_null(strstr(rig.client.in, "Connection: close"));
    assert_true(rig.client.eof);
}

static void test_drain_many(void **state)
{
    struct net_client clients[10];

    (void)state;
    rig.on_request = NULL;
    for (int i = 0; i < 10; i++) {
        h1_connect_client(&rig, &clients[i]);
        net_client_write(&clients[i], GET("/0"), strlen(GET("/0")));
    }
    h1_run(&rig);
    assert_int_equal(rig.server.conns.open, 10);
    drain(true);
    assert_int_equal(rig.server.conns.open, 0);
    for (int i = 0; i < 10; i++) {
        net_client_read(&clients[i], SIZE_MAX);
        assert_string_equal(h1_replies(&rig, &clients[i]), OK_REPLY);
        assert_true(clients[i].eof);
        net_client_free(&clients[i]);
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up_keeping, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_backlog),
        TEST(test_backlog_of_single_reads),
        TEST(test_backlog_half_closed),
        TEST(test_high_water),
        TEST(test_high_water_out_of_turn),
        TEST(test_high_water_stream_out_of_turn),
        TEST(test_high_water_and_drain),
        TEST(test_resume_is_no_recursion),
        TEST(test_drain_idle),
        TEST(test_drain_fresh),
        TEST(test_drain_unread),
        TEST(test_drain_half_a_request),
        TEST(test_drain_outstanding),
        TEST(test_drain_outstanding_out_of_order),
        TEST(test_drain_answered_before),
        TEST(test_drain_stream),
        TEST(test_drain_backlog),
        TEST(test_drain_slow_reader),
        TEST(test_drain_undelivered),
        TEST(test_drain_many),
    };

    return cmocka_run_group_tests_name("http1_life", tests, NULL, NULL);
}
