/* The way of an event under random load, beside a model of it (tests/support/event_model.h): who
 * may be answered with what and when, who holds which reference, which worker is where. Seeds: a
 * table, or EVENT_PATH_SEED=<number> for one of your own. */
#include "tests/unit/test_core.h"

#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/deferred.h"
#include "processor/dispatch.h"
#include "processor/stream.h"
#include "tests/support/event_model.h"

enum { STEPS = 1500, MAX_LIVE = 60, TIME_MS = 4000 };

static char bytes[120000];

static struct model_trigger *counters(const struct model_event *e)
{
    return &m.triggers[e->trigger];
}

static enum st_outcome random_outcome(void)
{
    static const enum st_outcome outcomes[] = {
        ST_OUTCOME_OK,    ST_OUTCOME_OK,     ST_OUTCOME_OK,   ST_OUTCOME_ERROR,
        ST_OUTCOME_RETRY, ST_OUTCOME_REJECT, ST_OUTCOME_CRASH};

    return outcomes[model_random(ST_ARRAY_LEN(outcomes))];
}

/* ---- Results ---- */

/* The worker is done with the event, without a new credit. */
static void worker_done(struct model_event *e)
{
    e->worker_ref = false;
    if (e->pool == POOL_INLINE)
        return;
    e->w->running--;
    e->w->owed++;
    st_worker_event_done(e->w->w, 1000);
}

/* The result comes from the worker or the token, whose reference goes with it. */
static void give_result(struct model_event *e, enum st_outcome outcome)
{
    e->place = PLACE_OVER;
    e->result = outcome;
    e->ev.result.outcome = outcome;
    if (e->answered) {
        counters(e)->late++;
        e->watched = false;
    } else {
        e->has_result = true;
        if (e->holds == 0)
            model_expect(e, outcome);
    }
    st_event_complete(&e->ev);
}

static bool runs(const struct model_event *e)
{
    return e->place == PLACE_RUNNING;
}

/* The handler returns a result, perhaps in spite of a token. */
static void op_end(void)
{
    struct model_event *e = model_pick(runs);

    if (e == NULL)
        return;
    if (e->token_issued) {
        e->token_live = false;
        CHECK(!st_deferred_close(m.f.p.deferred, &e->ev));
    }
    worker_done(e);
    give_result(e, random_outcome());
}

/* ---- Tokens ---- */

struct early_answer {
    struct st_deferred_answer base;
    enum st_outcome outcome;
};

static void free_early(struct st_deferred_answer *a)
{
    m.early_answers--;
    free(a);
}

static struct early_answer *early_new(void)
{
    struct early_answer *a = malloc(sizeof *a);

    CHECK(a != NULL);
    *a = (struct early_answer){{free_early}, random_outcome()};
    m.early_answers++;
    return a;
}

static void issue(struct model_event *e)
{
    uint64_t token = st_deferred_issue(m.f.p.deferred, &e->ev);

    CHECK((token == 0) == e->answered);
    if (token == 0)
        return;
    e->token = token;
    e->token_issued = e->token_live = true;
    CHECK(st_deferred_issue(m.f.p.deferred, &e->ev) == token);
}

static bool may_ask(const struct model_event *e)
{
    return runs(e) && !e->token_issued;
}

static void op_issue(void)
{
    struct model_event *e = model_pick(may_ask);

    if (e != NULL)
        issue(e);
}

/* Somebody brings a result: too early, in time, twice or too late. */
static void resolve(struct model_event *e)
{
    struct early_answer *a = early_new();
    enum st_outcome outcome = a->outcome;
    bool keep = e->token_live && !e->early && e->place == PLACE_RUNNING;
    bool mine = e->token_live && e->place == PLACE_OUT;
    struct st_event *ev;

    CHECK(st_deferred_resolve(m.f.p.deferred, e->token, &a->base, &ev) ==
          (keep || mine ? ST_OK : ST_ERR_CLOSED));
    CHECK(ev == (mine ? &e->ev : NULL));
    if (keep) {
        e->early = true;
        return;
    }
    free_early(&a->base);
    if (!mine)
        return;
    e->token_live = false;
    if (model_chance(2)) {
        give_result(e, outcome);
        return;
    }
    e->place = PLACE_OVER;
    e->coming = true;
    e->result = outcome;
    e->ev.result.outcome = outcome;
    st_event_complete_from(&e->ev);
}

