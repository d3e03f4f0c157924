/* Channels by shared memory, with the worker's end in this process. */
#include "tests/unit/test_process_channel.h"

/* ---- Rings ---- */

static void memory_round_trip(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_record record;
    const char *at;

    (void)state;
    st_channel_set_user(ch, &worker);
    assert_ptr_equal(st_channel_user(ch), &worker);
    assert_int_equal(st_channel_max_record(ch), RING / 4);
    for (uint64_t seq = 1; seq < 100; seq++) {
        uint64_t place = send_event(ch, seq, 64 * seq);

        assert_false(st_channel_has_begun(ch, place));
        assert_true(wire_worker_begin(&worker, &record, &at));
        assert_int_equal(record.seq, seq);
        assert_true(st_channel_has_begun(ch, place));
        wire_worker_release(&worker);
        assert_true(put_result(seq, "hello"));
        pass();
        assert_int_equal(seen.records, seq);
        assert_int_equal(seen.view.seq, seq);
        assert_int_equal(seen.view.kind, ST_WIRE_RESULT);
        assert_int_equal(seen.view.meta.result.status, 201);
        assert_memory_equal(seen.body, "hello", 5);
        assert_int_equal(seen.idles, seq);
    }
    assert_int_equal(seen.brokens, 0);
    close_channel(ch);
}

/* The worker's pipe is written only when it sleeps, once for all records of a pass. */
static void wakes_once(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_record record;
    const char *at;

    (void)state;
    send_event(ch, 1, 32);
    st_loop_settle(&loop);
    assert_int_equal(wake_count(), 0);
    assert_true(wire_worker_begin(&worker, &record, &at));
    assert_true(st_ring_sleep(&worker.in));
    send_event(ch, 2, 32);
    send_event(ch, 3, 32);
    assert_int_equal(wake_count(), 0);
    st_loop_settle(&loop);
    assert_int_equal(wake_count(), 1);
    send_event(ch, 4, 32);
    st_loop_settle(&loop);
    assert_int_equal(wake_count(), 0);
    close_channel(ch);
}

static void gives_others_a_turn(void **state)
{
    struct st_channel *ch = open_channel(true);
    const unsigned count = 1500;

    (void)state;
    seen.in_order = true;
    for (unsigned i = 0; i < count; i++)
        assert_true(wire_worker_put(&worker, ST_WIRE_ACK, 0, i, NULL, 0));
    st_loop_pass(&loop);
    assert_int_equal(seen.records, 1024);
    assert_int_equal(seen.idles, 0);
    st_loop_pass(&loop);
    assert_int_equal(seen.records, count);
    assert_int_equal(seen.idles, 1);
    assert_int_equal(worker.memory->index[ST_WIRE_UP].sleeping, 1);
    close_channel(ch);
}

static void no_room(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_record record;
    unsigned count = 0;
    const char *at;

    (void)state;
    while (send_event(ch, count + 1, 4096) != UINT64_MAX)
        count++;
    assert_int_equal(count, RING / 4096);
    pass();
    assert_int_equal(seen.rooms, 0);
    assert_true(wire_worker_begin(&worker, &record, &at));
    wire_worker_release(&worker);
    st_loop_pass(&loop);
    assert_int_equal(seen.rooms, 1);
    assert_int_not_equal(send_event(ch, count + 1, 4096), UINT64_MAX);
    close_channel(ch);
}

static void taken_back(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_record record;
    uint64_t places[3], from;
    const char *at;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        places[i] = send_event(ch, i + 1, 48);
    assert_true(wire_worker_begin(&worker, &record, &at));
    assert_true(st_channel_take_back(ch, &from));
    assert_int_equal(from, places[1]);
    assert_false(st_channel_take_back(ch, &from));
    assert_false(wire_worker_begin(&worker, &record, &at));
    worker.memory->index[ST_WIRE_DOWN].taken = UINT64_MAX;
    assert_false(st_channel_take_back(ch, &from));
    st_loop_settle(&loop);
    assert_int_equal(seen.brokens, 1);
    close_channel(ch);
}

static void closes_in_callback(void **state)
{
    struct st_channel *ch = open_channel(true);

    (void)state;
    seen.closes = true;
    assert_true(put_result(1, "a") && put_result(2, "b"));
    pass();
    assert_int_equal(seen.records, 1);
    assert_int_equal(seen.idles + seen.brokens, 0);
    (void)ch;
    wire_worker_close(&worker);
}

/* What a worker has left behind. */
static void reads_at_the_end(void **state)
{
    for (int shared = 0; shared < 2; shared++) {
        struct st_channel *ch = open_channel(shared);
        char record[64];
        size_t n = wire_record_put(record, ST_WIRE_ACK, 0, 0, NULL, 0);

        forget();
        seen.in_order = true;
        for (unsigned i = 0; i < 2000; i++) {
            ((struct st_wire_record *)record)->seq = i;
            if (shared)
                assert_true(wire_worker_put(&worker, ST_WIRE_ACK, 0, i, NULL, 0));
            else if (i < 200)
                assert_int_equal(send(worker.sock, record, n, 0), n);
        }
        st_channel_read(ch);
        assert_int_equal(seen.records, shared ? 2000 : 200);
        close_channel(ch);
    }
    (void)state;
}

