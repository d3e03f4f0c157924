/* Pools and their workers, one step at a time: the test is the handler (tests/support/fake.h). */
#include "tests/unit/test_core.h"

#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/dispatch.h"
#include "tests/support/fake.h"

static struct fake f;

static void open_one(unsigned loops, unsigned workers, struct fake_pool_options pool)
{
    pool.workers = workers;
    fake_open(&f, &(struct fake_options){.loops = loops, .pool = {pool}});
}

static void finish(void)
{
    fake_check_pool(f.pools[0]);
    fake_stop(&f);
    fake_close(&f);
}

static struct st_pool *pool(void)
{
    return f.pools[0];
}

static struct fake_call *last(void)
{
    assert_true(f.call_count > 0);
    return &f.calls[f.call_count - 1];
}

static void check_outcome(struct fake_answer *a, enum st_outcome outcome)
{
    assert_int_equal(a->completed, 1);
    assert_int_equal(a->outcome, outcome);
    assert_int_equal(a->released, 1);
    fake_free(a);
}

static int64_t value(st_metric m)
{
    return st_metric_value(m);
}

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
    open_one(1, 1, (struct fake_pool_options){.wait_ns = 20 * ST_MSEC, .max_queue = 10});
    a = fake_send(&f, 0, 0, "x");
    fake_pass(&f.loops[0]);
    b = fake_send(&f, 0, 0, "x");
    fake_wait(&f, 10);
    c = fake_send(&f, 0, 0, "x");
    fake_serve(&f.calls[0]); /* b */
    check_outcome(a, ST_OUTCOME_OK);
    assert_int_equal(b->completed, 0);
    fake_wait(&f, 60);
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
    static const unsigned first[] = {100, 200, 400, 800};
    struct st_worker *w;

    (void)state;
    fake_open(&f, &(struct fake_options){.manual_spawn = true});
    atomic_store(&f.p.phase, ST_PHASE_READY);
    w = pool()->workers[0];
    for (unsigned i = 0; i < 4; i++) {
        st_worker_failed(w, "later");
        assert_int_equal(w->state, ST_WORKER_RESTARTING);
        assert_in_range(retry_in(w), first[i] / 2 - 1, first[i] * 3 / 2 + 1);
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
    assert_int_equal(w->failures, 0);
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
    assert_int_equal(value(pool()->metrics.restarts_stuck), 1);
    b = fake_send(&f, 0, 0, "x"); /* nobody is left to take it */
    assert_int_equal(pool()->queued, 1);
    for (unsigned i = 0; i < 2; i++) { /* they come back: the first one's end fills the place */
        fake_end(&f.calls[i], ST_OUTCOME_OK);
        check_outcome(a[i], ST_OUTCOME_TIMEOUT);
        st_worker_stopped(f.calls[i].w);
        assert_true(st_pool_is_live(pool()));
        assert_int_equal(value(pool()->metrics.restarts_stuck), 2);
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

/* ---- Stopping ---- */

static void test_stop(void **state)
{
    struct fake_answer *a, *b;
    struct st_worker *w, *other;

    (void)state;
    fake_open(&f,
              &(struct fake_options){.credits = 2,
                                     .manual_stop = true,
                                     .pool = {{.workers = 2, .wait_ns = ST_SEC, .max_queue = 4}}});
    a = fake_send(&f, 0, 0, "x");
    w = f.calls[0].w;
    other = pool()->workers[1 - w->index];
    st_pool_stop(pool());
    assert_int_equal(w->state, ST_WORKER_DRAINING);
    assert_false(st_pool_is_usable(pool()));
    fake_pass(&f.loops[0]);
    assert_int_equal(f.stopped, 1); /* the idle one */
    st_worker_stopped(other);
    assert_false(st_pool_is_stopped(pool()));
    b = fake_send(&f, 0, 0, "x");
    assert_int_equal(f.call_count, 1);
    st_worker_credit(w, 3); /* takes nothing new */
    assert_int_equal(f.call_count, 1);
    assert_true(fake_begin(&f.calls[0]));
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    assert_int_equal(f.stopped, 2);
    assert_false(st_pool_is_stopped(pool()));
    st_worker_stopped(w);
    assert_true(st_pool_is_stopped(pool()));
    check_outcome(a, ST_OUTCOME_OK);
    st_event_cancel(b->ev);
    check_outcome(b, ST_OUTCOME_CANCELLED);
    fake_close(&f);
}

/* Asked once, also when its last event ends before the loop has heard of the stop. */
static void test_stop_is_told_once(void **state)
{
    struct fake_answer *a;

    (void)state;
    fake_open(&f, &(struct fake_options){.manual_stop = true});
    a = fake_send(&f, 0, 0, "x");
    fake_begin(&f.calls[0]);
    st_pool_stop(pool());
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    assert_int_equal(f.stopped, 1);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.stopped, 1);
    st_worker_stopped(f.calls[0].w);
    check_outcome(a, ST_OUTCOME_OK);
    fake_close(&f);
}

/* Stopped while it waits for its next try, whose time comes before the loop hears of it. */
static void test_stop_a_restart(void **state)
{
    struct st_worker *w;

    (void)state;
    fake_open(&f, &(struct fake_options){.manual_spawn = true});
    atomic_store(&f.p.phase, ST_PHASE_READY);
    w = pool()->workers[0];
    st_worker_failed(w, "later");
    st_pool_stop(pool());
    assert_int_equal(w->state, ST_WORKER_DEAD);
    w->retry.fn(&w->retry);
    assert_int_equal(w->state, ST_WORKER_DEAD);
    assert_int_equal(f.spawned, 1);
    fake_pass(&f.loops[0]);
    assert_true(st_pool_is_stopped(pool()));
    fake_close(&f);
}

/* Stopped while it starts, in vain. */
static void test_stop_a_failure(void **state)
{
    struct st_worker *w;

    (void)state;
    fake_open(&f, &(struct fake_options){.manual_spawn = true, .manual_stop = true});
    atomic_store(&f.p.phase, ST_PHASE_READY);
    w = pool()->workers[0];
    st_pool_stop(pool());
    st_worker_failed(w, "too late");
    assert_int_equal(w->state, ST_WORKER_DEAD);
    assert_false(st_timer_armed(&w->retry));
    fake_pass(&f.loops[0]);
    assert_int_equal(f.stopped, 0);
    assert_true(st_pool_is_stopped(pool()));
    fake_close(&f);
}

/* The pool stops between a worker's last mail and its delivery, and between stuck and replaced. */
static void test_stop_with_a_stuck_one(void **state)
{
    struct fake_answer *a;
    struct st_worker *w;

    (void)state;
    open_one(1, 2, (struct fake_pool_options){.wait_ns = ST_SEC, .event_timeout_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "x");
    w = f.calls[0].w;
    fake_begin(&f.calls[0]);
    st_pool_worker_stuck(pool(), w);
    st_pool_stop(pool()); /* the replacement has not heard of its start */
    fake_wait(&f, 3);
    assert_true(st_pool_is_stopped(pool()));
    assert_int_equal(f.abandoned, 1);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_stopped(w);
    check_outcome(a, ST_OUTCOME_OK);
    fake_close(&f);

    open_one(1, 1, (struct fake_pool_options){.wait_ns = ST_SEC, .event_timeout_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "x");
    w = f.calls[0].w;
    fake_begin(&f.calls[0]);
    st_pool_stop(pool());
    st_pool_worker_stuck(pool(), w); /* the loop has not heard of the stop */
    assert_int_equal(fake_check_pool(pool()), 1);
    fake_wait(&f, 3);
    assert_int_equal(f.abandoned, 1);
    assert_int_equal(f.stopped, 0);
    assert_true(st_pool_is_stopped(pool()));
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_stopped(w);
    check_outcome(a, ST_OUTCOME_OK);
    fake_close(&f);
}

/* ---- Inline and shared ---- */

static void test_inline(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_one(2, 2, (struct fake_pool_options){.runtime = &fake_inline_kind, .max_queue = 1});
    a = fake_send(&f, 0, 1, "x");
    assert_ptr_equal(last()->w, pool()->inline_workers[1]);
    assert_int_equal(a->detached, 0);
    check_outcome(a, ST_OUTCOME_OK);
    fake_pass(&f.loops[1]);
    assert_int_equal(value(f.triggers[0].metrics.ok), 1);
    assert_int_equal(value(pool()->metrics.count), 1);
    assert_int_equal(value(last()->w->metrics.duration_count), 1);
    finish();
}

/* Fewer inline workers than loops: events travel, within the bounds of the queue. */
static void test_inline_elsewhere(void **state)
{
    struct fake_answer *a, *b;

    (void)state;
    open_one(2, 1,
             (struct fake_pool_options){
                 .runtime = &fake_inline_kind, .max_queue = 2, .max_queue_bytes = 5});
    a = fake_send(&f, 0, 1, "1234");
    assert_int_equal(f.call_count, 0);
    assert_int_equal(a->detached, 1);
    check_outcome(fake_send(&f, 0, 1, "12"), ST_OUTCOME_NO_WORKER);
    b = fake_send(&f, 0, 1, "1");
    check_outcome(fake_send(&f, 0, 1, ""), ST_OUTCOME_NO_WORKER);
    assert_int_equal(fake_check_pool(pool()), 1);
    st_event_cancel(b->ev);
    assert_int_equal(b->outcome, ST_OUTCOME_CANCELLED);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.call_count, 1);
    check_outcome(a, ST_OUTCOME_OK);
    check_outcome(b, ST_OUTCOME_CANCELLED);
    assert_int_equal(pool()->queued, 0);
    assert_int_equal(value(f.triggers[0].metrics.in_flight), 0);
    finish();
}

static struct fake_answer *sent;

static void deliver_send(struct st_loop *loop, struct st_mail *mail)
{
    (void)mail;
    sent = fake_send(&f, 0, loop->index, "x");
}

/* Nobody runs handlers any more: still one answer each, and the pass that ends it is counted. */
static void test_inline_is_gone(void **state)
{
    struct fake_answer *b;
    struct st_mail mail;

    (void)state;
    open_one(2, 2, (struct fake_pool_options){.runtime = &fake_inline_kind, .max_queue = 1});
    st_loop_post(&f.loops[1], &mail, deliver_send);
    st_pool_stop(pool());
    fake_pass(&f.loops[1]); /* both */
    check_outcome(sent, ST_OUTCOME_OK);
    assert_null(pool()->inline_workers[1]);
    assert_int_equal(value(f.triggers[0].metrics.ok), 1);
    b = fake_send(&f, 0, 1, "x");
    fake_pass(&f.loops[1]);
    fake_pass(&f.loops[0]);
    fake_pass(&f.loops[1]);
    check_outcome(b, ST_OUTCOME_NO_WORKER);
    assert_true(st_pool_is_stopped(pool()));
    fake_close(&f);
}

static void test_shared(void **state)
{
    struct fake_answer *a, *b;

    (void)state;
    fake_open(&f, &(struct fake_options){
                      .triggers = 2,
                      .trigger = {{.kind = &fake_trigger_kind}, {.kind = &fake_plain_kind}},
                      .pool = {{.wait_ns = ST_SEC, .max_queue = 1}}});
    a = fake_send(&f, 0, 0, "x");
    b = fake_send(&f, 1, 0, "x");
    check_outcome(fake_send(&f, 0, 0, "x"), ST_OUTCOME_NO_WORKER);
    fake_serve(&f.calls[0]);
    assert_ptr_equal(f.calls[1].ev, b->ev);
    fake_begin(&f.calls[1]);
    fake_end(&f.calls[1], ST_OUTCOME_ERROR);
    check_outcome(a, ST_OUTCOME_OK);
    check_outcome(b, ST_OUTCOME_ERROR);
    assert_int_equal(value(f.triggers[0].metrics.ok), 1);
    assert_int_equal(value(f.triggers[0].metrics.failed), 1);
    assert_int_equal(value(f.triggers[1].metrics.failed), 1);
    finish();
}

/* ---- Edges ---- */

static enum st_worker_state from, to;

/* Moves the one worker to `from` by edges that are allowed. */
static void bring(struct st_worker *w)
{
    static const enum st_worker_state way[ST_WORKER_STATES][3] = {
        [ST_WORKER_IDLE] = {ST_WORKER_IDLE},
        [ST_WORKER_BUSY] = {ST_WORKER_IDLE, ST_WORKER_BUSY},
        [ST_WORKER_FULL] = {ST_WORKER_FULL},
        [ST_WORKER_DRAINING] = {ST_WORKER_DRAINING},
        [ST_WORKER_STUCK] = {ST_WORKER_IDLE, ST_WORKER_FULL, ST_WORKER_STUCK},
        [ST_WORKER_RESTARTING] = {ST_WORKER_RESTARTING},
        [ST_WORKER_DEAD] = {ST_WORKER_DEAD},
    };

    for (unsigned i = 0; i < 3; i++)
        if (way[from][i] != ST_WORKER_STARTING)
            st_worker_set_state(w, way[from][i]);
    ST_ASSERT(w->state == from);
}

static void move(void)
{
    st_worker_set_state(pool()->workers[0], to);
}

/* A worker in state `from`, and nothing else. */
static void open_from(void)
{
    fake_open(&f, &(struct fake_options){.manual_spawn = true});
    bring(pool()->workers[0]);
}

static void close_edge(void)
{
    struct st_worker *w = pool()->workers[0];

    if (w->state == ST_WORKER_STUCK)
        pool()->stuck++;
    pool()->draining = true; /* nobody takes its place */
    st_worker_stopped(w);
    fake_close(&f);
}

static void test_edges(void **state)
{
    static const char *const allowed[ST_WORKER_STATES] = {
        /* to: starting idle busy full draining stuck restarting dead */
        [ST_WORKER_STARTING] = "=+.++.++",   [ST_WORKER_IDLE] = ".=+++..+",
        [ST_WORKER_BUSY] = ".+=+++.+",       [ST_WORKER_FULL] = ".++=++.+",
        [ST_WORKER_DRAINING] = "....=+.+",   [ST_WORKER_STUCK] = ".....=.+",
        [ST_WORKER_RESTARTING] = "+.....=+", [ST_WORKER_DEAD] = ".......=",
    };
    static const char *const names[] = {"starting", "idle",  "busy",       "full",
                                        "draining", "stuck", "restarting", "dead"};

    (void)state;
    for (int a = 0; a < ST_WORKER_STATES; a++) {
        assert_string_equal(st_worker_state_name((enum st_worker_state)a), names[a]);
        for (int b = 0; b < ST_WORKER_STATES; b++) {
            from = (enum st_worker_state)a;
            to = (enum st_worker_state)b;
            open_from();
            if (allowed[a][b] == '.') {
                assert_panics(move, "edges[");
            } else {
                move();
                assert_int_equal(pool()->counts[b], 1);
                assert_ptr_equal(TAILQ_FIRST(&pool()->lists[b]), pool()->workers[0]);
                if (a != b)
                    assert_int_equal(pool()->counts[a], 0);
            }
            close_edge();
        }
    }
}

static void take_without_credit(void)
{
    st_worker_take_event(pool()->workers[0]);
}

static void done_without_event(void)
{
    st_worker_event_done(pool()->workers[0], 0);
}

static void retreat_from_nothing(void)
{
    st_worker_retreat(pool()->workers[0], 1);
}

static void test_misuse(void **state)
{
    (void)state;
    from = ST_WORKER_STARTING;
    open_from();
    st_worker_ready(pool()->workers[0], 0);
    assert_panics(take_without_credit, "w->credits > 0");
    assert_panics(done_without_event, "w->running > 0");
    assert_panics(retreat_from_nothing, "w->running > events");
    st_worker_stopped(pool()->workers[0]);
    fake_close(&f);
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
        cmocka_unit_test(test_ready),
        cmocka_unit_test(test_start_fails),
        cmocka_unit_test(test_retry),
        cmocka_unit_test(test_replacement),
        cmocka_unit_test(test_abandoned_events),
        cmocka_unit_test(test_stuck_takes_nothing),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_is_told_once),
        cmocka_unit_test(test_stop_a_restart),
        cmocka_unit_test(test_stop_a_failure),
        cmocka_unit_test(test_stop_with_a_stuck_one),
        cmocka_unit_test(test_inline),
        cmocka_unit_test(test_inline_elsewhere),
        cmocka_unit_test(test_inline_is_gone),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_misuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
