/* Complaints about a kind of trigger, runtime or output that this build does not have. */
#ifndef PROCESSOR_CONFIG_KINDS_H
#define PROCESSOR_CONFIG_KINDS_H

#include "processor/config/reader.h"
#include "processor/core/base.h"

enum { ST_KINDS_MAX = 32 };

/* The names of one sort of plug-in that this build has. */
struct st_kind_choice {
    const char *names[ST_KINDS_MAX];
    size_t count;
    const char *const *known; /* to Nuclio, NULL-terminated; or NULL */
};

/* A fault: `wanted` (ptr NULL: nothing) is none of them. field and place as st_reader_error. */
void st_kind_unknown(struct st_reader *r, const void *field, struct st_node place, const char *path,
                     struct st_slice wanted, const struct st_kind_choice *choice);

#endif