static bool has_token(const struct model_event *e)
{
    return e->token_issued;
}

static void op_resolve(void)
{
    struct model_event *e = model_pick(has_token);
    struct st_event *ev;

    CHECK(st_deferred_resolve(m.f.p.deferred, (uint64_t)m.step << 40 | 77777, NULL, &ev) ==
          ST_ERR_CLOSED);
    if (e != NULL)
        resolve(e);
}

/* The handler returns "deferred". */
static void handler_defers(struct model_event *e)
{
    bool answered = e->early && !e->answered;
    struct st_deferred_answer *a = NULL;
    enum st_outcome outcome;

    if (answered)
        e->token_live = false;
    CHECK(st_deferred_returned(m.f.p.deferred, &e->ev, &a) ==
          (answered ? ST_DEFERRED_ANSWERED : ST_DEFERRED_WAITS));
    worker_done(e);
    if (answered) {
        outcome = ((struct early_answer *)a)->outcome;
        free_early(a);
        give_result(e, outcome);
        return;
    }
    e->place = e->answered ? PLACE_OVER : PLACE_OUT;
    st_event_unref(&e->ev);
}

static bool may_defer(const struct model_event *e)
{
    return runs(e) && e->token_issued;
}

static void op_return(void)
{
    struct model_event *e = model_pick(may_defer);

    if (e != NULL)
        handler_defers(e);
}

/* ---- Streams ---- */

static void on_writable(struct st_event *ev, void *arg)
{
    struct model_event *e = arg;

    CHECK(&e->ev == ev && e->s.waits && (e->s.closed || e->s.pending <= ST_STREAM_LOW));
    e->s.waits = false;
}

static void write_piece(struct model_event *e)
{
    size_t n = sizeof e->s.written + model_random(model_chance(8) ? 100000 : 50);
    bool collected = e->ev.trigger->kind->stream_head == NULL && e->holds == 0;
    int code = ST_ERR_CLOSED;

    memcpy(bytes, &e->s.written, sizeof e->s.written);
    if (!e->s.closed) {
        e->s.pending += n;
        code = e->s.pending > ST_STREAM_HIGH ? ST_ERR_AGAIN : ST_OK;
        e->s.written++;
        e->s.bytes += n;
        e->s.pending -= collected ? n : 0;
    }
    CHECK(st_stream_write(&e->ev, (struct st_slice){bytes, n}) == code);
}

static void stream_step(struct model_event *e)
{
    if (!e->s.open) {
        e->s.open = !e->answered;
        CHECK(st_stream_open(&e->ev) == (e->answered ? ST_ERR_CLOSED : ST_OK));
    } else if (model_chance(5)) {
        void *before = e->s.waits ? e : NULL;

        e->s.waits = true;
        CHECK(st_stream_on_writable(&e->ev, on_writable, e) == before);
    } else if (e->s.bytes < 1000000) {
        write_piece(e);
    }
}

static bool may_stream(const struct model_event *e)
{
    return runs(e) || (e->place == PLACE_OUT && e->token_live);
}

static void op_stream(void)
{
    struct model_event *e = model_pick(may_stream);

    for (unsigned i = model_random(4); e != NULL && i > 0; i--)
        stream_step(e);
}

static bool has_unsent(const struct model_event *e)
{
    return e->s.unsent > 0;
}

static void op_read(void)
{
    struct model_event *e = model_pick(has_unsent);
    size_t n;

    if (e == NULL)
        return;
    n = model_chance(3) ? 1 + model_random((unsigned)e->s.unsent) : e->s.unsent;
    e->s.unsent -= n;
    e->s.pending -= n;
    st_stream_sent(&e->ev, n);
}

/* ---- Dispatch ---- */

