/* The way of an event with several loops and worker threads: clients on every loop dispatch, leave,
 * hold, read streams slowly; handlers on threads do what they like
 * (tests/support/thread_runtime.h). Each answer must be one that its event may have, each event
 * ends once, and the pools' lists are walked all the time. EVENT_PATH_SEED=<number> for a seed of
 * your own. */
#include "tests/unit/test_core.h"

#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/deferred.h"
#include "processor/dispatch.h"
#include "processor/stream.h"
#include "tests/support/thread_runtime.h"

enum { LOOPS = 3, MAX_LIVE = 40, TIME_MS = 3000 };

/* Two triggers share the first pool, the second does not wait, the third is inline on two of the
 * three loops. */
enum { POOL_SHARED, POOL_EAGER, POOL_INLINE, POOLS };
enum { TRIGGER_SHARED, TRIGGER_PLAIN, TRIGGER_EAGER, TRIGGER_INLINE, TRIGGERS };

struct client_event {
    struct scripted s; /* first */
    TAILQ_ENTRY(client_event) link;
    struct client *c;
    bool dispatching, cancelling, answered, hold_failed, has_deadline, no_memory, no_worker;
    unsigned holds, refs;
    size_t unsent, bytes;
    uint64_t sent_ns;
    char *body;
    char space[64];
};

/* Of one loop. */
struct client {
    struct st_loop *loop;
    struct st_timer timer;
    struct st_rand rand;
    TAILQ_HEAD(, client_event) live;
    unsigned live_count, left; /* events that it still sends */
    unsigned completed, released, in_time;
    unsigned outcomes[ST_OUTCOME_CANCELLED + 1];
    atomic_bool idle; /* nothing left, nothing live */
};

static struct fake f;
static struct client clients[LOOPS];
static uint64_t seed;
static atomic_bool stopped; /* pools were asked to stop */

ST_NORETURN static void broken(const char *file, int line, const char *what)
{
    fprintf(stderr, "EVENT_PATH_SEED=%llu\n", (unsigned long long)seed);
    st_panic(file, line, what);
}

