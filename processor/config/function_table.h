/* What function.yaml fills before the rules make a struct st_function_config of it. */
#ifndef PROCESSOR_CONFIG_FUNCTION_TABLE_H
#define PROCESSOR_CONFIG_FUNCTION_TABLE_H

#include "processor/config/config.h"
#include "processor/config/document.h"
#include "processor/config/option.h"

struct st_raw_trigger {
    const char *key; /* of the map; first member, as ST_OPT_MAP wants it */
    const char *name, *kind;
    int64_t max_workers;       /* Nuclio's older name of numWorkers */
    struct st_node attributes; /* for the kind's table */
    struct st_trigger_config c;
};

struct st_raw_sink {
    int level; /* index in st_log_level_names */
    const char *sink;
};

struct st_raw_function {
    struct st_function_config f;
    struct st_string_map labels;
    struct st_node annotations;
    const char *runtime;
    struct st_node runtime_attributes;
    struct st_raw_trigger *triggers;
    size_t trigger_count;
    struct st_raw_sink *log_sinks;
    size_t log_sink_count;
    bool disable_default_http;
    bool no_masking;
    struct st_node outputs;  /* each for its kind's table */
    struct st_node platform; /* embedded platform.yaml */
};

/* The table of one trigger, which fills a struct st_raw_trigger. */
extern const struct st_option st_trigger_table[];

/* debug, info, warn, error, warning; NULL-terminated. st_log_level_of(index) gives the level. */
extern const char *const st_log_level_names[];
int st_log_level_of(int index);

#endif
