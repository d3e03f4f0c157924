/* Configuration as JSON, for people: by the option tables, canonical names, defaults filled in, and
 * nothing secret. */
#ifndef PROCESSOR_CONFIG_SHOW_H
#define PROCESSOR_CONFIG_SHOW_H

#include <jansson.h>

#include "processor/config/option.h"

struct st_trigger_config;

/* What stands for a secret that is set. */
#define ST_CONFIG_REDACTED "[redacted]"

/* An object of a struct that the table fills. Values of ST_OPT_SECRET rows are redacted, and so is
 * what stands before the @ of a URL; rows that are not read (ANY, NODE) are left out. Durations are
 * Go's text, sizes bytes. Caller drops the reference. */
json_t *st_config_show(const struct st_option *table, const void *base);

/* A trigger as its part of function.yaml: kind, name, url, ... and attributes. */
json_t *st_trigger_show(const struct st_trigger_config *config);

#endif
