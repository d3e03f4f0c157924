/* What ends an event without its handler, and what its worker is told of it. */
#include "tests/unit/test_core.h"

#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/deferred.h"
#include "processor/dispatch.h"
#include "tests/support/fake.h"

static struct fake f;

static struct st_pool *pool(void)
{
    return f.pools[0];
}

static void finish(void)
{
    fake_check_pool(pool());
    fake_stop(&f);
    fake_close(&f);
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

/* Its handler answers OK, and another event may come. */
static void end_call(unsigned i)
{
    fake_end(&f.calls[i], ST_OUTCOME_OK);
    st_worker_credit(f.calls[i].w, 1);
}

/* ---- Deadlines ---- */

static struct fake_answer *send_with_deadline(unsigned ms)
{
    struct fake_answer *a = fake_new(&f, 0, 0, "x");

    a->ev->deadline_ns = st_loop_now(&f.loops[0]) + ms * ST_MSEC;
    st_dispatch(a->ev);
    return a;
}

static void open_with(uint32_t credits, uint64_t event_timeout_ns)
{
    fake_open(&f, &(struct fake_options){.credits = credits,
                                         .pool = {{.wait_ns = 100 * ST_SEC,
                                                   .max_queue = 10,
                                                   .event_timeout_ns = event_timeout_ns}}});
}

/* In the pool's queue. */
static void test_deadline_in_the_queue(void **state)
{
    struct fake_answer *a, *b, *c;

    (void)state;
    open_with(1, 0);
    a = fake_send(&f, 0, 0, "x");
    b = send_with_deadline(20);
    c = send_with_deadline(50000);
    assert_int_equal(pool()->queued, 2);
    fake_wait(&f, 30);
    check_outcome(b, ST_OUTCOME_TIMEOUT);
    assert_int_equal(c->completed, 0);
    assert_int_equal(value(pool()->metrics.timeout), 1);
    assert_int_equal(value(f.triggers[0].metrics.no_worker), 0);
    fake_serve(&f.calls[0]);
    check_outcome(a, ST_OUTCOME_OK);
    assert_ptr_equal(f.calls[1].ev, c->ev);
    fake_serve(&f.calls[1]);
    check_outcome(c, ST_OUTCOME_OK);
    finish();
}

/* In its worker's channel, assigned at once or after a wait; `timeout` of the events. */
static void deadline_in_the_channel(uint64_t timeout)
{
    struct fake_answer *a[3];

    open_with(1, timeout);
    a[0] = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    a[1] = send_with_deadline(20); /* waits, is assigned */
    st_worker_credit(f.calls[0].w, 2);
    a[2] = send_with_deadline(20); /* at once */
    assert_int_equal(f.call_count, 3);
    fake_wait(&f, 30);
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(a[i]->outcome, ST_OUTCOME_TIMEOUT);
        assert_false(fake_begin(&f.calls[i]));
        st_worker_event_done(f.calls[i].w, 0);
        st_event_unref(f.calls[i].ev);
        check_outcome(a[i], ST_OUTCOME_TIMEOUT);
    }
    assert_int_equal(value(pool()->metrics.timeout), 0); /* they had a worker */
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    check_outcome(a[0], ST_OUTCOME_OK);
    finish();
}

static void test_deadline_in_the_channel(void **state)
{
    (void)state;
    deadline_in_the_channel(0);
    deadline_in_the_channel(50 * ST_SEC);
}

/* What has begun goes on, up to eventTimeout. */
static void test_deadline_while_it_runs(void **state)
{
    struct fake_answer *a, *b;

    (void)state;
    open_with(2, 100 * ST_MSEC);
    a = send_with_deadline(10);
    b = send_with_deadline(10);
    assert_true(fake_begin(&f.calls[0]));
    assert_true(fake_begin(&f.calls[1]));
    fake_wait(&f, 20);
    assert_int_equal(a->completed, 0);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    check_outcome(a, ST_OUTCOME_OK);
    fake_wait(&f, 100);
    assert_int_equal(b->outcome, ST_OUTCOME_TIMEOUT);
    assert_int_equal(f.abandoned, 1);
    fake_end(&f.calls[1], ST_OUTCOME_OK);
    st_worker_stopped(f.calls[1].w);
    check_outcome(b, ST_OUTCOME_TIMEOUT);
    finish();
}

