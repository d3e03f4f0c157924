/* Channels by a socket. */
#include "tests/unit/test_process_channel.h"

static char large[3 * 1024 * 1024];

/* ---- Socket ---- */

static void socket_round_trip(void **state)
{
    struct st_channel *ch = open_channel(false);
    const struct wire_part parts[] = {{ST_WIRE_META, &plain, sizeof plain},
                                      {ST_WIRE_BODY, "hello", 5}};
    char bytes[256];
    size_t n = wire_record_put(bytes, ST_WIRE_RESULT, 0, 9, parts, 2);
    uint64_t place = send_event(ch, 9, 64), from;
    struct st_wire_ref ref;

    (void)state;
    assert_int_equal(st_channel_put_body(ch, ST_SLICE("x"), &ref), ST_ERR_LIMIT);
    assert_false(st_channel_take_back(ch, &from));
    assert_false(st_channel_has_begun(ch, place));
    st_loop_settle(&loop);
    assert_false(st_channel_has_begun(ch, place));
    assert_int_equal(recv(worker.sock, bytes + 128, 16, 0), 16);
    assert_true(st_channel_has_begun(ch, place));
    for (size_t i = 0; i < n; i++) { /* byte by byte */
        assert_int_equal(seen.records, 0);
        assert_int_equal(send(worker.sock, bytes + i, 1, 0), 1);
        pass();
    }
    assert_int_equal(seen.records, 1);
    assert_int_equal(seen.view.seq, 9);
    assert_memory_equal(seen.body, "hello", 5);
    assert_int_equal(seen.brokens, 0);
    close_channel(ch);
}

static void *send_thread(void *arg)
{
    const struct st_slice *s = arg;
    size_t at = 0;

    while (at < s->len) {
        ssize_t n = send(worker.sock, s->ptr + at, s->len - at, 0);

        if (n <= 0)
            return arg;
        at += (size_t)n;
    }
    return NULL;
}

static void socket_large(void **state)
{
    struct st_channel *ch = open_channel(false);
    const struct wire_part parts[] = {{ST_WIRE_META, &plain, sizeof plain},
                                      {ST_WIRE_BODY, large, sizeof large}};
    size_t size = wire_record_size(parts, 2);
    struct st_slice s = {malloc(2 * size), 2 * size};
    pthread_t id;
    void *failed;

    (void)state;
    assert_non_null(s.ptr);
    wire_record_put((char *)s.ptr, ST_WIRE_RESULT, 0, 1, parts, 2);
    wire_record_put((char *)s.ptr + size, ST_WIRE_RESULT, 0, 2, parts, 2);
    bodies.limit = 1024 * 1024; /* not enough: it waits */
    assert_int_equal(pthread_create(&id, NULL, send_thread, &s), 0);
    while (loop.passes < 20)
        st_loop_pass(&loop);
    assert_int_equal(seen.records, 0);
    bodies.limit = 64 << 20;
    while (seen.records < 2)
        st_loop_pass(&loop);
    assert_int_equal(seen.body_len, sizeof large);
    pthread_join(id, &failed);
    assert_null(failed);
    free((char *)s.ptr);
    close_channel(ch);
}

static void socket_no_room(void **state)
{
    struct st_channel *ch = open_channel(false);
    static char bytes[65536];
    size_t got = 0, sent = 0;

    (void)state;
    while (send_event(ch, 1, 16384) != UINT64_MAX) {
        sent += 16384;
        st_loop_settle(&loop);
    }
    assert_true(sent > 64 * 1024);
    assert_int_equal(seen.rooms, 0);
    while (seen.rooms == 0) {
        ssize_t n = recv(worker.sock, bytes, sizeof bytes, MSG_DONTWAIT);

        if (n > 0)
            got += (size_t)n;
        pass();
    }
    assert_int_not_equal(send_event(ch, 1, 16384), UINT64_MAX);
    sent += 16384;
    while (got < sent) {
        ssize_t n = recv(worker.sock, bytes, sizeof bytes, MSG_DONTWAIT);

        if (n > 0)
            got += (size_t)n;
        pass();
    }
    assert_int_equal(got, sent);
    /* One that is alone may be as large as a record can be. */
    assert_int_not_equal(send_event(ch, 1, st_channel_max_record(ch)), UINT64_MAX);
    assert_int_equal(send_event(ch, 1, 16), UINT64_MAX);
    close_channel(ch);
}

static void socket_bad(void **state)
{
    const uint32_t sizes[] = {0, 8, 15, 17, UINT32_MAX, UINT32_MAX - 15, POOL + (1 << 20) + 16};

    (void)state;
    for (size_t i = 0; i <= ST_ARRAY_LEN(sizes); i++) {
        struct st_channel *ch = open_channel(false);

        forget();
        if (i < ST_ARRAY_LEN(sizes)) {
            const struct st_wire_record record = {
                .size = sizes[i], .header_size = 16, .kind = ST_WIRE_ACK};

            assert_int_equal(send(worker.sock, &record, sizeof record, 0), sizeof record);
        } else {
            shutdown(worker.sock, SHUT_WR);
        }
        expect_broken(NULL);
        close_channel(ch);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(socket_round_trip),
        TEST(socket_large),
        TEST(socket_no_room),
        TEST(socket_bad),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
