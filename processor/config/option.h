/* Option tables: one row describes a key for the reader, `check`, the JSON Schema and the docs. */
#ifndef PROCESSOR_CONFIG_OPTION_H
#define PROCESSOR_CONFIG_OPTION_H

#include "processor/core/base.h"

enum st_option_type {
    ST_OPT_STRING,      /* char * */
    ST_OPT_BOOL,        /* bool */
    ST_OPT_INT,         /* int64_t */
    ST_OPT_SIZE,        /* uint64_t, bytes: a number, or a Kubernetes quantity such as "64Mi" */
    ST_OPT_DURATION,    /* uint64_t, ns: Go's syntax, "1m30s"; "" counts as absent */
    ST_OPT_MILLIS,      /* uint64_t, ns: a plain number of milliseconds; negative: the default */
    ST_OPT_STRING_LIST, /* struct st_string_list */
    ST_OPT_ENUM,        /* int: index in `values` */
    ST_OPT_OBJECT,      /* a nested struct described by `table` */
    ST_OPT_ANY,         /* accepted and not read by this table (a controller's field) */
    ST_OPT_STRING_MAP,  /* struct st_string_map; keys are the user's own */
    ST_OPT_LIST,        /* `T *items; size_t count;`, T of item_size bytes described by `table` */
    ST_OPT_MAP,         /* as LIST; keys are the user's own, T begins with char *, the key */
    ST_OPT_NODE         /* struct st_node: kept for a second pass with another table */
};

enum st_option_flag {
    ST_OPT_REQUIRED = 1,
    ST_OPT_EXPAND = 2,      /* ${NAME}, ${NAME:-default}, ${file:/path}; typed afterwards */
    ST_OPT_SECRET = 4,      /* redacted wherever configuration is shown */
    ST_OPT_UNSUPPORTED = 8, /* known, but this build ignores it and says so; with ST_OPT_ANY */
    ST_OPT_SCALARS = 16,    /* STRING_MAP: numbers and booleans are taken as they are written */
    ST_OPT_GIVEN = 32       /* OBJECT: its struct begins with a bool, set when the block is there */
};

struct st_string_list {
    char **items;
    size_t count;
};

struct st_string_pair {
    char *name, *value;
};

struct st_string_map {
    struct st_string_pair *items;
    size_t count;
};

/* Strings, lists and objects that a table fills live as long as the configuration. */
struct st_option {
    const char *name; /* canonical; NULL ends a table. Keys fold case */
    enum st_option_type type;
    size_t offset;     /* in the struct that the table fills */
    const char *value; /* default, as text (a list: separated by commas); NULL: zero. UNSUPPORTED:
                        * a value that asks for nothing */
    double min, max;   /* in numbers, bytes, ns or ms; both 0: no bounds; max may be INFINITY */
    unsigned flags;
    const char *const *values; /* ST_OPT_ENUM: names, NULL-terminated; "" only reserves an index */
    const struct st_option *table; /* of objects, lists and maps of objects */
    size_t item_size;              /* ST_OPT_LIST, ST_OPT_MAP */
    const char *help;              /* one sentence */
    const char *example;           /* for error messages, without quotes */
};

#endif
