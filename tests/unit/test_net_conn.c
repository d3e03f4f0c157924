#include "tests/unit/test_core.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "processor/net/conn.h"
#include "tests/support/net_rig.h"

enum { WRITE_TIMEOUT_MS = 3000 };

/* A connection whose owner notes what it is told. */
struct thing {
    struct st_conn c;
    char notes[256]; /* a letter for each call: d e s x c */
    char data[4096];
    size_t data_len;
    size_t total; /* bytes of data in all */
    void (*on_data)(struct thing *t);
    void (*on_sent)(struct thing *t);
    void (*on_expired)(struct thing *t);
};

static struct net_rig rig;
static struct net_client client;
static struct thing *thing;
static bool freed;

static void note(struct st_conn *c, char letter)
{
    struct thing *t = ST_CONTAINER_OF(c, struct thing, c);
    size_t len = strlen(t->notes);

    assert_false(strchr(t->notes, 'c') != NULL); /* nothing follows `closed` */
    if (len < sizeof t->notes - 1)
        t->notes[len] = letter;
}

static void on_data(struct st_conn *c, char *data, size_t n)
{
    struct thing *t = ST_CONTAINER_OF(c, struct thing, c);

    note(c, 'd');
    assert_ptr_equal(data, c->net->read_base + ST_NET_CARRY_SIZE);
    memset(data - ST_NET_CARRY_SIZE, 0xee, ST_NET_CARRY_SIZE); /* the room is ours */
    for (size_t i = 0; i < n && t->data_len < sizeof t->data; i++)
        t->data[t->data_len++] = data[i];
    t->total += n;
    if (t->on_data != NULL)
        t->on_data(t);
}

static void on_eof(struct st_conn *c)
{
    note(c, 'e');
    assert_true(c->eof);
}

static void on_sent(struct st_conn *c)
{
    struct thing *t = ST_CONTAINER_OF(c, struct thing, c);

    note(c, 's');
    if (t->on_sent != NULL)
        t->on_sent(t);
}

static void on_expired(struct st_conn *c)
{
    struct thing *t = ST_CONTAINER_OF(c, struct thing, c);

    note(c, 'x');
    if (t->on_expired != NULL)
        t->on_expired(t);
}

static void free_thing(struct st_garbage *g)
{
    struct st_conn *c = ST_CONTAINER_OF(g, struct st_conn, garbage);

    assert_false(freed);
    freed = true;
    free(ST_CONTAINER_OF(c, struct thing, c));
}

static char last_notes[256];

static void on_closed(struct st_conn *c)
{
    struct thing *t = ST_CONTAINER_OF(c, struct thing, c);

    note(c, 'c');
    assert_int_equal(c->fd, -1);
    assert_int_equal(c->out.bytes, 0);
    strcpy(last_notes, t->notes);
    st_loop_free_later(c->net->loop, &c->garbage, free_thing);
}

static const struct st_conn_proto proto = {on_data, on_eof, on_sent, on_expired, on_closed};

static void open_thing(int fd)
{
    freed = false;
    thing = calloc(1, sizeof *thing);
    assert_non_null(thing);
    st_conn_open(&thing->c, net_rig_net(&rig), fd, &net_rig_ops, &proto,
                 WRITE_TIMEOUT_MS * ST_MSEC);
}

static int set_up(void **state)
{
    (void)state;
    net_rig_open(&rig);
    open_thing(net_client_pair(&client));
    return 0;
}

static int set_up_tcp(void **state)
{
    (void)state;
    net_rig_open(&rig);
    open_thing(net_client_pair_tcp(&client));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (!freed)
        st_conn_close(&thing->c);
    st_loop_settle(&rig.loop);
    assert_true(freed);
    assert_int_equal(rig.closes, 1);
    net_client_free(&client);
    net_rig_close(&rig);
    return 0;
}

static char pattern(size_t i)
{
    return (char)('a' + i % 23);
}

static void queue(size_t from, size_t n)
{
    char *bytes = malloc(n);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern(from + i);
    st_outq_copy(&thing->c.out, thing->c.net, (struct st_slice){bytes, n});
    free(bytes);
}

static void queue_ref(size_t from, size_t n)
{
    struct st_region *r = st_region_try_new(n);

    assert_non_null(r);
    for (size_t i = 0; i < n; i++)
        r->base[i] = pattern(from + i);
    st_outq_take(&thing->c.out, thing->c.net, (struct st_buf){r, 0, n});
}

