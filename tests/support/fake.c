#include "tests/support/fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/metrics.h"
#include "processor/deferred.h"
#include "processor/dispatch.h"
#include "processor/labels.h"
#include "processor/stream.h"

enum { PATIENCE_SECONDS = 30 };

struct fake *fake_of(struct st_processor *p)
{
    return ST_CONTAINER_OF(p, struct fake, p);
}

/* ---- The trigger ---- */

static struct fake_answer *answer_of(struct st_event *ev)
{
    return ((struct fake_event *)ev)->answer;
}

static void keep(struct fake_answer *a, const char *what, struct st_slice text)
{
    size_t n = strlen(what);

    a->log = st_realloc(a->log, a->log_len + n + text.len + 2);
    memcpy(a->log + a->log_len, what, n);
    if (text.len != 0)
        memcpy(a->log + a->log_len + n, text.ptr, text.len);
    a->log_len += n + text.len;
    a->log[a->log_len++] = ' ';
    a->log[a->log_len] = '\0';
}

static void fake_complete(struct st_event *ev, const struct st_result *result)
{
    struct fake_answer *a = answer_of(ev);

    ST_ASSERT(st_loop_is_current(ev->home) && ev->answered && a->completed == 0);
    a->completed++;
    a->outcome = result->outcome;
    a->status = result->status;
    a->streamed = result->streamed;
    keep(a, "answer:", result->body);
}

static int fake_detach(struct st_event *ev)
{
    struct fake_event *e = (struct fake_event *)ev;
    char *copy;

    ST_ASSERT(st_loop_is_current(ev->home));
    e->answer->detached++;
    if (e->answer->fail_detach != ST_OK)
        return e->answer->fail_detach;
    copy = st_malloc(ev->body.len + 1);
    memcpy(copy, ev->body.ptr, ev->body.len);
    free(e->body); /* whoever reads there now is wrong */
    e->body = copy;
    ev->body.ptr = copy;
    return ST_OK;
}

static void fake_release(struct st_event *ev)
{
    struct fake_event *e = (struct fake_event *)ev;

    ST_ASSERT(st_loop_is_current(ev->home) && e->answer->completed == 1);
    e->answer->released++;
    e->answer->ev = NULL;
    free(e->body);
    free(e);
}

static void fake_stream_head(struct st_event *ev, const struct st_result *head)
{
    struct fake_answer *a = answer_of(ev);

    ST_ASSERT(st_loop_is_current(ev->home) && a->completed == 0);
    a->status = head->status;
    keep(a, "head", (struct st_slice){NULL, 0});
}

static void fake_stream_write(struct st_event *ev, struct st_buf bytes)
{
    struct fake_answer *a = answer_of(ev);
    struct st_slice s = st_buf_slice(&bytes);

    ST_ASSERT(st_loop_is_current(ev->home) && a->completed == 0);
    a->bytes += s.len;
    keep(a, "piece:", (struct st_slice){s.ptr, s.len < 32 ? s.len : 1});
    if (fake_of(ev->trigger->processor)->options.slow)
        a->unsent += s.len;
    else
        st_stream_sent(ev, s.len);
    st_buf_drop(&bytes);
}

const struct st_trigger_kind fake_trigger_kind = {
    .name = "fake",
    .event_class = "sync",
    .obj_size = sizeof(struct st_trigger),
    .complete = fake_complete,
    .detach = fake_detach,
    .release = fake_release,
    .stream_head = fake_stream_head,
    .stream_write = fake_stream_write,
};

const struct st_trigger_kind fake_plain_kind = {
    .name = "fake-plain",
    .event_class = "async",
    .obj_size = sizeof(struct st_trigger),
    .complete = fake_complete,
    .detach = fake_detach,
    .release = fake_release,
};

/* ---- The runtime ---- */

static bool is_not_inline(struct st_runtime *rt ST_UNUSED)
{
    return false;
}

