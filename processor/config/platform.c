/* platform.yaml: of Nuclio's keys, those that a processor reads. */
#include <string.h>

#include "processor/config/function_table.h"
#include "processor/config/name_template.h"
#include "processor/config/reader.h"
#include "processor/config/schema.h"
#include "processor/core/log.h"
#include "processor/net/fetch.h"
#include "processor/net/listener.h"

struct raw_log_sink {
    const char *key; /* of the map */
    const char *kind;
    int encoding, time, group; /* enums, as their names below */
    const char *time_name, *group_name;
};

struct raw_metric_sink {
    const char *key;
    const char *kind, *url;
    bool enabled;
    const char *instance, *job;
    uint64_t interval_ns;
};

struct raw_platform {
    struct st_platform_config p;
    const char *prefix; /* of paths in messages */
    struct raw_log_sink *log_sinks;
    size_t log_sink_count;
    struct st_raw_sink *log_system;
    size_t log_system_count;
    struct st_raw_sink *log_functions;
    size_t log_function_count;
    struct raw_metric_sink *metric_sinks;
    size_t metric_sink_count;
    struct st_string_list metric_functions;
};

#define CONTROLLER(key)                   \
    {                                     \
        .name = (key), .type = ST_OPT_ANY \
    }
#define UNSUPPORTED(key)                                               \
    {                                                                  \
        .name = (key), .type = ST_OPT_ANY, .flags = ST_OPT_UNSUPPORTED \
    }
#define END          \
    {                \
        .name = NULL \
    }
#define RAW(member) offsetof(struct raw_platform, member)

static const struct st_option web_admin_table[] = {
    {.name = "enabled",
     .type = ST_OPT_BOOL,
     .offset = RAW(p.web_admin.enabled),
     .value = "true",
     .help = "Whether the administration listener is on."},
    {.name = "listenAddress",
     .type = ST_OPT_STRING,
     .offset = RAW(p.web_admin.listen_address),
     .value = "127.0.0.1:8081",
     .flags = ST_OPT_EXPAND,
     .help = "Its address; it has no password.",
     .example = "127.0.0.1:8081"},
    END};

static const struct st_option health_table[] = {{.name = "enabled",
                                                 .type = ST_OPT_BOOL,
                                                 .offset = RAW(p.health.enabled),
                                                 .value = "true",
                                                 .help = "Whether /live and /ready are served."},
                                                {.name = "listenAddress",
                                                 .type = ST_OPT_STRING,
                                                 .offset = RAW(p.health.listen_address),
                                                 .value = ":8082",
                                                 .flags = ST_OPT_EXPAND,
                                                 .help = "Where they are served.",
                                                 .example = ":8082"},
                                                END};

/* ---- logger ---- */

static const char *const encoding_names[] = {"console", "json", NULL}; /* enum st_log_encoding */

static const char *const time_names[] = {"epoch-millis", "iso8601", NULL}; /* enum st_log_time */
static const char *const group_names[] = {"structured", "flattened", NULL};

enum { LOG_KEY_MAX = 64 }; /* bytes of a key that is configured */

#define SINK(member) offsetof(struct raw_log_sink, member)

static const struct st_option log_attribute_table[] = {
    {.name = "encoding",
     .type = ST_OPT_ENUM,
     .offset = SINK(encoding),
     .value = "console",
     .values = encoding_names,
     .help = "How a line of the log looks.",
     .example = "json"},
    {.name = "timeFieldName",
     .type = ST_OPT_STRING,
     .offset = SINK(time_name),
     .value = "time",
     .help = "With json, the key of the time.",
     .example = "time"},
    {.name = "timeFieldEncoding",
     .type = ST_OPT_ENUM,
     .offset = SINK(time),
     .value = "epoch-millis",
     .values = time_names,
     .help = "With json, the time as a number of milliseconds or as text.",
     .example = "iso8601"},
    {.name = "varGroupName",
     .type = ST_OPT_STRING,
     .offset = SINK(group_name),
     .value = "",
     .help = "With json, the key that holds all variables; empty: they are keys themselves.",
     .example = "more"},
    {.name = "varGroupMode",
     .type = ST_OPT_ENUM,
     .offset = SINK(group),
     .value = "structured",
     .values = group_names,
     .help = "With varGroupName, an object or one text.",
     .example = "flattened"},
    END};

static const struct st_option log_sink_table[] = {{.name = "kind",
                                                   .type = ST_OPT_STRING,
                                                   .offset = offsetof(struct raw_log_sink, kind),
                                                   .value = "",
                                                   .flags = ST_OPT_REQUIRED,
                                                   .help = "Where the log goes: stdout.",
                                                   .example = "stdout"},
                                                  {.name = "attributes",
                                                   .type = ST_OPT_OBJECT,
                                                   .table = log_attribute_table,
                                                   .help = "How it is written.",
                                                   .example = "{encoding: json}"},
                                                  CONTROLLER("url"),
                                                  END};

