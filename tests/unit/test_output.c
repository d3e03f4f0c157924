/* Outputs: an emit holds its event until it is confirmed, whoever sends it from where. */
#include "tests/unit/test_core.h"

#include <stdio.h>

#include "processor/core/metrics.h"
#include "processor/output.h"
#include "tests/support/fake.h"

/* ---- a kind whose confirmations are the test's ---- */

enum { SENDS = 16 };

struct sink {
    struct st_output base;
    struct {
        struct st_send *send;
        struct st_loop *loop;
        char text[64]; /* topic/key=value (headers) */
    } sent[SENDS];
    unsigned count;
    int refuse; /* what send() returns */
    unsigned opened, closed;
};

static struct st_output *last_output;
static unsigned destroyed;
static int fail_init, fail_open;

static struct sink *sink_of(struct st_output *o)
{
    return ST_CONTAINER_OF(o, struct sink, base);
}

static int sink_init(struct st_output *o, struct st_error *err)
{
    last_output = o;
    return fail_init ? st_error_set(err, ST_ERR_INVALID, "no such place") : ST_OK;
}

static int sink_open(struct st_output *o, struct st_loop *loop, struct st_error *err)
{
    (void)loop;
    sink_of(o)->opened++;
    return fail_open ? st_error_set(err, ST_ERR_INVALID, "it rains") : ST_OK;
}

static int sink_send(struct st_output *o, struct st_loop *loop, const struct st_message *m,
                     struct st_send *send, struct st_error *err)
{
    struct sink *s = sink_of(o);
    int n;

    if (s->refuse != ST_OK)
        return st_error_set(err, (enum st_err)s->refuse, "too much");
    ST_ASSERT(s->count < SENDS);
    n = snprintf(s->sent[s->count].text, sizeof s->sent[0].text, "%.*s/%.*s=%.*s%s",
                 (int)m->topic.len, m->topic.ptr, (int)m->key.len, m->key.ptr, (int)m->value.len,
                 m->value.ptr, m->is_tombstone ? "!" : "");
    for (size_t i = 0; i < m->header_count; i++)
        n += snprintf(s->sent[s->count].text + n, sizeof s->sent[0].text - (size_t)n, " %.*s:%.*s",
                      (int)m->headers[i].name_len, m->headers[i].name, (int)m->headers[i].value_len,
                      m->headers[i].value);
    s->sent[s->count].send = send;
    s->sent[s->count++].loop = loop;
    return ST_OK;
}

static void sink_close(struct st_output *o, struct st_loop *loop)
{
    (void)loop;
    sink_of(o)->closed++;
}

static void sink_destroy(struct st_output *o)
{
    (void)o;
    destroyed++;
}

static const struct st_output_kind sink_kind = {
    .name = "sink",
    .obj_size = sizeof(struct sink),
    .init = sink_init,
    .open = sink_open,
    .send = sink_send,
    .close = sink_close,
    .destroy = sink_destroy,
};

static struct fake f;
static struct st_output_config configs[] = {{.name = "one", .kind = &sink_kind},
                                            {.name = "two", .kind = &sink_kind}};
static struct sink *one, *two;

static void open_on(struct st_loop *loop, void *arg)
{
    (void)arg;
    assert_int_equal(st_outputs_open(&f.p, loop, NULL), ST_OK);
}

static void close_on(struct st_loop *loop, void *arg)
{
    (void)arg;
    st_outputs_close(&f.p, loop);
}

static void on_all(void (*fn)(struct st_loop *loop, void *arg))
{
    for (unsigned i = 0; i < f.p.loop_count; i++)
        st_loop_call(&f.loops[i], fn, NULL);
}

static void begin(const struct fake_options *options)
{
    struct st_error err;

    destroyed = 0;
    fake_open(&f, options);
    f.config.function.outputs = configs;
    f.config.function.output_count = 2;
    assert_int_equal(st_outputs_make(&f.p, &err), ST_OK);
    on_all(open_on);
    one = sink_of(st_output_find(&f.p, ST_SLICE("one")));
    two = sink_of(st_output_find(&f.p, ST_SLICE("two")));
    assert_int_equal(one->opened, f.p.loop_count);
}

