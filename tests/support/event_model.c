#include "tests/support/event_model.h"

#include <stdio.h>
#include <stdlib.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/deferred.h"
#include "processor/stream.h"

/* A timer may be late by its tick; the rest is the pass. */
static const uint64_t tick_ns = 3 * ST_MSEC;

struct model m;

void model_broken(const char *file, int line, const char *what)
{
    fprintf(stderr, "EVENT_PATH_SEED=%llu step %u %s%s\n", (unsigned long long)m.seed, m.step, m.op,
            m.in_pass ? " (in a pass)" : "");
    st_panic(file, line, what);
}

unsigned model_random(unsigned below)
{
    return (unsigned)st_rand_below(&m.rand, below);
}

bool model_chance(unsigned n)
{
    return model_random(n) == 0;
}

static struct model_event *of(struct st_event *ev)
{
    ST_CHECK(ev, ST_EVENT_MAGIC);
    return (struct model_event *)ev;
}

static struct st_pool *pool_of(const struct model_event *e)
{
    return m.f.pools[e->pool];
}

static uint64_t timeout_of(const struct model_event *e)
{
    return pool_of(e)->event_timeout_ns;
}

unsigned model_refs(const struct model_event *e)
{
    return (unsigned)!e->answered + e->worker_ref + e->token_live + e->coming + e->watched +
           e->told + e->holds + e->refs;
}

uint64_t model_now(void)
{
    return st_loop_now(&m.f.loops[0]);
}

struct model_event *model_pick(bool (*fits)(const struct model_event *e))
{
    struct model_event *e, *found = NULL;
    unsigned n = 0;

    TAILQ_FOREACH (e, &m.all, all) {
        if (fits(e) && model_chance(++n))
            found = e;
    }
    return found;
}

/* ---- Pools ---- */

bool model_takes(const struct model_worker *w)
{
    return w->w != NULL && w->ready && !w->stuck && !w->draining && !w->dead && w->credits > 0;
}

static bool some_take(unsigned pool, bool idle)
{
    for (unsigned i = 0; i < m.worker_count; i++)
        if (m.workers[i].pool == pool && model_takes(&m.workers[i]) &&
            !(idle && m.workers[i].running > 0))
            return true;
    return false;
}

bool model_is_free(unsigned pool)
{
    return TAILQ_EMPTY(&m.pools[pool].queue) && some_take(pool, false);
}

bool model_has_room(const struct model_event *e)
{
    const struct st_pool *pool = pool_of(e);
    const struct model_pool *p = &m.pools[e->pool];

    return p->queued < pool->max_queue &&
           (pool->max_queue_bytes == 0 || p->bytes + e->ev.body.len <= pool->max_queue_bytes);
}

void model_enqueue(struct model_event *e, bool first)
{
    struct model_pool *p = &m.pools[e->pool];

    if (first)
        TAILQ_INSERT_HEAD(&p->queue, e, queue);
    else
        TAILQ_INSERT_TAIL(&p->queue, e, queue);
    p->queued++;
    p->bytes += e->ev.body.len;
    e->listed = true;
    e->queued_ns = model_now();
}

static void dequeue(struct model_event *e)
{
    struct model_pool *p = &m.pools[e->pool];

    TAILQ_REMOVE(&p->queue, e, queue);
    p->queued--;
    p->bytes -= e->ev.body.len;
    e->listed = false;
}

/* It is stuck since now; the pool says whether it is replaced. */
static void now_stuck(struct model_worker *w)
{
    struct st_pool *pool = m.f.pools[w->pool];
    struct model_pool *p = &m.pools[w->pool];
    bool replaced = !w->draining && p->stuck < pool->worker_count;

    CHECK(!w->stuck && !w->dead && w->running > 0);
    w->stuck = true;
    p->stuck++;
    p->restarts += replaced;
    if (replaced)
        p->places[w->w->index] = NULL;
}

void model_came_back(struct model_worker *w)
{
    struct model_pool *p = &m.pools[w->pool];

    w->dead = true;
    p->stuck--;
    for (unsigned i = 0; i < m.f.pools[w->pool]->worker_count && !p->draining; i++) {
        const struct model_worker *at = p->places[i];

        if (at == NULL ||
            !(at->dead || (at->stuck && p->stuck <= m.f.pools[w->pool]->worker_count)))
            continue;
        p->places[i] = NULL;
        p->restarts++;
    }
}

