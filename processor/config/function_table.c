/* The tables of function.yaml: Nuclio's fields (names and meanings of its release 1.14) and ours.
 */
#include "processor/config/function_table.h"

#include <math.h>

#include "processor/config/schema.h"
#include "processor/core/log.h"

const char *const st_log_level_names[] = {"debug", "info", "warn", "error", "warning", NULL};

int st_log_level_of(int index)
{
    static const int levels[] = {ST_LOG_DEBUG, ST_LOG_INFO, ST_LOG_WARN, ST_LOG_ERROR, ST_LOG_WARN};

    return levels[index];
}

/* What a controller, a dashboard or a builder reads; the processor takes no notice. */
#define CONTROLLER(key)                   \
    {                                     \
        .name = (key), .type = ST_OPT_ANY \
    }

/* Fields that mean something to a processor, but not to this one yet. */
#define UNSUPPORTED(key)                                               \
    {                                                                  \
        .name = (key), .type = ST_OPT_ANY, .flags = ST_OPT_UNSUPPORTED \
    }

/* The same, of which one value asks for nothing. */
#define UNSUPPORTED_BUT(key, word)                                                      \
    {                                                                                   \
        .name = (key), .type = ST_OPT_ANY, .flags = ST_OPT_UNSUPPORTED, .value = (word) \
    }

#define END          \
    {                \
        .name = NULL \
    }

/* ---- spec.stator ---- */

static const char *const pin_names[] = {"auto", "never", "always", NULL};
static const char *const isolation_names[] = {"", "none", "process", NULL};

#define OWN(member) offsetof(struct st_own_config, member)

static const struct st_option queue_table[] = {
    {.name = "events",
     .type = ST_OPT_INT,
     .offset = OWN(queue.events) - OWN(queue),
     .value = "8192",
     .min = 1,
     .max = 1e9,
     .flags = ST_OPT_EXPAND,
     .help = "Events that may wait for a worker, for each pool of workers.",
     .example = "8192"},
    {.name = "bytes",
     .type = ST_OPT_SIZE,
     .offset = OWN(queue.bytes) - OWN(queue),
     .flags = ST_OPT_EXPAND,
     .help = "Bytes of their bodies, for each pool; 0: no bound of its own."},
    END};

static const struct st_option own_table[] = {
    {.name = "loops",
     .type = ST_OPT_INT,
     .offset = OWN(loops),
     .min = 0,
     .max = 64,
     .flags = ST_OPT_EXPAND,
     .help = "I/O loops; 0: the CPU limit, rounded up.",
     .example = "2"},
    {.name = "pin",
     .type = ST_OPT_ENUM,
     .offset = OWN(pin),
     .values = pin_names,
     .flags = ST_OPT_EXPAND,
     .help = "When workers are bound to CPUs of their own; auto: where there are enough and no "
             "quota is smaller."},
    {.name = "isolation",
     .type = ST_OPT_ENUM,
     .offset = OWN(isolation),
     .values = isolation_names,
     .flags = ST_OPT_EXPAND,
     .help =
         "Whether a handler runs in a process of its own. Native handlers don't, unless this says "
         "process; those of other languages always do."},
    {.name = "queue",
     .type = ST_OPT_OBJECT,
     .offset = OWN(queue),
     .table = queue_table,
     .help = "Bounds of what waits for a worker.",
     .example = "{events: 8192}"},
    {.name = "bodyMemory",
     .type = ST_OPT_SIZE,
     .offset = OWN(body_memory),
     .flags = ST_OPT_EXPAND,
     .help = "Memory of all request bodies together; 0: a quarter of the memory limit.",
     .example = "64Mi"},
    {.name = "drainDelay",
     .type = ST_OPT_DURATION,
     .offset = OWN(drain_delay_ns),
     .max = 3600e9,
     .flags = ST_OPT_EXPAND,
     .help = "How long to go on serving, no longer ready, before listeners close.",
     .example = "5s"},
    {.name = "prefork",
     .type = ST_OPT_BOOL,
     .offset = OWN(prefork),
     .flags = ST_OPT_EXPAND,
     .help = "Workers are forked from a process that has imported the handler once, and share its "
             "memory; for handlers whose import starts no threads. Python.",
     .example = "true"},
    {.name = "maxRequests",
     .type = ST_OPT_INT,
     .offset = OWN(max_requests),
     .min = 0,
     .max = 1e15,
     .flags = ST_OPT_EXPAND,
     .help = "Events after which a worker process is replaced, give or take a tenth; 0: never.",
     .example = "100000"},
    {.name = "workerMemory",
     .type = ST_OPT_SIZE,
     .offset = OWN(worker_memory),
     .flags = ST_OPT_EXPAND,
     .help = "Resident memory above which a worker process is replaced, when its events are done; "
             "0: no limit.",
     .example = "512Mi"},
    {.name = "ringBytes",
     .type = ST_OPT_SIZE,
     .offset = OWN(ring_bytes),
     .value = "1Mi",
     .min = 64 * 1024,
     .max = 1024 * 1024 * 1024,
     .flags = ST_OPT_EXPAND,
     .help = "Size of each of the two rings between the processor and a worker process.",
     .example = "1Mi"},
    {.name = "workerUser",
     .type = ST_OPT_STRING,
     .offset = OWN(worker_user),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "Numeric user, and group, of worker processes; empty: as the processor.",
     .example = "1000:1000"},
    {.name = "workerEnv",
     .type = ST_OPT_STRING_LIST,
     .offset = OWN(worker_env),
     .help =
         "Names of variables of the processor's environment that worker processes get beside the "
         "usual ones and spec.env; a * at the end stands for any rest.",
     .example = "[AWS_*, MODEL_DIR]"},
    {.name = "outputs",
     .type = ST_OPT_NODE,
     .offset = offsetof(struct st_raw_function, outputs) - offsetof(struct st_raw_function, f.own),
     .help = "Where the handler publishes to, by name; each has a kind and the options of it.",
     .example = "{orders: {kind: kafka, brokers: [kafka:9092], topic: orders}}"},
    UNSUPPORTED("stateDir"),
    END};

