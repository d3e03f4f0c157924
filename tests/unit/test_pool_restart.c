/* Workers that can be ended from outside: the pool restarts them in their place. */
#include "tests/unit/test_pool.h"

#include <pthread.h>

#include "processor/core/metrics.h"

/* A pool of one worker, of a processor that serves. */
static struct st_worker *open_pool(unsigned loops, uint64_t event_timeout_ns)
{
    fake_open(&f, &(struct fake_options){.loops = loops,
                                         .credits = 2,
                                         .pool = {{.runtime = &fake_process_kind,
                                                   .wait_ns = ST_SEC,
                                                   .max_queue = 8,
                                                   .event_timeout_ns = event_timeout_ns}}});
    atomic_store(&f.p.phase, ST_PHASE_READY);
    return pool()->workers[0];
}

/* The same, whose workers are ready when the test says so. */
static struct st_worker *open_manual(void)
{
    fake_open(&f,
              &(struct fake_options){.manual_spawn = true,
                                     .pool = {{.runtime = &fake_process_kind, .max_queue = 8}}});
    atomic_store(&f.p.phase, ST_PHASE_READY);
    return pool()->workers[0];
}

/* As a runtime does whose process has died: `begun` fails, `other` goes back. */
static void lose(struct fake_call *begun, struct fake_call *other)
{
    struct st_worker *w = begun->w;

    st_worker_retreat(w, other != NULL ? 1 : 0);
    fake_end(begun, ST_OUTCOME_CRASH);
    st_worker_lost(w, ST_LOST_CRASH, "was killed");
    if (other != NULL && st_event_recall(other->ev, other->assignment))
        st_pool_resubmit(pool(), other->ev);
}

static void test_crash(void **state)
{
    struct st_worker *w = open_pool(1, 0);
    struct fake_answer *a = fake_send(&f, 0, 0, "x"), *b = fake_send(&f, 0, 0, "x");

    (void)state;
    assert_true(fake_begin(&f.calls[0]));
    lose(&f.calls[0], &f.calls[1]);
    assert_int_equal(w->state, ST_WORKER_RESTARTING);
    assert_string_equal(w->last_error, "was killed");
    assert_int_equal(pool()->queued, 1);
    assert_false(st_pool_is_usable(pool()));
    fake_wait(&f, 5);
    assert_int_equal(f.spawned, 2);
    assert_ptr_equal(pool()->workers[0], w);
    assert_ptr_equal(f.calls[2].ev, b->ev);
    fake_serve(&f.calls[2]);
    check_outcome(a, ST_OUTCOME_CRASH);
    check_outcome(b, ST_OUTCOME_OK);
    assert_int_equal(st_metric_value(pool()->metrics.restarts[ST_LOST_CRASH]), 1);
    assert_int_equal(w->restarts, 1);
    finish();
}

/* As if it were ready, and its start and its life had taken so long. */
static void live(struct st_worker *w, uint64_t start_ms, uint64_t life_ms)
{
    w->ready_ns = st_loop_now(w->loop) - life_ms * ST_MSEC;
    w->spawned_ns = w->ready_ns - start_ms * ST_MSEC;
}

/* As if it had not been ready since it was started. */
static void start(struct st_worker *w, uint64_t start_ms)
{
    w->ready_ns = 0;
    w->spawned_ns = st_loop_now(w->loop) - start_ms * ST_MSEC;
}

/* It ends; how many milliseconds later it is started again, which comes now. */
static unsigned lost(struct st_worker *w, enum st_worker_loss loss)
{
    uint64_t now = st_loop_now(w->loop) / ST_MSEC, at;

    st_worker_lost(w, loss, "was killed");
    assert_int_equal(w->state, ST_WORKER_RESTARTING);
    assert_true(st_timer_armed(&w->retry));
    at = w->retry.expires;
    st_loop_timer_arm(w->loop, &w->retry, 0);
    while (w->state == ST_WORKER_RESTARTING)
        fake_wait(&f, 1);
    return at > now ? (unsigned)(at - now) : 0;
}

/* Lives that are short beside their starts make the next one wait, but never for long. */
static void test_crash_loop(void **state)
{
    static const unsigned delays[] = {0, 100, 200, 400, 800, 800, 800};
    struct st_worker *w = open_manual();

    (void)state;
    for (unsigned i = 0; i < ST_ARRAY_LEN(delays); i++) {
        live(w, 2001, 8000);
        assert_in_range(lost(w, ST_LOST_EXIT), delays[i] / 2, delays[i] * 3 / 2 + 1);
        assert_int_equal(w->failures, i < 5 ? i + 1 : 5);
    }
    live(w, 2001, 9000);
    assert_in_range(lost(w, ST_LOST_CRASH), 0, 1);
    assert_int_equal(w->failures, 0);
    live(w, 2001, 1);
    assert_in_range(lost(w, ST_LOST_RECYCLED), 0, 1);
    assert_int_equal(w->failures, 0);
    st_worker_ready(w, 1);
    finish();
}