/* A watched event's time is over: its worker is stuck if it still has the event. */
static void watch_over(struct model_event *e)
{
    CHECK(m.in_pass && e->answered && model_now() >= e->started_ns + timeout_of(e));
    e->watched = false;
    if (e->place == PLACE_RUNNING && !e->w->stuck)
        now_stuck(e->w);
}

/* Of several in one pass the first ones are replaced: only the pool knows which these are. */
static void notice_watches(void)
{
    struct model_event *e;

    for (int round = 0; round < 2; round++) {
        TAILQ_FOREACH (e, &m.all, all) {
            bool replaced = e->watched && pool_of(e)->workers[e->w->w->index] != e->w->w;

            if (e->watched && !e->ev.watched && (replaced || round == 1))
                watch_over(e);
        }
    }
}

/* ---- The trigger ---- */

void model_expect(struct model_event *e, enum st_outcome outcome)
{
    CHECK(!e->due && !e->answered);
    e->due = true;
    e->outcome = outcome;
    m.due++;
}

void model_predict_told(struct model_event *e)
{
    CHECK(!e->told);
    e->told = e->pool != POOL_INLINE && !e->token_issued &&
              (e->place == PLACE_SENT || e->place == PLACE_RUNNING);
}

static bool is_withdrawn(const struct model_event *e)
{
    return (atomic_load(&e->ev.claim) & 3u) == ST_CLAIM_CANCELLED;
}

/* Its mail has come where nobody runs handlers any more, and the answer is on its way. */
static void transit_ends(struct model_event *e)
{
    if (e->place != PLACE_TRANSIT || !e->listed || e->ev.in_queue || is_withdrawn(e))
        return;
    CHECK(m.in_pass);
    dequeue(e);
    m.triggers[e->trigger].no_worker++;
    e->place = PLACE_OVER;
    e->worker_ref = false;
    e->coming = true;
    e->result = ST_OUTCOME_NO_WORKER;
}

/* What the clock, or the end of an inline worker, may answer. */
static void check_in_pass(struct model_event *e, enum st_outcome outcome)
{
    bool expired = e->ev.deadline_ns != 0 && e->ev.deadline_ns <= model_now();

    if (e->place == PLACE_QUEUED || e->place == PLACE_TRANSIT || e->place == PLACE_SENT) {
        CHECK(outcome == (expired ? ST_OUTCOME_TIMEOUT : ST_OUTCOME_NO_WORKER) && is_withdrawn(e));
        CHECK(expired || (e->listed && model_now() >= e->queued_ns + pool_of(e)->wait_ns));
        m.pools[e->pool].timeout += e->listed;
        model_predict_told(e);
        return;
    }
    if (e->has_result && e->holds == 0) { /* it has just come */
        CHECK(outcome == e->result);
        return;
    }
    notice_watches(); /* who was stuck first is replaced first */
    CHECK(outcome == ST_OUTCOME_TIMEOUT && timeout_of(e) != 0 && e->started_ns != 0);
    CHECK(model_now() >= e->started_ns + timeout_of(e));
    model_predict_told(e);
    if (e->place == PLACE_RUNNING && e->pool != POOL_INLINE && !e->w->stuck)
        now_stuck(e->w);
}

/* The result that was on its way has come; `late`: it must have. */
static void result_came(struct model_event *e, bool late)
{
    if (!e->coming || (!e->ev.has_result && !late))
        return;
    e->coming = false;
    e->has_result = e->ev.has_result;
    if (!e->has_result) {
        CHECK(e->answered);
        m.triggers[e->trigger].late++;
    }
}

static void count(const struct model_event *e, enum st_outcome outcome)
{
    struct model_trigger *t = &m.triggers[e->trigger];

    m.outcomes[outcome]++;
    if (outcome == ST_OUTCOME_OK)
        t->ok++;
    else
        t->failed++;
    t->in_flight -= e->counted;
    t->no_worker += outcome == ST_OUTCOME_NO_WORKER && !e->has_result;
    t->no_memory += outcome == ST_OUTCOME_NO_MEMORY;
    if (!e->pending && (e->counted || e->pool == POOL_INLINE) && e->place != PLACE_NEW) {
        m.pools[e->pool].count++;
        m.pools[e->pool].immediate++;
    }
}

/* Whole, and only when the handler's result is the answer. */
static void check_stream(const struct model_event *e, const struct st_result *result)
{
    bool whole = e->s.open && e->has_result && e->holds == 0 && e->hold_error == ST_OK;

    if (e->trigger == 0 || e->trigger == 2 || e->trigger == 3)
        CHECK(result->streamed == whole);
    else
        CHECK(!result->streamed && (!whole || result->body.len == e->s.bytes));
    if (result->streamed)
        CHECK(e->s.head && e->s.passed == e->s.written);
}