static bool is_inline(struct st_runtime *rt ST_UNUSED)
{
    return true;
}

static void fake_spawn(struct st_worker *w)
{
    struct fake *f = fake_of(w->pool->processor);

    f->spawned++;
    if (!f->options.manual_spawn)
        st_worker_ready(w, f->options.credits != 0 ? f->options.credits : 1);
}

static void fake_invoke(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    struct fake *f = fake_of(w->pool->processor);

    ST_ASSERT(f->call_count < FAKE_CALLS && st_loop_is_current(w->loop));
    f->calls[f->call_count++] = (struct fake_call){w, ev, assignment};
}

static void fake_invoke_inline(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    fake_invoke(w, ev, assignment);
    ev->result.outcome = ST_OUTCOME_OK;
    if (st_loop_is_current(ev->home))
        st_event_complete(ev);
    else
        st_event_complete_from(ev);
}

static void fake_invoke_batch(struct st_worker *w, struct st_event *const *events,
                              const uint32_t *assignments, unsigned n)
{
    fake_of(w->pool->processor)->batches++;
    for (unsigned i = 0; i < n; i++)
        fake_invoke(w, events[i], assignments[i]);
}

static void fake_abandon(struct st_worker *w)
{
    struct fake *f = fake_of(w->pool->processor);

    ST_ASSERT(st_loop_is_current(w->loop));
    f->abandoned++;
    f->last_abandoned = w;
}

static void fake_stop_worker(struct st_worker *w)
{
    struct fake *f = fake_of(w->pool->processor);

    ST_ASSERT(st_loop_is_current(w->loop));
    f->stopped++;
    if (!f->options.manual_stop)
        st_worker_stopped(w);
}

const struct st_runtime_kind fake_runtime_kind = {
    .name = "fake",
    .default_content_type = "text/plain",
    .obj_size = sizeof(struct st_runtime),
    .is_inline = is_not_inline,
    .spawn = fake_spawn,
    .invoke = fake_invoke,
    .abandon = fake_abandon,
    .stop = fake_stop_worker,
};

const struct st_runtime_kind fake_process_kind = {
    .name = "fake-process",
    .default_content_type = "text/plain",
    .obj_size = sizeof(struct st_runtime),
    .is_inline = is_not_inline,
    .spawn = fake_spawn,
    .invoke = fake_invoke,
    .invoke_batch = fake_invoke_batch,
    .restart = fake_abandon,
    .stop = fake_stop_worker,
};

const struct st_runtime_kind fake_inline_kind = {
    .name = "fake-inline",
    .default_content_type = "text/plain",
    .obj_size = sizeof(struct st_runtime),
    .is_inline = is_inline,
    .spawn = fake_spawn,
    .invoke = fake_invoke_inline,
    .abandon = fake_abandon,
    .stop = fake_stop_worker,
};

bool fake_begin(struct fake_call *c)
{
    if (!st_event_claim_start(c->ev, c->assignment))
        return false;
    atomic_store_explicit(&c->ev->started_ns, st_clock_mono(), memory_order_relaxed);
    return true;
}

void fake_end(struct fake_call *c, enum st_outcome outcome)
{
    c->ev->result.outcome = outcome;
    st_worker_event_done(c->w, 1000);
    if (st_loop_is_current(c->ev->home))
        st_event_complete(c->ev);
    else
        st_event_complete_from(c->ev);
}

void fake_serve(struct fake_call *c)
{
    ST_ASSERT(fake_begin(c));
    fake_end(c, ST_OUTCOME_OK);
    st_worker_credit(c->w, 1);
}

/* ---- Set-up ---- */

static void open_loops(struct fake *f)
{
    struct st_error err;
    char name[16];

    f->p.loops = f->loops;
    f->p.loop_count = f->options.loops;
    ST_ASSERT(st_loop_open(&f->p.main_loop, ST_LOOP_MAIN, "fake-main", &err) == ST_OK);
    for (unsigned i = 0; i < f->p.loop_count; i++) {
        snprintf(name, sizeof name, "fake-%u", i);
        ST_ASSERT(st_loop_open(&f->loops[i], i, name, &err) == ST_OK);
    }
}