/* Killed again and again, ready or not: there are no delays while little time is lost by it. */
static void test_killed_often(void **state)
{
    struct st_worker *w = open_manual();

    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        live(w, 50, 50);
        assert_in_range(lost(w, ST_LOST_CRASH), 0, 1);
        start(w, 45);
        assert_in_range(lost(w, ST_LOST_CRASH), 0, 1);
    }
    assert_int_equal(w->failures, 0);
    start(w, 120);
    assert_in_range(lost(w, ST_LOST_CRASH), 0, 1);
    for (unsigned ms = 100; ms <= 3200; ms *= 2) {
        start(w, 120);
        assert_in_range(lost(w, ST_LOST_CRASH), ms / 2, ms * 3 / 2 + 1);
    }
    assert_int_equal(w->failures, 7); /* of one that the kernel kills at every start */
    live(w, 45, 200);
    assert_in_range(lost(w, ST_LOST_CRASH), 0, 1);
    assert_int_equal(w->failures, 0);
    st_worker_ready(w, 1);
    finish();
}

/* Whoever has stopped failing is told so while it serves. */
static void test_failures_are_forgotten(void **state)
{
    struct st_worker *w = open_pool(1, 0);

    (void)state;
    live(w, 2001, 1);
    st_worker_lost(w, ST_LOST_CRASH, "was killed");
    assert_int_equal(w->failures, 1);
    for (unsigned i = 0; i < 1000 && w->failures > 0; i++)
        fake_wait(&f, 10);
    assert_int_equal(w->failures, 0);
    assert_int_equal(w->wasted_ns, 0);
    assert_int_equal(w->state, ST_WORKER_IDLE);
    finish();
}

static void test_timeout(void **state)
{
    struct st_worker *w = open_pool(1, 20 * ST_MSEC);
    struct fake_answer *a = fake_send(&f, 0, 0, "x"), *b;

    (void)state;
    assert_true(fake_begin(&f.calls[0]));
    fake_wait(&f, 60);
    assert_int_equal(a->outcome, ST_OUTCOME_TIMEOUT);
    assert_int_equal(f.abandoned, 1); /* restart() */
    assert_ptr_equal(f.last_abandoned, w);
    assert_int_equal(w->state, ST_WORKER_RESTARTING);
    b = fake_send(&f, 0, 0, "x");
    assert_int_equal(f.call_count, 1);
    fake_end(&f.calls[0], ST_OUTCOME_CRASH); /* late */
    st_worker_lost(w, ST_LOST_TIMEOUT, "an event ran past eventTimeout");
    fake_wait(&f, 5);
    assert_int_equal(f.call_count, 2);
    fake_serve(&f.calls[1]);
    check_outcome(a, ST_OUTCOME_TIMEOUT);
    check_outcome(b, ST_OUTCOME_OK);
    assert_true(st_pool_is_live(pool()));
    finish();
}

/* Two events of one worker run too long: it is ended once. */
static void test_timeout_twice(void **state)
{
    struct st_worker *w = open_pool(1, ST_SEC);
    struct fake_answer *a = fake_send(&f, 0, 0, "x"), *b = fake_send(&f, 0, 0, "x");

    (void)state;
    assert_true(fake_begin(&f.calls[0]) && fake_begin(&f.calls[1]));
    st_pool_worker_stuck(pool(), w);
    st_pool_worker_stuck(pool(), w);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.abandoned, 1);
    fake_end(&f.calls[0], ST_OUTCOME_CRASH);
    lose(&f.calls[1], NULL);
    check_outcome(a, ST_OUTCOME_CRASH);
    check_outcome(b, ST_OUTCOME_CRASH);
    fake_wait(&f, 5);
    finish();
}

/* The processor ends while the worker is being ended. */
static void test_stop_while_it_ends(void **state)
{
    struct st_worker *w = open_pool(1, ST_SEC);
    struct fake_answer *a = fake_send(&f, 0, 0, "x");

    (void)state;
    assert_true(fake_begin(&f.calls[0]));
    st_pool_worker_stuck(pool(), w);
    st_pool_stop(pool());
    assert_int_equal(w->state, ST_WORKER_DRAINING);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.stopped, 0);
    f.options.manual_stop = true;
    lose(&f.calls[0], NULL);
    assert_int_equal(w->state, ST_WORKER_DEAD);
    assert_true(st_pool_is_stopped(pool()));
    check_outcome(a, ST_OUTCOME_CRASH);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_crash_loop),
        cmocka_unit_test(test_killed_often),
        cmocka_unit_test(test_failures_are_forgotten),
        cmocka_unit_test(test_timeout),
        cmocka_unit_test(test_timeout_twice),
        cmocka_unit_test(test_stop_while_it_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