/* ---- Many rounds with a worker that runs at the same time ---- */

enum { ROUNDS = 20000 };

static unsigned in_flight;

/* Answers each event. */
static void *echo_thread(void *arg)
{
    struct wire_worker *w = arg;
    struct st_rand rand;

    st_rand_seed(&rand, 3);
    for (unsigned count = 0; count < ROUNDS;) {
        struct st_wire_record record;
        const char *at;

        if (!wire_worker_begin(w, &record, &at)) {
            wire_worker_wait(w);
            continue;
        }
        while (!wire_worker_put(w, ST_WIRE_RESULT, 0, record.seq,
                                &(struct wire_part){ST_WIRE_META, &plain, sizeof plain}, 1))
            wire_worker_wait(w);
        count++;
        wire_worker_release(w);
        if (st_rand_next(&rand) % 64 == 0)
            sched_yield();
    }
    return NULL;
}

static void many_rounds(void (*start)(void), void (*join)(void))
{
    struct st_channel *ch = open_channel(true);
    struct st_rand rand;
    uint64_t sent = 0;

    st_rand_seed(&rand, 5);
    seen.in_order = true;
    start();
    while (seen.records < ROUNDS) {
        uint64_t most = 1 + st_rand_next(&rand) % 40;

        for (in_flight = (unsigned)sent - seen.records; in_flight < most && sent < ROUNDS;
             in_flight++, sent++)
            if (send_event(ch, sent, 16 + 16 * (st_rand_next(&rand) % 300)) == UINT64_MAX)
                break;
        st_loop_pass(&loop);
    }
    join();
    assert_int_equal(seen.brokens, 0);
    close_channel(ch);
}

static pthread_t echo;
static pid_t child;

static void start_thread(void)
{
    assert_int_equal(pthread_create(&echo, NULL, echo_thread, &worker), 0);
}

static void join_thread(void)
{
    pthread_join(echo, NULL);
}

static void start_process(void)
{
    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        echo_thread(&worker);
        _exit(0);
    }
}

