/* Worker threads: results, order, prefetch, stuck handlers, streams, the end. */
#include "tests/support/rig.h"
#include "tests/unit/native.h"

#include "processor/core/clock.h"

static struct rig rig;

static void start(const struct rig_options *options)
{
    if (!rig_start(&rig, options))
        fail_msg("%s", rig.failure);
}

static struct rig_event *run(const char *body)
{
    struct rig_event *e = rig_event_new(&rig, body);

    rig_run(e);
    return e;
}

static void says(struct rig_event *e, enum st_outcome outcome, const char *text)
{
    if (e->outcome != outcome || strcmp(e->answer, text) != 0)
        fail_msg("%.20s: outcome %d, \"%.80s\"", (const char *)e->body, (int)e->outcome, e->answer);
    assert_int_equal(e->completed, 1);
    assert_int_equal(e->released, 1);
    rig_event_free(e);
}

static void test_echo(void **state)
{
    (void)state;
    for (unsigned loops = 1; loops <= 2; loops++) {
        start(&(struct rig_options){.handler = "echo_blocking.so", .loops = loops});
        for (unsigned i = 0; i < 20; i++) {
            struct rig_event *e = rig_event_new(&rig, "some text");

            e->loop = i % loops;
            e->borrow = i % 3 == 0;
            rig_run(e);
            says(e, ST_OUTCOME_OK, "some text");
        }
        rig_stop(&rig);
    }
}

static void test_init_fails(void **state)
{
    (void)state;
    assert_false(rig_start(&rig, &(struct rig_options){.handler = "init_fails.so"}));
    assert_non_null(strstr(rig.failure, "init_fails.so returned 42"));
    rig_stop(&rig);
}

/* Every event exactly once, on some worker, never two at once on one. Fast handlers: the rings are
 * used to their depth. */
