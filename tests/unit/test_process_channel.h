/* What the tests of channels share: a loop, one channel, the worker's end, what was called back. */
#ifndef TESTS_UNIT_TEST_PROCESS_CHANNEL_H
#define TESTS_UNIT_TEST_PROCESS_CHANNEL_H

#include "tests/unit/test_core.h"

#include <pthread.h>

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

static inline void on_record(struct st_channel *ch, const struct st_wire_view *view)
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

static inline void on_idle(struct st_channel *ch)
{
    (void)ch;
    seen.idles++;
}

static inline void on_broken(struct st_channel *ch, const char *text)
{
    (void)ch;
    seen.brokens++;
    snprintf(seen.text, sizeof seen.text, "%s", text);
}

static inline void on_room(struct st_channel *ch)
{
    (void)ch;
    seen.rooms++;
}

static const struct st_channel_handler handler = {on_record, on_idle, on_broken, on_room};

static inline void forget(void)
{
    memset(&seen, 0, sizeof seen);
}

static inline int open_loop(void **state)
{
    (void)state;
    alarm(PATIENCE); /* a lost wake-up hangs */
    forget();
    bodies = (struct st_body_budget){.limit = 64 << 20};
    return st_loop_open(&loop, 0, "test", NULL);
}

static inline int close_loop(void **state)
{
    (void)state;
    st_loop_close(&loop);
    assert_int_equal(bodies.used, 0);
    return 0;
}

static inline struct st_channel *open_channel(bool shared_memory)
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

static inline void close_channel(struct st_channel *ch)
{
    st_channel_close(ch);
    st_loop_settle(&loop);
    wire_worker_close(&worker);
}

/* Does not wait. */
static inline void pass(void)
{
    const struct timeval now = {0, 0};

    event_base_loopexit(loop.base, &now);
    st_loop_pass(&loop);
}

static const struct st_wire_result plain = {.duration_ns = 5, .status = 201};

static inline bool put_result(uint64_t seq, const char *body)
{
    const struct wire_part parts[] = {{ST_WIRE_META, &plain, sizeof plain},
                                      {ST_WIRE_BODY, body, strlen(body)}};

    return wire_worker_put(&worker, ST_WIRE_RESULT, 0, seq, parts, 2);
}

static inline uint64_t send_event(struct st_channel *ch, uint64_t seq, size_t size)
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

/* Wake-ups of the worker since the last call. */
static inline ssize_t wake_count(void)
{
    char bytes[64];
    ssize_t n = read(worker.wake_in, bytes, sizeof bytes);

    return n < 0 && errno == EAGAIN ? 0 : n;
}

static inline void expect_broken(const char *text)
{
    pass();
    assert_int_equal(seen.brokens, 1);
    assert_int_equal(seen.records + seen.idles, 0);
    if (text != NULL)
        assert_non_null(strstr(seen.text, text));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_loop, close_loop)

#endif
