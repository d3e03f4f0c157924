/* HTTP/1 limits: heads, bodies, trailers, body memory, deadlines. */
#include "tests/unit/test_net_http1.h"

#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

static char input[300000];

static struct st_region *hold; /* uses up the memory of bodies; NULL: nothing */

static void free_memory(void)
{
    if (hold != NULL)
        st_region_unref(hold);
    hold = NULL;
}

static int free_and_tear_down(void **state)
{
    free_memory();
    return tear_down(state);
}

/* A new connection gets the input in pieces that end at `cut` and at the end. */
static void send_cut(const char *bytes, size_t n, size_t cut)
{
    if (rig.client.fd >= 0)
        net_client_close(&rig.client, false);
    h1_run(&rig);
    assert_int_equal(rig.server.conns.open, 0);
    assert_int_equal(rig.begun, rig.ended);
    rig.count = 0;
    h1_connect(&rig);
    h1_send(&rig, bytes, cut);
    h1_send(&rig, bytes + cut, n - cut);
}

/* status 200: taken, 0: refused with any status. At a number of cuts, the ends among them. */
static void check(const char *what, size_t n, unsigned status)
{
    for (size_t i = 0; i <= 30; i++) {
        size_t cut = i <= 20 ? n * i / 20 : n - (i - 20);

        if (i > 20 && i - 20 > n)
            continue;
        send_cut(input, n, cut);
        h1_replies(&rig, NULL);
        h1_strip_continue(rig.replies);
        if (status == 200 ? strcmp(rig.replies, OK_REPLY) != 0 || rig.client.eof
                          : (status != 0 && strcmp(rig.replies, h1_refusal(status)) != 0) ||
                                !rig.client.eof || rig.count != 0 || rig.client.error != 0)
            fail_msg("%s of %zu bytes, cut at %zu: not %u but\n%s", what, n, cut, status,
                     rig.replies);
    }
}

static size_t put(size_t at, const char *text)
{
    strcpy(input + at, text);
    return at + strlen(text);
}

static size_t put_many(size_t at, char c, size_t n)
{
    memset(input + at, c, n);
    input[at + n] = '\0';
    return at + n;
}

/* ---- Heads ---- */

