/* The configuration of a function and of its platform, read, checked whole and then constant.
 *
 * Memory: everything belongs to the struct st_config and dies with it. */
#ifndef PROCESSOR_CONFIG_CONFIG_H
#define PROCESSOR_CONFIG_CONFIG_H

#include "processor/config/option.h"
#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/log.h"

struct st_output_kind;
struct st_runtime_kind;
struct st_trigger_kind;

struct st_env_var {
    const char *name;
    const char *value; /* NULL: what the processor's environment has under this name, if anything */
};

enum st_batch_mode { ST_BATCH_DISABLE, ST_BATCH_ENABLE };

enum st_ack_mode { ST_ACK_IMPLICIT, ST_ACK_ENABLE, ST_ACK_EXPLICIT_ONLY };

/* What only sources that are acknowledged have: kinds with `acknowledges`. */
struct st_delivery_config {
    int ordering;  /* enum st_ordering */
    int64_t lanes; /* of a shard */
    struct {
        bool given;
        int64_t max_attempts;
        uint64_t base_ns, cap_ns;
        int relaxed;      /* order: strict, relaxed */
        int on_exhausted; /* enum st_exhausted, or one more: not given */
    } retry;
    struct {
        bool given;
        char *topic, *output;
    } dead_letter;
    int ack_mode; /* enum st_ack_mode */
    uint64_t ack_wait_ns;
};

struct st_trigger_config {
    const char *name; /* key of the map unless `name` says otherwise */
    const struct st_trigger_kind *kind;
    int64_t num_workers;        /* 0: absent (one; NONBLOCKING handlers: one a loop) */
    uint64_t wait_ns;           /* workerAvailabilityTimeoutMilliseconds, default 10 s */
    const char *allocator_name; /* "" : a pool of its own */
    uint64_t stop_ns;           /* workerTerminationTimeout, default 10 s */
    int64_t max_concurrency;    /* events that a worker may have at once, at least 1 */
    struct {
        int mode;            /* enum st_batch_mode */
        int64_t size;        /* events of a full batch */
        uint64_t timeout_ns; /* how long its first event may wait for others */
        uint64_t bytes;      /* of messages in one batch of a broker's trigger */
    } batch;
    struct st_delivery_config delivery;
    const char *url;       /* "": the kind's default */
    void *attributes;      /* the kind's struct, filled by its table; never NULL */
    unsigned line, column; /* in the file; 0: not from a file */
};

/* One of spec.stator.outputs. */
struct st_output_config {
    const char *name;
    const struct st_output_kind *kind;
    void *options; /* the kind's struct, filled by its table */
};

enum st_pin { ST_PIN_AUTO, ST_PIN_NEVER, ST_PIN_ALWAYS };
enum st_isolation { ST_ISOLATION_DEFAULT, ST_ISOLATION_NONE, ST_ISOLATION_PROCESS };

/* spec.stator */
struct st_own_config {
    int64_t loops; /* 0: from the CPU limit */
    int pin;       /* enum st_pin */
    int isolation; /* enum st_isolation */
    struct {
        int64_t events;
        uint64_t bytes; /* 0: no bound of its own */
    } queue;
    uint64_t body_memory; /* 0: 25 % of the memory limit */
    uint64_t drain_delay_ns;

    /* Worker processes */
    bool prefork;                     /* forked from a template, where the runtime can */
    int64_t max_requests;             /* 0: no limit */
    uint64_t worker_memory;           /* bytes, 0: no limit */
    uint64_t ring_bytes;              /* of each ring */
    const char *worker_user;          /* "uid" or "uid:gid", "": the processor's */
    struct st_string_list worker_env; /* names of variables that workers get too */
};

struct st_function_config {
    const char *name, *namespace_, *project;
    const char *handler; /* "hello.so", "module:function"; per runtime */
    const struct st_runtime_kind *runtime;
    const char *runtime_version; /* "3.9" of "python:3.9"; NULL: not given */
    const char *description;
    int64_t version;
    uint64_t event_timeout_ns; /* 0: off */
    void *runtime_attributes;  /* the kind's struct, or NULL */
    struct st_env_var *env;
    size_t env_count;
    struct st_own_config own;
    struct st_trigger_config *triggers;
    size_t trigger_count;
    struct st_output_config *outputs;
    size_t output_count;
    int disable_default_http; /* -1: not given, the platform decides */
};

struct st_endpoint_config {
    bool enabled;
    bool configured; /* by a platform file, or a container's paths: a taken port is fatal */
    const char *listen_address;
};

/* Who fires cron triggers: the processor, or a CronJob of the cluster that calls the function. */
enum st_cron_mode { ST_CRON_PROCESSOR, ST_CRON_KUBE };

/* A sink that metrics are pushed to. */
struct st_metric_push_config {
    const char *name; /* of the sink */
    const char *url;  /* of the gateway */
    const char *job;  /* a name template */
    uint64_t interval_ns;
};

/* One of logger.sinks. */
struct st_named_log_sink {
    const char *name;
    bool supported; /* otherwise its records go where the default does */
    struct st_log_style style;
};

struct st_platform_config {
    struct st_endpoint_config web_admin, health, metrics;
    struct st_endpoint_config bare_http; /* the health path alone, in place of an http trigger */
    const char *metric_instance;         /* a name template; "": from the environment */
    struct st_metric_push_config *pushes;
    size_t push_count;
    struct st_log_sink log_system, log_functions;
    struct st_named_log_sink *log_sinks;
    size_t log_sink_count;
    bool disable_default_http;
    int cron_mode; /* enum st_cron_mode */
};

struct st_config {
    struct st_function_config function;
    struct st_platform_config platform;
    const char *file;                /* the function's, for messages; "" when there is none */
    const char *code_dir;            /* where the handler is looked for */
    bool watch;                      /* workers are replaced when the code changes */
    struct st_config_memory *memory; /* private */
};

/* What the command line says. NULL or 0: not given. */
struct st_config_args {
    const char *target; /* DIR or FILE argument of `run` */
    const char *config, *platform_config;
    int64_t port, loops, workers;
    bool strict; /* unknown keys are errors */
    bool watch;  /* st_config.watch */
};

/* Reads, checks and completes everything. On failure returns a negative code, all faults have been
 * written to stderr, one a line as file:line:column, and *out is empty. Kinds come from registry.h.
 */
int st_config_load(struct st_config *out, const struct st_config_args *args) ST_MUST_CHECK;
void st_config_free(struct st_config *config);

/* Reads and checks one file, or the function.yaml of a directory, and starts nothing. A file that
 * has a platform's keys and none of a function's is read as a platform.yaml. Faults and warnings go
 * to stderr; 0, or a negative code when there was a fault. */
int st_config_check(const char *file, bool strict) ST_MUST_CHECK;

/* What there is to configure, written from the same tables: a JSON Schema (2020-12) of one of the
 * files, or the reference in docs/configuration.md. The text is the caller's to free. */
enum st_schema { ST_SCHEMA_FUNCTION, ST_SCHEMA_PLATFORM, ST_SCHEMA_MARKDOWN };
char *st_config_schema(enum st_schema which);

#endif