static void open_pools(struct fake *f)
{
    static const char *const names[FAKE_POOLS] = {"pool-0", "pool-1", "pool-2", "pool-3"};

    for (unsigned i = 0; i < FAKE_SLOTS; i++)
        f->slots[i] = (struct st_slot){.index = i, .name = "cpu0", .numa_node = -1};
    for (unsigned i = 0; i < f->options.pools; i++) {
        const struct fake_pool_options *o = &f->options.pool[i];
        struct st_pool_options opt = {
            .name = names[i],
            .trigger_kind = "fake",
            .runtime = &f->runtimes[i],
            .workers = o->workers != 0 ? o->workers : 1,
            .slots = f->slots,
            .wait_ns = o->wait_ns,
            .event_timeout_ns = o->event_timeout_ns,
            .max_queue = o->max_queue,
            .max_queue_bytes = o->max_queue_bytes,
            .batch_size = o->batch_size,
            .batch_wait_ns = o->batch_wait_ns,
        };

        ST_ASSERT(opt.workers <= FAKE_SLOTS);
        f->runtimes[i] = (struct st_runtime){
            .magic = ST_RUNTIME_MAGIC,
            .kind = o->runtime != NULL ? o->runtime : &fake_runtime_kind,
            .processor = &f->p,
            .config = &f->config.function,
        };
        f->pools[i] = st_pool_new(&f->p, &opt);
    }
    f->p.runtime = &f->runtimes[0];
    f->p.pools = f->pools;
    f->p.pool_count = f->options.pools;
}

static void register_trigger(struct st_trigger *t)
{
    struct st_labels labels;

    st_labels_own(&labels, t->processor, t->name);
    t->metrics.in_flight = st_metric_register(ST_METRIC_EVENTS_IN_FLIGHT, labels.items);
    t->metrics.duration = st_metric_register(ST_METRIC_EVENT_DURATION, labels.items);
    t->metrics.late = st_metric_register(ST_METRIC_LATE_RESULTS, labels.items);
    t->metrics.no_worker = st_trigger_rejected_metric(t, "no_worker");
    t->metrics.no_memory = st_trigger_rejected_metric(t, "body_memory");
    st_labels_own(&labels, t->processor, t->name);
    st_labels_add(&labels, "stage", "queued");
    t->metrics.gone_queued = st_metric_register(ST_METRIC_CLIENT_GONE, labels.items);
    st_labels_own(&labels, t->processor, t->name);
    st_labels_add(&labels, "stage", "running");
    t->metrics.gone_running = st_metric_register(ST_METRIC_CLIENT_GONE, labels.items);
    st_labels_own(&labels, t->processor, t->name);
    st_labels_add(&labels, "result", "success");
    t->metrics.ok = st_metric_register(ST_METRIC_HANDLED_EVENTS, labels.items);
    st_labels_own(&labels, t->processor, t->name);
    st_labels_add(&labels, "result", "failure");
    t->metrics.failed = st_metric_register(ST_METRIC_HANDLED_EVENTS, labels.items);
}

static void open_triggers(struct fake *f)
{
    static const char *const names[FAKE_TRIGGERS] = {"t0", "t1", "t2", "t3", "t4", "t5"};

    for (unsigned i = 0; i < f->options.triggers; i++) {
        const struct fake_trigger_options *o = &f->options.trigger[i];
        struct st_trigger *t = &f->triggers[i];

        t->magic = ST_TRIGGER_MAGIC;
        t->kind = o->kind != NULL ? o->kind : &fake_trigger_kind;
        t->name = names[i];
        t->processor = &f->p;
        t->pool = f->pools[o->pool];
        t->loops = f->trigger_loops[i];
        for (unsigned k = 0; k < f->p.loop_count; k++)
            t->loops[k] = (struct st_trigger_loop){.trigger = t, .loop = &f->loops[k]};
        register_trigger(t);
        f->trigger_list[i] = t;
    }
    f->p.triggers = f->trigger_list;
    f->p.trigger_count = f->options.triggers;
}