static void model_complete(struct st_event *ev, const struct st_result *result)
{
    struct model_event *e = of(ev);

    CHECK(!e->answered && ev->answered);
    transit_ends(e);
    result_came(e, false);
    if (e->due) {
        CHECK(result->outcome == e->outcome);
        e->due = false;
        m.due--;
    } else {
        CHECK(m.in_pass);
        check_in_pass(e, result->outcome);
    }
    check_stream(e, result);
    e->answered = true;
    count(e, result->outcome);
    e->token_live = false; /* was closed, or resolved before */
    e->s.closed = true;
    if (e->listed)
        dequeue(e);
    if (e->place == PLACE_QUEUED || e->place == PLACE_OUT)
        e->place = PLACE_OVER;
}

static int model_detach(struct st_event *ev)
{
    struct model_event *e = of(ev);
    char *copy;

    if (e->fail_detach)
        return ST_ERR_NOMEM;
    CHECK((ev->flags & ST_EVENT_BORROWS) != 0);
    copy = st_malloc(ev->body.len + 1);
    memcpy(copy, ev->body.ptr, ev->body.len);
    free(e->body);
    e->body = copy;
    ev->body.ptr = copy;
    return ST_OK;
}

static void model_release(struct st_event *ev)
{
    struct model_event *e = (struct model_event *)ev; /* its magic is gone */

    if (e->watched)
        watch_over(e);
    result_came(e, m.in_pass);
    if (e->place == PLACE_TRANSIT)
        e->worker_ref = false; /* its mail came, in this pass */
    if (m.in_pass)
        e->told = false; /* likewise, where its worker has nothing any more */
    CHECK(e->answered && model_refs(e) == 0 && !e->s.waits);
    TAILQ_REMOVE(&m.all, e, all);
    m.live--;
    free(e->body);
    free(e);
}

static void model_head(struct st_event *ev, const struct st_result *head ST_UNUSED)
{
    struct model_event *e = of(ev);

    CHECK(!e->answered && !e->s.head && e->holds == 0 && e->hold_error == ST_OK);
    e->s.head = true;
}

/* A piece begins with its number. The reader takes everything, or only a part of it. */
static void model_write(struct st_event *ev, struct st_buf bytes)
{
    struct model_event *e = of(ev);
    size_t n = model_chance(3) ? model_random((unsigned)bytes.length) : bytes.length;
    unsigned number;

    memcpy(&number, st_buf_data(&bytes), sizeof number);
    CHECK(!e->answered && e->s.head && e->holds == 0);
    CHECK(number == e->s.passed && bytes.length >= sizeof number);
    e->s.passed++;
    e->s.unsent += bytes.length - n;
    e->s.pending -= n;
    st_buf_drop(&bytes);
    st_stream_sent(ev, n);
}

static const struct st_trigger_kind stream_kind = {
    .name = "model",
    .event_class = "sync",
    .complete = model_complete,
    .detach = model_detach,
    .release = model_release,
    .stream_head = model_head,
    .stream_write = model_write,
};

static const struct st_trigger_kind plain_kind = {
    .name = "model-plain",
    .event_class = "async",
    .complete = model_complete,
    .detach = model_detach,
    .release = model_release,
};

struct model_event *model_event_new(unsigned trigger)
{
    struct model_event *e = st_calloc(1, sizeof *e);
    size_t len = model_random(40);

    st_event_init(&e->ev, &m.f.triggers[trigger], &m.f.loops[0], e->space, sizeof e->space);
    e->body = st_calloc(1, len + 1);
    e->ev.body = (struct st_slice){e->body, len};
    e->ev.flags = ST_EVENT_BORROWS;
    e->trigger = trigger;
    e->pool = (unsigned)(trigger == 0 ? 0 : trigger - 1);
    TAILQ_INSERT_TAIL(&m.all, e, all);
    m.live++;
    m.triggers[trigger].dispatched++;
    return e;
}

/* ---- The runtime ---- */

static bool not_inline(struct st_runtime *rt ST_UNUSED)
{
    return false;
}

static bool is_inline(struct st_runtime *rt ST_UNUSED)
{
    return true;
}

static unsigned pool_index(const struct st_pool *pool)
{
    unsigned i = 0;

    while (m.f.pools[i] != pool)
        i++;
    return i;
}