/* ---- Inline events that live longer ---- */

static struct st_runtime_kind holding_kind;

static void invoke_and_hold(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    (void)assignment;
    f.calls[f.call_count++] = (struct fake_call){w, ev, 0};
    ST_ASSERT(st_event_outlive(ev) == ST_OK);
    st_event_hold(ev);
    ev->result.outcome = ST_OUTCOME_OK;
    st_event_complete(ev);
}

static void test_held_inline_event(void **state)
{
    struct fake_answer *a;

    (void)state;
    holding_kind = fake_inline_kind;
    holding_kind.invoke = invoke_and_hold;
    fake_open(&f, &(struct fake_options){
                      .pool = {{.runtime = &holding_kind, .event_timeout_ns = 20 * ST_MSEC}}});
    a = fake_send(&f, 0, 0, "x");
    assert_int_not_equal(atomic_load(&a->ev->started_ns), 0);
    assert_int_equal(a->completed, 0);
    fake_wait(&f, 30);
    assert_int_equal(a->completed, 1);
    assert_int_equal(a->outcome, ST_OUTCOME_TIMEOUT);
    st_event_unhold(a->ev, ST_OK);
    check_outcome(a, ST_OUTCOME_TIMEOUT);
    assert_int_equal(f.abandoned, 0);
    finish();
}

/* ---- Results on their way ---- */

/* Two begun events of a worker; the first one's result is in the mailbox of its home. */
static void open_with_result_on_its_way(struct fake_answer *a[2], bool leaves)
{
    open_with(2, 50 * ST_SEC);
    for (unsigned i = 0; i < 2; i++) {
        a[i] = fake_send(&f, 0, 0, "x");
        assert_true(fake_begin(&f.calls[i]));
    }
    if (leaves)
        st_event_cancel(a[0]->ev);
    a[0]->ev->result.outcome = ST_OUTCOME_OK;
    st_worker_event_done(f.calls[0].w, 1000);
    st_event_complete_from(a[0]->ev);
    atomic_store(&a[0]->ev->started_ns, 1); /* long ago */
}

/* The timer is first; the worker, which has another event, is not to blame. */
static void test_result_on_its_way(void **state)
{
    for (unsigned leaves = 0; leaves < 2; leaves++) {
        struct fake_answer *a[2];
        struct st_worker *w;

        (void)state;
        open_with_result_on_its_way(a, leaves != 0);
        w = f.calls[0].w;
        a[0]->ev->timer.fn(&a[0]->ev->timer);
        assert_int_equal(a[0]->outcome, leaves ? ST_OUTCOME_CANCELLED : ST_OUTCOME_TIMEOUT);
        assert_int_equal(w->state, ST_WORKER_FULL);
        assert_int_equal(pool()->stuck, 0);
        end_call(1);
        fake_pass(&f.loops[0]);
        check_outcome(a[0], leaves ? ST_OUTCOME_CANCELLED : ST_OUTCOME_TIMEOUT);
        check_outcome(a[1], ST_OUTCOME_OK);
        assert_int_equal(value(f.triggers[0].metrics.late), 1);
        assert_int_equal(f.abandoned, 0);
        finish();
    }
}

/* ---- Tokens and clients that leave ---- */

/* The client leaves between the handler's begin and its defer(). */
static void test_token_after_the_watch(void **state)
{
    struct st_deferred_answer *back;
    struct fake_answer *a;

    (void)state;
    open_with(1, 50 * ST_SEC);
    a = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    st_pool_watch(pool(), a->ev); /* the instant before the answer */
    assert_true(a->ev->watched);
    assert_int_equal(st_deferred_issue(f.p.deferred, a->ev), 0);
    st_event_finish_as(a->ev, ST_OUTCOME_CANCELLED);
    assert_int_equal(st_deferred_issue(f.p.deferred, a->ev), 0);
    /* It says "deferred" all the same: that is a result, which ends the watch. */
    assert_int_equal(st_deferred_returned(f.p.deferred, a->ev, &back), ST_DEFERRED_NONE);
    end_call(0);
    check_outcome(a, ST_OUTCOME_CANCELLED);
    finish();
}

