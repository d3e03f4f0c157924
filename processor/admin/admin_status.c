/* /status: what the processor is doing, for people and for dashboards. */
#include <stdio.h>

#include "processor/admin/admin_int.h"
#include "processor/config/output_table.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/net/net.h"
#include "processor/output.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/runtime.h"
#include "processor/slot.h"
#include "processor/trigger.h"
#include "stator_version.h"

enum { WORKERS_SHOWN = 1024 }; /* of a pool, one by one; counts are always whole */

static const char *phase_name(enum st_phase phase)
{
    static const char *const names[] = {"starting", "ready", "draining", "stopped"};

    return names[phase];
}

/* A worker as it was under the pool's lock. */
struct worker_view {
    enum st_worker_state state;
    uint32_t running;
    unsigned loop, restarts, failures;
    int pid;
    const char *slot;
    char error[ST_WORKER_ERROR_MAX];
};

/* The same of a pool; workers belongs to the caller. */
struct pool_view {
    unsigned counts[ST_WORKER_STATES];
    unsigned workers_total, stuck, shown;
    uint32_t queued;
    uint64_t queued_bytes;
    struct worker_view *workers;
};

static void look(struct st_pool *pool, struct pool_view *v)
{
    v->shown = pool->worker_count < WORKERS_SHOWN ? pool->worker_count : WORKERS_SHOWN;
    v->workers = st_calloc(v->shown, sizeof(v->workers[0]));
    pthread_mutex_lock(&pool->lock);
    memcpy(v->counts, pool->counts, sizeof(v->counts));
    v->workers_total = pool->worker_count;
    v->stuck = pool->stuck;
    v->queued = pool->queued;
    v->queued_bytes = pool->queued_bytes;
    for (unsigned i = 0; i < v->shown; i++) {
        const struct st_worker *w = pool->workers[i];
        struct worker_view *view = &v->workers[i];

        view->state = w->state;
        view->running = w->running;
        view->loop = w->loop->index;
        view->restarts = w->restarts;
        view->failures = w->failures;
        view->pid = atomic_load_explicit(&w->pid, memory_order_relaxed);
        view->slot = w->slot->name;
        snprintf(view->error, sizeof view->error, "%s", w->last_error);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* The text may come from a worker, and be cut. */
static json_t *text_of(const char *text)
{
    json_t *out = json_string(text);
    char plain[ST_WORKER_ERROR_MAX];

    if (out != NULL)
        return out;
    snprintf(plain, sizeof plain, "%s", text);
    for (char *p = plain; *p != '\0'; p++)
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    return json_string(plain);
}

static json_t *show_worker(const struct worker_view *w, unsigned index)
{
    json_t *out =
        json_pack("{s:i, s:s, s:i, s:i, s:s, s:i, s:i}", "index", (int)index, "state",
                  st_worker_state_name(w->state), "running", (int)w->running, "loop", (int)w->loop,
                  "slot", w->slot, "restarts", (int)w->restarts, "failures", (int)w->failures);

    if (w->pid != 0)
        json_object_set_new(out, "pid", json_integer(w->pid));
    if (w->error[0] != '\0')
        json_object_set_new(out, "error", text_of(w->error));
    return out;
}

static json_t *show_workers(const struct pool_view *v)
{
    json_t *out = json_array();

    for (unsigned i = 0; i < v->shown; i++)
        json_array_append_new(out, show_worker(&v->workers[i], i));
    return out;
}

static json_t *show_states(const struct pool_view *v)
{
    json_t *out = json_object();

    for (unsigned i = 0; i < ST_WORKER_STATES; i++)
        json_object_set_new(out, st_worker_state_name((enum st_worker_state)i),
                            json_integer(v->counts[i]));
    return out;
}

static json_t *triggers_of(const struct st_processor *p, const struct st_pool *pool)
{
    json_t *out = json_array();

    for (unsigned i = 0; i < p->trigger_count; i++)
        if (p->triggers[i]->pool == pool)
            json_array_append_new(out, json_string(p->triggers[i]->name));
    return out;
}

static json_t *show_pool(const struct st_processor *p, const struct st_pool *pool,
                         const struct pool_view *v)
{
    return json_pack("{s:s, s:o, s:i, s:o, s:i, s:o, s:{s:I, s:I, s:I, s:I}}", "name", pool->name,
                     "triggers", triggers_of(p, pool), "numWorkers", (int)v->workers_total,
                     "states", show_states(v), "stuck", (int)v->stuck, "workers", show_workers(v),
                     "queue", "events", (json_int_t)v->queued, "bytes", (json_int_t)v->queued_bytes,
                     "maxEvents", (json_int_t)pool->max_queue, "maxBytes",
                     (json_int_t)pool->max_queue_bytes);
}

static void complain(json_t *reasons, const char *pool, unsigned n, const char *what)
{
    if (n > 0)
        json_array_append_new(reasons, json_sprintf("Pool %s: %s: %u", pool, what, n));
}

static void judge_pool(struct st_pool *pool, const struct pool_view *v, json_t *reasons)
{
    complain(reasons, pool->name, v->stuck, "workers stuck past eventTimeout");
    complain(reasons, pool->name, v->counts[ST_WORKER_RESTARTING], "workers that failed to start");
    complain(reasons, pool->name, v->counts[ST_WORKER_DEAD], "dead workers");
    if (v->queued >= pool->max_queue)
        complain(reasons, pool->name, v->queued, "the queue is full, events");
    if (!st_pool_is_live(pool))
        json_array_append_new(
            reasons,
            json_sprintf("Pool %s: more workers are stuck than may be replaced", pool->name));
}

static json_t *show_pools(struct st_processor *p, json_t *reasons)
{
    json_t *out = json_array();

    for (unsigned i = 0; i < p->pool_count; i++) {
        struct pool_view v;

        look(p->pools[i], &v);
        json_array_append_new(out, show_pool(p, p->pools[i], &v));
        judge_pool(p->pools[i], &v, reasons);
        free(v.workers);
    }
    return out;
}

static json_t *show_loops(struct st_processor *p)
{
    json_t *out = json_array();

    for (unsigned i = 0; i < p->loop_count; i++) {
        struct st_loop *loop = &p->loops[i];
        st_metric connections = st_net_of(loop)->connections;
        int64_t n = atomic_load_explicit(&loop->metrics->slots[connections], memory_order_relaxed);

        json_array_append_new(
            out, json_pack("{s:i, s:I}", "index", (int)i, "connections", (json_int_t)n));
    }
    return out;
}

static json_t *show_slots(const struct st_processor *p)
{
    json_t *out = json_array();

    for (unsigned i = 0; i < p->slots.count; i++) {
        const struct st_slot *s = &p->slots.items[i];

        json_array_append_new(out, json_pack("{s:s, s:s, s:b, s:i}", "name", s->name, "cpus",
                                             s->cpu_list, "pinned", (int)s->pinned, "numaNode",
                                             s->numa_node));
    }
    return out;
}

/* Each with its configuration, but for what is secret. */
static json_t *show_outputs(const struct st_processor *p)
{
    json_t *out = json_object();

    for (unsigned i = 0; i < p->output_count; i++) {
        const struct st_output *o = p->outputs[i];
        const struct st_output_config config = {o->name, o->kind, (void *)(uintptr_t)o->options};
        json_t *shown = st_output_show(&config);

        json_object_set_new(shown, "emits",
                            json_pack("{s:I, s:I}", "success",
                                      (json_int_t)st_metric_value(o->metrics.ok), "failure",
                                      (json_int_t)st_metric_value(o->metrics.failed)));
        json_object_set_new(out, o->name, shown);
    }
    return out;
}

static void judge_triggers(struct st_processor *p, json_t *reasons)
{
    for (unsigned i = 0; i < p->trigger_count; i++) {
        struct st_trigger *t = p->triggers[i];
        char text[ST_WORKER_ERROR_MAX / 2], whole[ST_WORKER_ERROR_MAX];

        if (t->kind->trouble == NULL || !t->kind->trouble(t, text, sizeof text))
            continue;
        snprintf(whole, sizeof whole, "Trigger %.100s: %s", t->name, text);
        json_array_append_new(reasons, text_of(whole));
    }
}

static void judge_outputs(struct st_processor *p, json_t *reasons)
{
    for (unsigned i = 0; i < p->output_count; i++) {
        struct st_output *o = p->outputs[i];
        char text[ST_WORKER_ERROR_MAX / 2], whole[ST_WORKER_ERROR_MAX];

        if (o->kind->trouble == NULL || !o->kind->trouble(o, text, sizeof text))
            continue;
        snprintf(whole, sizeof whole, "Output %.100s: %s", o->name, text);
        json_array_append_new(reasons, text_of(whole));
    }
}

static json_t *judge(struct st_processor *p, json_t *reasons)
{
    char reason[256];
    bool ready = st_processor_is_ready(p, reason, sizeof reason);

    if (!ready)
        json_array_insert_new(reasons, 0, json_string(reason));
    judge_triggers(p, reasons);
    judge_outputs(p, reasons);
    if (st_log_dropped() > 0)
        json_array_append_new(reasons, json_sprintf("Log: %llu records were dropped",
                                                    (unsigned long long)st_log_dropped()));
    return json_boolean(ready);
}

void st_admin_status(struct admin_exchange *ax)
{
    struct st_processor *p = ax->admin->p;
    const struct st_function_config *f = &p->config->function;
    uint64_t body_bytes = atomic_load_explicit(&p->bodies.used, memory_order_relaxed);
    json_t *reasons = json_array(), *pools = show_pools(p, reasons), *ready = judge(p, reasons);
    bool degraded = json_array_size(reasons) > 0;

    st_admin_answer_json(
        ax, 200,
        json_pack(
            "{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:b, s:o, s:f, s:o, s:o, s:o, s:o, s:{s:I, s:I}}",
            "version", STATOR_VERSION, "commit", STATOR_COMMIT, "function", f->name, "runtime",
            f->runtime->name, "instance", p->instance, "phase", phase_name(st_processor_phase(p)),
            "ready", ready, "degraded", (int)degraded, "reasons", reasons, "uptimeSeconds",
            (double)(st_clock_mono() - p->started_ns) / (double)ST_SEC, "pools", pools, "loops",
            show_loops(p), "slots", show_slots(p), "outputs", show_outputs(p), "bodyMemory", "used",
            (json_int_t)body_bytes, "limit", (json_int_t)p->bodies.limit));
}