#define CHECK(cond)                            \
    do {                                       \
        if (st_unlikely(!(cond)))              \
            broken(__FILE__, __LINE__, #cond); \
    } while (0)

static unsigned below(struct client *c, unsigned bound)
{
    return (unsigned)st_rand_below(&c->rand, bound);
}

static bool chance(struct client *c, unsigned n)
{
    return below(c, n) == 0;
}

/* ---- The trigger ---- */

static struct client_event *of(struct st_event *ev)
{
    struct client_event *e = (struct client_event *)ev;

    CHECK(ev->magic == ST_EVENT_MAGIC && st_loop_is_current(e->c->loop));
    return e;
}

/* May this event be answered like that now? */
static void check_outcome(struct client_event *e, enum st_outcome outcome)
{
    const struct st_pool *pool = e->s.ev.trigger->pool;
    uint64_t waited = st_loop_now(e->c->loop) - e->sent_ns;
    unsigned began = atomic_load(&e->s.began);
    bool result = e->s.ev.has_result && outcome == e->s.outcome && began == 1;

    switch (outcome) {
    case ST_OUTCOME_CANCELLED:
        CHECK(e->cancelling);
        break;
    case ST_OUTCOME_NO_WORKER:
        CHECK(began == 0 &&
              (e->dispatching || waited >= pool->wait_ns || (pool->inline_workers && stopped)));
        break;
    case ST_OUTCOME_NO_MEMORY:
        CHECK(began == 0 && e->dispatching && e->no_memory);
        break;
    case ST_OUTCOME_TIMEOUT:
        if (!e->dispatching || !e->has_deadline) {
            CHECK(atomic_load(&e->s.ev.started_ns) >= e->sent_ns);
            CHECK(waited >= pool->event_timeout_ns);
        }
        break;
    case ST_OUTCOME_ERROR:
        CHECK(e->hold_failed || result);
        break;
    default:
        CHECK(result && !e->hold_failed);
        break;
    }
}

/* The handler's. */
static bool is_result(const struct client_event *e, const struct st_result *result)
{
    return e->s.ev.has_result && result->outcome == e->s.outcome && !e->hold_failed;
}

static void client_complete(struct st_event *ev, const struct st_result *result)
{
    struct client_event *e = of(ev);

    CHECK(!e->answered && ev->answered);
    check_outcome(e, result->outcome);
    if (result->streamed || (ev->trigger->kind->stream_head == NULL && is_result(e, result)))
        CHECK((result->streamed ? e->bytes : result->body.len) == atomic_load(&e->s.written));
    e->answered = true;
    e->no_worker = result->outcome == ST_OUTCOME_NO_WORKER;
    e->c->completed++;
    e->c->in_time += ev->has_result;
    e->c->outcomes[result->outcome]++;
}

static int client_detach(struct st_event *ev)
{
    struct client_event *e = of(ev);
    char *copy;

    if (e->no_memory)
        return ST_ERR_NOMEM;
    copy = malloc(ev->body.len + 1);
    CHECK(copy != NULL);
    memcpy(copy, ev->body.ptr, ev->body.len);
    free(e->body);
    e->body = copy;
    ev->body.ptr = copy;
    return ST_OK;
}

static void client_release(struct st_event *ev)
{
    struct client_event *e = (struct client_event *)ev;
    struct client *c = e->c;

    CHECK(st_loop_is_current(c->loop) && e->answered && e->holds + e->refs == 0);
    CHECK(!e->no_worker || atomic_load(&e->s.began) == 0);
    TAILQ_REMOVE(&c->live, e, link);
    c->live_count--;
    c->released++;
    free(e->body);
    free(e);
    atomic_store(&c->idle, c->left == 0 && c->live_count == 0);
}

static void client_head(struct st_event *ev, const struct st_result *head ST_UNUSED)
{
    CHECK(!of(ev)->answered && of(ev)->bytes == 0 && of(ev)->holds == 0);
}

static void client_write(struct st_event *ev, struct st_buf bytes)
{
    struct client_event *e = of(ev);

    CHECK(!e->answered && e->holds == 0);
    e->bytes += bytes.length;
    e->unsent += bytes.length;
    st_buf_drop(&bytes);
}

static const struct st_trigger_kind stream_kind = {
    .name = "client",
    .event_class = "sync",
    .complete = client_complete,
    .detach = client_detach,
    .release = client_release,
    .stream_head = client_head,
    .stream_write = client_write,
};

static const struct st_trigger_kind plain_kind = {
    .name = "client-plain",
    .event_class = "async",
    .complete = client_complete,
    .detach = client_detach,
    .release = client_release,
};

/* ---- The clients ---- */

static void write_script(struct client *c, struct scripted *s, bool is_inline)
{
    static const enum st_outcome outcomes[] = {ST_OUTCOME_OK, ST_OUTCOME_OK, ST_OUTCOME_OK,
                                               ST_OUTCOME_ERROR, ST_OUTCOME_RETRY};

    s->outcome = outcomes[below(c, ST_ARRAY_LEN(outcomes))];
    if (chance(c, 3))
        s->defer = (enum script_defer)below(c, SCRIPT_WAYS);
    s->work_us = chance(c, 60) ? 15000 + below(c, 25000) : chance(c, 3) ? below(c, 400) : 0;
    s->resolve_us = chance(c, 10) ? 20000 : below(c, 2000);
    if (chance(c, 4)) {
        s->pieces = 1 + below(c, 8);
        s->piece_size = chance(c, 3) ? 60000 : 1 + below(c, 100);
    }
    if (is_inline && s->defer == SCRIPT_NEVER && chance(c, 2))
        s->defer = SCRIPT_DEFERS;
}

static void send_one(struct client *c)
{
    struct client_event *e = calloc(1, sizeof *e);
    unsigned trigger = below(c, TRIGGERS);
    size_t len = below(c, 50);

    CHECK(e != NULL);
    st_event_init(&e->s.ev, &f.triggers[trigger], c->loop, e->space, sizeof e->space);
    e->c = c;
    e->body = calloc(1, len + 1);
    e->s.ev.body = (struct st_slice){e->body, len};
    e->s.ev.flags = ST_EVENT_BORROWS;
    e->sent_ns = st_loop_now(c->loop);
    write_script(c, &e->s, trigger == TRIGGER_INLINE);
    e->no_memory = chance(c, 50);
    e->has_deadline = chance(c, 50);
    if (e->has_deadline)
        e->s.ev.deadline_ns = e->sent_ns;
    TAILQ_INSERT_TAIL(&c->live, e, link);
    c->live_count++;
    c->left--;
    e->dispatching = true;
    if (trigger == TRIGGER_INLINE) { /* counts on there being no other reference */
        st_dispatch(&e->s.ev);
        return;
    }
    st_event_ref(&e->s.ev);
    st_dispatch(&e->s.ev);
    e->dispatching = false;
    st_event_unref(&e->s.ev);
}

static void touch(struct client *c, struct client_event *e)
{
    struct st_event *ev = &e->s.ev;
    int status = chance(c, 3) ? ST_ERR_CLOSED : ST_OK;

    if (e->answered && e->refs + e->holds == 0)
        return; /* none of its references is ours */
    e->dispatching = false;
    if (e->unsent > 0 && chance(c, 2)) {
        size_t n = 1 + below(c, (unsigned)e->unsent);

        e->unsent -= n;
        st_stream_sent(ev, n);
    } else if (!e->answered && ev->counted && e->holds < 2 && chance(c, 10)) {
        e->holds++;
        st_event_hold(ev);
    } else if (e->holds > 0 && chance(c, 2)) {
        e->holds--;
        e->hold_failed = e->hold_failed || status != ST_OK;
        st_event_unhold(ev, status);
    } else if (e->refs < 2 && chance(c, 20)) {
        e->refs++;
        st_event_ref(ev);
    } else if (e->refs > 0 && chance(c, 3)) {
        e->refs--;
        st_event_unref(ev);
    } else if (!e->answered && chance(c, c->left == 0 ? 100 : 30)) {
        e->cancelling = true;
        st_event_cancel(ev);
    }
}

static void on_timer(struct st_timer *t)
{
    struct client *c = ST_CONTAINER_OF(t, struct client, timer);
    struct client_event *e, *next;

    for (e = TAILQ_FIRST(&c->live); e != NULL; e = next) {
        next = TAILQ_NEXT(e, link); /* touch() may free e, and no other */
        touch(c, e);
    }
    for (unsigned n = below(c, 12); n > 0 && c->left > 0 && c->live_count < MAX_LIVE; n--)
        send_one(c);
    atomic_store(&c->idle, c->left == 0 && c->live_count == 0);
    if (c->left > 0 || c->live_count > 0)
        st_loop_timer_arm(c->loop, &c->timer, ST_MSEC / 2);
}

static void start_client(struct st_loop *loop, void *arg)
{
    struct client *c = arg;

    st_timer_init(&c->timer, on_timer);
    st_loop_timer_arm(loop, &c->timer, 0);
}

/* ---- Seeds ---- */

static bool all_idle(void)
{
    for (unsigned i = 0; i < LOOPS; i++)
        if (!atomic_load(&clients[i].idle))
            return false;
    return true;
}

static bool all_back(void)
{
    for (unsigned i = 0; i < POOLS; i++) {
        unsigned stuck;

        pthread_mutex_lock(&f.pools[i]->lock);
        stuck = f.pools[i]->stuck;
        pthread_mutex_unlock(&f.pools[i]->lock);
        if (stuck > 0 || (atomic_load(&stopped) && !st_pool_is_stopped(f.pools[i])))
            return false;
    }
    return true;
}

/* What a scraper and the probes do meanwhile. */
static void watch(unsigned round)
{
    char *text = NULL;
    size_t size;
    FILE *out;

    for (unsigned i = 0; i < POOLS; i++) {
        fake_check_pool(f.pools[i]);
        st_pool_is_live(f.pools[i]);
        st_pool_is_usable(f.pools[i]);
    }
    if (round % 16 == 0 && (out = open_memstream(&text, &size)) != NULL) {
        st_metrics_write(out);
        fclose(out);
        CHECK(strstr(text, "stator_queue_events") != NULL);
        free(text);
    }
    fake_sleep_ms(1);
}

static void stop_pools(void)
{
    if (atomic_exchange(&stopped, true))
        return;
    atomic_store(&f.p.phase, ST_PHASE_DRAINING);
    for (unsigned i = 0; i < POOLS; i++)
        st_pool_stop(f.pools[i]);
}

static void open_world(unsigned events)
{
    atomic_store(&stopped, false);
    thread_runtime_start(&f.p.deferred, seed);
    fake_open(&f, &(struct fake_options){
                      .loops = LOOPS,
                      .threads = true,
                      .pools = POOLS,
                      .triggers = TRIGGERS,
                      .trigger = {{&stream_kind, POOL_SHARED},
                                  {&plain_kind, POOL_SHARED},
                                  {&stream_kind, POOL_EAGER},
                                  {&stream_kind, POOL_INLINE}},
                      .pool = {{.runtime = &thread_runtime_kind,
                                .workers = 4,
                                .wait_ns = 6 * ST_MSEC,
                                .event_timeout_ns = 10 * ST_MSEC,
                                .max_queue = 20,
                                .max_queue_bytes = 400},
                               {.runtime = &thread_runtime_kind,
                                .workers = 2,
                                .event_timeout_ns = 10 * ST_MSEC},
                               {.runtime = &thread_inline_kind,
                                .workers = 2,
                                .wait_ns = 6 * ST_MSEC,
                                .event_timeout_ns = 10 * ST_MSEC,
                                .max_queue = 8}},
                  });
    for (unsigned i = 0; i < LOOPS; i++) {
        clients[i] = (struct client){.loop = &f.loops[i], .left = events};
        TAILQ_INIT(&clients[i].live);
        st_rand_seed(&clients[i].rand, seed * LOOPS + i);
    }
}

static void check_counters(unsigned events)
{
    int64_t handled = 0, late = 0, in_time = 0;

    for (unsigned i = 0; i < LOOPS; i++) {
        CHECK(clients[i].completed == events && clients[i].released == events);
        in_time += clients[i].in_time;
    }
    for (unsigned i = 0; i < TRIGGERS; i++) {
        struct st_trigger *t = &f.triggers[i];

        CHECK(st_metric_value(t->metrics.in_flight) == 0);
        handled += st_metric_value(t->metrics.ok) + st_metric_value(t->metrics.failed);
        late += st_metric_value(t->metrics.late);
    }
    CHECK(handled == (int64_t)events * LOOPS);
    /* Where an inline worker has gone, its loop says so in its place. */
    CHECK(in_time + late >= (int64_t)thread_runtime_results());
    CHECK(in_time + late == (int64_t)thread_runtime_results() || seed % 2 == 0);
    for (unsigned i = 0; i < POOLS; i++) {
        fake_check_pool(f.pools[i]);
        CHECK(TAILQ_EMPTY(&f.pools[i]->queue));
    }
}

/* Behind what is counted once a pass. */
static void stop_client(struct st_loop *loop, void *arg)
{
    struct client *c = arg;

    st_loop_timer_cancel(loop, &c->timer);
}

static void run_seed(uint64_t s, unsigned events)
{
    uint64_t end = st_clock_mono() + 50 * ST_SEC, stop;

    seed = s;
    open_world(events);
    stop = s % 2 == 0 ? st_clock_mono() + 100 * ST_MSEC : UINT64_MAX;
    for (unsigned i = 0; i < LOOPS; i++)
        st_loop_call(clients[i].loop, start_client, &clients[i]);
    for (unsigned i = 0; !all_idle() || !all_back(); i++) {
        CHECK(st_clock_mono() < end);
        if (st_clock_mono() > stop || all_idle())
            stop_pools();
        watch(i);
    }
    stop_pools();
    while (!all_back())
        watch(1);
    thread_runtime_stop();
    for (unsigned i = 0; i < LOOPS; i++)
        st_loop_call(clients[i].loop, stop_client, &clients[i]);
    check_counters(events);
    fake_close(&f);
}

static void test_seeds(void **state)
{
    const char *given = getenv("EVENT_PATH_SEED"), *count = getenv("EVENT_PATH_COUNT");
    unsigned n = count != NULL ? (unsigned)strtoul(count, NULL, 0) : given != NULL ? 1 : 6;
    uint64_t first = given != NULL ? strtoull(given, NULL, 0) : 1;
    uint64_t end = st_clock_mono() + TIME_MS * ST_MSEC;

    (void)state;
    st_log_threshold = ST_LOG_OFF;
    for (unsigned i = 0; i < n && (i < 2 || given != NULL || st_clock_mono() < end); i++)
        run_seed(first + i, 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_seeds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
