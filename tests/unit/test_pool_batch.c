/* Pools that hand out batches: full ones at once, others when their first event has waited. */
#include "tests/unit/test_pool.h"

enum { SIZE = 3 };

static struct fake_answer *answers[8];

static void open_pool(unsigned workers, uint64_t wait_ns)
{
    fake_open(&f, &(struct fake_options){.credits = SIZE,
                                         .pool = {{.runtime = &fake_process_kind,
                                                   .workers = workers,
                                                   .wait_ns = ST_SEC,
                                                   .max_queue = 6,
                                                   .batch_size = SIZE,
                                                   .batch_wait_ns = wait_ns}}});
    atomic_store(&f.p.phase, ST_PHASE_READY);
}

static void submit(unsigned from, unsigned n)
{
    for (unsigned i = from; i < from + n; i++)
        answers[i] = fake_send(&f, 0, 0, "x");
}

static void check(unsigned n, enum st_outcome outcome)
{
    for (unsigned i = 0; i < n; i++)
        check_outcome(answers[i], outcome);
}

static void test_full(void **state)
{
    (void)state;
    open_pool(1, 500 * ST_MSEC);
    submit(0, SIZE - 1);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.call_count, 0);
    submit(SIZE - 1, 1);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.batches, 1);
    assert_int_equal(f.call_count, SIZE);
    for (unsigned i = 0; i < SIZE; i++) {
        assert_ptr_equal(f.calls[i].ev, answers[i]->ev); /* in order */
        fake_serve(&f.calls[i]);
    }
    check(SIZE, ST_OUTCOME_OK);
    finish();
}

static void test_time(void **state)
{
    (void)state;
    open_pool(1, 20 * ST_MSEC);
    submit(0, 2);
    fake_wait(&f, 5);
    assert_int_equal(f.call_count, 0);
    fake_wait(&f, 40);
    assert_int_equal(f.batches, 1);
    assert_int_equal(f.call_count, 2);
    fake_serve(&f.calls[0]);
    fake_serve(&f.calls[1]);
    check(2, ST_OUTCOME_OK);
    finish();
}

/* A worker gets its next batch when the last one is whole; another one gets it at once. */
static void test_one_at_a_time(void **state)
{
    (void)state;
    open_pool(1, 10 * ST_MSEC);
    submit(0, SIZE);
    fake_pass(&f.loops[0]);
    submit(SIZE, SIZE);
    fake_wait(&f, 30);
    assert_int_equal(f.batches, 1);
    fake_serve(&f.calls[0]);
    fake_serve(&f.calls[1]);
    assert_int_equal(f.batches, 1);
    fake_serve(&f.calls[2]);
    assert_int_equal(f.batches, 2);
    for (unsigned i = SIZE; i < 2 * SIZE; i++)
        fake_serve(&f.calls[i]);
    check(2 * SIZE, ST_OUTCOME_OK);
    finish();
    open_pool(2, 10 * ST_MSEC);
    submit(0, 2 * SIZE);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.batches, 2);
    for (unsigned i = 0; i < 2 * SIZE; i++)
        fake_serve(&f.calls[i]);
    check(2 * SIZE, ST_OUTCOME_OK);
    finish();
}

/* Waiting for a batch is bounded as other waiting is. */
static void test_bounds(void **state)
{
    (void)state;
    open_pool(1, 10 * ST_MSEC);
    submit(0, SIZE);
    fake_pass(&f.loops[0]);
    submit(SIZE, 4); /* the queue has room for six */
    assert_int_equal(pool()->queued, 4);
    st_event_cancel(answers[SIZE]->ev);
    assert_int_equal(pool()->queued, 3);
    assert_int_equal(answers[SIZE]->outcome, ST_OUTCOME_CANCELLED);
    fake_wait(&f, 1100);
    for (unsigned i = SIZE + 1; i < SIZE + 4; i++)
        assert_int_equal(answers[i]->outcome, ST_OUTCOME_NO_WORKER);
    for (unsigned i = 0; i < SIZE; i++)
        fake_serve(&f.calls[i]);
    check(SIZE, ST_OUTCOME_OK);
    for (unsigned i = SIZE; i < SIZE + 4; i++)
        fake_free(answers[i]);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
