/* Pools that stop, inline and shared ones, the edges between states (tests/support/fake.h). */
#include "tests/unit/test_pool.h"

#include <pthread.h>
#include <semaphore.h>

#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/dispatch.h"

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

/* ---- Between loops ---- */

/* Loop 0, which has the only worker, is kept busy while loop 1 assigns an event to it and finds it
 * stuck. What happens before the event arrives: */
enum meanwhile { NOTHING, IT_ENDS, THE_CLIENT_LEAVES };

struct crossing {
    enum meanwhile what;
    struct fake_answer *first, *second;
    sem_t blocked, go;
};

static void send_first(struct st_loop *loop, void *arg)
{
    struct crossing *x = arg;

    x->first = fake_send(&f, 0, loop->index, "x");
    ST_ASSERT(f.call_count == 1 && fake_begin(&f.calls[0]));
}

static void send_second(struct st_loop *loop, void *arg)
{
    struct crossing *x = arg;
    struct st_worker *w = pool()->workers[0];

    x->second = fake_send(&f, 0, loop->index, "x");
    ST_ASSERT(w->state == ST_WORKER_FULL && w->running == 2);
    st_pool_worker_stuck(pool(), w);
    if (x->what == THE_CLIENT_LEAVES)
        st_event_cancel(x->second->ev);
}

static void block(struct st_loop *loop, void *arg)
{
    struct crossing *x = arg;

    (void)loop;
    sem_post(&x->blocked);
    sem_wait(&x->go);
    if (x->what != IT_ENDS)
        return;
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_stopped(f.calls[0].w);
}

static void *block_main(void *arg)
{
    st_loop_call(&f.loops[0], block, arg);
    return NULL;
}

/* The new worker has it, or it is over. */
static void look(struct st_loop *loop, void *arg)
{
    struct crossing *x = arg;

    (void)loop;
    if (x->what != IT_ENDS) { /* it comes back later */
        fake_end(&f.calls[0], ST_OUTCOME_OK);
        st_worker_stopped(f.calls[0].w);
    }
    if (x->what == THE_CLIENT_LEAVES) {
        ST_ASSERT(f.call_count == 1);
        return;
    }
    ST_ASSERT(f.call_count == 2 && f.calls[1].w == pool()->workers[0]);
    ST_ASSERT(f.calls[1].w != f.calls[0].w);
    fake_serve(&f.calls[1]);
}

static void rest(struct st_loop *loop, void *arg)
{
    (void)loop;
    (void)arg;
}

static void cross(enum meanwhile what)
{
    struct crossing x = {.what = what};
    pthread_t id;

    fake_open(&f,
              &(struct fake_options){
                  .loops = 2, .threads = true, .credits = 2, .pool = {{.wait_ns = 10 * ST_SEC}}});
    sem_init(&x.blocked, 0, 0);
    sem_init(&x.go, 0, 0);
    st_loop_call(&f.loops[0], send_first, &x);
    assert_int_equal(pthread_create(&id, NULL, block_main, &x), 0);
    sem_wait(&x.blocked);
    st_loop_call(&f.loops[1], send_second, &x);
    sem_post(&x.go);
    pthread_join(id, NULL);
    for (unsigned i = 0; i < 3; i++) /* it arrives, goes home, and to the new worker */
        st_loop_call(&f.loops[i % 2], rest, &x);
    st_loop_call(&f.loops[0], look, &x);
    st_loop_call(&f.loops[1], rest, &x);
    check_outcome(x.first, ST_OUTCOME_OK);
    check_outcome(x.second, what == THE_CLIENT_LEAVES ? ST_OUTCOME_CANCELLED : ST_OUTCOME_OK);
    assert_int_equal(f.abandoned, 1);
    sem_destroy(&x.blocked);
    sem_destroy(&x.go);
    finish();
}

static void test_crossing(void **state)
{
    (void)state;
    cross(NOTHING);
    cross(IT_ENDS);
    cross(THE_CLIENT_LEAVES);
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
        [ST_WORKER_STARTING] = "=+.++.++",   [ST_WORKER_IDLE] = ".=+++.++",
        [ST_WORKER_BUSY] = ".+=+++++",       [ST_WORKER_FULL] = ".++=++++",
        [ST_WORKER_DRAINING] = "....=+.+",   [ST_WORKER_STUCK] = ".....=.+",
        [ST_WORKER_RESTARTING] = "+...+.=+", [ST_WORKER_DEAD] = ".......=",
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
    assert_panics(retreat_from_nothing, "w->running >= events");
    st_worker_stopped(pool()->workers[0]);
    fake_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_is_told_once),
        cmocka_unit_test(test_stop_a_restart),
        cmocka_unit_test(test_stop_a_failure),
        cmocka_unit_test(test_stop_with_a_stuck_one),
        cmocka_unit_test(test_inline),
        cmocka_unit_test(test_inline_elsewhere),
        cmocka_unit_test(test_inline_is_gone),
        cmocka_unit_test(test_shared),
        cmocka_unit_test(test_crossing),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_misuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
