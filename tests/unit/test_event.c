/* Events: references, claims on their memory, holds, cancelling, the one answer. */
#include "tests/unit/test_core.h"

#include <pthread.h>

#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/deferred.h"
#include "processor/dispatch.h"
#include "tests/support/fake.h"

static struct fake f;

static void open_with(struct fake_pool_options pool)
{
    fake_open(&f, &(struct fake_options){.pool = {pool}});
}

static void finish(void)
{
    fake_stop(&f);
    fake_close(&f);
}

static int64_t value(st_metric m)
{
    return st_metric_value(m);
}

static struct st_trigger *trigger(void)
{
    return &f.triggers[0];
}

static void check_outcome(struct fake_answer *a, enum st_outcome outcome)
{
    assert_int_equal(a->completed, 1);
    assert_int_equal(a->outcome, outcome);
    assert_int_equal(a->released, 1);
    fake_free(a);
}

/* ---- Birth ---- */

static void test_init(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = 0});
    a = fake_new(&f, 0, 0, "body");
    ev = a->ev;
    assert_int_equal(ev->magic, ST_EVENT_MAGIC);
    assert_int_equal(atomic_load(&ev->refs), 1);
    assert_ptr_equal(ev->home, &f.loops[0]);
    assert_int_equal(ev->position.shard, -1);
    assert_int_equal(ev->attempt, 1);
    assert_int_equal(ev->arrived_ns, st_loop_now(&f.loops[0]));
    assert_in_range(st_clock_wall() + 10 * ST_SEC - ev->timestamp_ns, 0, 20 * ST_SEC);
    assert_null(atomic_load(&ev->stream));
    assert_int_equal(atomic_load(&ev->claim), ST_CLAIM_WAITING);
    st_event_finish_as(ev, ST_OUTCOME_CANCELLED);
    check_outcome(a, ST_OUTCOME_CANCELLED);
    finish();
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* RFC 9562: version 7, variant 2, milliseconds in front; later ones are greater. */
static void test_id(void **state)
{
    char before[37] = "";
    uint64_t ms, now;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = 0});
    for (int i = 0; i < 1000; i++) {
        struct fake_answer *a = fake_new(&f, 0, 0, "");
        struct st_slice id = st_event_id_text(a->ev);

        assert_int_equal(id.len, 36);
        assert_int_equal(id.ptr[36], '\0');
        for (int k = 0; k < 36; k++) {
            if (k == 8 || k == 13 || k == 18 || k == 23)
                assert_int_equal(id.ptr[k], '-');
            else
                assert_true(is_hex(id.ptr[k]));
        }
        assert_int_equal(id.ptr[14], '7');
        assert_non_null(strchr("89ab", id.ptr[19]));
        ms = 0;
        for (int k = 0; k < 6; k++)
            ms = ms << 8 | a->ev->id[k];
        now = st_clock_wall() / ST_MSEC;
        assert_in_range(now - ms + 1000, 0, 5000);
        assert_true(strcmp(before, id.ptr) < 0);
        memcpy(before, id.ptr, sizeof before);
        st_event_finish_as(a->ev, ST_OUTCOME_CANCELLED);
        check_outcome(a, ST_OUTCOME_CANCELLED);
        if (i % 100 == 0)
            fake_wait(&f, 1);
    }
    finish();
}

static void test_id_text(void **state)
{
    static const uint8_t id[16] = {0x01, 0x8f, 0xa2, 0xb3, 0xc4, 0xd5, 0x7e, 0xf6,
                                   0x90, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde};
    char text[37];

    (void)state;
    st_uuid_text(id, text);
    assert_string_equal(text, "018fa2b3-c4d5-7ef6-9012-3456789abcde");
}

/* ---- References ---- */

enum { HOLDERS = 4, ROUNDS = 2000, EVENTS = 40 };

static struct st_event *held;
static pthread_barrier_t barrier;

static void *hold_and_drop(void *arg)
{
    (void)arg;
    for (int i = 0; i < EVENTS; i++) {
        pthread_barrier_wait(&barrier);
        for (int k = 0; k < ROUNDS; k++) {
            st_event_ref(held);
            st_event_unref(held);
        }
        st_event_unref(held);
        pthread_barrier_wait(&barrier);
    }
    return NULL;
}

static struct fake_answer *answers[EVENTS];