/* At once, later (op_ready) or not; the first ones at once. */
static void model_spawn(struct st_worker *w)
{
    bool first = st_processor_phase(&m.f.p) == ST_PHASE_STARTING;
    struct model_worker *mw = w->impl;

    if (mw == NULL) {
        CHECK(m.worker_count < ST_ARRAY_LEN(m.workers));
        mw = &m.workers[m.worker_count++];
        w->impl = mw;
        *mw = (struct model_worker){.w = w, .pool = pool_index(w->pool)};
        mw->draining = w->state == ST_WORKER_DRAINING;
        CHECK(!mw->draining || m.pools[mw->pool].draining);
        CHECK(m.pools[mw->pool].places[w->index] == NULL);
        m.pools[mw->pool].places[w->index] = mw;
        m.pools[mw->pool].spawned++;
    }
    mw->restarting = false;
    if (first || model_chance(2)) {
        mw->ready = true;
        mw->credits = mw->pool == POOL_PULL ? 0 : mw->pool == POOL_INLINE ? 1 : 1 + model_random(3);
        st_worker_ready(w, mw->credits);
    } else if (model_chance(4)) {
        mw->dead = mw->draining;
        mw->restarting = !mw->draining;
        st_worker_failed(w, "by chance");
    }
}

static void model_invoke(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    struct model_event *e = of(ev);
    struct model_worker *mw = w->impl;
    struct model_pool *p = &m.pools[e->pool];

    CHECK(model_takes(mw) && !e->answered && !e->worker_ref);
    if (e->place == PLACE_QUEUED) {
        CHECK(e == TAILQ_FIRST(&p->queue));
        dequeue(e);
        p->after_wait++;
    } else {
        CHECK(e->place == PLACE_BACK || (e->place == PLACE_NEW && TAILQ_EMPTY(&p->queue)));
        CHECK(mw->running == 0 || !some_take(e->pool, true));
    }
    mw->credits--;
    mw->running++;
    e->place = PLACE_SENT;
    e->w = mw;
    e->worker_ref = true;
    e->assignment = assignment;
}

static void model_invoke_inline(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    struct model_event *e = of(ev);

    CHECK(e->place == PLACE_NEW && assignment == 0 && w->impl != NULL && !e->answered);
    e->place = PLACE_RUNNING;
    e->w = w->impl;
    e->worker_ref = true;
    m.inline_handler(e);
}

void model_give_back(struct model_worker *w, unsigned n)
{
    struct model_event *e, *before;

    for (e = TAILQ_LAST(&m.all, model_list); e != NULL; e = before) {
        bool mine;

        before = TAILQ_PREV(e, model_list, all);
        if (n == 0 || e->w != w || e->place != PLACE_SENT)
            continue;
        n--;
        mine = st_event_recall(&e->ev, e->assignment);
        CHECK(mine == !e->answered);
        e->worker_ref = false;
        e->place = mine ? PLACE_BACK : PLACE_OVER;
        if (mine && !some_take(e->pool, false)) {
            e->place = PLACE_QUEUED;
            model_enqueue(e, true);
        }
        if (mine)
            st_pool_resubmit(m.f.pools[w->pool], &e->ev);
        else
            st_event_unref(&e->ev);
        CHECK(!mine || e->place != PLACE_BACK);
    }
}

static void model_abandon(struct st_worker *w)
{
    struct model_worker *mw = w->impl;

    notice_watches();
    CHECK(m.in_pass && mw->stuck && w->state == ST_WORKER_STUCK);
    mw->abandoned = true;
    model_give_back(mw, UINT32_MAX);
}

static void model_cancel(struct st_worker *w, struct st_event *ev)
{
    struct model_event *e = of(ev);
    struct model_worker *mw = w->impl;

    CHECK(m.in_pass && e->told && e->answered && e->w == mw);
    CHECK(mw->running > 0 && !mw->abandoned && !mw->dead);
    e->told = false;
}

static void model_stop(struct st_worker *w)
{
    struct model_worker *mw = w->impl;

    CHECK(mw->draining && mw->running == 0 && !mw->stop_called && !mw->stuck);
    mw->stop_called = true;
    if (mw->pool == POOL_INLINE || model_chance(2)) {
        mw->dead = true;
        st_worker_stopped(w);
    }
}

static const struct st_runtime_kind thread_kind = {
    .name = "model",
    .is_inline = not_inline,
    .spawn = model_spawn,
    .invoke = model_invoke,
    .cancel = model_cancel,
    .abandon = model_abandon,
    .stop = model_stop,
};