static size_t head_with_target(size_t target)
{
    return put(put_many(put(0, "GET /"), 'x', target - 1), " HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void test_target(void **state)
{
    const size_t rest = strlen("GET  HTTP/1.1\r\nHost: a\r\n\r\n");

    (void)state;
    check("target", head_with_target(4096 - rest), 200);
    check("target", head_with_target(4096 - rest + 1), 0);
    check("target", head_with_target(4090), 0);
    check("target", head_with_target(4096), 414);
    check("target", head_with_target(4097), 414);
    check("target", head_with_target(60000), 414);
    check("target", head_with_target(200000), 414);
}

static size_t head_with_value(size_t value)
{
    return put(put_many(put(0, "GET / HTTP/1.1\r\nHost: a\r\nX: "), 'x', value), "\r\n\r\n");
}

static void test_head(void **state)
{
    size_t rest = strlen("GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"), n;

    (void)state;
    check("head", head_with_value(4096 - rest), 200);
    check("head", head_with_value(4096 - rest + 1), 431);
    check("head", head_with_value(10000), 431);
    check("head", head_with_value(200000), 431);
    n = put_many(put(0, "GET / HTTP/1.1\r\nHost: a\r\n"), 'n', 5000);
    check("name", put(n, ": x\r\n\r\n"), 431);
    n = put_many(put(0, "GET / HTTP/1.1\r\nHost: a\r\nX:"), ' ', 5000);
    check("white space", put(n, "x\r\n\r\n"), 431);
    check("head without end", head_with_value(5000) - 4, 431);
    n = 0;
    while (n < 5000)
        n = put(n, "\r\n");
    check("empty lines", put(n, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 0);
}

/* The largest head that can be configured, next to a full read. */
static void test_largest_head(void **state)
{
    size_t rest = strlen("GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"), n;

    (void)state;
    rig.server.max_head = 65536;
    rig.server.max_body = 1 << 20;
    check("head", head_with_value(65536 - rest), 200);
    check("head", head_with_value(65536 - rest + 1), 431);
    n = put_many(put(0, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 150000\r\nX: "), 'x', 65000);
    n = put_many(put(n, "\r\n\r\n"), 'b', 150000);
    check("head and body", n, 200);
}

static size_t head_with_headers(unsigned count)
{
    size_t n = put(0, "GET / HTTP/1.1\r\nHost: a\r\n");

    while (--count > 0)
        n = put(n, "A:b\r\n");
    return put(n, "\r\n");
}

/* The last one of as many as there may be is read as any other. */
static void check_last_header(const char *line, unsigned status)
{
    size_t n = head_with_headers(ST_HTTP1_MAX_HEADERS - 1) - 2;

    check(line, put(put(put(n, line), "\r\n\r\n"), "0\r\n\r\n"), status);
}

static void test_last_header(void **state)
{
    (void)state;
    check_last_header("Expect: nonsense", 417);
    check_last_header("Transfer-Encoding: gzip, chunked", 501);
    check_last_header("Transfer-Encoding: chunked", 200);
    check_last_header("Host: b", 400);
}

static void test_header_count(void **state)
{
    (void)state;
    check("15 headers", head_with_headers(15), 200); /* around what lies in the exchange */
    check("16 headers", head_with_headers(16), 200);
    check("17 headers", head_with_headers(17), 200);
    check("255 headers", head_with_headers(255), 200);
    check("256 headers", head_with_headers(256), 431);
    check("500 headers", head_with_headers(500), 431);
}

static void test_no_exchange(void **state)
{
    (void)state;
    rig.refuse = true;
    check("request", put(0, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 503);
}

/* ---- Bodies ---- */

static size_t post(size_t length, size_t given)
{
    char head[100];

    sprintf(head, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", length);
    return put_many(put(0, head), 'b', given);
}

static void test_body_by_length(void **state)
{
    (void)state;
    check("body", post(10000, 10000), 200);
    check("body", post(10001, 10001), 413);
    check("announced body", post(10001, 0), 413); /* before the first byte of it */
    check("announced body", post((size_t)1 << 40, 0), 413);
    check("announced body", post(INT64_MAX, 10), 413);
    check("announced body", post(UINT64_MAX, 10), 413);
    rig.server.max_body = 0;
    check("no body", post(0, 0), 200);
    check("body", post(1, 1), 413);
}

static size_t post_chunks(size_t size, size_t total)
{
    size_t n = put(0, CHUNKED);
    char line[32];

    for (; total > 0; total -= size) {
        size = size < total ? size : total;
        sprintf(line, "%zx\r\n", size);
        n = put(put_many(put(n, line), 'c', size), "\r\n");
    }
    return put(n, "0\r\n\r\n");
}

static void test_body_by_chunks(void **state)
{
    static const size_t sizes[] = {1, 7, 100, 9999, 10000, 20000};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(sizes); i++) {
        check("chunked body", post_chunks(sizes[i], 10000), 200);
        check("chunked body", post_chunks(sizes[i], 10001), 413);
        check("chunked body", post_chunks(sizes[i], 30000), 413);
    }
    /* A size alone is not refused, the bytes are. */
    send_cut(input, put(0, CHUNKED "ffffffff\r\nabc"), 0);
    assert_int_equal(rig.client.len, 0);
    h1_send(&rig, input, put_many(0, 'x', 10000));
    assert_string_equal(h1_replies(&rig, NULL), h1_refusal(413));
}

static void test_trailers_and_extensions(void **state)
{
    size_t n;

    (void)state;
    n = put_many(put(0, CHUNKED "0\r\nX:"), 'x', 4000);
    check("trailer", put(n, "\r\n\r\n"), 200);
    n = put_many(put(0, CHUNKED "0\r\nX:"), 'x', 4100);
    check("trailer", put(n, "\r\n\r\n"), 431);
    n = put(0, CHUNKED "0\r\n");
    for (int i = 0; i < 2100; i++)
        n = put(n, "X:y\r\n");
    check("trailers", put(n, "\r\n"), 431);
    n = put_many(put(0, CHUNKED "1;"), 'x', 4000);
    check("extension", put(n, "\r\na\r\n0\r\n\r\n"), 200);
    n = put_many(put(0, CHUNKED "1;"), 'x', 4100);
    check("extension", put(n, "\r\na\r\n0\r\n\r\n"), 431);
    n = put(0, CHUNKED);
    for (int i = 0; i < 1000; i++)
        n = put(n, "1;extension\r\nx\r\n");
    check("extensions", put(n, "0\r\n\r\n"), 431);
}

/* A body that comes in many reads: its memory grows, is bounded, and is given back. */
static void test_body_memory(void **state)
{
    size_t n, total = 3 << 20;
    char *body;

    (void)state;
    rig.server.max_body = 8 << 20;
    rig.on_request = h1_keep;
    for (int chunked = 0; chunked < 2; chunked++) {
        h1_connect(&rig);
        n = chunked != 0 ? put(0, CHUNKED "300000\r\n")
                         : put(0, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3145728\r\n\r\n");
        h1_send(&rig, input, n);
        body = malloc(total);
        assert_non_null(body);
        for (size_t i = 0; i < total; i++)
            body[i] = (char)(i * 7 + i / 251);
        h1_send(&rig, body, total);
        if (chunked != 0)
            h1_send_text(&rig, "\r\n0\r\n\r\n");
        assert_int_equal(rig.count, chunked + 1);
        assert_int_equal(rig.all[chunked]->x.body.len, total);
        assert_memory_equal(rig.all[chunked]->x.body.ptr, body, total);
        assert_true(atomic_load(&rig.net.bodies.used) >= total);
        assert_true(atomic_load(&rig.net.bodies.used) <= (chunked != 0 ? 2 * total : total));
        h1_ok(&rig, (unsigned)chunked, "ok");
        assert_int_equal(atomic_load(&rig.net.bodies.used), 0);
        free(body);
    }
}

/* ---- No body memory ---- */

static void use_up_memory(uint64_t leave)
{
    hold = st_body_region_try_new(&rig.net.bodies,
                                  rig.net.bodies.limit - atomic_load(&rig.net.bodies.used) - leave);
    assert_non_null(hold);
}

static void test_memory_wait(void **state)
{
    (void)state;
    use_up_memory(4999);
    h1_connect(&rig);
    h1_send(&rig, input, post(5000, 0));
    h1_send(&rig, input + post(5000, 1000) - 1000, 1000);
    net_rig_advance(&rig.net, 3000);
    h1_receive(&rig);
    assert_int_equal(rig.client.len, 0);
    assert_int_equal(rig.count, 0);
    free_memory();
    for (int i = 0; i < 10; i++)
        net_rig_advance(&rig.net, 10);
    h1_send(&rig, input + post(5000, 4000) - 4000, 4000);
    assert_string_equal(h1_replies(&rig, NULL), OK_REPLY);
    assert_false(rig.client.eof);
}

static void advance_in_steps(uint64_t ms)
{
    for (; ms >= 100; ms -= 100)
        net_rig_advance(&rig.net, 100);
    h1_receive(&rig);
}

static void test_memory_wait_ends(void **state)
{
    (void)state;
    use_up_memory(4999);
    h1_connect(&rig);
    h1_send(&rig, input, post(5000, 0));
    advance_in_steps(4900);
    assert_int_equal(rig.client.len, 0);
    advance_in_steps(300);
    assert_string_equal(h1_replies(&rig, NULL), h1_refusal(503));
    assert_true(rig.client.eof);
    assert_int_equal(rig.count, 0);
    assert_int_equal(rig.dropped, 1);
    free_memory();
}

/* Bytes of the body came with its head: they wait, too, as they are. */
static void test_memory_wait_with_bytes(void **state)
{
    static const char begin[] = CHUNKED "3\r\nabc\r\n2\r\nde\r\n4\r\nfg";

    (void)state;
    rig.on_request = h1_keep;
    use_up_memory(0);
    h1_connect(&rig);
    h1_send(&rig, input, post(5000, 1000));
    advance_in_steps(4500);
    assert_int_equal(rig.client.len, 0);
    free_memory();
    advance_in_steps(100);
    h1_send(&rig, input + post(5000, 4000) - 4000, 4000);
    assert_int_equal(rig.all[0]->x.body.len, 5000);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(rig.all[0]->x.body.ptr[i], 'b');
    h1_ok(&rig, 0, "ok");
    assert_string_equal(h1_replies(&rig, NULL), OK_REPLY);
    /* Chunks, and another request behind them. */
    use_up_memory(0);
    h1_send_text(&rig, begin);
    advance_in_steps(1000);
    free_memory();
    advance_in_steps(100);
    h1_send_text(&rig, "hi\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_int_equal(rig.count, 3);
    assert_int_equal(rig.all[1]->x.body.len, 9);
    assert_memory_equal(rig.all[1]->x.body.ptr, "abcdefghi", 9);
    h1_ok(&rig, 1, "ok");
    h1_ok(&rig, 2, "ok");
    assert_string_equal(h1_replies(&rig, NULL), OK_REPLY OK_REPLY OK_REPLY);
}

static void test_memory_wait_with_bytes_ends(void **state)
{
    (void)state;
    use_up_memory(4999);
    h1_connect(&rig);
    h1_send(&rig, input, post(5000, 10));
    advance_in_steps(4900);
    assert_int_equal(rig.client.len, 0);
    advance_in_steps(300);
    assert_string_equal(h1_replies(&rig, NULL), h1_refusal(503));
    assert_true(rig.client.eof);
    assert_int_equal(rig.dropped, 1);
    h1_connect(&rig); /* and a client that leaves meanwhile */
    h1_send(&rig, input, post(5000, 10));
    st_http_server_close(&rig.server);
    assert_int_equal(rig.dropped, 2);
    free_memory();
}

/* A body that came with its head needs none. */
static void test_memory_not_needed(void **state)
{
    (void)state;
    use_up_memory(0);
    h1_connect(&rig);
    h1_send(&rig, input, post(5000, 5000));
    assert_string_equal(h1_replies(&rig, NULL), OK_REPLY);
    free_memory();
}

/* A chunked body outgrows what it got first. */
static void test_memory_wait_to_grow(void **state)
{
    size_t n;

    (void)state;
    rig.server.max_body = 1 << 20;
    use_up_memory(100000);
    for (int round = 0; round < 2; round++) {
        h1_connect(&rig);
        h1_send_text(&rig, CHUNKED "10000\r\n");
        n = put_many(0, 'x', 60000);
        h1_send(&rig, input, n);
        h1_send(&rig, input, 65536 - n);
        h1_send_text(&rig, "\r\n1\r\ny\r\n0\r\n\r\n");
        advance_in_steps(1000);
        assert_int_equal(rig.client.len, 0);
        if (round == 0) {
            advance_in_steps(5000);
            assert_string_equal(h1_replies(&rig, NULL), h1_refusal(503));
        } else {
            free_memory();
            advance_in_steps(100);
            assert_string_equal(h1_replies(&rig, NULL), OK_REPLY);
        }
    }
}

static void test_memory_wait_client_leaves(void **state)
{
    struct st_http1 *h;

    (void)state;
    use_up_memory(4999);
    h = h1_connect(&rig);
    h1_send(&rig, input, post(5000, 0));
    assert_true(h->starved);
    st_http_server_close(&rig.server);
    h1_run(&rig);
    assert_int_equal(rig.dropped, 1);
    advance_in_steps(6000);
    free_memory();
}

/* No invitation to send what there is no memory for. */
static void test_memory_and_continue(void **state)
{
    (void)state;
    use_up_memory(4999);
    h1_connect(&rig);
    h1_send_text(&rig, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                       "Content-Length: 5000\r\n\r\n");
    advance_in_steps(1000);
    assert_int_equal(rig.client.len, 0);
    free_memory();
    advance_in_steps(100);
    assert_string_equal(h1_replies(&rig, NULL), CONTINUE);
    h1_send(&rig, input + post(5000, 5000) - 5000, 5000);
    assert_string_equal(h1_replies(&rig, NULL), CONTINUE OK_REPLY);
}

/* ---- Deadlines ---- */

static void test_idle(void **state)
{
    (void)state;
    h1_connect(&rig);
    net_rig_advance(&rig.net, 74999);
    assert_int_equal(rig.closed, 0);
    net_rig_advance(&rig.net, 1);
    assert_int_equal(rig.closed, 1);
    h1_receive(&rig);
    assert_int_equal(rig.client.len, 0); /* nothing is said */
    assert_true(rig.client.eof);
}

static void test_idle_between_requests(void **state)
{
    (void)state;
    h1_connect(&rig);
    for (int i = 0; i < 5; i++) {
        net_rig_advance(&rig.net, 70000);
        h1_send_text(&rig, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert_int_equal(rig.count, 5);
    net_rig_advance(&rig.net, 74999);
    assert_int_equal(rig.closed, 0);
    net_rig_advance(&rig.net, 1);
    assert_int_equal(rig.closed, 1);
}

/* While a request is out there is no deadline; the idle time begins with the reply. */
static void test_slow_answer(void **state)
{
    (void)state;
    rig.on_request = h1_keep;
    h1_connect(&rig);
    h1_send_text(&rig, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    advance_in_steps(3600 * 1000);
    assert_int_equal(rig.closed, 0);
    h1_ok(&rig, 0, "ok");
    assert_string_equal(h1_replies(&rig, NULL), OK_REPLY);
    advance_in_steps(74900);
    assert_int_equal(rig.closed, 0);
    advance_in_steps(200);
    assert_int_equal(rig.closed, 1);
}

static void test_slow_head(void **state)
{
    static const char *const pieces[] = {"G", "GET / HTT", "GET / HTTP/1.1\r\nHost: a\r\nX"};
    static const char *const more[] = {"E", "P", "Y"};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(pieces); i++) {
        h1_connect(&rig);
        net_rig_advance(&rig.net, 20000);
        h1_send_text(&rig, pieces[i]);
        net_rig_advance(&rig.net, 5000);
        h1_send_text(&rig, more[i]); /* another byte is no reprieve */
        net_rig_advance(&rig.net, 4999);
        h1_receive(&rig);
        assert_int_equal(rig.client.len, 0);
        net_rig_advance(&rig.net, 1);
        h1_receive(&rig);
        assert_string_equal(h1_replies(&rig, NULL), h1_refusal(408));
        assert_true(rig.client.eof);
    }
}

/* Its head came in time, its body has a deadline of its own; the next head again. */
static void test_slow_body(void **state)
{
    (void)state;
    h1_connect(&rig);
    h1_send_text(&rig, "POST / HTTP/1.1\r\nHost: a\r\nContent-");
    net_rig_advance(&rig.net, 9000);
    h1_send_text(&rig, "Length: 10\r\n\r\n");
    for (int i = 0; i < 9; i++) {
        net_rig_advance(&rig.net, 29999);
        h1_send_text(&rig, "x");
    }
    assert_int_equal(rig.client.len, 0);
    h1_send_text(&rig, "x");
    assert_string_equal(h1_replies(&rig, NULL), OK_REPLY);
    rig.client.len = 0;
    net_rig_advance(&rig.net, 74000);
    h1_send_text(&rig, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nx");
    net_rig_advance(&rig.net, 29999);
    h1_receive(&rig);
    assert_int_equal(rig.client.len, 0);
    net_rig_advance(&rig.net, 1);
    h1_receive(&rig);
    assert_string_equal(h1_replies(&rig, NULL), h1_refusal(408));
    assert_true(rig.client.eof);
    assert_int_equal(rig.dropped, 1);
}

/* The refusal waits for its turn. */
static void test_slow_head_behind_others(void **state)
{
    (void)state;
    rig.on_request = h1_keep;
    h1_connect(&rig);
    h1_send_text(&rig, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHo");
    advance_in_steps(20000);
    assert_int_equal(rig.client.len, 0);
    h1_ok(&rig, 0, "ok");
    h1_replies(&rig, NULL);
    assert_memory_equal(rig.replies, OK_REPLY, sizeof OK_REPLY - 1);
    assert_string_equal(rig.replies + sizeof OK_REPLY - 1, h1_refusal(408));
    assert_true(rig.client.eof);
}

/* A client that doesn't take its reply. */
static void test_slow_reader(void **state)
{
    struct st_http_response r = {.status = 200};

    (void)state;
    rig.on_request = h1_keep;
    h1_connect(&rig);
    h1_send_text(&rig, "GET /0 HTTP/1.1\r\nHost: a\r\n\r\nGET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    r.body = (struct st_slice){input, sizeof input};
    h1_respond(&rig, 0, &r);
    h1_run(&rig);
    net_rig_advance(&rig.net, 29999);
    assert_int_equal(rig.closed, 0);
    net_rig_advance(&rig.net, 1);
    assert_int_equal(rig.closed, 1);
    assert_int_equal(rig.gone, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, free_and_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_target),
        TEST(test_head),
        TEST(test_largest_head),
        TEST(test_header_count),
        TEST(test_last_header),
        TEST(test_no_exchange),
        TEST(test_body_by_length),
        TEST(test_body_by_chunks),
        TEST(test_trailers_and_extensions),
        TEST(test_body_memory),
        TEST(test_memory_wait),
        TEST(test_memory_wait_ends),
        TEST(test_memory_wait_with_bytes),
        TEST(test_memory_wait_with_bytes_ends),
        TEST(test_memory_not_needed),
        TEST(test_memory_wait_to_grow),
        TEST(test_memory_wait_client_leaves),
        TEST(test_memory_and_continue),
        TEST(test_idle),
        TEST(test_idle_between_requests),
        TEST(test_slow_answer),
        TEST(test_slow_head),
        TEST(test_slow_body),
        TEST(test_slow_head_behind_others),
        TEST(test_slow_reader),
    };

    return cmocka_run_group_tests_name("http1_limits", tests, NULL, NULL);
}