static void make_one(struct st_loop *loop, void *arg)
{
    unsigned i = *(unsigned *)arg;

    (void)loop;
    answers[i] = fake_new(&f, 0, 0, "x");
    held = answers[i]->ev;
    for (int k = 0; k < HOLDERS; k++)
        st_event_ref(held);
    st_event_finish_as(held, ST_OUTCOME_CANCELLED); /* the home's own */
    assert_int_equal(answers[i]->released, 0);
}

static void nothing(struct st_loop *loop, void *arg)
{
    (void)loop;
    (void)arg;
}

/* Whoever is last, release() runs on the home loop (fake_release asserts it), once. */
static void test_references(void **state)
{
    pthread_t threads[HOLDERS];

    (void)state;
    fake_open(&f, &(struct fake_options){.threads = true});
    pthread_barrier_init(&barrier, NULL, HOLDERS + 1);
    for (int i = 0; i < HOLDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hold_and_drop, NULL), 0);
    for (unsigned i = 0; i < EVENTS; i++) {
        st_loop_call(&f.loops[0], make_one, &i);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        st_loop_call(&f.loops[0], nothing, NULL); /* behind the release */
        check_outcome(answers[i], ST_OUTCOME_CANCELLED);
    }
    for (int i = 0; i < HOLDERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    finish();
}

/* ---- Memory ---- */

static void test_detach(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC, .max_queue = 1});
    a = fake_new(&f, 0, 0, "bytes");
    ev = a->ev;
    assert_int_equal(st_event_detach(ev), ST_OK);
    assert_int_equal(st_event_detach(ev), ST_OK);
    assert_int_equal(a->detached, 1);
    assert_memory_equal(ev->body.ptr, "bytes", 5);
    st_dispatch(ev); /* detached already */
    assert_int_equal(a->detached, 1);
    fake_serve(&f.calls[0]);
    check_outcome(a, ST_OUTCOME_OK);

    a = fake_new(&f, 0, 0, "bytes");
    a->ev->flags = 0; /* borrows nothing */
    st_dispatch(a->ev);
    assert_int_equal(a->detached, 0);
    fake_serve(&f.calls[1]);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

static void test_no_memory(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC, .max_queue = 1});
    a = fake_new(&f, 0, 0, "bytes");
    a->fail_detach = ST_ERR_NOMEM;
    assert_int_equal(st_event_detach(a->ev), ST_ERR_NOMEM);
    st_dispatch(a->ev);
    assert_int_equal(f.call_count, 0);
    assert_int_equal(a->detached, 2);
    check_outcome(a, ST_OUTCOME_NO_MEMORY);
    assert_int_equal(value(trigger()->metrics.no_memory), 1);
    assert_int_equal(value(trigger()->metrics.failed), 1);
    assert_int_equal(value(trigger()->metrics.in_flight), 0);
    finish();
}

static void test_memory_of_the_answer(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "bytes");
    ev = a->ev;
    assert_int_equal(st_buf_try_copy(&ev->body_owner, ST_SLICE("kept")), ST_OK);
    assert_int_equal(st_buf_try_copy(&ev->result.body_owner, ST_SLICE("an answer")), ST_OK);
    ev->result.body = st_buf_slice(&ev->result.body_owner);
    st_arena_alloc(&ev->arena, 100000);
    assert_true(fake_begin(&f.calls[0]));
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    assert_string_equal(a->log, "answer:an answer ");
    check_outcome(a, ST_OUTCOME_OK); /* LeakSanitizer sees the rest */
    finish();
}

/* ---- Admission ---- */

static void test_deadline(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC});
    a = fake_new(&f, 0, 0, "x");
    a->ev->deadline_ns = st_loop_now(&f.loops[0]);
    st_dispatch(a->ev);
    check_outcome(a, ST_OUTCOME_TIMEOUT);
    assert_int_equal(f.call_count, 0);
    assert_int_equal(value(trigger()->metrics.failed), 1);
    a = fake_new(&f, 0, 0, "x");
    a->ev->deadline_ns = st_loop_now(&f.loops[0]) + 1;
    st_dispatch(a->ev);
    fake_serve(&f.calls[0]);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