/* ---- triggers ---- */

#define TRIGGER(member) offsetof(struct st_raw_trigger, member)

static const char *const batch_modes[] = {"disable", "enable", NULL};

#define BATCH(member) TRIGGER(c.batch.member) - TRIGGER(c.batch)

static const struct st_option batch_table[] = {
    {.name = "mode",
     .type = ST_OPT_ENUM,
     .offset = BATCH(mode),
     .value = "disable",
     .values = batch_modes,
     .help = "enable: the handler gets a list of events and returns a list of responses.",
     .example = "enable"},
    {.name = "batchSize",
     .type = ST_OPT_INT,
     .offset = BATCH(size),
     .value = "10",
     .min = 1,
     .max = 4096,
     .help = "Events of a full batch.",
     .example = "10"},
    {.name = "timeout",
     .type = ST_OPT_DURATION,
     .offset = BATCH(timeout_ns),
     .value = "1s",
     .min = 1,
     .max = 3600e9,
     .help = "How long the first event of a batch waits for others.",
     .example = "1s"},
    END};

static const struct st_option trigger_table[] = {
    {.name = "kind",
     .type = ST_OPT_STRING,
     .offset = TRIGGER(kind),
     .value = "",
     .flags = ST_OPT_REQUIRED,
     .help = "Which source of events this is.",
     .example = "http"},
    {.name = "name",
     .type = ST_OPT_STRING,
     .offset = TRIGGER(name),
     .help = "Its name in events and metrics; the key of the map when absent."},
    {.name = "numWorkers",
     .type = ST_OPT_INT,
     .offset = TRIGGER(c.num_workers),
     .min = 0,
     .max = 100000,
     .help = "Workers; 0: one, or one a loop for handlers that never block.",
     .example = "4"},
    {.name = "maxWorkers",
     .type = ST_OPT_INT,
     .offset = TRIGGER(max_workers),
     .min = 0,
     .max = 100000,
     .help = "Older name of numWorkers, which wins.",
     .example = "4"},
    {.name = "workerAvailabilityTimeoutMilliseconds",
     .type = ST_OPT_MILLIS,
     .offset = TRIGGER(c.wait_ns),
     .value = "10000",
     .max = 86400e3,
     .help = "How long an event waits for a worker; 0: not at all; negative: the default.",
     .example = "10000"},
    {.name = "workerAllocatorName",
     .type = ST_OPT_STRING,
     .offset = TRIGGER(c.allocator_name),
     .value = "",
     .help = "Triggers that give the same name share one pool of workers; the first one decides "
             "its size."},
    {.name = "workerTerminationTimeout",
     .type = ST_OPT_DURATION,
     .offset = TRIGGER(c.stop_ns),
     .value = "10s",
     .max = 86400e9,
     .help = "How long running events may take at the end; the largest of all triggers counts.",
     .example = "10s"},
    {.name = "url",
     .type = ST_OPT_STRING,
     .offset = TRIGGER(c.url),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "Where to listen, or the server to connect to.",
     .example = ":8080"},
    {.name = "attributes",
     .type = ST_OPT_NODE,
     .offset = TRIGGER(attributes),
     .help = "What only this kind of trigger has."},
    CONTROLLER("disabled"),
    CONTROLLER("class"),
    CONTROLLER("annotations"),
    CONTROLLER("paths"),
    CONTROLLER("partitions"),
    CONTROLLER("total_tasks"),
    CONTROLLER("max_task_allocation"),
    CONTROLLER("totalTasks"),
    CONTROLLER("maxTaskAllocation"),
    CONTROLLER("numPartitions"),
    CONTROLLER("user"),
    UNSUPPORTED("username"),
    UNSUPPORTED("password"),
    UNSUPPORTED("secret"),
    {.name = "batch",
     .type = ST_OPT_OBJECT,
     .offset = TRIGGER(c.batch),
     .table = batch_table,
     .help = "Several events in one call of the handler.",
     .example = "{mode: enable, batchSize: 10, timeout: 1s}"},
    UNSUPPORTED_BUT("explicitAckMode", "disable"),
    UNSUPPORTED("waitExplicitAckDuringRebalanceTimeout"),
    {.name = "maxConcurrency",
     .type = ST_OPT_INT,
     .offset = TRIGGER(c.max_concurrency),
     .value = "1",
     .min = 1,
     .max = 4096,
     .help =
         "Events that one worker may have in flight; more than one for handlers that are async.",
     .example = "100"},
    UNSUPPORTED("ordering"),
    UNSUPPORTED("lanes"),
    UNSUPPORTED("retry"),
    UNSUPPORTED("deadLetter"),
    UNSUPPORTED("key"),
    END};

