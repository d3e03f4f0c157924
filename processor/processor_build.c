/* What a processor is made of, in order; dismantling goes the other way. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "processor/admin/admin.h"
#include "processor/admin/metric_push.h"
#include "processor/config/name_template.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/core/process.h"
#include "processor/deferred.h"
#include "processor/labels.h"
#include "processor/output.h"
#include "processor/pool.h"
#include "processor/processor_int.h"
#include "processor/runtime.h"
#include "processor/trigger.h"
#include "processor/watch.h"
#include "stator_version.h"

/* How long a loop has to end; a handler may block it. */
#define JOIN_NS (2 * ST_SEC)

/* Each worker and each trigger has metrics of its own: together they fit. */
enum { BODY_MEMORY_SHARE = 4, MAX_LOOPS = 64, MAX_WORKERS = 1024, MAX_TRIGGERS = 64 };

static int open_log(const struct st_config *config, struct st_error *err)
{
    struct st_log_options opt = {
        .system = config->platform.log_system,
        .functions = config->platform.log_functions,
        .fd = STDOUT_FILENO,
    };

    return st_log_open(&opt, err);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
            ST_LOG(ST_LOG_WARN, "processor", "The limit of open files could not be raised",
                   ST_KV_INT("errno", errno));
    }
}

static void name_instance(struct st_processor *p)
{
    const char *given = getenv("NUCLIO_FUNCTION_INSTANCE");
    const struct st_function_config *f = &p->config->function;
    const char *wanted = p->config->platform.metric_instance;

    if (wanted[0] != '\0')
        st_name_template_expand(wanted, f->name, f->namespace_, p->instance, sizeof p->instance);
    else if (given != NULL && given[0] != '\0')
        snprintf(p->instance, sizeof p->instance, "%s", given);
    else
        snprintf(p->instance, sizeof p->instance, "%s-%s", f->namespace_, f->name);
}

/* Loops */

static void register_net(struct st_processor *p, struct st_loop *loop)
{
    struct st_net *net = st_net_of(loop);
    struct st_labels base, labels;

    st_labels_own(&base, p, NULL);
    net->connections = st_metric_register(ST_METRIC_CONNECTIONS, base.items);
    labels = base;
    st_labels_add(&labels, "direction", "in");
    net->bytes_in = st_metric_register(ST_METRIC_BYTES, labels.items);
    labels = base;
    st_labels_add(&labels, "direction", "out");
    net->bytes_out = st_metric_register(ST_METRIC_BYTES, labels.items);
}

static unsigned loops_wanted(const struct st_processor *p)
{
    int64_t asked = p->config->function.own.loops;
    unsigned count = asked > 0 ? (unsigned)asked : st_topology_loops(&p->topology);

    return count > MAX_LOOPS ? MAX_LOOPS : count;
}

static int open_loops(struct st_processor *p, struct st_error *err)
{
    unsigned count = loops_wanted(p);
    int code = st_loop_open(&p->main_loop, ST_LOOP_MAIN, "st-main", err);

    if (code != ST_OK || (code = st_net_open(&p->main_loop, &p->bodies, err)) != ST_OK)
        return code;
    p->loops = calloc(count, sizeof *p->loops);
    p->tasks = calloc(count, sizeof *p->tasks);
    p->drains = calloc(count, sizeof *p->drains);
    ST_ASSERT(p->loops != NULL && p->tasks != NULL && p->drains != NULL);
    for (unsigned i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "st-loop%u", i);
        if ((code = st_loop_open(&p->loops[i], i, name, err)) != ST_OK)
            return code;
        p->loop_count = i + 1;
        if ((code = st_net_open(&p->loops[i], &p->bodies, err)) != ST_OK)
            return code;
        register_net(p, &p->loops[i]);
    }
    return ST_OK;
}

/* Pools: one a trigger, or one for all triggers with the same workerAllocatorName. */