static const struct st_runtime_kind inline_kind = {
    .name = "model-inline",
    .is_inline = is_inline,
    .spawn = model_spawn,
    .invoke = model_invoke_inline,
    .abandon = model_abandon,
    .stop = model_stop,
};

/* ---- Checks ---- */

static enum st_worker_state state_of(const struct model_worker *w)
{
    if (w->dead)
        return ST_WORKER_DEAD;
    if (w->stuck)
        return ST_WORKER_STUCK;
    if (w->draining)
        return ST_WORKER_DRAINING;
    if (!w->ready)
        return w->restarting ? ST_WORKER_RESTARTING : ST_WORKER_STARTING;
    if (w->credits == 0)
        return ST_WORKER_FULL;
    return w->running == 0 ? ST_WORKER_IDLE : ST_WORKER_BUSY;
}

static void check_event(struct model_event *e)
{
    bool over = e->answered;

    CHECK(e->ev.magic == ST_EVENT_MAGIC && e->ev.answered == over);
    CHECK(e->ev.has_result == e->has_result && e->ev.holds == e->holds);
    CHECK(e->ev.counted == e->counted && e->ev.pending == e->pending);
    CHECK(e->ev.watched == e->watched);
    CHECK(e->ev.in_queue == e->listed);
    CHECK(e->listed == (e->place == PLACE_QUEUED) || e->place == PLACE_TRANSIT);
    if (e->place != PLACE_TRANSIT)
        CHECK(model_refs(e) > 0 && atomic_load(&e->ev.refs) == model_refs(e));
    CHECK(e->place != PLACE_NEW && e->place != PLACE_BACK);
    if (e->place == PLACE_SENT || (e->place == PLACE_RUNNING && e->pool != POOL_INLINE))
        CHECK(e->ev.worker == e->w->w);
    CHECK(over || !e->counted || timeout_of(e) == 0 || st_timer_armed(&e->ev.timer));
    if (e->s.waits)
        CHECK(!e->s.closed && e->s.pending > ST_STREAM_LOW);
}

/* Same events in the same order. */
static void check_queue(unsigned pool)
{
    struct st_event *ev = TAILQ_FIRST(&m.f.pools[pool]->queue);
    struct model_event *e;

    TAILQ_FOREACH (e, &m.pools[pool].queue, queue) {
        CHECK(ev == &e->ev);
        ev = TAILQ_NEXT(ev, link);
    }
    CHECK(ev == NULL && m.f.pools[pool]->queued == m.pools[pool].queued);
    CHECK(TAILQ_EMPTY(&m.pools[pool].queue) || !some_take(pool, false) || pool == POOL_INLINE);
}

static void check_trigger(unsigned i)
{
    const struct model_trigger *t = &m.triggers[i];
    struct st_trigger *real = &m.f.triggers[i];

    CHECK(st_metric_value(real->metrics.in_flight) == (int64_t)t->in_flight);
    CHECK(st_metric_value(real->metrics.late) == (int64_t)t->late);
    CHECK(st_metric_value(real->metrics.gone_queued) == (int64_t)t->gone_queued);
    CHECK(st_metric_value(real->metrics.gone_running) == (int64_t)t->gone_running);
    CHECK(st_metric_value(real->metrics.no_worker) == (int64_t)t->no_worker);
    CHECK(st_metric_value(real->metrics.no_memory) == (int64_t)t->no_memory);
    if (i != TRIGGER_INLINE || m.flushed) {
        CHECK(st_metric_value(real->metrics.ok) == (int64_t)t->ok);
        CHECK(st_metric_value(real->metrics.failed) == (int64_t)t->failed);
    }
}

static void check_pool(unsigned i)
{
    const struct model_pool *p = &m.pools[i];
    struct st_pool *pool = m.f.pools[i];

    fake_check_pool(pool);
    check_queue(i);
    CHECK(pool->stuck == p->stuck && pool->queued_bytes == p->bytes);
    CHECK(st_pool_is_live(pool) == (p->stuck <= pool->worker_count));
    if (!m.flushed)
        return;
    CHECK(st_metric_value(pool->metrics.after_wait) == (int64_t)p->after_wait);
    CHECK(st_metric_value(pool->metrics.timeout) == (int64_t)p->timeout);
    CHECK(st_metric_value(pool->metrics.restarts[ST_LOST_STUCK]) == (int64_t)p->restarts);
    CHECK(st_metric_value(pool->metrics.count) == (int64_t)p->count);
    CHECK(st_metric_value(pool->metrics.immediate) == (int64_t)p->immediate);
}