static void join_process(void)
{
    int status;

    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void rounds_with_a_thread(void **state)
{
    (void)state;
    many_rounds(start_thread, join_thread);
}

static void rounds_with_a_process(void **state)
{
    (void)state;
    many_rounds(start_process, join_process);
}

/* ---- Bodies ---- */

static char large[3 * 1024 * 1024];

static bool worker_sees_ack(const struct st_wire_ref *ref)
{
    struct st_wire_record record;
    struct st_wire_ref got;
    const char *at;

    if (!wire_worker_begin(&worker, &record, &at) || record.kind != ST_WIRE_ACK)
        return false;
    memcpy(&got, wire_section(at, ST_WIRE_BODY_REF).ptr, sizeof got);
    wire_worker_release(&worker);
    return got.region == ref->region && got.offset == ref->offset && got.length == ref->length;
}

static void bodies_down(void **state)
{
    struct st_channel *ch = open_channel(true);
    const struct st_slice body = {large, sizeof large};
    struct st_wire_ref first, second;

    (void)state;
    memset(large, 'q', sizeof large);
    assert_int_equal(st_channel_put_body(ch, (struct st_slice){large, POOL + 1}, &first),
                     ST_ERR_LIMIT);
    assert_int_equal(st_channel_put_body(ch, body, &first), ST_OK);
    assert_int_equal(first.region, ST_WIRE_DOWN);
    assert_memory_equal(wire_worker_pool(&worker, ST_WIRE_DOWN) + first.offset, large,
                        sizeof large);
    assert_int_equal(bodies.used, sizeof large);
    assert_int_equal(st_channel_put_body(ch, body, &second), ST_ERR_AGAIN);
    assert_int_equal(bodies.used, sizeof large);
    st_loop_settle(&loop);
    assert_int_equal(seen.rooms, 0);
    st_channel_free_body(ch, &first);
    st_loop_settle(&loop);
    assert_int_equal(seen.rooms, 1);
    assert_int_equal(bodies.used, 0);
    /* Its pages went back to the system. */
    assert_int_equal(wire_worker_pool(&worker, ST_WIRE_DOWN)[first.offset + 8192], 0);
    bodies.limit = 100;
    assert_int_equal(st_channel_put_body(ch, body, &second), ST_ERR_NOMEM);
    bodies.limit = 64 << 20;
    assert_int_equal(st_channel_put_body(ch, body, &second), ST_OK);
    close_channel(ch); /* with a body in it */
}

static struct st_wire_ref put_ref(void)
{
    const struct st_wire_ref ref = {.region = ST_WIRE_UP, .offset = 4096, .length = 100000};
    const struct wire_part parts[] = {{ST_WIRE_META, &plain, sizeof plain},
                                      {ST_WIRE_BODY_REF, &ref, sizeof ref}};

    memset(wire_worker_pool(&worker, ST_WIRE_UP) + ref.offset, 'z', ref.length);
    assert_true(wire_worker_put(&worker, ST_WIRE_RESULT, 0, 1, parts, 2));
    return ref;
}

static void bodies_up(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_ref ref = put_ref();
    struct st_buf other;

    (void)state;
    seen.borrows = true;
    pass();
    assert_int_equal(seen.records, 1);
    assert_int_equal(seen.borrowed.length, ref.length);
    assert_int_equal(st_buf_data(&seen.borrowed)[ref.length - 1], 'z');
    assert_int_equal(bodies.used, ref.length);
    other = st_buf_ref(&seen.borrowed);
    st_buf_drop(&seen.borrowed);
    st_loop_settle(&loop);
    assert_false(worker_sees_ack(&ref));
    st_buf_drop(&other);
    st_loop_settle(&loop);
    assert_true(worker_sees_ack(&ref));
    assert_int_equal(bodies.used, 0);

    st_channel_return_body(ch, &ref);
    st_loop_settle(&loop);
    assert_true(worker_sees_ack(&ref));

    bodies.limit = 10;
    assert_int_equal(st_channel_borrow_body(ch, &ref, &other), ST_ERR_NOMEM);
    st_loop_settle(&loop);
    assert_true(worker_sees_ack(&ref));
    ref.region = ST_WIRE_DOWN;
    assert_int_equal(st_channel_borrow_body(ch, &ref, &other), ST_ERR_INVALID);
    close_channel(ch);
}

static void body_outlives_channel(void **state)
{
    struct st_channel *ch = open_channel(true);

    (void)state;
    put_ref();
    seen.borrows = true;
    pass();
    close_channel(ch);
    assert_int_equal(st_buf_data(&seen.borrowed)[7], 'z');
    st_buf_drop(&seen.borrowed);
}

/* ACKs that find the ring full wait for room. */
static void ack_waits_for_room(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_ref ref = put_ref();
    struct st_wire_record record;
    const char *at;

    (void)state;
    seen.borrows = true;
    pass();
    while (send_event(ch, 1, 4096) != UINT64_MAX)
        ;
    st_buf_drop(&seen.borrowed);
    st_loop_settle(&loop);
    for (int i = 0; i < RING / 4096; i++)
        assert_true(wire_worker_begin(&worker, &record, &at));
    assert_false(wire_worker_begin(&worker, &record, &at));
    wire_worker_release(&worker);
    st_loop_pass(&loop);
    assert_true(worker_sees_ack(&ref));
    close_channel(ch);
}

static void *drop_thread(void *arg)
{
    st_buf_drop(arg);
    return NULL;
}

static void open_on_loop(struct st_loop *l, void *arg)
{
    struct st_channel **ch = arg;

    (void)l;
    *ch = open_channel(true);
    put_ref();
    seen.borrows = true;
    st_channel_read(*ch);
}

static void close_on_loop(struct st_loop *l, void *arg)
{
    (void)l;
    st_channel_close(arg);
}

/* Released by other threads, while the channel lives and while it is being closed. */
static void released_elsewhere(void **state)
{
    struct st_error err;

    (void)state;
    for (int round = 0; round < 40; round++) {
        const struct st_wire_ref ref = {.region = ST_WIRE_UP, .offset = 4096, .length = 100000};
        struct st_channel *ch;
        pthread_t id;

        assert_int_equal(st_loop_start(&loop, &err), ST_OK);
        st_loop_call(&loop, open_on_loop, &ch);
        assert_int_equal(pthread_create(&id, NULL, drop_thread, &seen.borrowed), 0);
        if (round % 2 == 0) {
            wire_worker_wait(&worker);
            assert_true(worker_sees_ack(&ref));
        }
        st_loop_call(&loop, close_on_loop, ch);
        pthread_join(id, NULL);
        st_loop_stop(&loop);
        st_loop_join(&loop);
        wire_worker_close(&worker);
        forget();
    }
}

/* No memory: nothing is left behind. */
static void fails_to_open(void **state)
{
    struct st_channel_options o = {.loop = &loop,
                                   .handler = &handler,
                                   .bodies = &bodies,
                                   .ring_bytes = RING,
                                   .pool_bytes = (size_t)1 << 55};
    struct st_error err = {.code = ST_OK};

    (void)state;
    assert_null(st_channel_new(&o, &err));
    assert_int_equal(err.code, ST_ERR_SYSTEM);
    assert_non_null(strstr(err.text, "shared memory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(memory_round_trip),
        TEST(wakes_once),
        TEST(gives_others_a_turn),
        TEST(no_room),
        TEST(taken_back),
        TEST(closes_in_callback),
        TEST(reads_at_the_end),
        TEST(rounds_with_a_thread),
        TEST(rounds_with_a_process),
        TEST(bodies_down),
        TEST(bodies_up),
        TEST(body_outlives_channel),
        TEST(ack_waits_for_room),
        TEST(released_elsewhere),
        TEST(fails_to_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
