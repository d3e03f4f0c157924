/* Faults of a configuration, collected so that all of a file are shown at once, in file order. */
#ifndef PROCESSOR_CONFIG_DIAG_H
#define PROCESSOR_CONFIG_DIAG_H

#include <stdarg.h>
#include <stdio.h>

#include "processor/core/base.h"

struct st_diag_item;

struct st_diag {
    FILE *out; /* borrowed */
    struct st_diag_item *items;
    size_t count, room;
    unsigned errors; /* in all, shown or not */
    bool strict;     /* an unknown key is an error; set after st_diag_init */
};

/* Where something was found; file NULL: the command line or the system, line 0: the whole file. */
struct st_place {
    const char *file; /* borrowed until st_diag_flush */
    unsigned line, column;
};

void st_diag_init(struct st_diag *diag, FILE *out);

/* "file:line:column: text", "file: text" or "stator: text"; text is one line without its newline.
 */
void st_diag_error(struct st_diag *diag, struct st_place at, const char *fmt, ...) ST_PRINTF(3, 4);

/* The same with "warning: " before the text. */
void st_diag_warn(struct st_diag *diag, struct st_place at, const char *fmt, ...) ST_PRINTF(3, 4);
void st_diag_vadd(struct st_diag *diag, bool warning, struct st_place at, const char *fmt,
                  va_list args);

/* Writes what was collected, by line and column, and forgets it (but not the count of errors). */
void st_diag_flush(struct st_diag *diag);

#endif
