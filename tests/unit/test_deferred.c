/* The table of tokens, by itself and under handlers that defer. */
#include "processor/deferred.h"

#include "tests/support/rig.h"
#include "tests/unit/native.h"

/* ---- The table ---- */

struct answer {
    struct st_deferred_answer base;
    unsigned freed;
};

static void answer_free(struct st_deferred_answer *a)
{
    ST_CONTAINER_OF(a, struct answer, base)->freed++;
}

static struct st_event *new_event(void)
{
    struct st_event *ev = calloc(1, sizeof *ev);

    assert_non_null(ev);
    ev->magic = ST_EVENT_MAGIC;
    atomic_init(&ev->refs, 2); /* home and worker */
    return ev;
}

static unsigned refs(struct st_event *ev)
{
    return atomic_load(&ev->refs);
}

static void test_return_then_resolve(void **state)
{
    struct st_deferred_table *t = st_deferred_new();
    struct st_event *ev = new_event(), *got;
    struct answer a = {.base.free = answer_free};
    struct st_deferred_answer *back;
    uint64_t token;

    (void)state;
    assert_int_equal(st_deferred_returned(t, ev, &back), ST_DEFERRED_NONE);
    token = st_deferred_issue(t, ev);
    assert_true(token != 0);
    assert_true(st_deferred_issue(t, ev) == token);
    assert_int_equal(st_deferred_count(t), 1);
    assert_int_equal(refs(ev), 3);
    assert_int_equal(st_deferred_returned(t, ev, &back), ST_DEFERRED_WAITS);
    assert_int_equal(st_deferred_resolve(t, token, &a.base, &got), 0);
    assert_ptr_equal(got, ev); /* with the token's reference */
    assert_int_equal(refs(ev), 3);
    assert_int_equal(a.freed, 0);
    assert_int_equal(st_deferred_resolve(t, token, &a.base, &got), ST_ERR_CLOSED);
    assert_null(got);
    assert_true(st_deferred_issue(t, ev) == 0);
    assert_true(st_deferred_close(t, ev)); /* the handler had returned */
    assert_false(st_deferred_close(t, ev));
    assert_int_equal(st_deferred_count(t), 0);
    free(ev);
    st_deferred_free(t);
}

static void test_resolve_then_return(void **state)
{
    struct st_deferred_table *t = st_deferred_new();
    struct st_event *ev = new_event(), *got;
    struct answer a = {.base.free = answer_free}, b = {.base.free = answer_free};
    struct st_deferred_answer *back = NULL;
    uint64_t token;

    (void)state;
    token = st_deferred_issue(t, ev);
    assert_int_equal(st_deferred_resolve(t, token, &a.base, &got), 0);
    assert_null(got);
    assert_int_equal(st_deferred_resolve(t, token, &b.base, &got), ST_ERR_CLOSED);
    assert_int_equal(st_deferred_returned(t, ev, &back), ST_DEFERRED_ANSWERED);
    assert_ptr_equal(back, &a.base);
    assert_int_equal(refs(ev), 2);
    assert_int_equal(a.freed + b.freed, 0);
    assert_true(st_deferred_close(t, ev));
    free(ev);
    st_deferred_free(t);
}

static void test_close(void **state)
{
    struct st_deferred_table *t = st_deferred_new();
    struct st_event *ev = new_event(), *got;
    struct answer a = {.base.free = answer_free};
    struct st_deferred_answer *back;
    uint64_t token;

    (void)state;
    /* While the handler runs, with an early answer. */
    token = st_deferred_issue(t, ev);
    assert_int_equal(st_deferred_resolve(t, token, &a.base, &got), 0);
    assert_false(st_deferred_refuse(t, ev));
    assert_int_equal(a.freed, 0);
    assert_false(st_deferred_close(t, ev));
    assert_int_equal(a.freed, 1);
    assert_false(st_deferred_refuse(t, ev));
    assert_int_equal(refs(ev), 2);
    assert_int_equal(st_deferred_returned(t, ev, &back), ST_DEFERRED_WAITS);
    free(ev);
    /* After it returned. */
    ev = new_event();
    token = st_deferred_issue(t, ev);
    assert_int_equal(st_deferred_returned(t, ev, &back), ST_DEFERRED_WAITS);
    assert_true(st_deferred_close(t, ev));
    assert_int_equal(refs(ev), 2);
    assert_int_equal(st_deferred_resolve(t, token, &a.base, &got), ST_ERR_CLOSED);
    free(ev);
    /* Before it asks. */
    ev = new_event();
    assert_false(st_deferred_close(t, ev));
    assert_true(st_deferred_issue(t, ev) == 0);
    assert_int_equal(st_deferred_returned(t, ev, &back), ST_DEFERRED_NONE);
    assert_true(st_deferred_refuse(t, ev));
    assert_int_equal(refs(ev), 2);
    free(ev);
    assert_int_equal(st_deferred_count(t), 0);
    st_deferred_free(t);
}