/* Spawns are done; with manual_spawn nobody is ready. */
static void spawn(struct fake *f)
{
    uint64_t end = st_clock_mono() + PATIENCE_SECONDS * ST_SEC;

    for (unsigned i = 0; i < f->p.pool_count; i++)
        st_pool_spawn(f->pools[i]);
    for (unsigned i = 0; i < f->p.pool_count; i++) {
        while (!f->options.manual_spawn && !st_pool_was_ready(f->pools[i])) {
            ST_ASSERT(st_clock_mono() < end);
            fake_wait(f, 1);
        }
    }
    if (f->options.manual_spawn && !f->options.threads)
        for (unsigned i = 0; i < f->p.loop_count; i++)
            fake_pass(&f->loops[i]);
    if (!f->options.manual_spawn)
        atomic_store(&f->p.phase, ST_PHASE_READY);
}

void fake_open(struct fake *f, const struct fake_options *options)
{
    struct st_error err;

    memset(f, 0, sizeof *f);
    f->options = *options;
    f->options.loops += options->loops == 0;
    f->options.pools += options->pools == 0;
    f->options.triggers += options->triggers == 0;
    f->config.function.name = "fake";
    f->config.function.namespace_ = "tests";
    f->config.function.project = "tests";
    f->p.config = &f->config;
    f->p.deferred = st_deferred_new();
    pthread_mutex_init(&f->p.start_lock, NULL);
    open_loops(f);
    open_pools(f);
    open_triggers(f);
    for (unsigned i = 0; i < f->p.loop_count && options->threads; i++)
        ST_ASSERT(st_loop_start(&f->loops[i], &err) == ST_OK);
    spawn(f);
}

void fake_close(struct fake *f)
{
    for (unsigned i = 0; i < f->p.loop_count && f->options.threads; i++) {
        st_loop_stop(&f->loops[i]);
        st_loop_join(&f->loops[i]);
    }
    ST_ASSERT(st_deferred_count(f->p.deferred) == 0);
    for (unsigned i = 0; i < f->p.pool_count; i++) {
        fake_check_pool(f->pools[i]);
        st_pool_free(f->pools[i]);
    }
    for (unsigned i = 0; i < f->p.loop_count; i++) {
        ST_ASSERT(f->loops[i].wheel.armed == 0);
        st_loop_close(&f->loops[i]);
    }
    st_loop_close(&f->p.main_loop);
    st_deferred_free(f->p.deferred);
    pthread_mutex_destroy(&f->p.start_lock);
    st_metrics_reset();
}

/* ---- Time ---- */

struct wake_up {
    struct st_mail mail;
    bool came;
};

static void deliver_wake_up(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    ST_CONTAINER_OF(mail, struct wake_up, mail)->came = true;
}

void fake_pass(struct st_loop *loop)
{
    struct wake_up w = {.came = false};

    st_loop_post(loop, &w.mail, deliver_wake_up);
    while (!w.came)
        st_loop_pass(loop);
}

void fake_sleep_ms(unsigned ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&ts, NULL);
}

void fake_wait(struct fake *f, unsigned ms)
{
    uint64_t end = st_clock_mono() + ms * ST_MSEC;

    do {
        for (unsigned i = 0; i < f->p.loop_count && !f->options.threads; i++)
            fake_pass(&f->loops[i]);
        fake_sleep_ms(1);
    } while (st_clock_mono() < end);
    for (unsigned i = 0; i < 2 * f->p.loop_count && !f->options.threads; i++)
        fake_pass(&f->loops[i % f->p.loop_count]); /* timers, then the mails that they posted */
}

/* ---- Events ---- */