static const struct st_option binding_table[] = {{.name = "level",
                                                  .type = ST_OPT_ENUM,
                                                  .offset = offsetof(struct st_raw_sink, level),
                                                  .value = "debug",
                                                  .values = st_log_level_names,
                                                  .help = "The least level that is written.",
                                                  .example = "info"},
                                                 {.name = "sink",
                                                  .type = ST_OPT_STRING,
                                                  .offset = offsetof(struct st_raw_sink, sink),
                                                  .value = "",
                                                  .help = "Name of one of logger.sinks.",
                                                  .example = "stdout"},
                                                 END};

static const struct st_option logger_table[] = {
    {.name = "sinks",
     .type = ST_OPT_MAP,
     .offset = RAW(log_sinks),
     .table = log_sink_table,
     .item_size = sizeof(struct raw_log_sink),
     .help = "Sinks by name.",
     .example = "{stdout: {kind: stdout}}"},
    {.name = "system",
     .type = ST_OPT_LIST,
     .offset = RAW(log_system),
     .table = binding_table,
     .item_size = sizeof(struct st_raw_sink),
     .help = "Sinks of the processor's own log.",
     .example = "[{level: info, sink: stdout}]"},
    {.name = "functions",
     .type = ST_OPT_LIST,
     .offset = RAW(log_functions),
     .table = binding_table,
     .item_size = sizeof(struct st_raw_sink),
     .help = "Sinks of the function's log; without it system counts, and the other way round.",
     .example = "[{level: info, sink: stdout}]"},
    END};

/* ---- metrics ---- */

#define METRIC(member) offsetof(struct raw_metric_sink, member)
static const struct st_option metric_attribute_table[] = {
    {.name = "instanceName",
     .type = ST_OPT_STRING,
     .offset = METRIC(instance),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "The label instance; {{ .Name }} and {{ .Namespace }} are the function's. By default "
             "$NUCLIO_FUNCTION_INSTANCE, or \"{{ .Namespace }}-{{ .Name }}\".",
     .example = "{{ .Namespace }}-{{ .Name }}"},
    {.name = "jobName",
     .type = ST_OPT_STRING,
     .offset = METRIC(job),
     .value = "{{ .Name }}",
     .flags = ST_OPT_EXPAND,
     .help = "With prometheusPush, the job that the gateway files the metrics under.",
     .example = "{{ .Name }}"},
    {.name = "interval",
     .type = ST_OPT_DURATION,
     .offset = METRIC(interval_ns),
     .value = "10s",
     .min = 100 * ST_MSEC,
     .max = 86400.0 * ST_SEC,
     .help = "With prometheusPush, the time between two pushes.",
     .example = "10s"},
    CONTROLLER("instrumentationKey"),
    CONTROLLER("maxBatchSize"),
    CONTROLLER("maxBatchInterval"),
    END};

static const struct st_option metric_sink_table[] = {
    {.name = "kind",
     .type = ST_OPT_STRING,
     .offset = METRIC(kind),
     .value = "",
     .flags = ST_OPT_REQUIRED,
     .help = "How metrics leave: prometheusPull or prometheusPush.",
     .example = "prometheusPull"},
    {.name = "url",
     .type = ST_OPT_STRING,
     .offset = METRIC(url),
     .value = ":8090",
     .flags = ST_OPT_EXPAND,
     .help = "With prometheusPull where /metrics is served; with prometheusPush the gateway, for "
             "example http://gateway:9091.",
     .example = ":8090"},
    {.name = "enabled",
     .type = ST_OPT_BOOL,
     .offset = METRIC(enabled),
     .value = "true",
     .help = "Whether the sink is on."},
    {.name = "attributes",
     .type = ST_OPT_OBJECT,
     .table = metric_attribute_table,
     .help = "Names and times.",
     .example = "{interval: 10s}"},
    END};
#undef METRIC

static const struct st_option metrics_table[] = {
    {.name = "sinks",
     .type = ST_OPT_MAP,
     .offset = RAW(metric_sinks),
     .table = metric_sink_table,
     .item_size = sizeof(struct raw_metric_sink),
     .help = "Sinks by name.",
     .example = "{prometheus: {kind: prometheusPull}}"},
    {.name = "functions",
     .type = ST_OPT_STRING_LIST,
     .offset = RAW(metric_functions),
     .help = "Names of the sinks that a function's metrics go to.",
     .example = "[prometheus]"},
    CONTROLLER("system"),
    END};