/* What the handler of the inline pool does with it, on this stack. */
static void handle_inline(struct model_event *e)
{
    unsigned way = model_random(8);

    if (way >= 4 && way < 7) { /* it lives longer */
        int code = st_event_outlive(&e->ev);

        CHECK(code == (e->fail_detach ? ST_ERR_NOMEM : ST_OK));
        if (code == ST_OK) {
            e->counted = true;
            counters(e)->in_flight++;
            e->started_ns = model_now();
            CHECK(atomic_load(&e->ev.started_ns) == e->started_ns);
        }
    }
    for (unsigned i = model_random(way == 3 ? 6 : 2); i > 0; i--)
        stream_step(e);
    if (way == 7) { /* the client leaves meanwhile */
        counters(e)->gone_running++;
        model_expect(e, ST_OUTCOME_CANCELLED);
        st_event_cancel(&e->ev);
    }
    if (e->counted && way >= 5) {
        issue(e);
        if (model_chance(3))
            resolve(e);
        handler_defers(e);
        return;
    }
    if (e->counted) {
        e->holds++;
        st_event_hold(&e->ev);
    }
    worker_done(e);
    give_result(e, random_outcome());
}

static bool has_inline_worker(void)
{
    return m.f.pools[POOL_INLINE]->inline_workers[0] != NULL;
}

/* A pool gets it: says first what must follow. */
static void submit(struct model_event *e)
{
    struct model_pool *p = &m.pools[e->pool];
    bool waits = m.f.pools[e->pool]->wait_ns > 0 && model_has_room(e);

    if (e->fail_detach) {
        model_expect(e, ST_OUTCOME_NO_MEMORY);
        st_dispatch(&e->ev);
        return;
    }
    e->pending = e->counted = true;
    counters(e)->in_flight++;
    p->count++;
    if (e->pool == POOL_INLINE ? model_has_room(e) : model_is_free(e->pool)) {
        p->immediate++;
        if (e->pool == POOL_INLINE) {
            e->place = PLACE_TRANSIT;
            e->worker_ref = true;
            model_enqueue(e, false);
        }
        st_dispatch(&e->ev);
        CHECK(e->place == (e->pool == POOL_INLINE ? PLACE_TRANSIT : PLACE_SENT));
    } else if (waits && e->pool != POOL_INLINE) {
        e->place = PLACE_QUEUED;
        model_enqueue(e, false);
        st_dispatch(&e->ev);
    } else {
        p->timeout++;
        model_expect(e, ST_OUTCOME_NO_WORKER);
        st_dispatch(&e->ev);
    }
}

static void op_dispatch(void)
{
    struct model_event *e;

    if (m.live >= MAX_LIVE)
        return;
    e = model_event_new(model_random(MODEL_TRIGGERS));
    e->fail_detach = model_chance(40);
    if (model_chance(40)) {
        e->ev.deadline_ns = model_now() - model_random(2);
        model_expect(e, ST_OUTCOME_TIMEOUT);
        st_dispatch(&e->ev);
        return;
    }
    if (model_chance(6))
        e->ev.deadline_ns = model_now() + 1 + model_random(12) * ST_MSEC;
    if (e->pool == POOL_INLINE && has_inline_worker()) {
        st_dispatch(&e->ev);
    } else {
        submit(e);
    }
}

static bool is_sent(const struct model_event *e)
{
    return e->place == PLACE_SENT;
}

/* The worker comes to it: begins, or finds that somebody took it back. */
static void op_begin(void)
{
    struct model_event *e = model_pick(is_sent);

    if (e == NULL)
        return;
    CHECK(st_event_claim_start(&e->ev, e->assignment) == !e->answered);
    if (e->answered) {
        e->place = PLACE_OVER;
        worker_done(e);
        st_event_unref(&e->ev);
        return;
    }
    e->place = PLACE_RUNNING;
    e->started_ns = model_now();
    atomic_store(&e->ev.started_ns, e->started_ns);
}

/* ---- Holds, references, clients that leave ---- */

static bool may_hold(const struct model_event *e)
{
    return !e->answered && e->counted && e->holds < 3;
}

static void op_hold(void)
{
    struct model_event *e = model_pick(may_hold);

    if (e == NULL)
        return;
    e->holds++;
    st_event_hold(&e->ev);
}

/* It is about to be answered without its result: does its timer go on, is its worker told? */
static void predict_watch(struct model_event *e)
{
    e->watched = e->place == PLACE_RUNNING && e->pending && !e->token_issued &&
                 m.f.pools[e->pool]->event_timeout_ns != 0;
    if (!e->has_result)
        model_predict_told(e);
}

static bool is_held(const struct model_event *e)
{
    return e->holds > 0;
}

