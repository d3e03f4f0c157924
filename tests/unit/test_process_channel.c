/* Channels: both ways, with the worker's end in this process. */
#include "tests/unit/test_core.h"

#include <pthread.h>
#include <sys/ioctl.h>

#include "processor/core/rand.h"
#include "processor/net/net.h"
#include "tests/support/wire_worker.h"

enum { RING = 64 * 1024, POOL = 4 * 1024 * 1024, PATIENCE = 120 /* s */ };

static struct st_loop loop;
static struct st_body_budget bodies;
static struct wire_worker worker;

/* What was called back since the last forget(). */
static struct {
    unsigned records, idles, rooms, brokens;
    struct st_wire_view view; /* the last one; slices only during the call */
    char body[256];
    size_t body_len;
    uint64_t next_seq; /* records of `in_order` have these */
    bool in_order, closes, borrows;
    struct st_buf borrowed;
    char text[128];
} seen;

static void on_record(struct st_channel *ch, const struct st_wire_view *view)
{
    seen.records++;
    seen.view = *view;
    seen.body_len = view->body.len;
    if (view->body.len <= sizeof seen.body && view->body.len != 0)
        memcpy(seen.body, view->body.ptr, view->body.len);
    if (seen.in_order) {
        assert_int_equal(view->seq, seen.next_seq);
        seen.next_seq++;
    }
    if (seen.borrows)
        assert_int_equal(st_channel_borrow_body(ch, &view->ref, &seen.borrowed), ST_OK);
    if (seen.closes)
        st_channel_close(ch);
}

static void on_idle(struct st_channel *ch)
{
    (void)ch;
    seen.idles++;
}

static void on_broken(struct st_channel *ch, const char *text)
{
    (void)ch;
    seen.brokens++;
    snprintf(seen.text, sizeof seen.text, "%s", text);
}

static void on_room(struct st_channel *ch)
{
    (void)ch;
    seen.rooms++;
}

static const struct st_channel_handler handler = {on_record, on_idle, on_broken, on_room};

static void forget(void)
{
    memset(&seen, 0, sizeof seen);
}

static int open_loop(void **state)
{
    (void)state;
    alarm(PATIENCE); /* a lost wake-up hangs */
    forget();
    bodies = (struct st_body_budget){.limit = 64 << 20};
    return st_loop_open(&loop, 0, "test", NULL);
}

static int close_loop(void **state)
{
    (void)state;
    st_loop_close(&loop);
    assert_int_equal(bodies.used, 0);
    return 0;
}

static struct st_channel *open_channel(bool shared_memory)
{
    const struct st_channel_options o = {.loop = &loop,
                                         .handler = &handler,
                                         .bodies = &bodies,
                                         .ring_bytes = RING,
                                         .pool_bytes = POOL};
    struct st_channel *ch = st_channel_new(&o, NULL);

    assert_non_null(ch);
    wire_worker_open(&worker, ch);
    st_channel_close_far(ch);
    st_channel_start(ch, shared_memory);
    return ch;
}

static void close_channel(struct st_channel *ch)
{
    st_channel_close(ch);
    st_loop_settle(&loop);
    wire_worker_close(&worker);
}

/* Does not wait. */
static void pass(void)
{
    const struct timeval now = {0, 0};

    event_base_loopexit(loop.base, &now);
    st_loop_pass(&loop);
}

static const struct st_wire_result plain = {.duration_ns = 5, .status = 201};

static bool put_result(uint64_t seq, const char *body)
{
    const struct wire_part parts[] = {{ST_WIRE_META, &plain, sizeof plain},
                                      {ST_WIRE_BODY, body, strlen(body)}};

    return wire_worker_put(&worker, ST_WIRE_RESULT, 0, seq, parts, 2);
}

static uint64_t send_event(struct st_channel *ch, uint64_t seq, size_t size)
{
    const struct st_wire_record record = {
        .size = (uint32_t)size, .header_size = 16, .kind = ST_WIRE_EVENT, .seq = seq};
    char *at = st_channel_reserve(ch, size);

    if (at == NULL)
        return UINT64_MAX;
    memset(at, 0, size);
    memcpy(at, &record, sizeof record);
    return st_channel_commit(ch);
}

static uint64_t eventfd_count(int fd)
{
    uint64_t n = 0;

    return read(fd, &n, sizeof n) == (ssize_t)sizeof n ? n : 0;
}

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