static unsigned workers_of(const struct st_processor *p, const struct st_trigger_config *t,
                           bool is_inline)
{
    unsigned n = (unsigned)t->num_workers;

    if (!is_inline)
        return n > 0 ? n : 1;
    return n > 0 && n < p->loop_count ? n : p->loop_count;
}

static struct st_pool *find_pool(struct st_processor *p, const struct st_trigger_config *t)
{
    for (unsigned i = 0; i < p->pool_count; i++)
        if (t->allocator_name != NULL && t->allocator_name[0] != '\0' &&
            strcmp(p->pools[i]->name, t->allocator_name) == 0)
            return p->pools[i];
    return NULL;
}

/* The first trigger of a shared pool decides its size. */
static bool owns_pool(const struct st_processor *p, size_t index)
{
    const struct st_trigger_config *all = p->config->function.triggers, *t = &all[index];

    if (t->allocator_name == NULL || t->allocator_name[0] == '\0')
        return true;
    for (size_t i = 0; i < index; i++)
        if (all[i].allocator_name != NULL && strcmp(all[i].allocator_name, t->allocator_name) == 0)
            return false;
    return true;
}

static void log_slots(struct st_processor *p)
{
    for (unsigned i = 0; i < p->slots.count; i++) {
        struct st_slot *s = &p->slots.items[i];
        struct st_labels labels;
        char node[16];
        snprintf(node, sizeof node, "%d", s->numa_node);
        st_labels_own(&labels, p, NULL);
        st_labels_add(&labels, "slot", s->name);
        st_labels_add(&labels, "cpus", s->cpu_list);
        st_labels_add(&labels, "pinned", s->pinned ? "true" : "false");
        st_labels_add(&labels, "numa_node", node);
        st_metric_set(p->main_loop.metrics, st_metric_register(ST_METRIC_SLOT_INFO, labels.items),
                      1);
        ST_LOG(ST_LOG_INFO, "processor.slot", "Slot", ST_KV_STR("slot", s->name),
               ST_KV_STR("cpus", s->cpu_list), ST_KV_BOOL("pinned", s->pinned),
               ST_KV_INT("numa_node", s->numa_node));
    }
}

static struct st_pool *new_pool(struct st_processor *p, const struct st_trigger_config *t,
                                struct st_slot *slots, unsigned workers)
{
    const struct st_function_config *f = &p->config->function;
    bool shared = t->allocator_name != NULL && t->allocator_name[0] != '\0';
    struct st_pool_options opt = {
        .name = shared ? t->allocator_name : t->name,
        .trigger_kind = shared ? "" : t->kind->name,
        .runtime = p->runtime,
        .workers = workers,
        .slots = slots,
        .wait_ns = t->wait_ns,
        .event_timeout_ns = f->event_timeout_ns,
        .max_queue = (uint32_t)f->own.queue.events,
        .max_queue_bytes = f->own.queue.bytes,
        .max_concurrency = (uint32_t)t->max_concurrency,
        .batch_size = t->batch.mode == ST_BATCH_ENABLE ? (uint32_t)t->batch.size : 0,
        .batch_wait_ns = t->batch.timeout_ns,
    };

    return st_pool_new(p, &opt);
}

/* A slot for each worker of each pool. */
static int plan_slots(const struct st_processor *p, bool is_inline, struct st_slots *out,
                      struct st_error *err)
{
    const struct st_function_config *f = &p->config->function;
    unsigned workers = 0;

    for (size_t i = 0; i < f->trigger_count; i++)
        if (owns_pool(p, i))
            workers += workers_of(p, &f->triggers[i], is_inline);
    if (f->trigger_count > MAX_TRIGGERS)
        return st_error_set(err, ST_ERR_LIMIT, "%zu triggers, at most %d expected",
                            f->trigger_count, MAX_TRIGGERS);
    if (workers > MAX_WORKERS)
        return st_error_set(err, ST_ERR_LIMIT,
                            "numWorkers of all triggers together is %u, at most %d expected",
                            workers, MAX_WORKERS);
    return st_slots_plan(out, &p->topology, workers, (enum st_pin)f->own.pin, err);
}