/* ---- spec ---- */

static const struct st_option env_table[] = {{.name = "name",
                                              .type = ST_OPT_STRING,
                                              .offset = offsetof(struct st_env_var, name),
                                              .value = "",
                                              .flags = ST_OPT_REQUIRED,
                                              .help = "Name of the variable.",
                                              .example = "LEVEL"},
                                             {.name = "value",
                                              .type = ST_OPT_STRING,
                                              .offset = offsetof(struct st_env_var, value),
                                              .help = "Its value; a number needs quotes. When "
                                                      "absent (valueFrom), that of the "
                                                      "processor's environment."},
                                             CONTROLLER("valueFrom"),
                                             END};

static const struct st_option sink_table[] = {{.name = "level",
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
                                               .help = "Name of a sink of platform.yaml."},
                                              END};

#define RAW(member) offsetof(struct st_raw_function, member)

static const struct st_option spec_table[] = {
    {.name = "handler",
     .type = ST_OPT_STRING,
     .offset = RAW(f.handler),
     .value = "",
     .help = "The handler, in the runtime's words: a shared object, or module:function.",
     .example = "hello.so"},
    {.name = "runtime",
     .type = ST_OPT_STRING,
     .offset = RAW(runtime),
     .value = "",
     .flags = ST_OPT_REQUIRED,
     .help = "How the handler is run; what follows a colon is a version.",
     .example = "native"},
    {.name = "description",
     .type = ST_OPT_STRING,
     .offset = RAW(f.description),
     .value = "",
     .help = "Text for people."},
    {.name = "version",
     .type = ST_OPT_INT,
     .offset = RAW(f.version),
     .value = "-1",
     .help = "Version of the function; -1: the latest."},
    {.name = "env",
     .type = ST_OPT_LIST,
     .offset = RAW(f.env),
     .table = env_table,
     .item_size = sizeof(struct st_env_var),
     .help = "Environment of the workers; of this process, for handlers that run in it.",
     .example = "[{name: LEVEL, value: \"1\"}]"},
    {.name = "eventTimeout",
     .type = ST_OPT_DURATION,
     .offset = RAW(f.event_timeout_ns),
     .min = 1,
     .max = INFINITY,
     .help = "How long a handler may take for one event; empty: no limit.",
     .example = "30s"},
    {.name = "runtimeAttributes",
     .type = ST_OPT_NODE,
     .offset = RAW(runtime_attributes),
     .help = "What only this runtime has."},
    {.name = "triggers",
     .type = ST_OPT_MAP,
     .offset = RAW(triggers),
     .table = trigger_table,
     .item_size = sizeof(struct st_raw_trigger),
     .help = "Sources of events, by name.",
     .example = "{http: {kind: http}}"},
    {.name = "loggerSinks",
     .type = ST_OPT_LIST,
     .offset = RAW(log_sinks),
     .table = sink_table,
     .item_size = sizeof(struct st_raw_sink),
     .help = "Level and sink of the function's log, whatever platform.yaml says; the first one "
             "counts.",
     .example = "[{level: info}]"},
    {.name = "disableDefaultHTTPTrigger",
     .type = ST_OPT_BOOL,
     .offset = RAW(disable_default_http),
     .help =
         "Do not add an http trigger where none is configured; when absent, the platform decides."},
    {.name = "disableSensitiveFieldsMasking",
     .type = ST_OPT_BOOL,
     .offset = RAW(no_masking),
     .help = "Whether references to masked secrets stay as they are."},
    {.name = "stator",
     .type = ST_OPT_OBJECT,
     .offset = RAW(f.own),
     .table = own_table,
     .help = "What Nuclio does not have.",
     .example = "{loops: 2}"},
    UNSUPPORTED("dataBindings"),
    CONTROLLER("replicas"),
    CONTROLLER("minReplicas"),
    CONTROLLER("maxReplicas"),
    CONTROLLER("targetCPU"),
    CONTROLLER("disable"),
    CONTROLLER("publish"),
    CONTROLLER("alias"),
    CONTROLLER("envFrom"),
    CONTROLLER("resources"),
    CONTROLLER("image"),
    CONTROLLER("imageHash"),
    CONTROLLER("volumes"),
    CONTROLLER("build"),
    CONTROLLER("runRegistry"),
    CONTROLLER("imagePullSecrets"),
    CONTROLLER("imagePullPolicy"),
    CONTROLLER("dealerURI"),
    CONTROLLER("platform"),
    CONTROLLER("readinessTimeoutSeconds"),
    CONTROLLER("waitReadinessTimeoutBeforeFailure"),
    CONTROLLER("serviceType"),
    CONTROLLER("securityContext"),
    CONTROLLER("serviceAccount"),
    CONTROLLER("scaleToZero"),
    CONTROLLER("devices"),
    CONTROLLER("affinity"),
    CONTROLLER("nodeSelector"),
    CONTROLLER("nodeName"),
    CONTROLLER("tolerations"),
    CONTROLLER("priorityClassName"),
    CONTROLLER("preemptionPolicy"),
    CONTROLLER("preemptionMode"),
    CONTROLLER("deploymentStrategy"),
    CONTROLLER("hostIPC"),
    CONTROLLER("customScalingMetricSpecs"),
    CONTROLLER("autoScaleMetrics"),
    CONTROLLER("sidecars"),
    CONTROLLER("initContainers"),
    CONTROLLER("avatar"),
    CONTROLLER("httpPort"),
    END};