static void assert_received(size_t n)
{
    NET_RIG_UNTIL(&rig, (net_client_read(&client, SIZE_MAX), client.len >= n));
    assert_int_equal(client.len, n);
    for (size_t i = 0; i < n; i++)
        if (client.in[i] != pattern(i))
            fail_msg("byte %zu is wrong", i);
}

/* ---- Reading ---- */

static void test_read(void **state)
{
    (void)state;
    assert_int_equal(net_client_write(&client, "hello", 5), 5);
    net_rig_run(&rig);
    assert_int_equal(net_client_write(&client, " world", 6), 6);
    net_rig_run(&rig);
    assert_string_equal(thing->notes, "dd");
    assert_string_equal(thing->data, "hello world");
    assert_int_equal(rig.reads, 2); /* no read that only finds nothing */
}

static void test_pause(void **state)
{
    (void)state;
    st_conn_pause(&thing->c);
    st_conn_pause(&thing->c);
    assert_int_equal(net_client_write(&client, "hello", 5), 5);
    net_rig_run(&rig);
    st_conn_read_now(&thing->c); /* paused is paused */
    assert_string_equal(thing->notes, "");
    st_conn_resume(&thing->c);
    st_conn_resume(&thing->c);
    st_conn_read_now(&thing->c); /* without a pass */
    assert_string_equal(thing->data, "hello");
    st_conn_read_now(&thing->c); /* nothing there */
    net_rig_run(&rig);
    assert_string_equal(thing->notes, "d");
}

static void test_half_close(void **state)
{
    (void)state;
    assert_int_equal(net_client_write(&client, "bye", 3), 3);
    shutdown(client.fd, SHUT_WR);
    NET_RIG_UNTIL(&rig, thing->c.eof);
    assert_string_equal(thing->notes, "de");
    st_conn_resume(&thing->c); /* no effect: nothing more can come */
    net_rig_run(&rig);
    assert_string_equal(thing->notes, "de");
    queue(0, 10);
    st_conn_send(&thing->c);
    assert_received(10);
    assert_string_equal(thing->notes, "des");
    st_conn_close_when_sent(&thing->c, true); /* does not linger: the peer is done */
    net_rig_run(&rig);
    assert_true(freed);
    assert_string_equal(last_notes, "desc");
}

static void close_thing(struct thing *t)
{
    st_conn_close(&t->c);
    st_conn_close(&t->c);
    assert_false(freed); /* not before the end of the pass */
}

static void test_close_in_data(void **state)
{
    (void)state;
    thing->on_data = close_thing;
    assert_int_equal(net_client_write(&client, "x", 1), 1);
    queue(0, 100);
    st_conn_send_later(&thing->c);
    net_rig_run(&rig);
    assert_true(freed);
    assert_string_equal(last_notes, "dc");
    net_client_read(&client, SIZE_MAX);
    assert_int_equal(client.len, 0); /* what waited went with it */
    assert_true(client.eof || client.error != 0);
}

/* ---- Writing ---- */

static void test_one_write_a_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < 50; i++) {
        queue(i * 10, 10);
        st_conn_send_later(&thing->c);
    }
    net_rig_run(&rig);
    assert_int_equal(rig.writes, 1);
    assert_received(500);
    assert_string_equal(thing->notes, "s");
}

static void test_gathered_write(void **state)
{
    size_t n = ST_OUTQ_COPY_MAX + 1;

    (void)state;
    queue(0, 100);
    queue_ref(100, n);
    queue(100 + n, 100);
    queue_ref(200 + n, n);
    st_conn_send(&thing->c);
    assert_int_equal(rig.writes, 1);
    assert_int_equal(rig.iovs, 4);
    assert_received(200 + 2 * n);
    st_conn_send(&thing->c); /* nothing to send is no call */
    assert_int_equal(rig.writes, 1);
}

static void test_partial_writes(void **state)
{
    static const size_t most[] = {1, 7, 4096, 100000};

    (void)state;
    for (size_t k = 0; k < ST_ARRAY_LEN(most); k++) {
        size_t n = 0;

        rig.write_max = most[k];
        client.len = 0;
        queue(n, 333);
        n += 333;
        queue_ref(n, 20000);
        n += 20000;
        queue(n, 40000);
        n += 40000;
        st_conn_send(&thing->c);
        while (net_client_read(&client, SIZE_MAX) > 0)
            net_rig_run(&rig); /* unix sockets count every write, so it needs several goes */
        assert_received(n);
        assert_false(thing->c.writing);
        memset(thing->notes, 0, sizeof thing->notes);
    }
}

