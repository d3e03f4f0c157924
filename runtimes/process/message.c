/* What a worker process says on its control socket, and what it is told there. */
#include <jansson.h>
#include <stdio.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/event_log.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/slot.h"
#include "processor/trigger.h"
#include "runtimes/process/metric.h"
#include "runtimes/process/worker.h"

enum { MAX_VARIABLES = 64, MAX_JSON = 4096, MAX_TOPIC = 1024 };

/* ---- to the worker ---- */

static void fill_triggers(Stator__Worker__V1__Configure *c, const struct st_processor *p,
                          Stator__Worker__V1__Trigger *items, Stator__Worker__V1__Trigger **list)
{
    for (unsigned i = 0; i < p->trigger_count; i++) {
        stator__worker__v1__trigger__init(&items[i]);
        items[i].kind = (char *)p->triggers[i]->kind->name;
        items[i].name = (char *)p->triggers[i]->name;
        list[i] = &items[i];
    }
    c->n_triggers = p->trigger_count;
    c->triggers = list;
}

static bool in_cluster(void)
{
    return getenv("KUBERNETES_SERVICE_HOST") != NULL && getenv("KUBERNETES_SERVICE_PORT") != NULL;
}

/* protobuf-c's structs want char *, and do not write to them. */
void st_process_describe(const struct st_process_runtime *rt, Stator__Worker__V1__Configure *c)
{
    const struct st_function_config *f = rt->base.config;

    c->function = (char *)f->name;
    c->namespace_ = (char *)(f->namespace_ != NULL ? f->namespace_ : "");
    c->version = f->version;
    c->description = (char *)(f->description != NULL ? f->description : "");
    c->handler = (char *)f->handler;
    c->code_dir = (char *)rt->base.code_dir;
    c->platform = in_cluster() ? (char *)"kube" : (char *)"local";
    c->attributes = rt->attributes != NULL ? rt->attributes : (char *)"";
    c->log_level = atomic_load_explicit(&st_log_function_threshold, memory_order_relaxed);
}

void st_process_configure(struct st_process_worker *pw, bool first)
{
    const struct st_runtime *rt = &pw->rt->base;
    const struct st_function_config *f = rt->config;
    unsigned n = rt->processor->trigger_count;
    Stator__Worker__V1__Trigger *items = st_calloc(n, sizeof items[0]);
    Stator__Worker__V1__Trigger **list = st_calloc(n, sizeof(void *));
    char **outputs = st_calloc(f->output_count, sizeof(char *));
    Stator__Worker__V1__Configure c = STATOR__WORKER__V1__CONFIGURE__INIT;
    Stator__Worker__V1__Trigger pool = STATOR__WORKER__V1__TRIGGER__INIT;
    Stator__Worker__V1__ToWorker msg = STATOR__WORKER__V1__TO_WORKER__INIT;

    st_process_describe(pw->rt, &c);
    fill_triggers(&c, rt->processor, items, list);
    for (size_t i = 0; i < f->output_count; i++)
        outputs[i] = (char *)f->outputs[i].name;
    pool.kind = (char *)pw->w->pool->trigger_kind;
    pool.name = (char *)pw->w->pool->name;
    c.pool = &pool;
    c.worker = pw->w->index;
    c.workers = pw->w->pool->worker_count;
    c.slot = pw->w->slot != NULL ? (char *)pw->w->slot->name : (char *)"";
    c.event_timeout_ns = pw->w->pool->event_timeout_ns;
    c.max_concurrency = pw->max_concurrency;
    c.batch = pw->w->pool->batch_size != 0;
    c.first = first;
    c.n_outputs = f->output_count;
    c.outputs = outputs;
    msg.kind_case = STATOR__WORKER__V1__TO_WORKER__KIND_CONFIGURE;
    msg.configure = &c;
    if (st_control_send(&pw->control, &msg) != ST_OK)
        st_process_kill(pw, ST_LOST_PROTOCOL, "its configuration could not be sent");
    free(outputs);
    free(list);
    free(items);
}

/* ---- from the worker ---- */