static const char *const cron_modes[] = {"processor", "kube", NULL}; /* enum st_cron_mode */

const struct st_option st_platform_table[] = {
    {.name = "webAdmin",
     .type = ST_OPT_OBJECT,
     .table = web_admin_table,
     .help = "The administration listener.",
     .example = "{enabled: false}"},
    {.name = "healthCheck",
     .type = ST_OPT_OBJECT,
     .table = health_table,
     .help = "The listener for probes.",
     .example = "{listenAddress: \":8082\"}"},
    {.name = "logger",
     .type = ST_OPT_OBJECT,
     .table = logger_table,
     .help = "The log.",
     .example = "{system: [{level: info, sink: stdout}]}"},
    {.name = "metrics",
     .type = ST_OPT_OBJECT,
     .table = metrics_table,
     .help = "The metrics.",
     .example = "{functions: [prometheus]}"},
    {.name = "disableDefaultHTTPTrigger",
     .type = ST_OPT_BOOL,
     .offset = RAW(p.disable_default_http),
     .help = "Do not add an http trigger where none is configured."},
    CONTROLLER("kind"),
    {.name = "cronTriggerCreationMode",
     .type = ST_OPT_ENUM,
     .offset = RAW(p.cron_mode),
     .value = "processor",
     .values = cron_modes,
     .help =
         "Who fires cron triggers; kube: CronJobs of the cluster, and the processor skips them.",
     .example = "processor"},
    CONTROLLER("scaleToZero"),
    CONTROLLER("autoScale"),
    CONTROLLER("functionAugmentedConfigs"),
    CONTROLLER("functionReadinessTimeout"),
    CONTROLLER("functionInvocationTimeout"),
    CONTROLLER("supportedAutoScaleMetrics"),
    CONTROLLER("autoScaleMetricsMode"),
    CONTROLLER("iguazioSessionCookie"),
    CONTROLLER("containerBuilderConfiguration"),
    CONTROLLER("ingressConfig"),
    CONTROLLER("kube"),
    CONTROLLER("local"),
    CONTROLLER("imageRegistryOverrides"),
    CONTROLLER("runtime"),
    CONTROLLER("projectsLeader"),
    CONTROLLER("managedNamespaces"),
    CONTROLLER("opa"),
    CONTROLLER("iguazioSessionVerificationEndpoint"),
    CONTROLLER("streamMonitoring"),
    CONTROLLER("sensitiveFields"),
    CONTROLLER("registryProvider"),
    CONTROLLER("containerBuilder"),
    CONTROLLER("stuckDeploymentTimeout"),
    CONTROLLER("authConfig"),
    END};

/* ---- rules ---- */

static void check_address(struct st_reader *r, const struct raw_platform *raw,
                          const char *const *field, const char *path)
{
    struct st_error err;

    if (st_listen_check(*field, &err) != ST_OK)
        st_reader_error(r, field, (struct st_node){.line = 1, .column = 1}, "%s%s: %s", raw->prefix,
                        path, err.text);
}

static const struct raw_log_sink *log_sink_named(const struct raw_platform *raw, const char *name)
{
    for (size_t i = 0; i < raw->log_sink_count; i++) {
        if (strcmp(raw->log_sinks[i].key, name) == 0)
            return &raw->log_sinks[i];
    }
    return NULL;
}

static struct st_log_style style_of(const struct raw_log_sink *sink)
{
    return (struct st_log_style){.encoding = (enum st_log_encoding)sink->encoding,
                                 .time = (enum st_log_time)sink->time,
                                 .time_name = sink->time_name,
                                 .group_name = sink->group_name,
                                 .flattened = sink->group == 1};
}

/* Takes level and style of the first binding to a sink that writes to stdout. */
static bool take_binding(struct st_reader *r, const struct raw_platform *raw, const char *path,
                         const struct st_raw_sink *list, size_t count, struct st_log_sink *out)
{
    bool taken = false;

    for (size_t i = 0; i < count; i++) {
        const struct raw_log_sink *sink = log_sink_named(raw, list[i].sink);

        if (sink == NULL && strcmp(list[i].sink, "stdout") != 0) {
            st_reader_error(r, &list[i].sink, (struct st_node){.line = 1, .column = 1},
                            "%s%s[%zu].sink: found \"%s\", expected a name of logger.sinks",
                            raw->prefix, path, i, list[i].sink);
            continue;
        }
        if (taken || (sink != NULL && strcmp(sink->kind, "stdout") != 0))
            continue;
        out->level = (enum st_log_level)st_log_level_of(list[i].level);
        out->style =
            sink != NULL ? style_of(sink) : (struct st_log_style){.encoding = ST_LOG_CONSOLE};
        taken = true;
    }
    return taken;
}