static void test_many(void **state)
{
    enum { N = 20000, WORKERS = 3 };
    struct rig_event **events = calloc(N, sizeof(struct rig_event *));
    unsigned counts[WORKERS] = {0}, sum = 0;

    (void)state;
    assert_non_null(events);
    start(&(struct rig_options){.handler = "count.so", .loops = 2, .workers = WORKERS});
    for (unsigned i = 0; i < N; i++) {
        events[i] = rig_event_new(&rig, "");
        events[i]->loop = i % 2;
    }
    /* At most as many at a time as the queue takes. */
    for (unsigned from = 0; from < N; from += 4000) {
        for (unsigned i = from; i < from + 4000; i++)
            rig_send(events[i]);
        for (unsigned i = from; i < from + 4000; i++)
            assert_true(rig_wait_released(events[i]));
    }
    for (unsigned i = 0; i < N; i++) {
        unsigned index, count, n;

        assert_int_equal(events[i]->outcome, ST_OUTCOME_OK);
        assert_int_equal(sscanf(events[i]->answer, "%u/%u %u", &index, &count, &n), 3);
        assert_int_equal(count, WORKERS);
        assert_true(index < WORKERS);
        counts[index] = n > counts[index] ? n : counts[index];
        rig_event_free(events[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        sum += counts[i];
    assert_int_equal(sum, N); /* nothing ran twice */
    free(events);
    rig_stop(&rig);
}

/* Fast events that are finished don't wait for a slow one behind them, and those behind it go to
 * another worker. */
static void test_slow_among_fast(void **state)
{
    enum { N = 400 };
    struct rig_event *events[N], *slow;
    uint64_t from;

    (void)state;
    start(&(struct rig_options){.handler = "sleep.so", .workers = 2});
    for (unsigned i = 0; i < N; i++)
        rig_send(events[i] = rig_event_new(&rig, "0"));
    for (unsigned i = 0; i < N; i++) {
        assert_true(rig_wait_released(events[i]));
        rig_event_free(events[i]);
    }
    from = st_clock_mono();
    for (unsigned i = 0; i < N / 2; i++)
        rig_send(events[i] = rig_event_new(&rig, "0"));
    rig_send(slow = rig_event_new(&rig, "3000"));
    for (unsigned i = N / 2; i < N; i++)
        rig_send(events[i] = rig_event_new(&rig, "0"));
    for (unsigned i = 0; i < N; i++)
        assert_true(rig_wait_released(events[i]));
    assert_true(st_clock_mono() - from < 2900 * ST_MSEC);
    assert_int_equal(rig_now(slow, &slow->completed), 0);
    assert_true(rig_wait_released(slow));
    for (unsigned i = 0; i < N; i++)
        says(events[i], ST_OUTCOME_OK, "0");
    says(slow, ST_OUTCOME_OK, "3000");
    rig_stop(&rig);
}

/* Cancelled and timed out before they begin: they never run, and the worker goes on. */
static void test_withdrawn(void **state)
{
    struct rig_event *running, *waiting[4];

    (void)state;
    start(&(struct rig_options){.handler = "sleep.so"});
    running = rig_event_new(&rig, "400");
    rig_send(running);
    for (unsigned i = 0; i < 4; i++)
        rig_send(waiting[i] = rig_event_new(&rig, "0"));
    rig_sleep_ms(10);
    rig_cancel(waiting[1]);
    rig_cancel(waiting[3]);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(rig_wait_released(waiting[i]));
        assert_int_equal(waiting[i]->outcome, i % 2 == 1 ? ST_OUTCOME_CANCELLED : ST_OUTCOME_OK);
        rig_event_free(waiting[i]);
    }
    assert_true(rig_wait_released(running));
    says(running, ST_OUTCOME_OK, "400");
    says(run("1"), ST_OUTCOME_OK, "1");
    rig_stop(&rig);
}

/* A handler past eventTimeout: 408 for its event, a new worker for the others; its late result is
 * dropped and the thread ends when it comes back. */
static void test_stuck(void **state)
{
    struct rig_event *stuck, *after[8];

    (void)state;
    start(&(struct rig_options){
        .handler = "hang.so", .loops = 2, .workers = 1, .event_timeout_ns = ST_SEC});
    for (unsigned i = 0; i < 200; i++)
        says(run("quick"), ST_OUTCOME_OK, "alive"); /* earns credits */
    stuck = rig_event_new(&rig, "hang 4000");
    stuck->loop = 1;
    rig_send(stuck);
    for (unsigned i = 0; i < 8; i++)
        rig_send(after[i] = rig_event_new(&rig, "quick"));
    assert_true(rig_wait(stuck));
    assert_int_equal(stuck->outcome, ST_OUTCOME_TIMEOUT);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(rig_wait_released(after[i]));
        says(after[i], ST_OUTCOME_OK, "alive");
    }
    assert_int_equal(rig_now(stuck, &stuck->released), 0); /* still in the handler's hands */
    assert_true(rig_wait_released(stuck));
    says(stuck, ST_OUTCOME_TIMEOUT, "");
    says(run("quick"), ST_OUTCOME_OK, "alive");
    for (int i = 0; i < 6000 && rig_workers(&rig, ST_WORKER_STUCK) != 0; i++)
        rig_sleep_ms(5);
    assert_int_equal(rig_workers(&rig, ST_WORKER_STUCK), 0);
    rig_stop(&rig);
}

static void test_stuck_for_ever(void **state)
{
    struct rig_event *first, *second;

    (void)state;
    start(&(struct rig_options){.handler = "hang.so", .event_timeout_ns = 300 * ST_MSEC});
    first = rig_event_new(&rig, "hang");
    rig_send(first);
    assert_true(rig_wait(first));
    says(run("quick"), ST_OUTCOME_OK, "alive");
    assert_true(st_pool_is_live(rig.pools[0]));
    second = rig_event_new(&rig, "hang");
    rig_send(second);
    assert_true(rig_wait(second));
    for (int i = 0; i < 6000 && rig_workers(&rig, ST_WORKER_STUCK) != 2; i++)
        rig_sleep_ms(5);
    assert_false(st_pool_is_live(rig.pools[0]));
    rig_stop(&rig);
    /* Both threads and events are left to the exit. */
}

static void check_stream(const struct rig_event *e, size_t len)
{
    assert_true(e->answer_len >= len);
    for (size_t i = 0; i < e->answer_len; i++)
        if ((unsigned char)e->answer[i] != i % 251)
            fail_msg("byte %zu differs", i);
}

static void test_stream(void **state)
{
    struct rig_event *e;

    (void)state;
    start(&(struct rig_options){
        .handler = "stream.so", .loops = 2, .can_stream = true, .slow_stream = true});
    e = rig_event_new(&rig, "");
    e->query = "4000";
    e->loop = 1;
    rig_send(e);
    assert_true(rig_wait_for(e, &e->heads));
    rig_sleep_ms(50);
    assert_int_equal(rig_now(e, &e->completed), 0);
    rig_stream_go(e);
    assert_true(rig_wait_released(e));
    assert_int_equal(e->outcome, ST_OUTCOME_OK);
    assert_int_equal(e->answer_len, 4000 * 1024);
    assert_string_equal(e->content_type_text, "application/octet-stream");
    check_stream(e, 4000 * 1024);
    rig_event_free(e);
    e = rig_event_new(&rig, "");
    e->query = "cut";
    rig_run(e);
    assert_int_equal(e->outcome, ST_OUTCOME_ERROR);
    assert_true(e->streamed);
    assert_string_equal(e->answer, "half");
    rig_event_free(e);
    rig_stop(&rig);
}

/* The client has so many bytes, after a while. */
static bool has_bytes(struct rig_event *e, size_t len)
{
    for (int i = 0; i < 4000; i++) {
        size_t n;

        pthread_mutex_lock(&rig.lock);
        n = e->answer_len;
        pthread_mutex_unlock(&rig.lock);
        if (n >= len)
            return true;
        rig_sleep_ms(5);
    }
    return false;
}

/* A stream without end stops when the client leaves, or at eventTimeout. */
static void test_stream_ends(void **state)
{
    struct rig_event *e;

    (void)state;
    start(&(struct rig_options){.handler = "stream.so", .can_stream = true, .slow_stream = true});
    e = rig_event_new(&rig, "");
    e->query = "forever";
    rig_send(e);
    assert_true(has_bytes(e, 256 * 1024));
    rig_cancel(e);
    assert_true(rig_wait_released(e));
    assert_int_equal(e->outcome, ST_OUTCOME_CANCELLED);
    check_stream(e, 256 * 1024);
    rig_event_free(e);
    rig_stop(&rig);

    start(&(struct rig_options){.handler = "stream.so",
                                .can_stream = true,
                                .slow_stream = true,
                                .event_timeout_ns = 60 * ST_MSEC});
    e = rig_event_new(&rig, "");
    e->query = "forever";
    rig_send(e);
    assert_true(rig_wait_released(e));
    check_stream(e, 1);
    rig_event_free(e);
    rig_stop(&rig);
}

static void test_describe(void **state)
{
    struct rig_event *e;

    (void)state;
    start(&(struct rig_options){.handler = "count.so", .workers = 2});
    e = run("");
    assert_string_equal(e->answer + 1, "/2 1");
    rig_event_free(e);
    rig_stop(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echo),      cmocka_unit_test(test_init_fails),
        cmocka_unit_test(test_many),      cmocka_unit_test(test_slow_among_fast),
        cmocka_unit_test(test_withdrawn), cmocka_unit_test(test_stuck),
        cmocka_unit_test(test_stream),    cmocka_unit_test(test_stream_ends),
        cmocka_unit_test(test_describe),  cmocka_unit_test(test_stuck_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