static void op_unhold(void)
{
    struct model_event *e = model_pick(is_held);
    int status = model_chance(4) ? ST_ERR_CLOSED : ST_OK;

    if (e == NULL)
        return;
    e->holds--;
    if (e->hold_error == ST_OK)
        e->hold_error = status;
    if (!e->answered && e->holds == 0 && e->hold_error != ST_OK) {
        predict_watch(e);
        model_expect(e, ST_OUTCOME_ERROR);
    } else if (!e->answered && e->holds == 0) {
        if (e->ev.trigger->kind->stream_head == NULL)
            e->s.pending = 0; /* collected now */
        if (e->has_result)
            model_expect(e, e->result);
    }
    st_event_unhold(&e->ev, status);
}

static bool is_unanswered(const struct model_event *e)
{
    return !e->answered;
}

static void cancel(struct model_event *e)
{
    bool queued = e->listed || e->place == PLACE_SENT;

    if (queued)
        counters(e)->gone_queued++;
    else
        counters(e)->gone_running++;
    predict_watch(e);
    model_expect(e, ST_OUTCOME_CANCELLED);
    st_event_cancel(&e->ev);
}

static void op_cancel(void)
{
    struct model_event *e = model_pick(is_unanswered);

    if (e != NULL)
        cancel(e);
}

static bool any(const struct model_event *e)
{
    return e->refs < 3;
}

static void op_ref(void)
{
    struct model_event *e = model_pick(any);

    if (e == NULL)
        return;
    e->refs++;
    st_event_ref(&e->ev);
}

static bool is_referenced(const struct model_event *e)
{
    return e->refs > 0;
}

static void op_unref(void)
{
    struct model_event *e = model_pick(is_referenced);

    if (e == NULL)
        return;
    e->refs--;
    st_event_unref(&e->ev);
}

/* ---- Workers ---- */

static struct model_worker *random_worker(void)
{
    return &m.workers[model_random(m.worker_count)];
}

/* The runtime grants what it owes; some only when they ask. */
static void op_credit(void)
{
    struct model_worker *w = random_worker();
    unsigned n;

    if (w->pool == POOL_INLINE || !w->ready || w->dead)
        return;
    if (w->pool == POOL_PULL && w->owed == 0 && w->credits < 2)
        w->owed = 1;
    if (w->owed == 0)
        return;
    n = 1 + model_random(w->owed);
    w->owed -= n;
    w->credits += n;
    st_worker_credit(w->w, n);
}

static void op_ready(void)
{
    struct model_worker *w = random_worker();

    if (w->ready || w->dead || w->restarting || w->stop_called)
        return;
    if (model_chance(4)) {
        w->dead = w->draining;
        w->restarting = !w->draining;
        st_worker_failed(w->w, "by chance");
        return;
    }
    w->ready = true;
    w->credits = w->pool == POOL_PULL ? 0 : 1 + model_random(3);
    st_worker_ready(w->w, w->credits);
}

/* A slow worker gives back what it has not begun. */
static void op_retreat(void)
{
    struct model_worker *w = random_worker();
    struct model_event *e;
    unsigned sent = 0, running = 0;

    TAILQ_FOREACH (e, &m.all, all) {
        sent += e->w == w && e->place == PLACE_SENT;
        running += e->w == w && e->place == PLACE_RUNNING;
    }
    if (sent == 0 || running == 0 || w->stuck)
        return;
    sent = 1 + model_random(sent);
    w->owed += sent + w->credits;
    w->running -= sent;
    CHECK(st_worker_retreat(w->w, sent) == w->credits);
    w->credits = 0;
    model_give_back(w, sent);
}

/* A stuck worker without events comes to its end, or one that was asked to. */
static void op_stopped(void)
{
    struct model_worker *w = random_worker();
    struct model_event *e;

    if (w->dead || !(w->stop_called || w->abandoned))
        return;
    TAILQ_FOREACH (e, &m.all, all) {
        if (e->w == w && (e->place == PLACE_SENT || e->place == PLACE_RUNNING))
            return;
    }
    if (w->stuck)
        model_came_back(w);
    w->dead = true;
    st_worker_stopped(w->w);
}

static void op_pass(void)
{
    if (model_chance(3))
        fake_sleep_ms(1);
    model_pass();
}