static void check_log_sink(struct st_reader *r, const struct raw_platform *raw,
                           const struct raw_log_sink *sink)
{
    if (st_reader_was_set(r, &sink->kind, NULL) && strcmp(sink->kind, "stdout") != 0)
        st_reader_warn(r, &sink->kind, (struct st_node){0},
                       "%slogger.sinks.%s.kind: \"%s\" is not supported by this build yet; "
                       "the log goes to stdout",
                       raw->prefix, sink->key, sink->kind);
    if (strlen(sink->time_name) > LOG_KEY_MAX)
        st_reader_error(
            r, &sink->time_name, (struct st_node){0},
            "%slogger.sinks.%s.attributes.timeFieldName: expected at most %d bytes, for "
            "example \"time\"",
            raw->prefix, sink->key, LOG_KEY_MAX);
    if (strlen(sink->group_name) > LOG_KEY_MAX)
        st_reader_error(r, &sink->group_name, (struct st_node){0},
                        "%slogger.sinks.%s.attributes.varGroupName: expected at most %d bytes, for "
                        "example \"more\"",
                        raw->prefix, sink->key, LOG_KEY_MAX);
}

/* One list without the other stands for both. */
static void finish_logger(struct st_reader *r, struct raw_platform *raw)
{
    bool system, functions;

    raw->p.log_sinks = st_config_alloc(r->mem, raw->log_sink_count * sizeof(raw->p.log_sinks[0]));
    raw->p.log_sink_count = raw->log_sink_count;
    for (size_t i = 0; i < raw->log_sink_count; i++) {
        const struct raw_log_sink *sink = &raw->log_sinks[i];

        check_log_sink(r, raw, sink);
        raw->p.log_sinks[i] =
            (struct st_named_log_sink){.name = sink->key,
                                       .supported = strcmp(sink->kind, "stdout") == 0,
                                       .style = style_of(sink)};
    }
    system = take_binding(r, raw, "logger.system", raw->log_system, raw->log_system_count,
                          &raw->p.log_system);
    functions = take_binding(r, raw, "logger.functions", raw->log_functions,
                             raw->log_function_count, &raw->p.log_functions);
    if (!system)
        raw->p.log_system = raw->p.log_functions;
    else if (!functions)
        raw->p.log_functions = raw->p.log_system;
}

static struct raw_metric_sink *metric_sink_named(const struct raw_platform *raw, const char *name)
{
    for (size_t i = 0; i < raw->metric_sink_count; i++) {
        if (strcmp(raw->metric_sinks[i].key, name) == 0)
            return &raw->metric_sinks[i];
    }
    return NULL;
}

static void check_name(struct st_reader *r, const struct raw_platform *raw,
                       const struct raw_metric_sink *sink, const char *const *field,
                       const char *attribute)
{
    if (st_name_template_ok(*field))
        return;
    st_reader_error(r, field, (struct st_node){.line = 1, .column = 1},
                    "%smetrics.sinks.%s.attributes.%s: found \"%s\", expected text with no "
                    "templates but {{ .Name }} and {{ .Namespace }}, for example "
                    "\"{{ .Namespace }}-{{ .Name }}\"",
                    raw->prefix, sink->key, attribute, *field);
}

static void use_pull_sink(struct st_reader *r, struct raw_platform *raw,
                          const struct raw_metric_sink *sink)
{
    raw->p.metrics.enabled = sink->enabled;
    raw->p.metrics.listen_address = sink->url;
    check_address(r, raw, &sink->url, st_config_printf(r->mem, "metrics.sinks.%s.url", sink->key));
}

static void use_push_sink(struct st_reader *r, struct raw_platform *raw,
                          const struct raw_metric_sink *sink)
{
    struct st_platform_config *p = &raw->p;
    struct st_metric_push_config *more;
    struct st_node place = {.line = 1, .column = 1};
    struct st_error err;

    st_reader_was_set(r, &sink->kind, &place);
    if (!st_reader_was_set(r, &sink->url, NULL)) {
        st_reader_error(r, &sink->url, place,
                        "%smetrics.sinks.%s.url: missing, expected the push gateway's, for example "
                        "\"http://gateway:9091\"",
                        raw->prefix, sink->key);
        return;
    }
    if (st_fetch_check_url(sink->url, &err) != ST_OK || strpbrk(sink->url, "?#") != NULL)
        st_reader_error(r, &sink->url, place,
                        "%smetrics.sinks.%s.url: found \"%s\", expected a URL of http or https "
                        "without a query, for example \"http://gateway:9091\"",
                        raw->prefix, sink->key, sink->url);
    if (!sink->enabled)
        return;
    more = st_config_alloc(r->mem, (p->push_count + 1) * sizeof(more[0]));
    if (p->push_count > 0)
        memcpy(more, p->pushes, p->push_count * sizeof(more[0]));
    more[p->push_count++] = (struct st_metric_push_config){
        .name = sink->key, .url = sink->url, .job = sink->job, .interval_ns = sink->interval_ns};
    p->pushes = more;
}