/* The worker's eventfd is written only when it sleeps, once for all records of a pass. */
static void wakes_once(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_record record;
    const char *at;

    (void)state;
    send_event(ch, 1, 32);
    st_loop_settle(&loop);
    assert_int_equal(eventfd_count(worker.wake_in), 0);
    assert_true(wire_worker_begin(&worker, &record, &at));
    assert_true(st_ring_sleep(&worker.in));
    send_event(ch, 2, 32);
    send_event(ch, 3, 32);
    assert_int_equal(eventfd_count(worker.wake_in), 0);
    st_loop_settle(&loop);
    assert_int_equal(eventfd_count(worker.wake_in), 1);
    send_event(ch, 4, 32);
    st_loop_settle(&loop);
    assert_int_equal(eventfd_count(worker.wake_in), 0);
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

/* ---- Hostile workers ---- */

struct bad {
    uint64_t seq;
    uint32_t size;
    uint16_t header_size;
    uint8_t kind;
    struct st_wire_section section[2];
    const char *text;
};

#define SECTION(id_, offset_, length_)                        \
    {                                                         \
        .id = (id_), .offset = (offset_), .length = (length_) \
    }

static const struct bad bads[] = {
    {0, 16, 16, ST_WIRE_FILL, {{0}}, NULL},
    {0, 16, 16, ST_WIRE_EVENT, {{0}}, "kind"},
    {0, 16, 16, ST_WIRE_BATCH, {{0}}, "kind"},
    {0, 16, 16, ST_WIRE_CANCEL, {{0}}, "kind"},
    {0, 16, 16, ST_WIRE_RETURN, {{0}}, "kind"},
    {0, 16, 16, 77, {{0}}, "kind"},
    {0, 16, 16, 255, {{0}}, "kind"},
    {0, 64, 15, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 0, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 17, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 76, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 4096, 16 + 12 * 65, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, UINT16_MAX, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 27, 4)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 28, 37)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 65, 0)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, UINT32_MAX, 2)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 32, UINT32_MAX - 16)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(999, 32, 33)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_META, 32, 15)}, "META"},
    {0, 64, 28, ST_WIRE_CHUNK, {SECTION(ST_WIRE_META, 32, 0)}, "META"},
    {0, 64, 28, ST_WIRE_CREDIT, {SECTION(ST_WIRE_META, 32, 7)}, "META"},
    {0, 64, 28, ST_WIRE_ACK, {SECTION(ST_WIRE_BODY_REF, 32, 23)}, "BODY_REF"},
};

static void put_bad(char *at, const struct bad *b)
{
    const struct st_wire_record record = {
        .size = b->size, .header_size = b->header_size, .kind = b->kind, .seq = b->seq};

    memset(at, 0, 4096);
    memcpy(at, &record, sizeof record);
    memcpy(at + sizeof record, b->section, sizeof b->section);
}

static void expect_broken(const char *text)
{
    pass();
    assert_int_equal(seen.brokens, 1);
    assert_int_equal(seen.records + seen.idles, 0);
    if (text != NULL)
        assert_non_null(strstr(seen.text, text));
}

static void bad_records(void **state)
{
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        for (size_t i = 0; i < ST_ARRAY_LEN(bads); i++) {
            struct st_channel *ch = open_channel(shared);
            char bytes[4096], *at = bytes;

            forget();
            if (shared)
                assert_int_equal(st_ring_reserve(&worker.out, 4096, &at), ST_RING_OK);
            put_bad(at, &bads[i]);
            if (shared) {
                st_ring_commit(&worker.out);
                wire_worker_signal(&worker);
            } else {
                assert_int_equal(send(worker.sock, bytes, bads[i].size, 0), bads[i].size);
            }
            expect_broken(bads[i].text);
            assert_null(st_channel_reserve(ch, 16));
            pass();
            assert_int_equal(seen.brokens, 1); /* told once */
            close_channel(ch);
        }
    }
}

static void bad_refs(void **state)
{
    const struct st_wire_ref refs[] = {
        {.region = 2, .length = 1},
        {.region = 1, .offset = POOL, .length = 1},
        {.region = 1, .offset = POOL + 1},
        {.region = 0, .length = POOL + 1},
        {.region = 1, .offset = 16, .length = UINT64_MAX - 8},
        {.region = 1, .offset = UINT64_MAX, .length = 2},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(refs); i++) {
        struct st_channel *ch = open_channel(true);

        forget();
        assert_true(wire_worker_put(&worker, ST_WIRE_ACK, 0, 0,
                                    &(struct wire_part){ST_WIRE_BODY_REF, &refs[i], sizeof refs[i]},
                                    1));
        expect_broken("BODY_REF");
        close_channel(ch);
    }
}

static void bad_indexes(void **state)
{
    const uint64_t values[] = {8, RING + 16, UINT64_MAX, UINT64_MAX - 15};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(values); i++) {
        struct st_channel *ch = open_channel(true);

        forget();
        worker.memory->index[ST_WIRE_UP].tail = values[i];
        wire_worker_signal(&worker);
        expect_broken("ring to the processor");
        close_channel(ch);

        ch = open_channel(true);
        forget();
        while (send_event(ch, 1, 4096) != UINT64_MAX)
            ;
        worker.memory->index[ST_WIRE_DOWN].head = values[i];
        send_event(ch, 1, 4096);
        expect_broken("head");
        close_channel(ch);
    }
}

/* Other fields of the shared memory mean nothing to the processor once the worker has it. */
static void scribbled_header(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_memory *m = worker.memory;

    (void)state;
    memset(m, 0xff, offsetof(struct st_wire_memory, index));
    m->index[ST_WIRE_UP].taken = m->index[ST_WIRE_UP].full = 99;
    m->index[ST_WIRE_DOWN].sleeping = 99;
    send_event(ch, 1, 64);
    assert_true(put_result(1, "x"));
    wire_worker_signal(&worker);
    pass();
    assert_int_equal(seen.records, 1);
    assert_int_equal(seen.brokens, 0);
    close_channel(ch);
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
    assert_true(sent > 256 * 1024);
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_loop, close_loop)

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
        TEST(bad_records),
        TEST(bad_refs),
        TEST(bad_indexes),
        TEST(scribbled_header),
        TEST(bodies_down),
        TEST(bodies_up),
        TEST(body_outlives_channel),
        TEST(ack_waits_for_room),
        TEST(released_elsewhere),
        TEST(socket_round_trip),
        TEST(socket_large),
        TEST(socket_no_room),
        TEST(socket_bad),
        TEST(fails_to_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
