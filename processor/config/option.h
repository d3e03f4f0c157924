/* Option tables: one row describes a key for the reader, `check`, the JSON Schema and the docs. */
#ifndef PROCESSOR_CONFIG_OPTION_H
#define PROCESSOR_CONFIG_OPTION_H

#include "processor/core/base.h"

enum st_option_type {
    ST_OPT_STRING,      /* char * */
    ST_OPT_BOOL,        /* bool */
    ST_OPT_INT,         /* int64_t */
    ST_OPT_SIZE,        /* uint64_t, bytes: a number, or a Kubernetes quantity such as "64Mi" */
    ST_OPT_DURATION,    /* uint64_t, ns: Go's syntax, "1m30s" */
    ST_OPT_MILLIS,      /* uint64_t, ns: a plain number of milliseconds */
    ST_OPT_STRING_LIST, /* struct st_string_list */
    ST_OPT_ENUM,        /* int: index in `values` */
    ST_OPT_OBJECT,      /* a nested struct described by `table` */
    ST_OPT_ANY          /* accepted and not read by this table (a controller's field) */
};

enum st_option_flag {
    ST_OPT_REQUIRED = 1,
    ST_OPT_EXPAND = 2, /* ${NAME}, ${NAME:-default}, ${file:/path} */
    ST_OPT_SECRET = 4, /* redacted wherever configuration is shown */
};

struct st_string_list {
    char **items;
    size_t count;
};

struct st_option {
    const char *name; /* canonical; NULL ends a table. Keys fold case */
    enum st_option_type type;
    size_t offset;          /* in the struct that the table fills */
    const char *value;      /* default, as text; NULL: zero */
    double min, max;        /* for numbers, in the option's unit; both 0: no bounds */
    unsigned flags;
    const char *const *values;     /* ST_OPT_ENUM: names, NULL-terminated */
    const struct st_option *table; /* ST_OPT_OBJECT */
    const char *help;              /* one sentence */
    const char *example;           /* for error messages */
};

#endif