static void test_gauge(void **state)
{
    struct fake_answer *a[3];

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC, .max_queue = 10});
    for (unsigned i = 0; i < 3; i++) {
        a[i] = fake_send(&f, 0, 0, "x");
        assert_int_equal(value(trigger()->metrics.in_flight), i + 1);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_true(fake_begin(&f.calls[i]));
        fake_end(&f.calls[i], i == 1 ? ST_OUTCOME_RETRY : ST_OUTCOME_OK);
        st_worker_credit(f.calls[i].w, 1);
        assert_int_equal(value(trigger()->metrics.in_flight), 2 - i);
        check_outcome(a[i], i == 1 ? ST_OUTCOME_RETRY : ST_OUTCOME_OK);
    }
    assert_int_equal(value(trigger()->metrics.ok), 2);
    assert_int_equal(value(trigger()->metrics.failed), 1);
    finish();
}

/* ---- Holds ---- */

static void test_hold(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "x");
    ev = a->ev;
    st_event_hold(ev);
    st_event_hold(ev);
    fake_serve(&f.calls[0]);
    assert_int_equal(a->completed, 0);
    assert_true(ev->has_result);
    st_event_unhold(ev, ST_OK);
    assert_int_equal(a->completed, 0);
    st_event_unhold(ev, ST_OK);
    check_outcome(a, ST_OUTCOME_OK);

    a = fake_send(&f, 0, 0, "x"); /* let go before the result */
    st_event_hold(a->ev);
    st_event_unhold(a->ev, ST_OK);
    assert_int_equal(a->completed, 0);
    fake_serve(&f.calls[1]);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

static void test_hold_fails(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "x");
    ev = a->ev;
    assert_int_equal(st_buf_try_copy(&ev->result.body_owner, ST_SLICE("fine")), ST_OK);
    ev->result.body = st_buf_slice(&ev->result.body_owner);
    for (int i = 0; i < 3; i++)
        st_event_hold(ev);
    fake_serve(&f.calls[0]);
    st_event_unhold(ev, ST_OK);
    st_event_unhold(ev, ST_ERR_CLOSED); /* the first that fails gives its name */
    assert_int_equal(a->completed, 0);
    st_event_unhold(ev, ST_ERR_TIMEOUT);
    assert_string_equal(a->log, "answer:closed ");
    check_outcome(a, ST_OUTCOME_ERROR);
    assert_int_equal(value(trigger()->metrics.failed), 1);

    a = fake_send(&f, 0, 0, "x"); /* nobody waits for the result then */
    st_event_hold(a->ev);
    assert_true(fake_begin(&f.calls[1]));
    st_event_unhold(a->ev, ST_ERR_LIMIT);
    assert_string_equal(a->log, "answer:limit ");
    assert_int_equal(a->released, 0);
    fake_end(&f.calls[1], ST_OUTCOME_OK);
    assert_int_equal(value(trigger()->metrics.late), 1);
    check_outcome(a, ST_OUTCOME_ERROR);
    finish();
}

/* Whoever holds may be late: the event is there, and its worker, which is done, is not to blame. */
static void test_hold_outlives_the_answer(void **state)
{
    struct fake_answer *a, *b;
    struct st_worker *w;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC, .event_timeout_ns = 10 * ST_MSEC});
    a = fake_send(&f, 0, 0, "x");
    w = f.calls[0].w;
    st_event_hold(a->ev);
    fake_serve(&f.calls[0]);
    b = fake_send(&f, 0, 0, "x"); /* the worker is busy again */
    fake_wait(&f, 25);
    assert_int_equal(a->completed, 1);
    assert_int_equal(a->outcome, ST_OUTCOME_TIMEOUT);
    assert_int_equal(w->state, ST_WORKER_FULL);
    assert_int_equal(a->released, 0);
    st_event_unhold(a->ev, ST_OK);
    check_outcome(a, ST_OUTCOME_TIMEOUT);

    st_event_hold(b->ev);
    fake_serve(&f.calls[1]);
    st_event_cancel(b->ev);
    assert_int_equal(b->outcome, ST_OUTCOME_CANCELLED);
    assert_int_equal(b->released, 0);
    st_event_unhold(b->ev, ST_ERR_CLOSED);
    check_outcome(b, ST_OUTCOME_CANCELLED);
    assert_int_equal(value(trigger()->metrics.late), 0);
    finish();
}

/* ---- The end ---- */

static void test_cancel(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "x");
    ev = a->ev;
    assert_true(fake_begin(&f.calls[0]));
    st_event_cancel(ev);
    st_event_cancel(ev); /* no effect */
    assert_int_equal(value(trigger()->metrics.gone_running), 1);
    assert_int_equal(value(trigger()->metrics.gone_queued), 0);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_credit(f.calls[0].w, 1);
    check_outcome(a, ST_OUTCOME_CANCELLED);
    assert_int_equal(value(trigger()->metrics.late), 1);
    assert_int_equal(value(trigger()->metrics.failed), 1);
    finish();
}