static void test_foreign_tokens(void **state)
{
    static const uint64_t tokens[] = {0, 1, 64, 65, UINT32_MAX, UINT64_MAX, 1ull << 32};
    struct st_deferred_table *t = st_deferred_new();
    struct st_event *ev = new_event(), *got;
    struct answer a = {.base.free = answer_free};
    uint64_t token;

    (void)state;
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        assert_int_equal(st_deferred_resolve(t, tokens[i], &a.base, &got), ST_ERR_CLOSED);
    token = st_deferred_issue(t, ev);
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++)
        if (tokens[i] != token)
            assert_int_equal(st_deferred_resolve(t, tokens[i], &a.base, &got), ST_ERR_CLOSED);
    assert_int_equal(st_deferred_resolve(t, token + (1ull << 32), &a.base, &got), ST_ERR_CLOSED);
    assert_false(st_deferred_close(t, ev));
    /* The same place, another generation. */
    free(ev);
    ev = new_event();
    assert_true(st_deferred_issue(t, ev) != token);
    assert_int_equal(st_deferred_resolve(t, token, &a.base, &got), ST_ERR_CLOSED);
    free(ev);
    st_deferred_free(t); /* with a token that nobody wants */
    st_deferred_free(NULL);
}

static void test_full(void **state)
{
    struct st_deferred_table *t = st_deferred_new();
    struct st_event **events = calloc(ST_DEFERRED_MAX + 1, sizeof(struct st_event *));

    (void)state;
    assert_non_null(events);
    for (unsigned i = 0; i <= ST_DEFERRED_MAX; i++) {
        events[i] = new_event();
        assert_int_equal(st_deferred_issue(t, events[i]) != 0, i < ST_DEFERRED_MAX);
    }
    assert_int_equal(st_deferred_count(t), ST_DEFERRED_MAX);
    st_deferred_close(t, events[17]);
    free(events[17]);
    events[17] = new_event();
    assert_true(st_deferred_issue(t, events[17]) != 0);
    for (unsigned i = 0; i <= ST_DEFERRED_MAX; i++)
        free(events[i]);
    free(events);
    st_deferred_free(t);
}

/* ---- With handlers ---- */

static struct rig rig;

static void start(const struct rig_options *options)
{
    if (!rig_start(&rig, options))
        fail_msg("%s", rig.failure);
}

static void says(struct rig_event *e, enum st_outcome outcome, unsigned status, const char *text)
{
    if (e->outcome != outcome || e->status != status || strcmp(e->answer, text) != 0)
        fail_msg("%s: outcome %d, status %u, \"%s\"", (const char *)e->body, (int)e->outcome,
                 e->status, e->answer);
    assert_int_equal(e->completed, 1);
    rig_event_free(e);
}

static struct rig_event *run(const char *body, bool borrow)
{
    struct rig_event *e = rig_event_new(&rig, body);

    e->borrow = borrow;
    rig_run(e);
    return e;
}

static int ask(const char *query)
{
    struct rig_event *e = rig_event_new(&rig, "");
    int n;

    e->query = query;
    rig_run(e);
    n = atoi(e->answer);
    rig_event_free(e);
    return n;
}

/* Until the handler says that number. */
static void wait_answer(const char *query, int n)
{
    for (int i = 0; i < 5000 && ask(query) != n; i++)
        rig_sleep_ms(5);
    assert_int_equal(ask(query), n);
}