static int make_pools(struct st_processor *p, struct st_error *err)
{
    const struct st_function_config *f = &p->config->function;
    bool is_inline = p->runtime->kind->is_inline(p->runtime);
    int code = plan_slots(p, is_inline, &p->slots, err);
    unsigned next = 0;

    if (code != ST_OK)
        return code;
    log_slots(p);
    p->pools = calloc(f->trigger_count + 1, sizeof(struct st_pool *));
    ST_ASSERT(p->pools != NULL);
    for (size_t i = 0; i < f->trigger_count; i++) {
        unsigned n = workers_of(p, &f->triggers[i], is_inline);
        if (!owns_pool(p, i))
            continue;
        p->pools[p->pool_count] = new_pool(p, &f->triggers[i], &p->slots.items[next], n);
        p->pool_count++;
        next += n;
    }
    return ST_OK;
}

/* Triggers */

st_metric st_trigger_rejected_metric(struct st_trigger *t, const char *reason)
{
    struct st_labels labels;

    st_labels_own(&labels, t->processor, t->name);
    st_labels_add(&labels, "reason", reason);
    return st_metric_register(ST_METRIC_REJECTED, labels.items);
}

static void register_trigger(struct st_trigger *t)
{
    struct st_labels base, labels;

    st_labels_for(&base, t->processor, t->kind->name, t->name);
    labels = base;
    st_labels_add(&labels, "result", "success");
    t->metrics.ok = st_metric_register(ST_METRIC_HANDLED_EVENTS, labels.items);
    labels = base;
    st_labels_add(&labels, "result", "failure");
    t->metrics.failed = st_metric_register(ST_METRIC_HANDLED_EVENTS, labels.items);
    st_labels_own(&base, t->processor, t->name);
    t->metrics.in_flight = st_metric_register(ST_METRIC_EVENTS_IN_FLIGHT, base.items);
    t->metrics.duration = st_metric_register(ST_METRIC_EVENT_DURATION, base.items);
    t->metrics.late = st_metric_register(ST_METRIC_LATE_RESULTS, base.items);
    labels = base;
    st_labels_add(&labels, "stage", "queued");
    t->metrics.gone_queued = st_metric_register(ST_METRIC_CLIENT_GONE, labels.items);
    labels = base;
    st_labels_add(&labels, "stage", "running");
    t->metrics.gone_running = st_metric_register(ST_METRIC_CLIENT_GONE, labels.items);
    t->metrics.no_worker = st_trigger_rejected_metric(t, "no_worker");
    t->metrics.no_memory = st_trigger_rejected_metric(t, "body_memory");
}

static int make_triggers(struct st_processor *p, struct st_error *err)
{
    const struct st_function_config *f = &p->config->function;
    size_t pool = 0;

    p->triggers = calloc(f->trigger_count + 1, sizeof(struct st_trigger *));
    ST_ASSERT(p->triggers != NULL);
    for (size_t i = 0; i < f->trigger_count; i++) {
        const struct st_trigger_config *c = &f->triggers[i];
        struct st_trigger *t = calloc(1, c->kind->obj_size);
        int code;
        ST_ASSERT(t != NULL);
        t->magic = ST_TRIGGER_MAGIC;
        t->kind = c->kind;
        t->config = c;
        t->attributes = c->attributes;
        t->name = c->name;
        t->processor = p;
        t->pool = owns_pool(p, i) ? p->pools[pool++] : find_pool(p, c);
        t->loops = calloc(p->loop_count, sizeof *t->loops);
        ST_ASSERT(t->loops != NULL);
        for (unsigned k = 0; k < p->loop_count; k++)
            t->loops[k] = (struct st_trigger_loop){.trigger = t, .loop = &p->loops[k]};
        register_trigger(t);
        p->triggers[p->trigger_count++] = t;
        if (c->kind->init != NULL && (code = c->kind->init(t, err)) != ST_OK)
            return code;
    }
    return ST_OK;
}