/* The client leaves; the handler never comes back all the same: its worker must be found out. */
static void test_cancel_and_stuck(void **state)
{
    struct fake_answer *a;
    struct st_worker *w;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC, .event_timeout_ns = 150 * ST_MSEC});
    a = fake_send(&f, 0, 0, "x");
    w = f.calls[0].w;
    assert_true(fake_begin(&f.calls[0]));
    fake_wait(&f, 2);
    st_event_cancel(a->ev);
    assert_int_equal(a->completed, 1);
    fake_wait(&f, 160);
    assert_int_equal(w->state, ST_WORKER_STUCK);
    assert_int_equal(f.abandoned, 1);
    fake_end(&f.calls[0], ST_OUTCOME_OK);
    st_worker_stopped(w);
    check_outcome(a, ST_OUTCOME_CANCELLED);

    a = fake_send(&f, 0, 0, "x"); /* this one does come back */
    assert_true(fake_begin(&f.calls[1]));
    st_event_cancel(a->ev);
    fake_wait(&f, 2);
    fake_end(&f.calls[1], ST_OUTCOME_OK);
    st_worker_credit(f.calls[1].w, 1);
    check_outcome(a, ST_OUTCOME_CANCELLED);
    fake_wait(&f, 160);
    assert_int_equal(f.abandoned, 1);
    finish();
}

static void test_token_and_cancel(void **state)
{
    struct fake_answer *a;
    struct st_deferred_answer *early;
    struct st_event *back;
    uint64_t token;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC, .event_timeout_ns = 20 * ST_MSEC});
    a = fake_send(&f, 0, 0, "x");
    assert_true(fake_begin(&f.calls[0]));
    token = st_deferred_issue(f.p.deferred, a->ev);
    assert_true(token != 0);
    assert_int_equal(st_deferred_returned(f.p.deferred, a->ev, &early), ST_DEFERRED_WAITS);
    st_worker_event_done(f.calls[0].w, 0);
    st_event_unref(a->ev);
    st_worker_credit(f.calls[0].w, 1);
    st_event_cancel(a->ev);
    check_outcome(a, ST_OUTCOME_CANCELLED);
    assert_int_equal(st_deferred_resolve(f.p.deferred, token, NULL, &back), ST_ERR_CLOSED);
    fake_wait(&f, 30);
    assert_int_equal(f.abandoned, 0);
    finish();
}

static struct st_event *victim;

static void finish_twice(void)
{
    st_event_finish_as(victim, ST_OUTCOME_OK);
    st_event_finish_as(victim, ST_OUTCOME_OK);
}

static void complete_twice(void)
{
    st_event_hold(victim);
    st_event_complete(victim);
    st_event_complete(victim);
}

static void defer_as_an_answer(void)
{
    st_event_finish_as(victim, ST_OUTCOME_DEFER);
}

static void release_unanswered(void)
{
    st_event_unref(victim);
    st_event_unref(victim);
}

static void unhold_nothing(void)
{
    st_event_unhold(victim, ST_OK);
}

static void hold_uncounted(void)
{
    victim->counted = false;
    st_event_hold(victim);
}

static void test_misuse(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_with((struct fake_pool_options){.wait_ns = ST_SEC});
    a = fake_send(&f, 0, 0, "x");
    victim = a->ev;
    st_event_ref(victim);
    assert_panics(finish_twice, "!ev->answered");
    assert_panics(complete_twice, "!ev->has_result");
    assert_panics(defer_as_an_answer, "ST_OUTCOME_DEFER");
    assert_panics(unhold_nothing, "ev->holds > 0");
    assert_panics(hold_uncounted, "ev->counted");
    st_event_unref(victim);
    assert_panics(release_unanswered, "ev->answered");
    fake_serve(&f.calls[0]);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_id),
        cmocka_unit_test(test_id_text),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_detach),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_memory_of_the_answer),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_gauge),
        cmocka_unit_test(test_hold),
        cmocka_unit_test(test_hold_fails),
        cmocka_unit_test(test_hold_outlives_the_answer),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_and_stuck),
        cmocka_unit_test(test_token_and_cancel),
        cmocka_unit_test(test_misuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
