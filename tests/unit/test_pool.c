/* Pools and their workers, one step at a time: the test is the handler (tests/support/fake.h). */
#include "tests/unit/test_pool.h"

#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/dispatch.h"

/* ---- Picking ---- */

static void test_same_loop_first(void **state)
{
    struct fake_answer *a[4];

    (void)state;
    open_one(2, 4, (struct fake_pool_options){.wait_ns = ST_SEC, .max_queue = 10});
    /* Workers 0 and 2 are of loop 0, 1 and 3 of loop 1. */
    for (unsigned i = 0; i < 4; i++) {
        a[i] = fake_send(&f, 0, i < 3 ? 0 : 1, "x");
        assert_int_equal(f.call_count, i + 1);
        fake_check_pool(pool());
    }
    assert_int_equal(f.calls[0].w->index, 2); /* became idle last */
    assert_int_equal(f.calls[1].w->index, 0);
    assert_ptr_equal(f.calls[2].w->loop, &f.loops[1]); /* none is left on loop 0 */
    assert_ptr_equal(f.calls[3].w->loop, &f.loops[1]);
    assert_int_equal(pool()->counts[ST_WORKER_FULL], 4);
    for (unsigned i = 0; i < 4; i++) {
        fake_serve(&f.calls[i]);
        check_outcome(a[i], ST_OUTCOME_OK);
    }
    finish();
}

static void test_idle_before_busy(void **state)
{
    struct fake_answer *a[5];

    (void)state;
    fake_open(&f, &(struct fake_options){
                      .loops = 2, .credits = 2, .pool = {{.workers = 2, .wait_ns = ST_SEC}}});
    a[0] = fake_send(&f, 0, 0, "x");
    assert_int_equal(f.calls[0].w->index, 0);
    assert_int_equal(f.calls[0].w->state, ST_WORKER_BUSY);
    a[1] = fake_send(&f, 0, 0, "x"); /* the idle one of the other loop */
    assert_int_equal(f.calls[1].w->index, 1);
    a[2] = fake_send(&f, 0, 1, "x"); /* both are busy: the one of this loop */
    assert_int_equal(f.calls[2].w->index, 1);
    assert_int_equal(f.calls[2].w->state, ST_WORKER_FULL);
    a[3] = fake_send(&f, 0, 1, "x");
    assert_int_equal(f.calls[3].w->index, 0);
    a[4] = fake_send(&f, 0, 1, "x");
    check_outcome(a[4], ST_OUTCOME_NO_WORKER); /* max_queue is 0 */
    for (unsigned i = 0; i < 4; i++) {
        fake_serve(&f.calls[i]);
        check_outcome(a[i], ST_OUTCOME_OK);
    }
    finish();
}