static void test_token_before_the_watch(void **state)
{
    struct st_deferred_answer *back;
    struct fake_answer *a;

    (void)state;
    open_with(1, 50 * ST_SEC);
    a = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    assert_int_not_equal(st_deferred_issue(f.p.deferred, a->ev), 0);
    st_event_cancel(a->ev);
    assert_false(a->ev->watched);
    assert_int_equal(st_deferred_returned(f.p.deferred, a->ev, &back), ST_DEFERRED_WAITS);
    st_worker_event_done(f.calls[0].w, 1000);
    st_event_unref(f.calls[0].ev);
    check_outcome(a, ST_OUTCOME_CANCELLED); /* now, not at eventTimeout */
    finish();
}

/* ---- What a worker is told ---- */

static struct st_runtime_kind telling_kind;
static struct {
    struct st_worker *w;
    struct st_event *ev;
    unsigned count, abandoned;
} told;

static void keep_told(struct st_worker *w, struct st_event *ev)
{
    ST_CHECK(ev, ST_EVENT_MAGIC);
    ST_ASSERT(st_loop_is_current(w->loop));
    ST_ASSERT(ev->home != w->loop || ev->answered); /* elsewhere it may just be going on */
    told.w = w;
    told.ev = ev;
    told.count++;
    told.abandoned = f.abandoned;
}

static void open_telling(unsigned loops, bool threads, uint64_t event_timeout_ns)
{
    telling_kind = fake_runtime_kind;
    telling_kind.cancel = keep_told;
    memset(&told, 0, sizeof told);
    fake_open(&f, &(struct fake_options){.loops = loops,
                                         .threads = threads,
                                         .credits = 2,
                                         .pool = {{.runtime = &telling_kind,
                                                   .wait_ns = 100 * ST_SEC,
                                                   .max_queue = 10,
                                                   .event_timeout_ns = event_timeout_ns}}});
}

/* Running, sent and waiting. */
static void test_client_leaves(void **state)
{
    struct fake_answer *a[3];

    (void)state;
    open_telling(1, false, 0);
    for (unsigned i = 0; i < 3; i++)
        a[i] = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    st_event_cancel(a[2]->ev); /* no worker has it */
    fake_pass(&f.loops[0]);
    assert_int_equal(told.count, 0);
    check_outcome(a[2], ST_OUTCOME_CANCELLED);
    for (unsigned i = 0; i < 2; i++) {
        st_event_cancel(a[i]->ev);
        assert_int_equal(told.count, i); /* never inside the trigger's call */
        fake_pass(&f.loops[0]);
        assert_int_equal(told.count, i + 1);
        assert_ptr_equal(told.w, f.calls[i].w);
        assert_ptr_equal(told.ev, f.calls[i].ev);
        assert_int_equal(a[i]->released, 0);
    }
    assert_false(fake_begin(&f.calls[1]));
    st_worker_event_done(f.calls[1].w, 0);
    st_event_unref(f.calls[1].ev);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    check_outcome(a[0], ST_OUTCOME_CANCELLED);
    check_outcome(a[1], ST_OUTCOME_CANCELLED);
    finish();
}

/* The event ends while the mail is on its way: it is there until the mail has come. */
static void test_told_too_late(void **state)
{
    struct fake_answer *a, *b;

    (void)state;
    open_telling(1, false, 0);
    a = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    st_event_cancel(a->ev);
    end_call(0);
    assert_int_equal(a->released, 0);
    fake_pass(&f.loops[0]);
    assert_int_equal(told.count, 0); /* nothing runs there */
    check_outcome(a, ST_OUTCOME_CANCELLED);

    a = fake_send(&f, 0, 0, "x");
    b = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[1]));
    assert_true(fake_begin(&f.calls[2]));
    st_event_cancel(a->ev);
    end_call(1);
    fake_pass(&f.loops[0]);
    assert_int_equal(told.count, 1); /* the runtime has to look */
    check_outcome(a, ST_OUTCOME_CANCELLED);
    end_call(2);
    check_outcome(b, ST_OUTCOME_OK);
    finish();
}

