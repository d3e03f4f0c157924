/* Streamed answers: order, water marks, closing, holds, triggers that can't stream. */
#include "tests/unit/test_core.h"

#include <pthread.h>
#include <semaphore.h>

#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/stream.h"
#include "tests/support/fake.h"

enum { CAN_STREAM, PLAIN };

static struct fake f;

static void open_with(bool threads, bool slow)
{
    fake_open(&f, &(struct fake_options){
                      .threads = threads,
                      .slow = slow,
                      .credits = 100,
                      .triggers = 2,
                      .trigger = {{.kind = &fake_trigger_kind}, {.kind = &fake_plain_kind}},
                      .pool = {{.wait_ns = ST_SEC}}});
}

static void finish(void)
{
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

/* An event that its worker has begun; the newest call. */
static struct fake_answer *begun(unsigned trigger)
{
    struct fake_answer *a = fake_send(&f, trigger, 0, "x");

    ST_ASSERT(fake_begin(&f.calls[f.call_count - 1]));
    return a;
}

static void end(enum st_outcome outcome)
{
    fake_end(&f.calls[f.call_count - 1], outcome);
}

static int write_text(struct st_event *ev, const char *text)
{
    return st_stream_write(ev, st_slice_of(text));
}

static char block[ST_STREAM_HIGH];

static int write_bytes(struct st_event *ev, size_t n)
{
    return st_stream_write(ev, (struct st_slice){block, n});
}

/* ---- On one thread ---- */

static void test_order(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_with(false, false);
    a = begun(CAN_STREAM);
    assert_int_equal(write_text(a->ev, "too early"), ST_ERR_INVALID);
    a->ev->result.status = 206;
    assert_int_equal(st_stream_open(a->ev), ST_OK);
    assert_int_equal(st_stream_open(a->ev), ST_ERR_INVALID);
    assert_int_equal(a->status, 206);
    assert_int_equal(write_text(a->ev, "one"), ST_OK);
    assert_int_equal(write_text(a->ev, ""), ST_OK);
    assert_int_equal(write_text(a->ev, "two"), ST_OK);
    end(ST_OUTCOME_OK);
    assert_true(a->streamed);
    assert_string_equal(a->log, "head piece:one piece:two answer: ");
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

static void test_open_after_the_answer(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_with(false, false);
    a = begun(CAN_STREAM);
    st_event_cancel(a->ev);
    assert_int_equal(st_stream_open(a->ev), ST_ERR_CLOSED);
    end(ST_OUTCOME_OK);
    assert_string_equal(a->log, "answer: ");
    check_outcome(a, ST_OUTCOME_CANCELLED);
    finish();
}

static unsigned calls;

static void count_call(struct st_event *ev, void *arg)
{
    (void)ev;
    calls += (unsigned)(uintptr_t)arg;
}

static void *number(uintptr_t n)
{
    return (void *)n;
}

static void test_writable(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with(false, true);
    a = begun(CAN_STREAM);
    ev = a->ev;
    calls = 0;
    assert_int_equal(st_stream_open(ev), ST_OK);
    assert_null(st_stream_on_writable(ev, count_call, number(1)));
    assert_int_equal(calls, 1); /* is writable: at once */
    assert_int_equal(write_bytes(ev, ST_STREAM_HIGH), ST_OK);
    assert_int_equal(write_bytes(ev, 1), ST_ERR_AGAIN); /* taken all the same */
    assert_int_equal(a->bytes, ST_STREAM_HIGH + 1);
    assert_null(st_stream_on_writable(ev, count_call, number(10)));
    assert_ptr_equal(st_stream_on_writable(ev, count_call, number(100)), number(10));
    st_stream_sent(ev, ST_STREAM_HIGH - ST_STREAM_LOW);
    assert_int_equal(calls, 1);
    st_stream_sent(ev, 1);
    assert_int_equal(calls, 101);
    st_stream_sent(ev, 1);
    assert_int_equal(calls, 101); /* once */
    assert_int_equal(st_stream_wait(ev, 0), ST_OK);
    assert_int_equal(write_bytes(ev, ST_STREAM_HIGH), ST_ERR_AGAIN);
    assert_int_equal(st_stream_wait(ev, 5 * ST_MSEC), ST_ERR_TIMEOUT);
    assert_null(st_stream_on_writable(ev, count_call, number(1000)));
    end(ST_OUTCOME_OK); /* the answer's end is also the stream's */
    assert_int_equal(calls, 1101);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

static void test_close(void **state)
{
    struct fake_answer *a;
    struct st_event *ev;

    (void)state;
    open_with(false, true);
    a = begun(CAN_STREAM);
    ev = a->ev;
    calls = 0;
    assert_int_equal(st_stream_open(ev), ST_OK);
    assert_int_equal(write_bytes(ev, ST_STREAM_HIGH), ST_OK);
    st_stream_on_writable(ev, count_call, number(1));
    st_stream_close(ev);
    st_stream_close(ev);
    assert_int_equal(calls, 1);
    assert_int_equal(write_text(ev, "x"), ST_ERR_CLOSED);
    assert_int_equal(st_stream_wait(ev, ST_SEC), ST_ERR_CLOSED);
    assert_null(st_stream_on_writable(ev, count_call, number(1)));
    assert_int_equal(calls, 2);
    end(ST_OUTCOME_ERROR);
    check_outcome(a, ST_OUTCOME_ERROR);

    a = begun(CAN_STREAM); /* the client leaves */
    ev = a->ev;
    assert_int_equal(st_stream_open(ev), ST_OK);
    assert_int_equal(write_text(ev, "seen"), ST_OK);
    st_event_cancel(ev);
    assert_int_equal(write_text(ev, "unseen"), ST_ERR_CLOSED);
    end(ST_OUTCOME_OK);
    assert_string_equal(a->log, "head piece:seen answer: ");
    check_outcome(a, ST_OUTCOME_CANCELLED);
    finish();
}

/* ---- Holds ---- */

static void test_held(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_with(false, false);
    a = begun(CAN_STREAM);
    st_event_hold(a->ev);
    assert_int_equal(st_stream_open(a->ev), ST_OK);
    assert_int_equal(write_text(a->ev, "one"), ST_OK);
    assert_null(a->log);
    st_event_unhold(a->ev, ST_OK);
    assert_string_equal(a->log, "head piece:one ");
    st_event_hold(a->ev); /* in the middle */
    assert_int_equal(write_text(a->ev, "two"), ST_OK);
    end(ST_OUTCOME_OK);
    assert_string_equal(a->log, "head piece:one ");
    st_event_unhold(a->ev, ST_OK);
    assert_string_equal(a->log, "head piece:one piece:two answer: ");
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

/* What waited behind a hold that fails is not seen, only the error is. */
static void test_hold_fails(void **state)
{
    static const unsigned triggers[] = {CAN_STREAM, PLAIN};
    struct fake_answer *a;

    (void)state;
    open_with(false, false);
    for (int i = 0; i < 2; i++) {
        a = begun(triggers[i]);
        st_event_hold(a->ev);
        assert_int_equal(st_stream_open(a->ev), ST_OK);
        assert_int_equal(write_text(a->ev, "one"), ST_OK);
        st_event_unhold(a->ev, ST_ERR_SYSTEM);
        assert_int_equal(write_text(a->ev, "two"), ST_ERR_CLOSED);
        end(ST_OUTCOME_OK);
        assert_false(a->streamed);
        assert_string_equal(a->log, "answer:system ");
        check_outcome(a, ST_OUTCOME_ERROR);
    }
    finish();
}

/* ---- Triggers that can't stream ---- */

static void test_collected(void **state)
{
    struct fake_answer *a;

    (void)state;
    open_with(false, false);
    a = begun(PLAIN);
    a->ev->result.status = 201;
    assert_int_equal(st_stream_open(a->ev), ST_OK);
    for (char c = 'a'; c <= 'z'; c++) {
        char text[2] = {c, '\0'};

        assert_int_equal(write_text(a->ev, text), ST_OK);
    }
    assert_null(a->log);
    end(ST_OUTCOME_OK);
    assert_int_equal(a->status, 201);
    assert_false(a->streamed);
    assert_string_equal(a->log, "answer:abcdefghijklmnopqrstuvwxyz ");
    check_outcome(a, ST_OUTCOME_OK);

    a = begun(PLAIN); /* nothing at all */
    assert_int_equal(st_stream_open(a->ev), ST_OK);
    end(ST_OUTCOME_OK);
    assert_string_equal(a->log, "answer: ");
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

/* 4 MiB; more is an error, never a part or one with a hole. */
static void test_collected_limit(void **state)
{
    struct fake_answer *a;
    size_t n = 0;

    (void)state;
    open_with(false, false);
    a = begun(PLAIN);
    assert_int_equal(st_stream_open(a->ev), ST_OK);
    while (n < 4u << 20) {
        assert_int_equal(write_bytes(a->ev, sizeof block), ST_OK);
        n += sizeof block;
    }
    end(ST_OUTCOME_OK);
    assert_int_equal(a->log_len, strlen("answer:") + n + 1);
    check_outcome(a, ST_OUTCOME_OK);

    a = begun(PLAIN);
    assert_int_equal(st_stream_open(a->ev), ST_OK);
    for (n = 0; n < 4u << 20; n += sizeof block)
        assert_int_equal(write_bytes(a->ev, sizeof block), ST_OK);
    assert_int_equal(write_text(a->ev, "x"), ST_OK); /* learns it later */
    assert_int_equal(write_text(a->ev, "x"), ST_ERR_CLOSED);
    end(ST_OUTCOME_OK);
    assert_false(a->streamed);
    assert_string_equal(a->log, "answer:the streamed answer is too long ");
    assert_int_equal(st_metric_value(f.triggers[PLAIN].metrics.failed), 1);
    check_outcome(a, ST_OUTCOME_ERROR);
    finish();
}

/* ---- With a handler on a thread of its own ---- */

struct writer {
    pthread_t id;
    struct fake_answer *a;
    struct st_event *ev;
    unsigned pieces;
    size_t size;
    bool wait;
    int open, code; /* of the last write or wait */
    size_t written;
    sem_t done;
};

static void *write_all(void *arg)
{
    struct writer *wr = arg;

    wr->open = st_stream_open(wr->ev);
    wr->code = ST_OK;
    for (unsigned i = 0; i < wr->pieces && wr->code == ST_OK; i++) {
        wr->code = wr->size != 0 ? write_bytes(wr->ev, wr->size) : write_text(wr->ev, "p");
        if (wr->code == ST_OK || wr->code == ST_ERR_AGAIN)
            wr->written += wr->size != 0 ? wr->size : 1;
        if (wr->code == ST_ERR_AGAIN && wr->wait)
            wr->code = st_stream_wait(wr->ev, 20 * ST_SEC);
    }
    sem_post(&wr->done);
    return NULL;
}

static void writer_start(struct writer *wr)
{
    sem_init(&wr->done, 0, 0);
    ST_ASSERT(pthread_create(&wr->id, NULL, write_all, wr) == 0);
}

static void writer_join(struct writer *wr)
{
    pthread_join(wr->id, NULL);
    sem_destroy(&wr->done);
}

static void on_begin(struct st_loop *loop, void *arg)
{
    struct writer *wr = arg;

    (void)loop;
    wr->a = begun(CAN_STREAM);
    wr->ev = wr->a->ev;
}

/* The handler has returned; its pieces are still on their way to this loop. */
static void on_end(struct st_loop *loop, void *arg)
{
    (void)loop;
    (void)arg;
    end(ST_OUTCOME_OK);
}

static void on_overtake(struct st_loop *loop, void *arg)
{
    struct writer *wr = arg;

    on_begin(loop, wr);
    writer_start(wr);
    sem_wait(&wr->done);
    ST_ASSERT(wr->a->log == NULL);
    end(ST_OUTCOME_OK);
    ST_ASSERT(wr->a->completed == 0);
}

static void on_check(struct st_loop *loop, void *arg)
{
    struct writer *wr = arg;

    (void)loop;
    if (wr->a->completed > 0)
        sem_post(&wr->done);
}

static void wait_completed(struct writer *wr)
{
    do {
        fake_sleep_ms(1);
        st_loop_call(&f.loops[0], on_check, wr);
    } while (sem_trywait(&wr->done) != 0);
}

static void test_result_overtakes(void **state)
{
    struct writer wr = {.pieces = 5};

    (void)state;
    open_with(true, false);
    st_loop_call(&f.loops[0], on_overtake, &wr);
    wait_completed(&wr);
    writer_join(&wr);
    assert_int_equal(wr.open, ST_OK);
    assert_int_equal(wr.code, ST_OK);
    assert_string_equal(wr.a->log, "head piece:p piece:p piece:p piece:p piece:p answer: ");
    check_outcome(wr.a, ST_OUTCOME_OK);
    finish();
}

static void on_overtake_held(struct st_loop *loop, void *arg)
{
    struct writer *wr = arg;

    on_begin(loop, wr);
    st_event_hold(wr->ev);
    writer_start(wr);
    sem_wait(&wr->done);
    end(ST_OUTCOME_OK);
    st_event_unhold(wr->ev, ST_OK);
    ST_ASSERT(wr->a->completed == 0);
}

/* The last hold goes before the pieces have come. */
static void test_unheld_too_soon(void **state)
{
    struct writer wr = {.pieces = 2};

    (void)state;
    open_with(true, false);
    st_loop_call(&f.loops[0], on_overtake_held, &wr);
    wait_completed(&wr);
    writer_join(&wr);
    assert_string_equal(wr.a->log, "head piece:p piece:p answer: ");
    check_outcome(wr.a, ST_OUTCOME_OK);
    finish();
}

/* Pieces from a thread, then one from the home loop itself before they have come. */
static void on_mixed(struct st_loop *loop, void *arg)
{
    struct writer *wr = arg;

    on_begin(loop, wr);
    writer_start(wr);
    sem_wait(&wr->done);
    ST_ASSERT(write_text(wr->ev, "last") == ST_OK);
    end(ST_OUTCOME_OK);
}

static void test_order_of_threads(void **state)
{
    struct writer wr = {.pieces = 3};

    (void)state;
    open_with(true, false);
    st_loop_call(&f.loops[0], on_mixed, &wr);
    wait_completed(&wr);
    writer_join(&wr);
    assert_string_equal(wr.a->log, "head piece:p piece:p piece:p piece:last answer: ");
    check_outcome(wr.a, ST_OUTCOME_OK);
    finish();
}

static void on_read(struct st_loop *loop, void *arg)
{
    struct writer *wr = arg;
    size_t n = wr->a->unsent;

    (void)loop;
    ST_ASSERT(n <= ST_STREAM_HIGH + wr->size);
    wr->a->unsent = 0;
    if (n > 0)
        st_stream_sent(wr->ev, n);
}

/* The reader is slow: the writer waits, and never has more than the mark and a piece on its way. */
static void test_slow_reader(void **state)
{
    struct writer wr = {.pieces = 100, .size = 50000, .wait = true};

    (void)state;
    open_with(true, true);
    st_loop_call(&f.loops[0], on_begin, &wr);
    writer_start(&wr);
    while (sem_trywait(&wr.done) != 0) {
        fake_sleep_ms(1);
        st_loop_call(&f.loops[0], on_read, &wr);
    }
    writer_join(&wr);
    assert_int_equal(wr.code, ST_OK);
    sem_init(&wr.done, 0, 0);
    st_loop_call(&f.loops[0], on_end, &wr);
    wait_completed(&wr);
    sem_destroy(&wr.done);
    assert_int_equal(wr.a->bytes, 100u * 50000u);
    check_outcome(wr.a, ST_OUTCOME_OK);
    finish();
}

static void on_cancel(struct st_loop *loop, void *arg)
{
    struct writer *wr = arg;

    (void)loop;
    st_event_cancel(wr->ev);
}

static void test_close_wakes(void **state)
{
    struct writer wr = {.pieces = 100, .size = 50000, .wait = true};

    (void)state;
    open_with(true, true);
    st_loop_call(&f.loops[0], on_begin, &wr);
    writer_start(&wr);
    fake_sleep_ms(20); /* it waits by now, most likely */
    st_loop_call(&f.loops[0], on_cancel, &wr);
    sem_wait(&wr.done);
    writer_join(&wr);
    assert_int_equal(wr.code, ST_ERR_CLOSED);
    assert_in_range(wr.written, 0, ST_STREAM_HIGH + 50000);
    st_loop_call(&f.loops[0], on_end, &wr);
    st_loop_call(&f.loops[0], on_check, &wr);
    check_outcome(wr.a, ST_OUTCOME_CANCELLED);
    finish();
}

/* Answered before the handler thought of a stream: its pieces are dropped, and it learns it. */
static void test_open_too_late(void **state)
{
    struct writer wr = {.pieces = 1};

    (void)state;
    open_with(true, false);
    st_loop_call(&f.loops[0], on_begin, &wr);
    st_loop_call(&f.loops[0], on_cancel, &wr);
    writer_start(&wr);
    sem_wait(&wr.done);
    writer_join(&wr);
    st_loop_call(&f.loops[0], on_check, &wr);
    assert_int_equal(write_text(wr.ev, "later"), ST_ERR_CLOSED);
    st_loop_call(&f.loops[0], on_end, &wr);
    assert_string_equal(wr.a->log, "answer: ");
    check_outcome(wr.a, ST_OUTCOME_CANCELLED);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_open_after_the_answer),
        cmocka_unit_test(test_writable),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_held),
        cmocka_unit_test(test_hold_fails),
        cmocka_unit_test(test_collected),
        cmocka_unit_test(test_collected_limit),
        cmocka_unit_test(test_result_overtakes),
        cmocka_unit_test(test_unheld_too_soon),
        cmocka_unit_test(test_order_of_threads),
        cmocka_unit_test(test_slow_reader),
        cmocka_unit_test(test_close_wakes),
        cmocka_unit_test(test_open_too_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