static void use_metric_sink(struct st_reader *r, struct raw_platform *raw,
                            const struct raw_metric_sink *sink)
{
    bool push = strcmp(sink->kind, "prometheusPush") == 0;

    if (!push && strcmp(sink->kind, "prometheusPull") != 0) {
        st_reader_warn(r, &sink->kind, (struct st_node){0},
                       "%smetrics.sinks.%s.kind: \"%s\" is not supported by this build yet, the "
                       "sink is ignored",
                       raw->prefix, sink->key, sink->kind);
        return;
    }
    check_name(r, raw, sink, &sink->instance, "instanceName");
    check_name(r, raw, sink, &sink->job, "jobName");
    if (sink->enabled && raw->p.metric_instance[0] == '\0')
        raw->p.metric_instance = sink->instance;
    if (push)
        use_push_sink(r, raw, sink);
    else
        use_pull_sink(r, raw, sink);
}

/* Without `functions` every sink counts; Nuclio would use none, ours are on by default. */
static void finish_metrics(struct st_reader *r, struct raw_platform *raw)
{
    if (!st_reader_was_set(r, &raw->metric_functions, NULL)) {
        for (size_t i = 0; i < raw->metric_sink_count; i++)
            use_metric_sink(r, raw, &raw->metric_sinks[i]);
        return;
    }
    raw->p.metrics.enabled = false;
    for (size_t i = 0; i < raw->metric_functions.count; i++) {
        const char *name = raw->metric_functions.items[i];
        const struct raw_metric_sink *sink = name != NULL ? metric_sink_named(raw, name) : NULL;

        if (sink != NULL)
            use_metric_sink(r, raw, sink);
        else if (name != NULL)
            st_reader_error(r, &raw->metric_functions.items[i], (struct st_node){0},
                            "%smetrics.functions[%zu]: found \"%s\", expected a name of "
                            "metrics.sinks",
                            raw->prefix, i, name);
    }
}

static void set_defaults(struct raw_platform *raw)
{
    raw->p.log_system = raw->p.log_functions = (struct st_log_sink){.level = ST_LOG_DEBUG};
    raw->p.metrics.enabled = true;
    raw->p.metrics.listen_address = ":8090";
    raw->p.metric_instance = "";
}

void st_platform_read_node(struct st_platform_config *p, struct st_reader *r, struct st_node node,
                           const struct st_path *path)
{
    struct raw_platform raw = {.prefix = ""};

    if (path != NULL)
        raw.prefix = st_config_printf(r->mem, "%.*s.", (int)path->name.len, path->name.ptr);
    set_defaults(&raw);
    st_reader_fill(r, st_platform_table, &raw, node, path);
    check_address(r, &raw, &raw.p.web_admin.listen_address, "webAdmin.listenAddress");
    check_address(r, &raw, &raw.p.health.listen_address, "healthCheck.listenAddress");
    finish_logger(r, &raw);
    finish_metrics(r, &raw);
    raw.p.web_admin.configured = raw.p.health.configured = raw.p.metrics.configured = true;
    *p = raw.p;
}

int st_platform_read(struct st_platform_config *p, struct st_document *doc)
{
    struct st_node root = st_document_root(doc);
    unsigned errors = doc->diag->errors;
    struct st_reader r;

    st_reader_init(&r, doc);
    if (st_node_kind(root) == ST_NODE_MAP)
        st_platform_read_node(p, &r, root, NULL);
    else
        st_diag_error(doc->diag, (struct st_place){doc->file, root.line, root.column},
                      "found %s, expected an object, for example {webAdmin: {enabled: true}}",
                      st_node_kind(root) == ST_NODE_LIST ? "a list" : "text");
    return doc->diag->errors == errors ? 0 : ST_ERR_INVALID;
}

void st_platform_defaults(struct st_platform_config *p, struct st_config_memory *mem)
{
    struct raw_platform raw = {.log_sinks = NULL};

    set_defaults(&raw);
    st_reader_defaults(mem, st_platform_table, &raw);
    *p = raw.p;
}