/* The result is there, and a hold delays the answer: the worker is not asked. */
static void test_done_is_not_told(void **state)
{
    struct fake_answer *a, *b;

    (void)state;
    open_telling(1, false, 0);
    a = fake_send(&f, 0, 0, "x");
    b = fake_send(&f, 0, 0, "x");
    st_event_hold(a->ev);
    assert_true(fake_begin(&f.calls[1]));
    fake_serve(&f.calls[0]);
    st_event_cancel(a->ev);
    fake_pass(&f.loops[0]);
    assert_int_equal(told.count, 0);
    st_event_unhold(a->ev, ST_OK);
    check_outcome(a, ST_OUTCOME_CANCELLED);
    end_call(1);
    check_outcome(b, ST_OUTCOME_OK);
    finish();
}

/* Before it is given up; then no more. */
static void test_timeout_is_told(void **state)
{
    struct fake_answer *a, *b;

    (void)state;
    open_telling(1, false, 20 * ST_MSEC);
    a = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    fake_wait(&f, 30);
    assert_int_equal(a->outcome, ST_OUTCOME_TIMEOUT);
    assert_int_equal(told.count, 1);
    assert_int_equal(told.abandoned, 0);
    assert_int_equal(f.abandoned, 1);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_stopped(f.calls[0].w);
    check_outcome(a, ST_OUTCOME_TIMEOUT);

    a = fake_send(&f, 0, 0, "x");
    b = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[1]));
    assert_true(fake_begin(&f.calls[2]));
    st_pool_worker_stuck(pool(), f.calls[1].w);
    fake_pass(&f.loops[0]);
    assert_int_equal(f.abandoned, 2);
    st_event_cancel(b->ev);
    fake_pass(&f.loops[0]);
    assert_int_equal(told.count, 1);
    fake_end(&f.calls[1], ST_OUTCOME_OK);
    fake_end(&f.calls[2], ST_OUTCOME_OK);
    st_worker_stopped(f.calls[1].w);
    check_outcome(a, ST_OUTCOME_OK);
    check_outcome(b, ST_OUTCOME_CANCELLED);
    finish();
}

/* ---- Between loops ---- */

static struct fake_answer *crossing;

static void send_and_leave(struct st_loop *loop, void *arg)
{
    (void)arg;
    crossing = fake_send(&f, 0, loop->index, "x");
    st_event_cancel(crossing->ev); /* on its way to the worker */
}

static void look(struct st_loop *loop, void *arg)
{
    (void)loop;
    (void)arg;
    ST_ASSERT(f.call_count == 1 && told.count == 1 && told.ev == f.calls[0].ev);
    ST_ASSERT(!fake_begin(&f.calls[0]));
    st_worker_event_done(f.calls[0].w, 0);
    st_event_unref(f.calls[0].ev);
}

static void rest(struct st_loop *loop, void *arg)
{
    (void)loop;
    (void)arg;
}

static void test_told_on_its_loop(void **state)
{
    (void)state;
    open_telling(2, true, 50 * ST_SEC); /* the worker is loop 0's */
    st_loop_call(&f.loops[1], send_and_leave, NULL);
    st_loop_call(&f.loops[0], rest, NULL);
    st_loop_call(&f.loops[0], look, NULL);
    st_loop_call(&f.loops[1], rest, NULL);
    check_outcome(crossing, ST_OUTCOME_CANCELLED);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deadline_in_the_queue),
        cmocka_unit_test(test_deadline_in_the_channel),
        cmocka_unit_test(test_deadline_while_it_runs),
        cmocka_unit_test(test_held_inline_event),
        cmocka_unit_test(test_result_on_its_way),
        cmocka_unit_test(test_token_after_the_watch),
        cmocka_unit_test(test_token_before_the_watch),
        cmocka_unit_test(test_client_leaves),
        cmocka_unit_test(test_told_too_late),
        cmocka_unit_test(test_done_is_not_told),
        cmocka_unit_test(test_timeout_is_told),
        cmocka_unit_test(test_told_on_its_loop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