/* "python 3.11.2" has version 3 and 3.11, and not 3.1. */
static bool has_version(const char *language, const char *version)
{
    const char *at = strchr(language, ' ');
    size_t n = strlen(version);

    return at == NULL ||
           (strncmp(at + 1, version, n) == 0 && (at[1 + n] == '\0' || at[1 + n] == '.'));
}

/* What spec.runtime has behind the colon chooses nothing. */
static void check_version(const struct st_process_runtime *rt, const char *language)
{
    const char *asked = rt->base.config->runtime_version;
    char found[64];

    if (asked == NULL || rt->version_remedy == NULL || has_version(language, asked))
        return;
    snprintf(found, sizeof found, "%s", language);
    ST_LOG(ST_LOG_WARN, "processor.worker",
           "spec.runtime names another version than the one that the function runs on",
           ST_KV_STR("named", asked), ST_KV_STR("runs_on", found),
           ST_KV_STR("remedy", rt->version_remedy));
}

static void on_hello(struct st_process_worker *pw, const Stator__Worker__V1__Hello *hello)
{
    bool first = !atomic_exchange_explicit(&pw->rt->met, true, memory_order_relaxed);
    char text[128];

    if (hello->protocol != ST_WIRE_PROTOCOL) {
        snprintf(text, sizeof text, "it speaks version %u of the worker wire, expected %d",
                 hello->protocol, ST_WIRE_PROTOCOL);
        st_process_kill(pw, ST_LOST_PROTOCOL, text);
        return;
    }
    pw->said_hello = true;
    pw->can_take_back = hello->shared_memory;
    st_channel_start(pw->channel, hello->shared_memory);
    if (first)
        check_version(pw->rt, hello->language);
    st_process_configure(pw, first);
}