static void finish(void)
{
    on_all(close_on);
    fake_stop(&f);
    st_outputs_free(&f.p);
    assert_int_equal(destroyed, 2);
    fake_close(&f);
}

static void check_outcome(struct fake_answer *a, enum st_outcome outcome)
{
    assert_int_equal(a->completed, 1);
    assert_int_equal(a->outcome, outcome);
    assert_int_equal(a->released, 1);
    fake_free(a);
}

static struct st_message message(const char *value)
{
    return (struct st_message){.value = st_slice_of(value)};
}

static void confirm(struct sink *s, unsigned i, int status, const char *text)
{
    st_send_done(s->sent[i].send, s->sent[i].loop, status, text);
}

static int emit(struct sink *s, struct fake_answer *a, const char *value)
{
    struct st_message m = message(value);
    struct st_error err;

    return st_output_emit(&s->base, a->ev, &m, &err);
}

static int64_t ok(const struct sink *s)
{
    return st_metric_value(s->base.metrics.ok);
}

static int64_t failed(const struct sink *s)
{
    return st_metric_value(s->base.metrics.failed);
}

/* ---- tests ---- */

static void test_find(void **state)
{
    (void)state;
    begin(&(struct fake_options){.loops = 2});
    assert_string_equal(one->base.name, "one");
    assert_string_equal(two->base.name, "two");
    assert_null(st_output_find(&f.p, ST_SLICE("three")));
    assert_null(st_output_find(&f.p, ST_SLICE("")));
    finish();
}