/* ---- Seeds ---- */

struct op {
    const char *name;
    unsigned weight, last; /* in the beginning; when nothing new comes */
    void (*run)(void);
};

static const struct op ops[] = {
    {"dispatch", 60, 0, op_dispatch}, {"begin", 40, 30, op_begin},
    {"end", 22, 30, op_end},          {"issue", 6, 0, op_issue},
    {"return", 6, 10, op_return},     {"resolve", 6, 10, op_resolve},
    {"stream", 12, 4, op_stream},     {"read", 12, 12, op_read},
    {"hold", 8, 0, op_hold},          {"unhold", 10, 30, op_unhold},
    {"cancel", 5, 2, op_cancel},      {"ref", 4, 0, op_ref},
    {"unref", 5, 30, op_unref},       {"credit", 40, 20, op_credit},
    {"ready", 6, 10, op_ready},       {"retreat", 4, 4, op_retreat},
    {"stopped", 4, 20, op_stopped},   {"pass", 40, 40, op_pass},
};

static void random_op(bool last)
{
    unsigned sum = 0, at;

    for (size_t i = 0; i < ST_ARRAY_LEN(ops); i++)
        sum += last ? ops[i].last : ops[i].weight;
    at = model_random(sum);
    for (size_t i = 0; i < ST_ARRAY_LEN(ops); i++) {
        unsigned weight = last ? ops[i].last : ops[i].weight;

        if (at < weight) {
            m.op = ops[i].name;
            ops[i].run();
            break;
        }
        at -= weight;
    }
    m.step++;
    model_check();
}

static void stop_pools(void)
{
    m.op = "stop";
    atomic_store(&m.f.p.phase, ST_PHASE_DRAINING);
    for (unsigned i = 0; i < m.worker_count; i++) {
        struct model_worker *w = &m.workers[i];

        if (w->stuck || w->dead)
            continue;
        w->dead = w->restarting;
        w->draining = !w->restarting;
    }
    for (unsigned i = 0; i < MODEL_POOLS; i++) {
        m.pools[i].draining = true;
        st_pool_stop(m.f.pools[i]);
    }
    model_check();
}

static bool is_stopped(void)
{
    for (unsigned i = 0; i < MODEL_POOLS; i++)
        if (!st_pool_is_stopped(m.f.pools[i]) || m.pools[i].stuck > 0)
            return false;
    return true;
}

/* Nobody may wait for ever: tokens that nobody resolves, pools without timeout. */
static void cancel_all(void)
{
    struct model_event *e;

    m.op = "cancel all";
    while ((e = model_pick(is_unanswered)) != NULL)
        cancel(e);
    model_check();
}

static void settle(void)
{
    for (unsigned i = 0; m.live > 0; i++) {
        CHECK(i < 50000);
        random_op(true);
        if (i % 2000 == 1999)
            cancel_all();
    }
}

static void run_seed(uint64_t seed)
{
    bool abrupt = seed % 2 == 0;

    model_open(seed, handle_inline);
    for (unsigned i = 0; i < STEPS; i++)
        random_op(false);
    if (abrupt) { /* in the middle of everything, and events still come */
        stop_pools();
        for (unsigned i = 0; i < STEPS / 5; i++)
            random_op(false);
    }
    settle();
    if (!abrupt)
        stop_pools();
    for (unsigned i = 0; !is_stopped(); i++) {
        CHECK(i < 50000);
        random_op(true);
    }
    model_close();
}

/* As many of them as fit into the time, four at least. */
static const uint64_t seeds[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};

static void test_seeds(void **state)
{
    const char *given = getenv("EVENT_PATH_SEED"), *count = getenv("EVENT_PATH_COUNT");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 0) : 0;
    uint64_t end = st_clock_mono() + TIME_MS * ST_MSEC;
    unsigned n = count != NULL ? (unsigned)strtoul(count, NULL, 0) : 1;

    (void)state;
    st_log_threshold = ST_LOG_OFF;
    for (unsigned i = 0; given != NULL && i < n; i++)
        run_seed(seed + i);
    for (size_t i = 0; given == NULL && i < ST_ARRAY_LEN(seeds); i++)
        if (i < 4 || st_clock_mono() < end)
            run_seed(seeds[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
