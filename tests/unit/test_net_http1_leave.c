/* HTTP/1 clients that leave, and ends that they can tell apart. */
#include "tests/unit/test_net_http1.h"

#include <errno.h>
#include <sys/socket.h>

static char big[100000];

static void test_half_close(void **state)
{
    (void)state;
    h1_connect(&rig);
    net_client_write(&rig.client, GET("/0") GET("/1"), 2 * strlen(GET("/0")));
    shutdown(rig.client.fd, SHUT_WR);
    h1_run(&rig);
    assert_int_equal(rig.gone, 0);
    h1_ok(&rig, 1, "ok");
    assert_false(rig.client.eof);
    h1_ok(&rig, 0, "ok");
    assert_replies(OK_REPLY OK_REPLY);
    assert_true(rig.client.eof);
    assert_int_equal(rig.closed, 1);
}

static void test_half_close_at_once(void **state)
{
    (void)state;
    h1_connect(&rig);
    shutdown(rig.client.fd, SHUT_WR);
    h1_run(&rig);
    h1_receive(&rig);
    assert_true(rig.client.eof);
    assert_int_equal(rig.closed, 1);
    assert_int_equal(rig.begun, 0);
}

/* What is not whole when FIN comes never happened. */
static void test_half_close_in_message(void **state)
{
    static const char *const pieces[] = {
        "G", "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"};
    char input[200];

    (void)state;
    for (size_t i = 0; i < 2 * ST_ARRAY_LEN(pieces); i++) {
        unsigned first = rig.count;

        h1_connect(&rig);
        snprintf(input, sizeof input, "%s%s", i % 2 != 0 ? GET("/") : "", pieces[i / 2]);
        net_client_write(&rig.client, input, strlen(input));
        h1_run(&rig);
        shutdown(rig.client.fd, SHUT_WR);
        h1_run(&rig);
        if (i % 2 != 0)
            h1_ok(&rig, first, "ok");
        assert_replies(i % 2 != 0 ? OK_REPLY : "");
        assert_true(rig.client.eof);
        assert_int_equal(rig.client.error, 0);
        assert_int_equal(rig.server.conns.open, 0);
    }
}

/* All bytes of a request and the FIN come in one pass. */
static void test_half_close_behind_request(void **state)
{
    (void)state;
    rig.on_request = NULL;
    h1_connect(&rig);
    net_client_write(&rig.client, GET("/0"), strlen(GET("/0")));
    shutdown(rig.client.fd, SHUT_WR);
    assert_replies(OK_REPLY);
    assert_true(rig.client.eof);
}

static void test_client_gone(void **state)
{
    static const struct st_http_response r = {.status = 200, .body = {"ok", 2}};

    (void)state;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0") GET("/1") GET("/2") GET("/3") "POST /4 HTTP/1.1\r\nHost: a\r\n"
                                                               "Content-Length: 5\r\n\r\nab");
    h1_stream_head(&rig, 1, &r);
    h1_stream_write(&rig, 1, "abc", 3);
    h1_respond(&rig, 2, &r);
    st_http_server_close(&rig.server); /* as a reset does */
    assert_int_equal(rig.gone, 3);
    assert_int_equal(rig.done, 1);
    assert_int_equal(rig.dropped, 1);
    h1_run(&rig);
    h1_stream_write(&rig, 1, "def", 3); /* all of it is harmless */
    h1_stream_end(&rig, 1, true);
    h1_stream_head(&rig, 3, &r);
    h1_stream_end(&rig, 3, false);
    h1_respond(&rig, 0, &r);
    assert_int_equal(rig.begun, rig.ended);
    assert_int_equal(rig.closed, 1);
}

static struct st_http1 *connect_tcp(void)
{
    static const struct st_peer peer = {"192.0.2.7", 4711};

    net_client_free(&rig.client);
    st_http1_accept(&rig.server, net_client_pair_tcp(&rig.client), &peer);
    return TAILQ_FIRST(&rig.server.sessions);
}

static void test_client_resets(void **state)
{
    (void)state;
    connect_tcp();
    h1_send_text(&rig, GET("/0") GET("/1"));
    NET_RIG_UNTIL(&rig.net, rig.count == 2);
    net_client_close(&rig.client, true);
    NET_RIG_UNTIL(&rig.net, rig.gone == 2);
    assert_int_equal(rig.closed, 1);
}