static void ways(const char *handler, unsigned loops, unsigned workers)
{
    int gone;

    start(&(struct rig_options){.handler = handler, .loops = loops, .workers = workers});
    gone = ask("gone"); /* the shared object stays loaded */
    for (int i = 0; i < 2; i++) {
        bool borrow = i == 1;

        says(run("early", borrow), ST_OUTCOME_OK, 201, "early");
        says(run("0", borrow), ST_OUTCOME_OK, 201, "0");
        says(run("10", borrow), ST_OUTCOME_OK, 201, "10");
        says(run("twice 5", borrow), ST_OUTCOME_OK, 201, "twice 5");
        says(run("error 5", borrow), ST_OUTCOME_ERROR, 502, "error 5");
        says(run("said 5", borrow), ST_OUTCOME_OK, 203, "said before");
    }
    wait_answer("gone", gone + 2);
    assert_int_equal(st_deferred_count(rig.processor.deferred), 0);
    rig_stop(&rig);
}

static void test_ways(void **state)
{
    (void)state;
    ways("defer.so", 1, 1);
    ways("defer.so", 2, 1);
    ways("defer_blocking.so", 1, 2);
}

/* Many at once, resolved while others are still being handled. */
static void storm(const char *handler, unsigned loops, unsigned workers)
{
    enum { N = 2000 };
    struct rig_event **events = calloc(N, sizeof(struct rig_event *));
    static const char *const how[] = {"0", "early", "1", "twice 0", "3"};

    assert_non_null(events);
    start(&(struct rig_options){.handler = handler, .loops = loops, .workers = workers});
    for (unsigned i = 0; i < N; i++) {
        events[i] = rig_event_new(&rig, how[i % 5]);
        events[i]->loop = i % loops;
        rig_send(events[i]);
    }
    for (unsigned i = 0; i < N; i++) {
        assert_true(rig_wait_released(events[i]));
        says(events[i], ST_OUTCOME_OK, 201, how[i % 5]);
    }
    assert_int_equal(st_deferred_count(rig.processor.deferred), 0);
    free(events);
    rig_stop(&rig);
}

static void test_storm(void **state)
{
    (void)state;
    storm("defer.so", 2, 2);
    storm("defer_blocking.so", 2, 4);
}

/* Answered by the clock: the token is gone, no worker is stuck. */
static void timed_out(const char *handler)
{
    struct rig_options options = {.handler = handler, .event_timeout_ns = ST_SEC};
    struct rig_event *late, *never;
    int gone;

    start(&options);
    gone = ask("gone");
    late = rig_event_new(&rig, "held");
    never = rig_event_new(&rig, "never");
    rig_send(late);
    rig_send(never);
    assert_true(rig_wait_released(never));
    assert_int_equal(never->outcome, ST_OUTCOME_TIMEOUT);
    assert_true(rig_wait_released(late));
    assert_int_equal(late->outcome, ST_OUTCOME_TIMEOUT);
    assert_int_equal(st_deferred_count(rig.processor.deferred), 0);
    wait_answer("held", 1);
    assert_int_equal(ask("tell"), 1);
    wait_answer("gone", gone + 1);
    assert_int_equal(rig.pools[0]->stuck, 0);
    assert_int_equal(late->completed + never->completed, 2);
    rig_event_free(late);
    rig_event_free(never);
    rig_stop(&rig);
}

/* Answered by the client's leaving, while the handler's token is out. */
static void left(const char *handler)
{
    struct rig_event *e;
    int gone;

    start(&(struct rig_options){.handler = handler});
    gone = ask("gone");
    e = rig_event_new(&rig, "held");
    rig_send(e);
    wait_answer("held", 1);
    assert_int_equal(st_deferred_count(rig.processor.deferred), 1);
    rig_cancel(e);
    assert_true(rig_wait_released(e));
    assert_int_equal(e->outcome, ST_OUTCOME_CANCELLED);
    assert_int_equal(st_deferred_count(rig.processor.deferred), 0);
    assert_int_equal(ask("tell"), 1);
    wait_answer("gone", gone + 1);
    assert_int_equal(rig.pools[0]->stuck, 0);
    assert_int_equal(e->completed, 1);
    rig_event_free(e);
    rig_stop(&rig);
}

static void test_over(void **state)
{
    (void)state;
    timed_out("defer.so");
    timed_out("defer_blocking.so");
    left("defer.so");
    left("defer_blocking.so");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_return_then_resolve),
        cmocka_unit_test(test_resolve_then_return),
        cmocka_unit_test(test_close),
        cmocka_unit_test(test_foreign_tokens),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_ways),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