void model_check(void)
{
    struct model_event *e;

    CHECK(m.due == 0);
    for (unsigned i = 0; i < m.worker_count; i++) {
        const struct model_worker *w = &m.workers[i];

        CHECK(w->w->state == state_of(w));
        CHECK(w->w->credits == w->credits && w->w->running == w->running);
    }
    TAILQ_FOREACH (e, &m.all, all)
        check_event(e);
    for (unsigned i = 0; i < MODEL_POOLS; i++)
        check_pool(i);
    for (unsigned i = 0; i < MODEL_TRIGGERS && (m.flushed || m.step % 16 == 0); i++)
        check_trigger(i);
}

/* Nothing waits past its time; `before` is a time before the pass. */
static void check_overdue(uint64_t before)
{
    struct model_event *e;

    TAILQ_FOREACH (e, &m.all, all) {
        uint64_t timeout = timeout_of(e), end = UINT64_MAX;

        if (e->answered)
            continue;
        if (e->place == PLACE_QUEUED)
            end = e->queued_ns + pool_of(e)->wait_ns;
        else if (e->started_ns != 0 && timeout != 0 && e->counted)
            end = e->started_ns + timeout;
        if ((e->place == PLACE_QUEUED || e->place == PLACE_SENT) && e->ev.deadline_ns != 0 &&
            e->ev.deadline_ns < end)
            end = e->ev.deadline_ns;
        CHECK(end > before || before - end < tick_ns);
    }
}

void model_pass(void)
{
    uint64_t before = st_clock_mono();

    struct model_event *e;

    m.in_pass = true;
    fake_pass(&m.f.loops[0]);
    notice_watches();
    TAILQ_FOREACH (e, &m.all, all) {
        result_came(e, true);
        transit_ends(e);
        result_came(e, false);
        /* Its worker had nothing any more, or the mail was posted in this pass. */
        if (e->told && atomic_load(&e->ev.refs) + 1 == model_refs(e))
            e->told = false;
    }
    m.in_pass = false;
    m.flushed = true;
    check_overdue(before);
    model_check();
    m.flushed = false;
}

/* ---- The world ---- */

void model_open(uint64_t seed, void (*inline_handler)(struct model_event *e))
{
    struct fake_options o = {
        .pools = MODEL_POOLS,
        .triggers = MODEL_TRIGGERS,
        .trigger = {{&stream_kind, 0},
                    {&plain_kind, 0},
                    {&stream_kind, 1},
                    {&stream_kind, 2},
                    {&plain_kind, 3}},
    };

    memset(&m, 0, sizeof m);
    m.seed = seed;
    m.op = "open";
    m.inline_handler = inline_handler;
    st_rand_seed(&m.rand, seed);
    TAILQ_INIT(&m.all);
    for (unsigned i = 0; i < MODEL_POOLS; i++) {
        TAILQ_INIT(&m.pools[i].queue);
        o.pool[i] = (struct fake_pool_options){
            .runtime = i == POOL_INLINE ? &inline_kind : &thread_kind,
            .workers = i == POOL_INLINE ? 1 : 1 + model_random(3),
            .wait_ns = i == POOL_EAGER ? 0 : (2 + model_random(8)) * ST_MSEC,
            .event_timeout_ns = i == POOL_PULL ? 0 : (4 + model_random(12)) * ST_MSEC,
            .max_queue = 1 + model_random(8),
            .max_queue_bytes = model_chance(2) ? 0 : 40 + model_random(100),
        };
    }
    fake_open(&m.f, &o);
    model_check();
}

void model_close(void)
{
    m.op = "close";
    CHECK(TAILQ_EMPTY(&m.all) && m.live == 0 && m.early_answers == 0);
    model_pass();
    for (unsigned i = 0; i < MODEL_TRIGGERS; i++)
        CHECK(m.triggers[i].ok + m.triggers[i].failed == m.triggers[i].dispatched);
    for (unsigned i = 0; i < MODEL_POOLS; i++) {
        struct st_pool *pool = m.f.pools[i];

        CHECK(st_pool_is_stopped(pool) && m.pools[i].stuck == 0);
        CHECK(m.pools[i].spawned == pool->worker_count + m.pools[i].restarts);
        CHECK(st_metric_value(pool->metrics.count) == (int64_t)m.pools[i].count);
        CHECK(st_metric_value(pool->metrics.immediate) == (int64_t)m.pools[i].immediate);
    }
    fake_close(&m.f);
}