static void test_last_in_first_out(void **state)
{
    static const unsigned order[] = {1, 3, 0, 2};
    struct fake_answer *a[4];

    (void)state;
    open_one(1, 4, (struct fake_pool_options){.wait_ns = ST_SEC});
    for (unsigned i = 0; i < 4; i++)
        a[i] = fake_send(&f, 0, 0, "x");
    for (unsigned i = 0; i < 4; i++)
        for (unsigned k = 0; k < 4; k++)
            if (f.calls[k].w->index == order[i])
                fake_serve(&f.calls[k]);
    for (unsigned i = 0; i < 4; i++) {
        check_outcome(a[i], ST_OUTCOME_OK);
        a[i] = fake_send(&f, 0, 0, "x");
        assert_int_equal(last()->w->index, order[3 - i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        fake_serve(&f.calls[4 + i]);
        check_outcome(a[i], ST_OUTCOME_OK);
    }
    finish();
}

/* Only the head of a list is searched for a worker of the event's loop. */
static void test_search_is_short(void **state)
{
    struct fake_answer *a;

    (void)state;
    fake_open(&f,
              &(struct fake_options){.loops = 2, .manual_spawn = true, .pool = {{.workers = 20}}});
    atomic_store(&f.p.phase, ST_PHASE_READY);
    st_worker_ready(pool()->workers[0], 1);
    for (unsigned i = 1; i < 16; i += 2) /* eight of loop 1 before it */
        st_worker_ready(pool()->workers[i], 1);
    a = fake_send(&f, 0, 0, "x");
    assert_int_equal(last()->w->index, 15);
    fake_serve(last());
    check_outcome(a, ST_OUTCOME_OK);
    st_worker_ready(pool()->workers[2], 1); /* now one of loop 0 is near */
    a = fake_send(&f, 0, 0, "x");
    assert_int_equal(last()->w->index, 2);
    fake_serve(last());
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

/* ---- Waiting ---- */

static void test_first_come_first_served(void **state)
{
    struct fake_answer *a[5];

    (void)state;
    open_one(1, 1, (struct fake_pool_options){.wait_ns = 10 * ST_SEC, .max_queue = 4});
    for (unsigned i = 0; i < 5; i++)
        a[i] = fake_send(&f, 0, 0, "x");
    assert_int_equal(f.call_count, 1);
    assert_int_equal(pool()->queued, 4);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(f.call_count, i + 1);
        assert_ptr_equal(f.calls[i].ev, a[i]->ev);
        fake_check_pool(pool());
        fake_serve(&f.calls[i]);
        check_outcome(a[i], ST_OUTCOME_OK);
    }
    assert_int_equal(value(pool()->metrics.count), 5);
    assert_int_equal(value(pool()->metrics.immediate), 1);
    assert_int_equal(value(pool()->metrics.after_wait), 4);
    assert_int_equal(value(pool()->metrics.available), 100);
    assert_int_equal(value(f.triggers[0].metrics.ok), 5);
    assert_int_equal(value(f.triggers[0].metrics.in_flight), 0);
    finish();
}

/* Who waits is not overtaken, also when a worker has a credit again. */
static void test_no_overtaking(void **state)
{
    struct fake_answer *a[3];

    (void)state;
    open_one(1, 1, (struct fake_pool_options){.wait_ns = 10 * ST_SEC, .max_queue = 4});
    a[0] = fake_send(&f, 0, 0, "x");
    a[1] = fake_send(&f, 0, 0, "x");
    fake_begin(&f.calls[0]);
    fake_end(&f.calls[0], ST_OUTCOME_OK); /* not granted yet */
    a[2] = fake_send(&f, 0, 0, "x");
    assert_int_equal(f.call_count, 1);
    st_worker_credit(f.calls[0].w, 1);
    assert_ptr_equal(f.calls[1].ev, a[1]->ev);
    st_worker_credit(f.calls[0].w, 1);
    assert_ptr_equal(f.calls[2].ev, a[2]->ev);
    fake_serve(&f.calls[1]);
    fake_serve(&f.calls[2]);
    for (unsigned i = 0; i < 3; i++)
        check_outcome(a[i], ST_OUTCOME_OK);
    finish();
}

static void test_bounds(void **state)
{
    struct fake_answer *first, *a[4];

    (void)state;
    open_one(
        1, 1,
        (struct fake_pool_options){.wait_ns = 10 * ST_SEC, .max_queue = 3, .max_queue_bytes = 10});
    first = fake_send(&f, 0, 0, "this does not wait, so its length is its own business");
    a[0] = fake_send(&f, 0, 0, "123456");
    check_outcome(fake_send(&f, 0, 0, "12345"), ST_OUTCOME_NO_WORKER); /* 11 bytes */
    a[1] = fake_send(&f, 0, 0, "1234");
    assert_int_equal(pool()->queued_bytes, 10);
    a[2] = fake_send(&f, 0, 0, "");
    check_outcome(fake_send(&f, 0, 0, ""), ST_OUTCOME_NO_WORKER); /* the fourth */
    assert_int_equal(value(pool()->metrics.timeout), 2);
    assert_int_equal(value(f.triggers[0].metrics.no_worker), 2);
    assert_int_equal(value(f.triggers[0].metrics.failed), 2);
    st_event_cancel(a[0]->ev);
    check_outcome(a[0], ST_OUTCOME_CANCELLED);
    assert_int_equal(pool()->queued_bytes, 4);
    a[3] = fake_send(&f, 0, 0, "123456");
    fake_serve(&f.calls[0]);
    for (unsigned i = 1; i < 4; i++)
        fake_serve(&f.calls[i]);
    check_outcome(first, ST_OUTCOME_OK);
    for (unsigned i = 1; i < 4; i++)
        check_outcome(a[i], ST_OUTCOME_OK);
    assert_int_equal(pool()->queued + pool()->queued_bytes, 0);
    finish();
}

static void test_wait_nothing(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_one(1, 1, (struct fake_pool_options){.wait_ns = 0, .max_queue = 10});
    a = fake_send(&f, 0, 0, "x");
    check_outcome(fake_send(&f, 0, 0, "x"), ST_OUTCOME_NO_WORKER);
    fake_serve(&f.calls[0]);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

static void test_wait_ends(void **state)
{
    struct fake_answer *a, *b, *c;

    (void)state;
    open_one(1, 1, (struct fake_pool_options){.wait_ns = 200 * ST_MSEC, .max_queue = 10});
    a = fake_send(&f, 0, 0, "x");
    fake_pass(&f.loops[0]);
    b = fake_send(&f, 0, 0, "x");
    fake_wait(&f, 10);
    c = fake_send(&f, 0, 0, "x");
    fake_serve(&f.calls[0]); /* b */
    check_outcome(a, ST_OUTCOME_OK);
    assert_int_equal(b->completed, 0);
    fake_wait(&f, 210);
    assert_int_equal(b->completed, 0);
    check_outcome(c, ST_OUTCOME_NO_WORKER);
    assert_int_equal(value(pool()->metrics.timeout), 1);
    fake_serve(&f.calls[1]);
    check_outcome(b, ST_OUTCOME_OK);
    finish();
}

/* More than one batch of hand-overs, in order. */
static void test_feed(void **state)
{
    struct fake_answer *a[200];

    (void)state;
    fake_open(&f, &(struct fake_options){.manual_spawn = true,
                                         .pool = {{.wait_ns = 10 * ST_SEC, .max_queue = 200}}});
    for (unsigned i = 0; i < 200; i++)
        a[i] = fake_send(&f, 0, 0, "x");
    assert_int_equal(pool()->queued, 200);
    st_worker_ready(pool()->workers[0], 0); /* one that asks itself */
    assert_int_equal(pool()->workers[0]->state, ST_WORKER_FULL);
    assert_int_equal(f.call_count, 0);
    st_worker_credit(pool()->workers[0], 130);
    assert_int_equal(f.call_count, 130);
    assert_int_equal(pool()->workers[0]->running, 130);
    st_worker_credit(pool()->workers[0], 100);
    assert_int_equal(f.call_count, 200);
    assert_int_equal(pool()->workers[0]->credits, 30);
    assert_int_equal(pool()->workers[0]->state, ST_WORKER_BUSY);
    for (unsigned i = 0; i < 200; i++) {
        assert_ptr_equal(f.calls[i].ev, a[i]->ev);
        assert_true(fake_begin(&f.calls[i]));
        fake_end(&f.calls[i], ST_OUTCOME_OK);
        check_outcome(a[i], ST_OUTCOME_OK);
        fake_check_pool(pool());
    }
    assert_int_equal(pool()->workers[0]->state, ST_WORKER_IDLE);
    finish();
}

/* ---- Taking back ---- */

static void test_withdraw(void **state)
{
    struct fake_answer *a[3];

    (void)state;
    open_one(1, 1, (struct fake_pool_options){.wait_ns = 10 * ST_SEC, .max_queue = 2});
    for (unsigned i = 0; i < 3; i++)
        a[i] = fake_send(&f, 0, 0, "x");
    st_event_cancel(a[1]->ev); /* waits in the queue */
    check_outcome(a[1], ST_OUTCOME_CANCELLED);
    st_event_cancel(a[0]->ev); /* waits in its worker's channel */
    assert_int_equal(a[0]->outcome, ST_OUTCOME_CANCELLED);
    assert_int_equal(a[0]->released, 0);
    assert_int_equal(value(f.triggers[0].metrics.gone_queued), 2);
    assert_false(fake_begin(&f.calls[0]));
    st_worker_event_done(f.calls[0].w, 0);
    st_event_unref(f.calls[0].ev);
    check_outcome(a[0], ST_OUTCOME_CANCELLED);
    st_worker_credit(f.calls[0].w, 1);
    assert_ptr_equal(f.calls[1].ev, a[2]->ev);
    assert_true(fake_begin(&f.calls[1]));
    st_event_cancel(a[2]->ev); /* runs */
    assert_int_equal(value(f.triggers[0].metrics.gone_running), 1);
    assert_int_equal(a[2]->released, 0);
    fake_end(&f.calls[1], ST_OUTCOME_OK);
    st_worker_credit(f.calls[1].w, 1);
    assert_int_equal(value(f.triggers[0].metrics.late), 1);
    check_outcome(a[2], ST_OUTCOME_CANCELLED);
    finish();
}

/* A slow worker gives back what it has not begun; the oldest is first again. */
static void test_resubmit(void **state)
{
    struct fake_answer *a[4];
    struct st_worker *w;

    (void)state;
    open_one(1, 1, (struct fake_pool_options){.wait_ns = 10 * ST_SEC, .max_queue = 1});
    w = pool()->workers[0];
    st_worker_credit(w, 2);
    for (unsigned i = 0; i < 4; i++)
        a[i] = fake_send(&f, 0, 0, "x");
    assert_int_equal(f.call_count, 3);
    assert_true(fake_begin(&f.calls[0]));
    st_worker_credit(w, 1); /* a[3] */
    assert_int_equal(f.call_count, 4);
    st_worker_credit(w, 5);
    assert_int_equal(st_worker_retreat(w, 3), 5);
    assert_int_equal(w->state, ST_WORKER_FULL);
    st_event_cancel(a[2]->ev);
    for (unsigned i = 4; i-- > 1;) {
        bool mine = st_event_recall(f.calls[i].ev, f.calls[i].assignment);

        assert_int_equal(mine, i != 2);
        if (mine)
            st_pool_resubmit(pool(), f.calls[i].ev);
        else
            st_event_unref(f.calls[i].ev);
        fake_check_pool(pool());
    }
    check_outcome(a[2], ST_OUTCOME_CANCELLED);
    assert_false(fake_begin(&f.calls[1])); /* of an assignment that is over */
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_credit(w, 1);
    assert_ptr_equal(f.calls[4].ev, a[1]->ev);
    fake_serve(&f.calls[4]);
    assert_ptr_equal(f.calls[5].ev, a[3]->ev);
    fake_serve(&f.calls[5]);
    check_outcome(a[0], ST_OUTCOME_OK);
    check_outcome(a[1], ST_OUTCOME_OK);
    check_outcome(a[3], ST_OUTCOME_OK);
    finish();
}

/* Its client leaves between the recall and the resubmission, as on another loop it may. */
static void test_withdrawn_on_the_way(void **state)
{
    struct fake_answer *a, *b;

    (void)state;
    fake_open(&f, &(struct fake_options){.credits = 2,
                                         .pool = {{.wait_ns = 10 * ST_SEC, .max_queue = 2}}});
    a = fake_send(&f, 0, 0, "x");
    b = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    st_worker_retreat(f.calls[1].w, 1);
    assert_true(st_event_recall(b->ev, f.calls[1].assignment));
    st_event_cancel(b->ev);
    assert_int_equal(b->released, 0);
    st_pool_resubmit(pool(), b->ev);
    assert_int_equal(pool()->queued, 0);
    check_outcome(b, ST_OUTCOME_CANCELLED);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

/* ---- Workers' life ---- */

static void test_ready(void **state)
{
    struct st_worker *w;

    (void)state;
    fake_open(&f, &(struct fake_options){.manual_spawn = true, .pool = {{.workers = 2}}});
    w = pool()->workers[0];
    assert_int_equal(f.spawned, 2);
    assert_false(st_pool_was_ready(pool()));
    assert_false(st_pool_is_usable(pool()));
    assert_true(st_pool_is_live(pool()));
    st_worker_ready(w, 1);
    assert_false(st_pool_was_ready(pool()));
    assert_true(st_pool_is_usable(pool()));
    st_worker_ready(pool()->workers[1], 1);
    assert_true(st_pool_was_ready(pool()));
    assert_false(st_pool_is_stopped(pool()));
    finish();
}

static void test_start_fails(void **state)
{
    (void)state;
    fake_open(&f, &(struct fake_options){.manual_spawn = true});
    st_worker_failed(pool()->workers[0], "no such handler");
    assert_int_equal(f.p.start_error.code, ST_ERR_INVALID);
    assert_string_equal(f.p.start_error.text, "no such handler");
    assert_int_equal(pool()->workers[0]->state, ST_WORKER_STARTING);
    fake_stop(&f);
    fake_close(&f);
}

/* Milliseconds until the worker is started again. */
static unsigned retry_in(struct st_worker *w)
{
    assert_true(st_timer_armed(&w->retry));
    return (unsigned)(w->retry.expires - st_loop_now(w->loop) / ST_MSEC);
}

static void test_retry(void **state)
{
    static const unsigned first[] = {0, 100, 200, 400};
    struct st_worker *w;

    (void)state;
    fake_open(&f, &(struct fake_options){.manual_spawn = true});
    atomic_store(&f.p.phase, ST_PHASE_READY);
    w = pool()->workers[0];
    for (unsigned i = 0; i < 4; i++) {
        st_worker_failed(w, "later");
        assert_int_equal(w->state, ST_WORKER_RESTARTING);
        assert_in_range(retry_in(w) + 1, first[i] / 2, first[i] * 3 / 2 + 2);
        st_loop_timer_arm(w->loop, &w->retry, ST_MSEC); /* we have no time */
        fake_wait(&f, 5);
        assert_int_equal(w->state, ST_WORKER_STARTING);
        assert_int_equal(f.spawned, 2 + i);
    }
    w->failures = 1000;
    st_worker_failed(w, "long ago");
    assert_in_range(retry_in(w), 14999, 45001);
    st_loop_timer_arm(w->loop, &w->retry, ST_MSEC);
    fake_wait(&f, 5);
    st_worker_ready(w, 1);
    assert_int_equal(w->failures, 1001); /* on trial */
    assert_true(st_timer_armed(&w->retry));
    assert_true(st_pool_is_usable(pool()));
    finish();
}

/* Past eventTimeout: a new worker takes the place, as often as there are workers. */
static void test_replacement(void **state)
{
    struct fake_answer *a[3], *b;
    struct st_worker *w;

    (void)state;
    open_one(1, 1,
             (struct fake_pool_options){
                 .wait_ns = ST_SEC, .max_queue = 10, .event_timeout_ns = 10 * ST_MSEC});
    for (unsigned i = 0; i < 2; i++) {
        a[i] = fake_send(&f, 0, 0, "x");
        assert_int_equal(f.call_count, i + 1);
        assert_true(fake_begin(&f.calls[i]));
        w = pool()->workers[0];
        assert_ptr_equal(f.calls[i].w, w);
        fake_wait(&f, 25);
        assert_int_equal(a[i]->outcome, ST_OUTCOME_TIMEOUT);
        assert_int_equal(a[i]->released, 0);
        assert_int_equal(w->state, ST_WORKER_STUCK);
        assert_int_equal(f.abandoned, i + 1);
        assert_ptr_equal(f.last_abandoned, w);
        assert_int_equal(fake_check_pool(pool()), 2);
        assert_int_equal(st_pool_is_usable(pool()), i == 0);
        assert_int_equal(st_pool_is_live(pool()), i == 0);
        assert_int_equal(f.spawned, 2);
    }
    assert_int_equal(pool()->stuck, 2);
    assert_int_equal(value(pool()->metrics.restarts[ST_LOST_STUCK]), 1);
    b = fake_send(&f, 0, 0, "x"); /* nobody is left to take it */
    assert_int_equal(pool()->queued, 1);
    for (unsigned i = 0; i < 2; i++) { /* they come back: the first one's end fills the place */
        fake_end(&f.calls[i], ST_OUTCOME_OK);
        check_outcome(a[i], ST_OUTCOME_TIMEOUT);
        st_worker_stopped(f.calls[i].w);
        assert_true(st_pool_is_live(pool()));
        assert_int_equal(value(pool()->metrics.restarts[ST_LOST_STUCK]), 2);
    }
    assert_int_equal(value(f.triggers[0].metrics.late), 2);
    assert_int_equal(pool()->counts[ST_WORKER_DEAD], 2);
    fake_wait(&f, 1);
    assert_int_equal(f.spawned, 3);
    assert_int_equal(f.call_count, 3);
    assert_ptr_equal(f.calls[2].w, pool()->workers[0]);
    fake_serve(&f.calls[2]);
    check_outcome(b, ST_OUTCOME_OK);
    finish();
}

/* What the stuck worker has not begun goes elsewhere. */
static void test_abandoned_events(void **state)
{
    struct fake_answer *a[4];

    (void)state;
    fake_open(&f,
              &(struct fake_options){
                  .credits = 4, .pool = {{.wait_ns = ST_SEC, .event_timeout_ns = 10 * ST_MSEC}}});
    for (unsigned i = 0; i < 4; i++)
        a[i] = fake_send(&f, 0, 0, "x");
    fake_begin(&f.calls[0]);
    fake_wait(&f, 25);
    assert_int_equal(f.abandoned, 1);
    for (unsigned i = 4; i-- > 1;) {
        assert_true(st_event_recall(f.calls[i].ev, f.calls[i].assignment));
        st_pool_resubmit(pool(), f.calls[i].ev);
    }
    assert_int_equal(f.call_count, 7); /* the new worker had four credits */
    for (unsigned i = 4; i < 7; i++) {
        assert_ptr_equal(f.calls[i].w, pool()->workers[0]);
        fake_serve(&f.calls[i]);
    }
    for (unsigned i = 1; i < 4; i++)
        check_outcome(a[i], ST_OUTCOME_OK);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_stopped(f.calls[0].w);
    check_outcome(a[0], ST_OUTCOME_TIMEOUT);
    finish();
}

/* Past eventTimeout, but the result is on its way already: nobody is stuck. */
static void test_done_is_not_stuck(void **state)
{
    struct fake_answer *a;
    struct st_worker *w;

    (void)state;
    open_one(1, 1, (struct fake_pool_options){.wait_ns = ST_SEC, .event_timeout_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "x");
    w = f.calls[0].w;
    assert_true(fake_begin(&f.calls[0]));
    st_worker_event_done(w, 0);
    st_pool_worker_stuck(pool(), w);
    assert_int_equal(w->state, ST_WORKER_FULL);
    assert_int_equal(pool()->stuck, 0);
    a->ev->result.outcome = ST_OUTCOME_OK;
    st_event_complete(a->ev);
    check_outcome(a, ST_OUTCOME_OK);
    st_worker_credit(w, 1);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.abandoned, 0);
    finish();
}

/* A stuck worker gets nothing, whatever it is granted. */
static void test_stuck_takes_nothing(void **state)
{
    struct fake_answer *a, *b;
    struct st_worker *w;

    (void)state;
    fake_open(&f, &(struct fake_options){
                      .pool = {{.wait_ns = ST_SEC, .max_queue = 1, .event_timeout_ns = ST_SEC}}});
    w = pool()->workers[0];
    a = fake_send(&f, 0, 0, "x");
    fake_begin(&f.calls[0]);
    f.options.manual_spawn = true; /* the replacement takes its time */
    st_pool_worker_stuck(pool(), w);
    st_pool_worker_stuck(pool(), w); /* again: another of its events */
    assert_int_equal(pool()->stuck, 1);
    b = fake_send(&f, 0, 0, "x");
    assert_int_equal(f.call_count, 1);
    st_worker_credit(w, 1);
    assert_int_equal(f.call_count, 1);
    assert_int_equal(pool()->queued, 1);
    fake_pass(&f.loops[0]);
    st_worker_ready(pool()->workers[0], 1);
    assert_int_equal(f.call_count, 2);
    assert_ptr_not_equal(f.calls[1].w, w);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_stopped(w);
    fake_serve(&f.calls[1]);
    check_outcome(a, ST_OUTCOME_OK);
    check_outcome(b, ST_OUTCOME_OK);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_loop_first),
        cmocka_unit_test(test_idle_before_busy),
        cmocka_unit_test(test_last_in_first_out),
        cmocka_unit_test(test_search_is_short),
        cmocka_unit_test(test_first_come_first_served),
        cmocka_unit_test(test_no_overtaking),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_wait_nothing),
        cmocka_unit_test(test_wait_ends),
        cmocka_unit_test(test_feed),
        cmocka_unit_test(test_withdraw),
        cmocka_unit_test(test_resubmit),
        cmocka_unit_test(test_withdrawn_on_the_way),
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_start_fails),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_replacement),
        cmocka_unit_test(test_abandoned_events),
        cmocka_unit_test(test_done_is_not_stuck),
        cmocka_unit_test(test_stuck_takes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