static void test_holds(void **state)
{
    struct fake_answer *a;

    (void)state;
    begin(&(struct fake_options){0});
    a = fake_send(&f, 0, 0, "x");
    assert_int_equal(emit(one, a, "a"), ST_OK);
    assert_int_equal(emit(two, a, "b"), ST_OK);
    fake_serve(&f.calls[0]);
    assert_int_equal(a->completed, 0);
    confirm(two, 0, ST_OK, "");
    assert_int_equal(a->completed, 0);
    confirm(one, 0, ST_OK, "");
    check_outcome(a, ST_OUTCOME_OK);
    assert_int_equal(ok(one), 1);
    assert_int_equal(ok(two), 1);
    assert_int_equal(failed(one) + failed(two), 0);

    a = fake_send(&f, 0, 0, "x"); /* confirmed before the handler ends */
    assert_int_equal(emit(one, a, "c"), ST_OK);
    confirm(one, 1, ST_OK, "");
    assert_int_equal(a->completed, 0);
    fake_serve(&f.calls[1]);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

/* The first one that fails says why, whatever the others do. */
static void test_fails(void **state)
{
    struct fake_answer *a;

    (void)state;
    begin(&(struct fake_options){0});
    a = fake_send(&f, 0, 0, "x");
    for (int i = 0; i < 3; i++)
        assert_int_equal(emit(one, a, "a"), ST_OK);
    fake_serve(&f.calls[0]);
    confirm(one, 2, ST_ERR_TIMEOUT, "nobody home");
    confirm(one, 0, ST_ERR_CLOSED, "gone");
    assert_int_equal(a->completed, 0);
    confirm(one, 1, ST_OK, "");
    assert_string_equal(a->log, "answer:emit to one failed: nobody home ");
    check_outcome(a, ST_OUTCOME_ERROR);
    assert_int_equal(ok(one), 1);
    assert_int_equal(failed(one), 2);

    a = fake_send(&f, 0, 0, "x"); /* alone, and last */
    assert_int_equal(emit(one, a, "a"), ST_OK);
    fake_serve(&f.calls[1]);
    confirm(one, 3, ST_ERR_CLOSED, "gone");
    assert_string_equal(a->log, "answer:emit to one failed: gone ");
    check_outcome(a, ST_OUTCOME_ERROR);
    finish();
}

/* ---- events whose trigger lets go of them ---- */

static struct {
    struct st_keep keep;
    bool let_go;
    unsigned done;
    int status;
    char text[64];
} kept;

static void on_kept(struct st_keep *keep, int status, const char *text)
{
    assert_ptr_equal(keep, &kept.keep);
    kept.done++;
    kept.status = status;
    snprintf(kept.text, sizeof kept.text, "%s", text);
}

static void let_go(struct st_event *ev)
{
    kept.let_go = st_outputs_may_keep(ev);
    kept.keep.done = on_kept;
    if (!kept.let_go)
        return;
    ST_CONTAINER_OF(ev, struct fake_event, ev)->answer->completed++; /* the fake's release() asks */
    st_outputs_keep(ev, &kept.keep);
}

/* An event with two emits, whose handler has come back. */
static struct fake_answer *begin_kept(struct st_trigger_kind *kind)
{
    struct fake_answer *a;

    memset(&kept, 0, sizeof kept);
    begin(&(struct fake_options){0});
    *kind = *f.triggers[0].kind;
    kind->held = let_go;
    f.triggers[0].kind = kind;
    a = fake_send(&f, 0, 0, "x");
    assert_int_equal(emit(one, a, "a"), ST_OK);
    assert_int_equal(emit(two, a, "b"), ST_OK);
    return a;
}

static int64_t in_flight(void)
{
    return st_metric_value(f.triggers[0].metrics.in_flight);
}

static void check_kept(struct fake_answer *a, int status, const char *text)
{
    struct st_trigger *t = &f.triggers[0];

    assert_int_equal(kept.done, 1);
    assert_int_equal(kept.status, status);
    assert_string_equal(kept.text, text);
    assert_int_equal(st_metric_value(t->metrics.ok), status == ST_OK);
    assert_int_equal(st_metric_value(t->metrics.failed), status != ST_OK);
    assert_int_equal(in_flight(), 0);
    fake_free(a);
    finish();
}

static void test_kept(void **state)
{
    struct st_trigger_kind kind;
    struct fake_answer *a = begin_kept(&kind);

    (void)state;
    fake_serve(&f.calls[0]);
    assert_true(kept.let_go);
    assert_int_equal(a->released, 1);
    assert_int_equal(in_flight(), 1);
    confirm(two, 0, ST_OK, "");
    assert_int_equal(kept.done, 0);
    confirm(one, 0, ST_OK, "");
    check_kept(a, ST_OK, "");
}

static void test_kept_fails(void **state)
{
    struct st_trigger_kind kind;
    struct fake_answer *a = begin_kept(&kind);

    (void)state;
    fake_serve(&f.calls[0]);
    confirm(two, 0, ST_ERR_TIMEOUT, "nobody home");
    confirm(one, 0, ST_ERR_CLOSED, "gone");
    check_kept(a, ST_ERR_TIMEOUT, "emit to two failed: nobody home");
}

/* What failed before the handler came back counts, too. */
static void test_kept_failed_before(void **state)
{
    struct st_trigger_kind kind;
    struct fake_answer *a = begin_kept(&kind);

    (void)state;
    confirm(one, 0, ST_ERR_TIMEOUT, "nobody home");
    fake_serve(&f.calls[0]);
    assert_true(kept.let_go);
    confirm(two, 0, ST_OK, "");
    check_kept(a, ST_ERR_TIMEOUT, "emit to one failed: nobody home");
}

/* The outputs close while they have its emits. */
static void test_kept_given_up(void **state)
{
    struct st_trigger_kind kind;
    struct fake_answer *a = begin_kept(&kind);

    (void)state;
    fake_serve(&f.calls[0]);
    on_all(close_on);
    check_kept(a, ST_ERR_CLOSED, "emit to one failed: the processor ends");
}

/* Somebody else has it, too: it stays what it is. */
static void test_not_kept(void **state)
{
    struct st_trigger_kind kind;
    struct fake_answer *a = begin_kept(&kind);

    (void)state;
    st_event_ref(a->ev);
    fake_serve(&f.calls[0]);
    assert_false(kept.let_go);
    confirm(two, 0, ST_OK, "");
    confirm(one, 0, ST_OK, "");
    st_event_unref(a->ev);
    check_outcome(a, ST_OUTCOME_OK);
    finish();
}

static void test_refused(void **state)
{
    struct st_message m = message("a");
    struct fake_answer *a;
    struct st_error err;

    (void)state;
    begin(&(struct fake_options){0});
    a = fake_send(&f, 0, 0, "x");
    one->refuse = ST_ERR_LIMIT;
    assert_int_equal(st_output_emit(&one->base, a->ev, &m, &err), ST_ERR_LIMIT);
    assert_string_equal(err.text, "too much");
    assert_int_equal(failed(one), 1);
    assert_int_equal(a->ev->holds, 0);
    fake_serve(&f.calls[0]);
    check_outcome(a, ST_OUTCOME_OK); /* whoever asked decides */

    a = fake_send(&f, 0, 0, "x"); /* too late */
    one->refuse = ST_OK;
    assert_true(fake_begin(&f.calls[1]));
    st_event_cancel(a->ev);
    assert_int_equal(emit(one, a, "a"), ST_ERR_CLOSED);
    assert_int_equal(one->count, 0);
    fake_end(&f.calls[1], ST_OUTCOME_OK);
    check_outcome(a, ST_OUTCOME_CANCELLED);
    finish();
}

/* What is not confirmed when a loop closes has failed; nothing is taken any more. */
static void test_closed(void **state)
{
    struct fake_answer *a;

    (void)state;
    begin(&(struct fake_options){0});
    a = fake_send(&f, 0, 0, "x");
    assert_int_equal(emit(one, a, "a"), ST_OK);
    assert_int_equal(emit(two, a, "a"), ST_OK);
    fake_serve(&f.calls[0]);
    on_all(close_on);
    assert_int_equal(one->closed, 1);
    assert_string_equal(a->log, "answer:emit to one failed: the processor ends ");
    check_outcome(a, ST_OUTCOME_ERROR);

    a = fake_send(&f, 0, 0, "x");
    assert_int_equal(emit(one, a, "a"), ST_ERR_CLOSED);
    fake_serve(&f.calls[1]);
    check_outcome(a, ST_OUTCOME_OK);
    on_all(close_on); /* again: nothing happens */
    assert_int_equal(one->closed, 1);
    finish();
}

static void test_start_fails(void **state)
{
    struct st_error err;

    (void)state;
    destroyed = 0;
    fake_open(&f, &(struct fake_options){0});
    f.config.function.outputs = configs;
    f.config.function.output_count = 2;
    fail_init = 1;
    assert_int_equal(st_outputs_make(&f.p, &err), ST_ERR_INVALID);
    assert_string_equal(err.text, "output one: no such place");
    st_outputs_free(&f.p);
    assert_int_equal(destroyed, 1); /* the one that was begun */
    fail_init = 0;
    assert_int_equal(st_outputs_make(&f.p, &err), ST_OK);
    fail_open = 1;
    assert_int_equal(st_outputs_open(&f.p, &f.loops[0], &err), ST_ERR_INVALID);
    assert_string_equal(err.text, "output one: it rains");
    fail_open = 0;
    st_outputs_free(&f.p);
    assert_int_equal(destroyed, 3);
    fake_stop(&f);
    fake_close(&f);
}

/* ---- from other threads ---- */

static struct fake_answer *answer;

static void send_event(struct st_loop *loop, void *arg)
{
    (void)arg;
    answer = fake_send(&f, 0, loop->index, "x");
    st_event_ref(answer->ev); /* of the thread that emits */
    assert_true(fake_begin(&f.calls[f.call_count - 1]));
}

static void serve(struct st_loop *loop, void *arg)
{
    (void)loop;
    (void)arg;
    fake_end(&f.calls[f.call_count - 1], ST_OUTCOME_OK);
}

static void confirm_first(struct st_loop *loop, void *arg)
{
    (void)arg;
    assert_ptr_equal(one->sent[0].loop, loop);
    confirm(one, 0, ST_OK, "");
}

static void unref(struct st_loop *loop, void *arg)
{
    (void)loop;
    (void)arg;
    st_event_unref(answer->ev);
}

static void test_travels(void **state)
{
    static const struct st_header headers[] = {
        {.name = "h", .name_len = 1, .value = "1", .value_len = 1},
        {.name = "empty", .name_len = 5, .value = NULL, .value_len = 0}};
    char value[] = "value", key[] = "key", topic[] = "topic";
    struct st_message m = {.value = ST_SLICE(value),
                           .key = ST_SLICE(key),
                           .topic = ST_SLICE(topic),
                           .headers = headers,
                           .header_count = 2};
    struct st_error err;

    (void)state;
    begin(&(struct fake_options){.loops = 2, .threads = true});
    st_loop_call(&f.loops[0], send_event, NULL);
    assert_int_equal(st_output_emit(&one->base, answer->ev, &m, &err), ST_OK);
    memset(value, '?', sizeof value - 1); /* it was copied */
    memset(key, '?', sizeof key - 1);
    memset(topic, '?', sizeof topic - 1);
    st_loop_call(&f.loops[0], serve, NULL); /* behind it: the event is held by now */
    assert_string_equal(one->sent[0].text, "topic/key=value h:1 empty:");
    assert_int_equal(answer->completed, 0);
    st_loop_call(&f.loops[0], confirm_first, NULL);
    st_loop_call(&f.loops[0], unref, NULL);
    check_outcome(answer, ST_OUTCOME_OK);
    assert_int_equal(atomic_load(&one->base.copied), 0);
    finish();
}

/* Nobody is there to be told: the event fails. */
static void test_travels_in_vain(void **state)
{
    struct st_message m = message("a");
    struct st_error err;

    (void)state;
    begin(&(struct fake_options){.threads = true});
    one->refuse = ST_ERR_LIMIT;
    st_loop_call(&f.loops[0], send_event, NULL);
    assert_int_equal(st_output_emit(&one->base, answer->ev, &m, &err), ST_OK);
    st_loop_call(&f.loops[0], serve, NULL);
    st_loop_call(&f.loops[0], unref, NULL);
    assert_string_equal(answer->log, "answer:emit to one failed: too much ");
    check_outcome(answer, ST_OUTCOME_ERROR);
    finish();
}

static void test_travels_too_much(void **state)
{
    static char large[40 * 1024 * 1024];
    struct st_message m = {.value = {large, sizeof large}};
    struct st_error err;

    (void)state;
    begin(&(struct fake_options){.threads = true});
    st_loop_call(&f.loops[0], send_event, NULL);
    atomic_store(&one->base.copied, (uint64_t)sizeof large); /* as much travels already */
    assert_int_equal(st_output_emit(&one->base, answer->ev, &m, &err), ST_ERR_LIMIT);
    assert_string_equal(err.text, "too much is under way already");
    assert_int_equal(atomic_load(&one->base.copied), sizeof large);
    atomic_store(&one->base.copied, 0);
    st_loop_call(&f.loops[0], serve, NULL);
    st_loop_call(&f.loops[0], unref, NULL);
    check_outcome(answer, ST_OUTCOME_OK);
    finish();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_holds),
        cmocka_unit_test(test_fails),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_kept_fails),
        cmocka_unit_test(test_kept_failed_before),
        cmocka_unit_test(test_kept_given_up),
        cmocka_unit_test(test_not_kept),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_closed),
        cmocka_unit_test(test_start_fails),
        cmocka_unit_test(test_travels),
        cmocka_unit_test(test_travels_in_vain),
        cmocka_unit_test(test_travels_too_much),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
