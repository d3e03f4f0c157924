/* Workers that take the places of others, which serve until then (tests/support/fake.h). */
#include "tests/unit/test_core.h"

#include <pthread.h>

#include "processor/core/metrics.h"
#include "tests/support/fake.h"

static struct fake f;

static struct st_pool *pool(void)
{
    return f.pools[0];
}

/* A processor that serves; further workers are ready when the test says so. */
static struct st_worker *open_pool(unsigned workers)
{
    fake_open(&f, &(struct fake_options){.manual_spawn = true,
                                         .manual_stop = true,
                                         .pool = {{.runtime = &fake_process_kind,
                                                   .workers = workers,
                                                   .wait_ns = ST_SEC,
                                                   .max_queue = 8}}});
    for (unsigned i = 0; i < workers; i++)
        st_worker_ready(pool()->workers[i], 1);
    atomic_store(&f.p.phase, ST_PHASE_READY);
    return pool()->workers[0];
}

static void finish(void)
{
    fake_check_pool(pool());
    f.options.manual_stop = false;
    fake_stop(&f);
    fake_close(&f);
}

static void check_answer(struct fake_answer *a)
{
    assert_int_equal(a->completed, 1);
    assert_int_equal(a->outcome, ST_OUTCOME_OK);
    fake_free(a);
}

static void end(struct fake_call *c)
{
    assert_true(fake_begin(c));
    fake_end(c, ST_OUTCOME_OK);
}

/* The worker that was started for place 0. */
static struct st_worker *renew(void)
{
    struct st_worker *w;
    unsigned before = f.spawned;

    st_pool_renew(pool(), 0);
    w = pool()->candidate;
    assert_non_null(w);
    fake_pass(w->loop);
    assert_int_equal(f.spawned, before + 1);
    return w;
}

static void assert_renewal(enum st_renewal renewal, const char *text)
{
    char said[ST_POOL_ERROR_MAX];

    assert_int_equal(st_pool_renewal(pool(), said, sizeof said), renewal);
    assert_string_equal(said, text);
}

static unsigned all_workers(void)
{
    return fake_check_pool(pool());
}

static void test_new_one_takes_the_place(void **state)
{
    struct st_worker *old = open_pool(1), *w;
    struct fake_answer *a = fake_send(&f, 0, 0, "x"), *b;

    (void)state;
    old->restarts = 3;
    w = renew();
    assert_renewal(ST_RENEWAL_GOES_ON, "");
    assert_ptr_equal(pool()->workers[0], old);
    b = fake_send(&f, 0, 0, "x");
    assert_int_equal(pool()->queued, 1); /* the old one has no other credit */
    st_worker_ready(w, 1);
    assert_renewal(ST_RENEWAL_DONE, "");
    assert_ptr_equal(pool()->workers[0], w);
    assert_int_equal(old->state, ST_WORKER_DRAINING);
    assert_ptr_equal(f.calls[1].w, w);
    fake_pass(old->loop);
    assert_int_equal(f.stopped, 0);
    st_worker_credit(old, 1); /* takes nothing new */
    end(&f.calls[0]);
    assert_int_equal(f.stopped, 1);
    assert_int_equal(all_workers(), 2);
    st_worker_stopped(old);
    assert_int_equal(all_workers(), 1);
    end(&f.calls[1]);
    check_answer(a);
    check_answer(b);
    assert_int_equal(w->restarts, 4);
    assert_int_equal(st_metric_value(pool()->metrics.restarts[ST_LOST_CODE]), 1);
    finish();
}

static void test_new_one_fails(void **state)
{
    struct st_worker *old = open_pool(1);
    struct fake_answer *a;

    (void)state;
    st_worker_failed(renew(), "line 3 is wrong");
    assert_renewal(ST_RENEWAL_FAILED, "line 3 is wrong");
    assert_ptr_equal(pool()->workers[0], old);
    assert_int_equal(old->state, ST_WORKER_IDLE);
    assert_int_equal(all_workers(), 1);
    a = fake_send(&f, 0, 0, "x");
    end(&f.calls[0]);
    check_answer(a);
    st_worker_credit(old, 1);
    st_worker_ready(renew(), 1);
    assert_renewal(ST_RENEWAL_DONE, "");
    finish();
}

/* Killed from outside while it starts: the same. */
static void test_new_one_is_killed(void **state)
{
    struct st_worker *old = open_pool(1);

    (void)state;
    st_worker_lost(renew(), ST_LOST_CRASH, "was killed");
    assert_renewal(ST_RENEWAL_FAILED, "was killed");
    assert_ptr_equal(pool()->workers[0], old);
    assert_int_equal(all_workers(), 1);
    finish();
}

/* Whatever it does afterwards: the place is not its own. */
static void test_given_up(void **state)
{
    struct st_worker *old = open_pool(1), *w = renew(), *next;

    (void)state;
    st_pool_cancel_renewal(pool());
    assert_renewal(ST_RENEWAL_DONE, "");
    next = renew();
    st_worker_ready(w, 1); /* it had not heard of it yet */
    assert_int_equal(w->state, ST_WORKER_DRAINING);
    assert_ptr_equal(pool()->workers[0], old);
    fake_pass(w->loop);
    assert_int_equal(f.stopped, 1);
    st_worker_stopped(w);
    assert_renewal(ST_RENEWAL_GOES_ON, "");
    st_worker_ready(next, 1);
    assert_ptr_equal(pool()->workers[0], next);
    finish();
}

/* One that has ended and waits for its next start has nothing to finish. */
static void test_instead_of_a_restart(void **state)
{
    struct st_worker *old = open_pool(2);

    (void)state;
    old->failures = 9;
    st_worker_failed(old, "no database");
    assert_int_equal(old->state, ST_WORKER_RESTARTING);
    st_worker_ready(renew(), 1);
    assert_int_equal(old->state, ST_WORKER_DEAD);
    assert_int_equal(all_workers(), 2);
    assert_int_equal(pool()->workers[0]->failures, 0);
    fake_pass(old->loop);
    assert_false(st_timer_armed(&old->retry));
    finish();
}

/* The pool has stopped when old ones and new ones have. */
static void test_stop(void **state)
{
    struct st_worker *old = open_pool(1), *w, *late;
    struct fake_answer *a = fake_send(&f, 0, 0, "x");

    (void)state;
    w = renew();
    st_worker_ready(w, 1);
    late = renew();
    atomic_store(&f.p.phase, ST_PHASE_DRAINING);
    st_pool_stop(pool());
    for (unsigned i = 0; i < 2; i++)
        fake_pass(&f.loops[0]);
    assert_int_equal(f.stopped, 2);
    st_worker_stopped(w);
    st_worker_stopped(late);
    assert_false(st_pool_is_stopped(pool()));
    end(&f.calls[0]);
    assert_int_equal(f.stopped, 3);
    assert_false(st_pool_is_stopped(pool()));
    st_worker_stopped(old);
    assert_true(st_pool_is_stopped(pool()));
    check_answer(a);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_one_takes_the_place), cmocka_unit_test(test_new_one_fails),
        cmocka_unit_test(test_new_one_is_killed),       cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_instead_of_a_restart),    cmocka_unit_test(test_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