/* Handlers that run in this process have its environment; worker processes get these from it. The
 * names are Nuclio's. */
static void set_environment(const struct st_function_config *f)
{
    char version[32];

    snprintf(version, sizeof version, "%lld", (long long)f->version);
    setenv("NUCLIO_FUNCTION_NAME", f->name, 1);
    setenv("NUCLIO_FUNCTION_DESCRIPTION", f->description != NULL ? f->description : "", 1);
    setenv("NUCLIO_FUNCTION_VERSION", version, 1);
    setenv("NUCLIO_FUNCTION_HANDLER", f->handler, 1);
    setenv("NUCLIO_HANDLER", f->handler, 1);
    for (size_t i = 0; i < f->env_count; i++)
        if (f->env[i].value != NULL)
            setenv(f->env[i].name, f->env[i].value, 1);
}

static int make_runtime(struct st_processor *p, struct st_error *err)
{
    const struct st_function_config *f = &p->config->function;

    set_environment(f);
    p->runtime = calloc(1, f->runtime->obj_size);
    ST_ASSERT(p->runtime != NULL);
    p->runtime->magic = ST_RUNTIME_MAGIC;
    p->runtime->kind = f->runtime;
    p->runtime->processor = p;
    p->runtime->config = f;
    p->runtime->code_dir = p->config->code_dir;
    p->runtime->attributes = f->runtime_attributes;
    return f->runtime->load(p->runtime, err);
}

int st_processor_plan_slots(struct st_slots *out, const struct st_config *config,
                            struct st_error *handler, struct st_error *err)
{
    struct st_processor *p = calloc(1, sizeof *p);
    bool is_inline = false;
    int code;

    ST_ASSERT(p != NULL);
    *handler = (struct st_error){.code = ST_OK};
    p->config = config;
    p->deferred = st_deferred_new();
    code = st_topology_read(&p->topology, "", err);
    if (code == ST_OK) {
        p->loop_count = loops_wanted(p);
        if (make_runtime(p, handler) == ST_OK) {
            is_inline = p->runtime->kind->is_inline(p->runtime);
            if (p->runtime->kind->unload != NULL)
                p->runtime->kind->unload(p->runtime);
        }
        code = plan_slots(p, is_inline, out, err);
    }
    free(p->runtime);
    st_deferred_free(p->deferred);
    free(p);
    return code;
}

static double body_bytes(void *arg)
{
    struct st_processor *p = arg;

    return (double)atomic_load_explicit(&p->bodies.used, memory_order_relaxed);
}

static double logs_dropped(void *arg)
{
    (void)arg;
    return (double)st_log_dropped();
}

static void register_own(struct st_processor *p)
{
    struct st_labels labels;

    st_process_register();
    st_labels_own(&labels, p, NULL);
    st_metric_register_fn(ST_METRIC_BODY_BYTES, labels.items, body_bytes, p);
    st_metric_register_fn(ST_METRIC_LOGS_DROPPED, labels.items, logs_dropped, NULL);
    st_labels_add(&labels, "version", STATOR_VERSION);
    st_labels_add(&labels, "commit", STATOR_COMMIT);
    st_metric_set(p->main_loop.metrics, st_metric_register(ST_METRIC_BUILD_INFO, labels.items), 1);
}