/* ---- top level ---- */

static const struct st_option metadata_table[] = {
    {.name = "name",
     .type = ST_OPT_STRING,
     .offset = RAW(f.name),
     .value = "",
     .help = "Name of the function; that of the folder, or of the handler's file, when absent.",
     .example = "hello"},
    {.name = "namespace",
     .type = ST_OPT_STRING,
     .offset = RAW(f.namespace_),
     .value = "nuclio",
     .help = "Namespace of the function, for metrics and calls between functions.",
     .example = "nuclio"},
    {.name = "labels",
     .type = ST_OPT_STRING_MAP,
     .offset = RAW(labels),
     .help = "Of these the processor reads nuclio.io/project-name.",
     .example = "{nuclio.io/project-name: default}"},
    CONTROLLER("annotations"),
    CONTROLLER("resourceVersion"),
    CONTROLLER("uid"),
    CONTROLLER("creationTimestamp"),
    CONTROLLER("generation"),
    CONTROLLER("ownerReferences"),
    CONTROLLER("managedFields"),
    CONTROLLER("selfLink"),
    CONTROLLER("finalizers"),
    END};

const struct st_option st_function_table[] = {CONTROLLER("apiVersion"),
                                              CONTROLLER("kind"),
                                              {.name = "metadata",
                                               .type = ST_OPT_OBJECT,
                                               .table = metadata_table,
                                               .help = "Who the function is.",
                                               .example = "{name: hello}"},
                                              {.name = "spec",
                                               .type = ST_OPT_OBJECT,
                                               .table = spec_table,
                                               .flags = ST_OPT_REQUIRED,
                                               .help = "What it does.",
                                               .example = "{runtime: native, handler: hello.so}"},
                                              CONTROLLER("status"),
                                              {.name = "PlatformConfig",
                                               .type = ST_OPT_NODE,
                                               .offset = RAW(platform),
                                               .table = st_platform_table,
                                               .help = "The platform's configuration, where there "
                                                       "is no platform.yaml."},
                                              CONTROLLER("meta"),
                                              END};