/* More than the socket takes: the rest follows as the client reads. */
static void test_slow_reader(void **state)
{
    const size_t n = 12 << 20;
    size_t left;
    unsigned sent;

    (void)state;
    queue(0, n);
    st_conn_send(&thing->c);
    assert_true(thing->c.writing);
    assert_true(thing->c.out.bytes > 0);
    assert_string_equal(thing->notes, "s");
    sent = rig.writes;
    left = thing->c.out.bytes;
    net_rig_run(&rig);
    /* Not writable: nobody tries. TCP may just have found more room. */
    assert_true(rig.writes == sent || thing->c.out.bytes < left);
    NET_RIG_UNTIL(&rig, (net_client_read(&client, 500000), client.len >= n));
    assert_received(n);
    assert_false(thing->c.writing);
    assert_int_equal(thing->c.write_deadline_ns, 0);
}

static void queue_more(struct thing *t)
{
    t->on_sent = NULL;
    queue(10, 10);
    st_conn_send(&t->c);
}

static void test_send_in_sent(void **state)
{
    (void)state;
    thing->on_sent = queue_more;
    queue(0, 10);
    st_conn_send(&thing->c);
    assert_received(20);
    assert_string_equal(thing->notes, "ss");
    thing->on_sent = close_thing;
    queue(0, 10);
    st_conn_send(&thing->c);
    net_rig_run(&rig);
    assert_string_equal(last_notes, "sssc");
}

static void test_interrupted_and_broken_write(void **state)
{
    (void)state;
    queue(0, 10);
    rig.write_blocked = true;
    st_conn_send(&thing->c);
    assert_true(thing->c.writing);
    rig.write_blocked = false;
    net_rig_run(&rig);
    assert_received(10);
    queue(0, 10);
    rig.write_errno = ECONNRESET;
    st_conn_send(&thing->c);
    net_rig_run(&rig);
    assert_true(freed);
    assert_string_equal(last_notes, "sc");
}

static void test_client_gone_epipe(void **state)
{
    (void)state;
    st_conn_pause(&thing->c);
    net_client_close(&client, false);
    queue(0, 10);
    st_conn_send(&thing->c);
    net_rig_run(&rig);
    assert_true(freed);
    assert_string_equal(last_notes, "c");
}

/* The first write after the client's close still succeeds; the RST that answers it ends the wait
 * for room. */
static void test_client_gone_while_blocked(void **state)
{
    (void)state;
    st_conn_pause(&thing->c);
    queue(0, 8 << 20);
    st_conn_send(&thing->c);
    assert_true(thing->c.writing);
    net_client_close(&client, true);
    NET_RIG_UNTIL(&rig, freed);
    /* Before the RST there may have been room once more. */
    assert_string_equal(last_notes + strspn(last_notes, "s"), "c");
    assert_true(last_notes[0] == 's');
}

static void test_reset_seen_by_read(void **state)
{
    (void)state;
    net_client_close(&client, true);
    NET_RIG_UNTIL(&rig, freed);
    assert_string_equal(last_notes, "c"); /* no eof */
}

/* ---- Deadlines ---- */

static void at_ms(uint64_t ms)
{
    st_conn_set_deadline(&thing->c, ms != 0 ? st_loop_now(&rig.loop) + ms * ST_MSEC : 0);
}

static void test_deadline(void **state)
{
    (void)state;
    net_rig_advance(&rig, 3600 * 1000);
    assert_string_equal(thing->notes, ""); /* none is set */
    at_ms(1000);
    net_rig_advance(&rig, 999);
    assert_string_equal(thing->notes, "");
    net_rig_advance(&rig, 1);
    assert_string_equal(thing->notes, "x"); /* once */
    net_rig_advance(&rig, 100000);
    assert_string_equal(thing->notes, "x");
}