/* A reply to HTTP/1.0 that ends with the connection: only a whole one ends with FIN. */
static void test_end_of_1_0(void **state)
{
    enum { WHOLE, CUT, CLOSED, STUCK, ENDS };
    static const struct st_http_response r = {.status = 200};

    (void)state;
    memset(big, 'x', sizeof big);
    for (int end = WHOLE; end < ENDS; end++) {
        unsigned first = rig.count, writes = end == STUCK ? 100 : 1;

        connect_tcp();
        h1_send_text(&rig, "GET / HTTP/1.0\r\n\r\n");
        NET_RIG_UNTIL(&rig.net, rig.count > first);
        h1_stream_head(&rig, first, &r);
        for (unsigned i = 0; i < writes; i++)
            h1_stream_write(&rig, first, big, sizeof big);
        h1_run(&rig);
        if (end == CLOSED)
            st_http_server_close(&rig.server);
        else
            h1_stream_end(&rig, first, end != CUT);
        h1_run(&rig);
        for (int i = 0; i < 3 && end == STUCK; i++) /* it reads nothing */
            net_rig_advance(&rig.net, 30000);
        assert_int_equal(rig.server.conns.open, 0);
        NET_RIG_UNTIL(&rig.net, (net_client_read(&rig.client, SIZE_MAX),
                                 rig.client.eof || rig.client.error != 0));
        assert_true(rig.client.eof == (end == WHOLE));
        assert_int_equal(rig.client.error, end == WHOLE ? 0 : ECONNRESET);
    }
}

/* After Connection: close the client may still be watched, and more than a little is not read. */
static void test_client_resets_after_close(void **state)
{
    static char junk[10000];

    (void)state;
    connect_tcp();
    h1_send_text(&rig, "GET /0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    net_client_write(&rig.client, junk, sizeof junk);
    NET_RIG_UNTIL(&rig.net, rig.count == 1);
    for (int i = 0; i < 100; i++)
        net_rig_pass(&rig.net);
    net_client_close(&rig.client, true);
    NET_RIG_UNTIL(&rig.net, rig.gone == 1);
}

/* A client that goes on sending behind its last request still gets the reply, not a reset. */
static void test_much_behind_close(void **state)
{
    static char junk[200000];
    struct st_http1 *h = connect_tcp();

    (void)state;
    h1_send_text(&rig, "GET /0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    NET_RIG_UNTIL(&rig.net, (net_client_write(&rig.client, junk, sizeof junk),
                             !h->conn.reading && rig.count == 1)); /* bounded */
    h1_ok(&rig, 0, "ok");
    NET_RIG_UNTIL(&rig.net, (h1_receive(&rig), rig.client.eof || rig.client.error != 0));
    assert_string_equal(h1_replies(&rig, NULL), OK_CLOSE);
    assert_true(rig.client.eof);
    assert_int_equal(rig.client.error, 0);
}

static void test_broken_write(void **state)
{
    (void)state;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0") GET("/1"));
    rig.net.write_errno = 32; /* EPIPE */
    h1_ok(&rig, 0, "ok");
    assert_int_equal(rig.gone, 1);
    assert_int_equal(rig.closed, 1);
}

static void close_server(struct h1_exchange *e)
{
    struct st_http_response r = {.status = 200, .body = ST_SLICE("ok")};

    st_http_server_close(&e->rig->server);
    assert_true(e->is_gone);
    h1_respond(e->rig, e->index, &r);
}

/* The session ends while its request is being handled. */
static void test_close_in_request(void **state)
{
    (void)state;
    rig.on_request = close_server;
    h1_connect(&rig);
    h1_send_text(&rig, GET("/0") GET("/1"));
    assert_int_equal(rig.count, 1);
    assert_int_equal(rig.closed, 1);
    assert_int_equal(rig.client.len, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up_keeping, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_half_close),
        TEST(test_half_close_at_once),
        TEST(test_half_close_in_message),
        TEST(test_half_close_behind_request),
        TEST(test_client_gone),
        TEST(test_client_resets),
        TEST(test_end_of_1_0),
        TEST(test_client_resets_after_close),
        TEST(test_much_behind_close),
        TEST(test_broken_write),
        TEST(test_close_in_request),
    };

    return cmocka_run_group_tests_name("http1_leave", tests, NULL, NULL);
}
