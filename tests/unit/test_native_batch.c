/* Batches of native handlers, on threads and on loops: many of them while clients leave, and
 * workers that are given up. */
#include "tests/support/rig.h"
#include "tests/unit/native.h"

#include "processor/core/clock.h"
#include "processor/core/rand.h"

enum { SIZE = 200 };

static struct rig rig;

static void start(const struct rig_options *options)
{
    if (!rig_start(&rig, options))
        fail_msg("%s", rig.failure);
}

/* Every event has one answer, also those whose clients leave before, in or after their batch. */
static void run_many(const char *handler)
{
    enum { N = 6000, AT_ONCE = 1000 };
    struct rig_event *events[AT_ONCE];
    struct st_rand rand;
    unsigned handled = 0;

    st_rand_seed(&rand, 1);
    start(&(struct rig_options){.handler = handler,
                                .loops = 2,
                                .workers = 2,
                                .batch_size = SIZE,
                                .batch_wait_ns = ST_MSEC});
    for (unsigned from = 0; from < N; from += AT_ONCE) {
        for (unsigned i = 0; i < AT_ONCE; i++) {
            events[i] = rig_event_new(&rig, i % 9 == 0 ? "early" : "x");
            events[i]->loop = i % 2;
            events[i]->borrow = i % 3 == 0;
            rig_send(events[i]);
            if (st_rand_below(&rand, 4) == 0)
                rig_cancel(events[st_rand_below(&rand, i + 1)]);
        }
        for (unsigned i = 0; i < AT_ONCE; i++) {
            assert_true(rig_wait_released(events[i]));
            assert_int_equal(events[i]->completed, 1);
            handled += events[i]->outcome == ST_OUTCOME_OK;
            if (events[i]->outcome != ST_OUTCOME_OK)
                assert_int_equal(events[i]->outcome, ST_OUTCOME_CANCELLED);
            else if (i % 9 == 0)
                assert_string_equal(events[i]->answer, "deferred");
            rig_event_free(events[i]);
        }
    }
    assert_true(handled >= N / 2); /* a quarter of them at most was cancelled */
    rig_stop(&rig);
}

static void test_many(void **state)
{
    (void)state;
    run_many("batch.so");
    run_many("batch_inline.so");
    run_many("batch_each.so");
    run_many("batch_each_inline.so");
}

/* A full batch is one call, also one that is larger than the rings for single events. */
static void run_full(const char *handler)
{
    struct rig_event *events[SIZE];
    char text[32];

    start(&(struct rig_options){
        .handler = handler, .batch_size = SIZE, .batch_wait_ns = 60 * ST_SEC});
    for (unsigned i = 0; i < SIZE; i++)
        rig_send(events[i] = rig_event_new(&rig, "x"));
    for (unsigned i = 0; i < SIZE; i++) {
        assert_true(rig_wait_released(events[i]));
        snprintf(text, sizeof text, "%u of %d", i, SIZE); /* in their order */
        assert_string_equal(events[i]->answer, text);
        rig_event_free(events[i]);
    }
    rig_stop(&rig);
}

static void test_full(void **state)
{
    (void)state;
    run_full("batch.so");
    run_full("batch_inline.so");
}

/* A batch that hangs is answered; another worker goes on. */
static void test_stuck(void **state)
{
    struct rig_event *hangs[2], *e;

    (void)state;
    start(&(struct rig_options){.handler = "batch.so",
                                .event_timeout_ns = ST_SEC,
                                .batch_size = 2,
                                .batch_wait_ns = ST_MSEC});
    for (unsigned i = 0; i < 2; i++)
        rig_send(hangs[i] = rig_event_new(&rig, "hang"));
    for (unsigned i = 0; i < 2; i++) {
        assert_true(rig_wait(hangs[i]));
        assert_int_equal(hangs[i]->outcome, ST_OUTCOME_TIMEOUT);
    }
    e = rig_event_new(&rig, "x");
    rig_run(e);
    assert_string_equal(e->answer, "0 of 1");
    rig_event_free(e);
    rig_stop(&rig);
    /* The thread and its events are left to the exit. */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_stuck),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