static void test_deadline_moves(void **state)
{
    (void)state;
    at_ms(1000);
    net_rig_advance(&rig, 500);
    at_ms(1000); /* later, at 1500 */
    net_rig_advance(&rig, 999);
    assert_string_equal(thing->notes, "");
    at_ms(100); /* earlier */
    net_rig_advance(&rig, 100);
    assert_string_equal(thing->notes, "x");
    at_ms(1000);
    at_ms(0); /* never */
    net_rig_advance(&rig, 100000);
    assert_string_equal(thing->notes, "x");
    at_ms(20000); /* after a time without any: not late by more than the check */
    net_rig_advance(&rig, 19999);
    assert_string_equal(thing->notes, "x");
    net_rig_advance(&rig, 1);
    assert_string_equal(thing->notes, "xx");
}

static void test_deadline_set_in_expired(void **state)
{
    (void)state;
    thing->on_expired = close_thing;
    at_ms(10);
    net_rig_advance(&rig, 10);
    assert_true(freed);
    assert_string_equal(last_notes, "xc");
}

static void test_write_deadline(void **state)
{
    (void)state;
    queue(0, 1 << 20);
    st_conn_send(&thing->c);
    net_rig_advance(&rig, WRITE_TIMEOUT_MS - 1);
    assert_int_equal(thing->c.closed, false);
    /* Progress starts it again. */
    assert_true(net_client_read(&client, SIZE_MAX) > 0);
    net_rig_run(&rig);
    net_rig_advance(&rig, WRITE_TIMEOUT_MS - 1);
    assert_false(freed);
    net_rig_advance(&rig, 1);
    assert_true(freed);
    assert_string_equal(last_notes, "ssc");
}

/* The client takes a little more, until the connection could know; that has no pass meanwhile. */
static void take_some(void)
{
    uint64_t end = st_clock_mono() + 30 * ST_SEC;
    int held;

    do {
        assert_true(st_clock_mono() < end);
        if (net_client_read(&client, 100000) == 0)
            net_rig_nap();
        assert_int_equal(ioctl(thing->c.fd, SIOCOUTQ, &held), 0);
    } while (held >= thing->c.kernel_held);
}

/* The kernel tells of room only when there is much of it: a client that takes less is still there.
 */
static void test_write_deadline_slow_reader(void **state)
{
    (void)state;
    queue(0, 12 << 20);
    st_conn_send(&thing->c);
    assert_true(thing->c.writing);
    for (int i = 0; i < 10; i++) {
        take_some();
        net_rig_advance(&rig, WRITE_TIMEOUT_MS);
        assert_false(freed);
    }
    while (!freed) { /* the kernels settle what is on its way */
        net_rig_nap();
        net_rig_advance(&rig, WRITE_TIMEOUT_MS);
    }
}

/* A write deadline that was met is gone, and the owner's own is still there. */
static void test_both_deadlines(void **state)
{
    (void)state;
    at_ms(WRITE_TIMEOUT_MS + 500);
    queue(0, 1 << 20);
    st_conn_send(&thing->c);
    net_rig_advance(&rig, 1000);
    while (net_client_read(&client, SIZE_MAX) > 0)
        net_rig_run(&rig);
    assert_received(1 << 20);
    memset(thing->notes, 0, sizeof thing->notes);
    net_rig_advance(&rig, WRITE_TIMEOUT_MS - 501);
    assert_string_equal(thing->notes, "");
    net_rig_advance(&rig, 1);
    assert_string_equal(thing->notes, "x");
}

/* ---- The end ---- */

static void test_close_when_sent(void **state)
{
    (void)state;
    queue(0, 1 << 20);
    st_conn_close_when_sent(&thing->c, false);
    assert_int_equal(rig.writes, 0); /* at the end of the pass */
    assert_int_equal(net_client_write(&client, "more", 4), 4);
    net_rig_run(&rig);
    assert_false(freed);
    st_conn_close_when_sent(&thing->c, false); /* again: no effect */
    while (net_client_read(&client, SIZE_MAX) > 0)
        net_rig_run(&rig);
    assert_received(1 << 20);
    assert_true(client.eof);
    assert_int_equal(client.error, 0); /* no reset, although "more" was not asked for */
    net_client_close(&client, false);
    net_rig_run(&rig);
    assert_true(freed);
    assert_null(strchr(last_notes, 'd'));
}

static void test_close_when_nothing_to_send(void **state)
{
    (void)state;
    at_ms(10);
    st_conn_close_when_sent(&thing->c, false);
    assert_int_equal(rig.closes, 1);
    net_rig_advance(&rig, 100);
    assert_true(freed);
    assert_string_equal(last_notes, "c");
    net_client_read(&client, SIZE_MAX);
    assert_true(client.eof);
}