struct fake_answer *fake_new(struct fake *f, unsigned trigger, unsigned loop, const char *body)
{
    struct fake_event *e = st_calloc(1, sizeof *e);

    e->answer = st_calloc(1, sizeof *e->answer);
    e->answer->ev = &e->ev;
    e->body = st_strdup(body);
    st_event_init(&e->ev, &f->triggers[trigger], &f->loops[loop], e->space, sizeof e->space);
    e->ev.body = st_slice_of(e->body);
    e->ev.flags = ST_EVENT_BORROWS;
    return e->answer;
}

struct fake_answer *fake_send(struct fake *f, unsigned trigger, unsigned loop, const char *body)
{
    struct fake_answer *a = fake_new(f, trigger, loop, body);

    st_dispatch(a->ev);
    return a;
}

void fake_free(struct fake_answer *a)
{
    ST_ASSERT(a->completed == 1 && a->released == 1);
    free(a->log);
    free(a);
}

/* ---- Checks ---- */

static void check_worker(const struct st_worker *w, int state)
{
    ST_ASSERT(w->magic == ST_WORKER_MAGIC && (int)w->state == state);
    ST_ASSERT(w->credits < 1u << 20 && w->running < 1u << 20);
    if (state == ST_WORKER_IDLE)
        ST_ASSERT(w->credits > 0 && w->running == 0);
    if (state == ST_WORKER_BUSY)
        ST_ASSERT(w->credits > 0 && w->running > 0);
    if (state == ST_WORKER_FULL)
        ST_ASSERT(w->credits == 0);
    if (state == ST_WORKER_STARTING || state == ST_WORKER_RESTARTING)
        ST_ASSERT(w->credits == 0 && w->running == 0);
}

static void check_queue(const struct st_pool *pool)
{
    struct st_event *ev;
    uint64_t bytes = 0;
    unsigned n = 0;

    TAILQ_FOREACH (ev, &pool->queue, link) {
        ST_CHECK(ev, ST_EVENT_MAGIC);
        ST_ASSERT(ev->in_queue && ev->worker == NULL && ev->trigger->pool == pool);
        ST_ASSERT(atomic_load(&ev->refs) > 0 && (atomic_load(&ev->claim) & 3u) == ST_CLAIM_WAITING);
        bytes += ev->body.len;
        n++;
    }
    ST_ASSERT(n == pool->queued && bytes == pool->queued_bytes);
    ST_ASSERT(pool->inline_workers != NULL || n <= pool->max_queue + 256);
}

unsigned fake_check_pool(struct st_pool *pool)
{
    struct st_worker *w;
    unsigned all = 0;

    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < ST_WORKER_STATES; i++) {
        unsigned n = 0;

        TAILQ_FOREACH (w, &pool->lists[i], link) {
            check_worker(w, i);
            ST_ASSERT(w->pool == pool);
            n++;
        }
        ST_ASSERT(n == pool->counts[i]);
        all += n;
    }
    ST_ASSERT(pool->counts[ST_WORKER_STUCK] == pool->stuck && all >= pool->worker_count);
    for (unsigned i = 0; i < pool->worker_count; i++)
        ST_ASSERT(pool->workers[i]->index == i);
    check_queue(pool);
    pthread_mutex_unlock(&pool->lock);
    return all;
}

static bool all_stopped(struct fake *f)
{
    for (unsigned i = 0; i < f->p.pool_count; i++)
        if (!st_pool_is_stopped(f->pools[i]))
            return false;
    return true;
}

void fake_stop(struct fake *f)
{
    uint64_t end = st_clock_mono() + PATIENCE_SECONDS * ST_SEC;

    atomic_store(&f->p.phase, ST_PHASE_DRAINING);
    for (unsigned i = 0; i < f->p.pool_count; i++)
        st_pool_stop(f->pools[i]);
    while (!all_stopped(f)) {
        ST_ASSERT(st_clock_mono() < end);
        fake_wait(f, 1);
    }
}