int st_processor_build(struct st_processor *p, struct st_error *err)
{
    const struct st_own_config *own = &p->config->function.own;
    int code = open_log(p->config, err);

    if (code != ST_OK)
        return code;
    p->has_log = true;
    raise_descriptor_limit();
    name_instance(p);
    if ((code = st_topology_read(&p->topology, "", err)) != ST_OK)
        return code;
    p->bodies.limit =
        own->body_memory != 0 ? own->body_memory : p->topology.memory_limit / BODY_MEMORY_SHARE;
    p->deferred = st_deferred_new();
    if ((code = open_loops(p, err)) != ST_OK ||
        (code = st_processor_watch_signals(p, err)) != ST_OK)
        return code;
    register_own(p);
    if ((code = st_outputs_make(p, err)) != ST_OK || (code = make_runtime(p, err)) != ST_OK ||
        (code = make_pools(p, err)) != ST_OK || (code = make_triggers(p, err)) != ST_OK)
        return code;
    if ((code = st_admin_open(&p->admin, p, err)) != ST_OK ||
        (code = st_metric_push_open(&p->push, p, err)) != ST_OK ||
        (code = st_watch_open(&p->watch, p, err)) != ST_OK)
        return code;
    for (unsigned i = 0; i < p->loop_count; i++) {
        if ((code = st_loop_start(&p->loops[i], err)) != ST_OK)
            return code;
        p->loops_started = i + 1;
    }
    return ST_OK;
}

/* Dismantling */

/* Threads of handlers that did not come back may use anything: then only the exit is safe. */
static bool has_strays(struct st_processor *p)
{
    for (unsigned i = 0; i < p->pool_count; i++)
        if (p->pools[i]->stuck > 0 || !st_pool_is_stopped(p->pools[i]))
            return p->loops_started > 0;
    return false;
}

void st_processor_give_up(struct st_processor *p)
{
    if (p->exit_code == 0)
        ST_LOG(ST_LOG_WARN, "processor", "A handler did not return; the process ends without it");
    st_log_abandon();
    _exit(p->exit_code);
}

static void free_triggers(struct st_processor *p)
{
    for (unsigned i = 0; i < p->trigger_count; i++) {
        if (p->triggers[i]->kind->destroy != NULL)
            p->triggers[i]->kind->destroy(p->triggers[i]);
        free(p->triggers[i]->loops);
        free(p->triggers[i]);
    }
    free(p->triggers);
}

static void close_loops(struct st_processor *p)
{
    for (unsigned i = 0; i < p->loop_count; i++) {
        st_net_close(&p->loops[i]);
        st_loop_close(&p->loops[i]);
    }
    free(p->loops);
    free(p->tasks);
    free(p->drains);
    if (p->signal_fd >= 0) {
        event_del(&p->signal_event);
        close(p->signal_fd);
    }
    if (p->main_loop.base != NULL) {
        st_watch_close(p->watch);
        st_metric_push_close(p->push);
        st_admin_close(p->admin);
        st_loop_timer_cancel(&p->main_loop, &p->drain_timer);
        st_net_close(&p->main_loop);
        st_loop_close(&p->main_loop);
    }
}

void st_processor_dismantle(struct st_processor *p)
{
    for (unsigned i = 0; i < p->loops_started; i++)
        st_loop_stop(&p->loops[i]);
    for (unsigned i = 0; i < p->loops_started; i++)
        if (!st_loop_join_within(&p->loops[i], JOIN_NS))
            st_processor_give_up(p);
    if (has_strays(p))
        st_processor_give_up(p);
    st_outputs_free(p); /* some of their options are triggers' */
    free_triggers(p);
    if (p->runtime != NULL && p->runtime->kind->unload != NULL)
        p->runtime->kind->unload(p->runtime);
    for (unsigned i = 0; i < p->pool_count; i++)
        st_pool_free(p->pools[i]);
    free(p->pools);
    free(p->runtime);
    close_loops(p);
    st_deferred_free(p->deferred);
    st_slots_free(&p->slots);
    if (p->has_log)
        st_log_close();
    st_metrics_reset();
    pthread_mutex_destroy(&p->start_lock);
    free(p);
}