/* The client still sends when the reply is written: it gets the reply and FIN, not a reset. */
static void test_linger(void **state)
{
    static char junk[50000];

    (void)state;
    assert_true(net_client_write(&client, junk, sizeof junk) == sizeof junk);
    queue(0, 100);
    st_conn_close_when_sent(&thing->c, true);
    net_rig_run(&rig);
    assert_false(freed);
    assert_received(100);
    NET_RIG_UNTIL(&rig, (net_client_read(&client, SIZE_MAX), client.eof || client.error != 0));
    assert_int_equal(client.error, 0);
    assert_int_equal(rig.shutdowns, 1);
    st_conn_close_when_sent(&thing->c, true); /* again: it still ends */
    assert_true(net_client_write(&client, junk, sizeof junk) == sizeof junk);
    net_rig_run(&rig);
    assert_false(freed);
    net_client_close(&client, false);
    NET_RIG_UNTIL(&rig, freed);
    assert_string_equal(last_notes, "sc");
}

static void test_linger_ends_by_time(void **state)
{
    (void)state;
    st_conn_close_when_sent(&thing->c, true);
    net_rig_advance(&rig, 1000);
    assert_int_equal(net_client_write(&client, "more", 4), 4);
    net_rig_advance(&rig, 999);
    assert_false(freed);
    net_rig_advance(&rig, 1);
    assert_true(freed);
    assert_string_equal(last_notes, "c"); /* not the owner's deadline */
}

static void test_linger_ends_by_bytes(void **state)
{
    static char junk[65536];
    size_t sent = 0;

    (void)state;
    st_conn_close_when_sent(&thing->c, true);
    while (!freed && sent < 3u * ST_CONN_LINGER_BYTES) {
        sent += net_client_write(&client, junk, sizeof junk);
        net_rig_run(&rig);
    }
    assert_true(freed);
    assert_true(sent > ST_CONN_LINGER_BYTES);
    assert_true(sent < ST_CONN_LINGER_BYTES + 500000);
}

/* The client doesn't take the reply before which the connection should close. */
static void test_close_when_never_sent(void **state)
{
    (void)state;
    queue(0, 1 << 20);
    st_conn_close_when_sent(&thing->c, true);
    net_rig_run(&rig);
    net_rig_advance(&rig, WRITE_TIMEOUT_MS - 1);
    assert_false(freed);
    net_rig_advance(&rig, 1);
    assert_true(freed);
    assert_string_equal(last_notes, "sc");
}

int main(void)
{
#define UNIX_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define TCP_TEST(f) cmocka_unit_test_setup_teardown(f, set_up_tcp, tear_down)
    const struct CMUnitTest tests[] = {
        UNIX_TEST(test_read),
        UNIX_TEST(test_pause),
        UNIX_TEST(test_half_close),
        TCP_TEST(test_half_close),
        UNIX_TEST(test_close_in_data),
        UNIX_TEST(test_one_write_a_pass),
        UNIX_TEST(test_gathered_write),
        UNIX_TEST(test_partial_writes),
        UNIX_TEST(test_slow_reader),
        TCP_TEST(test_slow_reader),
        UNIX_TEST(test_send_in_sent),
        UNIX_TEST(test_interrupted_and_broken_write),
        UNIX_TEST(test_client_gone_epipe),
        TCP_TEST(test_client_gone_while_blocked),
        TCP_TEST(test_reset_seen_by_read),
        UNIX_TEST(test_deadline),
        UNIX_TEST(test_deadline_moves),
        UNIX_TEST(test_deadline_set_in_expired),
        UNIX_TEST(test_write_deadline),
        TCP_TEST(test_write_deadline_slow_reader),
        UNIX_TEST(test_both_deadlines),
        UNIX_TEST(test_close_when_sent),
        UNIX_TEST(test_close_when_nothing_to_send),
        UNIX_TEST(test_linger),
        TCP_TEST(test_linger),
        UNIX_TEST(test_linger_ends_by_time),
        UNIX_TEST(test_linger_ends_by_bytes),
        UNIX_TEST(test_close_when_never_sent),
    };

    return cmocka_run_group_tests_name("conn", tests, NULL, NULL);
}
