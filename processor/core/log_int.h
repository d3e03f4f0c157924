/* One record as text; shared by the files of the log. */
#ifndef PROCESSOR_CORE_LOG_INT_H
#define PROCESSOR_CORE_LOG_INT_H

#include "processor/core/log.h"

struct st_log_record {
    enum st_log_level level;
    uint64_t wall_ns;
    const char *name, *text;
    const struct st_log_var *vars; /* NULL: none */
};

/* Writes one line, control characters escaped, with its newline; returns its length. The console
 * encoding colours the level if asked to. */
size_t st_log_format(char out[ST_LOG_RECORD_MAX], const struct st_log_record *rec,
                     const struct st_log_style *style, bool colour);

#endif