/* A variable of a record; nested values are written by jansson into buf. */
static bool to_variable(struct st_log_var *out, const char *key, json_t *value, char *buf, size_t n)
{
    size_t len;

    switch (json_typeof(value)) {
    case JSON_STRING:
        *out = ST_KV_SLICE(
            key, ((struct st_slice){json_string_value(value), json_string_length(value)}));
        return true;
    case JSON_INTEGER:
        *out = ST_KV_INT(key, json_integer_value(value));
        return true;
    case JSON_REAL:
        *out = ST_KV_DOUBLE(key, json_real_value(value));
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = ST_KV_BOOL(key, json_is_true(value));
        return true;
    default:
        len = json_dumpb(value, buf, n, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        *out = ST_KV_JSON(key, ((struct st_slice){buf, len}));
        return len <= n;
    }
}

static void write_record(struct st_process_worker *pw, enum st_log_level level, const char *text,
                         const struct st_log_var *vars, struct st_event *ev)
{
    if (st_log_wants_function(level))
        st_log_write_function(level, pw->w->pool->name, text, vars);
    if (ev != NULL)
        st_event_log_add(ev, level, text, vars);
}

static void on_log(struct st_process_worker *pw, const Stator__Worker__V1__Log *log)
{
    enum st_log_level level =
        log->level <= ST_LOG_ERROR ? (enum st_log_level)log->level : ST_LOG_ERROR;
    struct st_event *ev = st_flight_event(pw, log->seq);
    struct st_log_var vars[MAX_VARIABLES + 1];
    char buf[MAX_JSON], *at = buf;
    json_t *all, *value;
    const char *key;
    size_t n = 0;

    if (!st_log_wants_function(level) && (ev == NULL || ev->log == NULL))
        return;
    all = json_loads(log->variables, 0, NULL);
    json_object_foreach(all, key, value)
    {
        size_t room = (size_t)(buf + sizeof buf - at);

        if (n == MAX_VARIABLES || !to_variable(&vars[n], key, value, at, room))
            break;
        if (vars[n].type == ST_VAR_JSON)
            at += vars[n].v.slice.len;
        n++;
    }
    vars[n].key = NULL;
    write_record(pw, level, log->message, vars, ev);
    json_decref(all);
}

/* For whichever trigger of the worker's pool has such a place. */
static void on_acknowledge(struct st_process_worker *pw, const Stator__Worker__V1__Acknowledge *a)
{
    struct st_processor *p = pw->rt->base.processor;
    struct st_position at = {.topic = st_slice_of(a->topic), .hi = a->offset};

    if (at.topic.len == 0 || at.topic.len > MAX_TOPIC || a->shard > INT32_MAX) {
        st_process_kill(pw, ST_LOST_PROTOCOL, "it acknowledges what is no place in a stream");
        return;
    }
    if (st_processor_phase(p) == ST_PHASE_STARTING)
        return;         /* triggers are not open: nothing waits */
    if (!pw->in_turn) { /* the results that it wrote before are waiting, and covered */
        pw->in_turn = true;
        st_flight_read(pw);
        pw->in_turn = false;
    }
    at.shard = (int32_t)a->shard;
    for (unsigned i = 0; i < p->trigger_count; i++) {
        struct st_trigger *t = p->triggers[i];

        if (t->pool == pw->w->pool && t->kind->acknowledge != NULL)
            t->kind->acknowledge(t, &at);
    }
}

static void on_metric(struct st_process_worker *pw, const Stator__Worker__V1__Metric *metric)
{
    const char *wrong =
        st_handler_metrics_take(pw->rt->metrics, pw->w->pool->name, pw->w->index, metric);

    if (wrong != NULL)
        st_process_kill(pw, ST_LOST_PROTOCOL, wrong);
}

static void on_failed(struct st_process_worker *pw, const Stator__Worker__V1__Failed *failed)
{
    snprintf(pw->failure, sizeof pw->failure, "%s", failed->text);
}

static void on_message(void *user, const Stator__Worker__V1__FromWorker *msg)
{
    struct st_process_worker *pw = user;

    if (msg->kind_case == STATOR__WORKER__V1__FROM_WORKER__KIND_HELLO && !pw->said_hello) {
        on_hello(pw, msg->hello);
        return;
    }
    if (!pw->said_hello) {
        st_process_kill(pw, ST_LOST_PROTOCOL, "its first message was not Hello");
        return;
    }
    switch (msg->kind_case) {
    case STATOR__WORKER__V1__FROM_WORKER__KIND_READY:
        st_process_ready(pw, msg->ready->credits);
        break;
    case STATOR__WORKER__V1__FROM_WORKER__KIND_FAILED:
        on_failed(pw, msg->failed);
        break;
    case STATOR__WORKER__V1__FROM_WORKER__KIND_LOG:
        on_log(pw, msg->log);
        break;
    case STATOR__WORKER__V1__FROM_WORKER__KIND_METRIC:
        on_metric(pw, msg->metric);
        break;
    case STATOR__WORKER__V1__FROM_WORKER__KIND_ACKNOWLEDGE:
        on_acknowledge(pw, msg->acknowledge);
        break;
    default: /* of a later version */
        break;
    }
}

static void on_broken(void *user, const char *text)
{
    st_process_kill(user, ST_LOST_PROTOCOL, text);
}

static void on_closed(void *user)
{
    st_process_hung_up(user);
}

const struct st_control_handler st_process_control_handler = {
    .message = on_message,
    .broken = on_broken,
    .closed = on_closed,
};

void st_process_line(struct st_process_worker *pw, enum st_log_level level, const char *stream,
                     struct st_slice line)
{
    struct st_flight *f = pw->begun_count == 1 ? TAILQ_FIRST(&pw->begun) : NULL;
    char text[ST_PIPE_LINE_MAX + 1], id[37] = "";
    struct st_log_var vars[] = {
        ST_KV_UINT("worker_id", pw->w->index),
        ST_KV_STR("stream", stream),
        {.key = NULL},
        {.key = NULL},
    };

    snprintf(text, sizeof text, "%.*s", (int)line.len, line.ptr);
    if (f != NULL) {
        st_uuid_text(f->ev->id, id);
        vars[2] = ST_KV_STR("event_id", id);
    }
    write_record(pw, level, text, vars, NULL);
}
