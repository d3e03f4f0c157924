/* ${NAME}, ${NAME:-default}, ${file:/path} and $${ in options that ask for it. */
#ifndef PROCESSOR_CONFIG_EXPAND_H
#define PROCESSOR_CONFIG_EXPAND_H

#include "processor/config/memory.h"
#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_expansion {
    struct st_slice text; /* the result, in mem or the input itself */
    bool expanded;        /* something was put in: the text is typed by what it says now */
    bool from_file;       /* and came from a file: not to be shown */
    char fault[384];      /* after a failure: "found ..., expected ..., for example ..." */
};

/* 0 or ST_ERR_INVALID with ->fault set. A default is used when NAME is unset or empty; without
 * one, unset is a fault. A file's last newline is cut off. Nothing nests. */
int st_expand(struct st_expansion *e, struct st_slice text,
              struct st_config_memory *mem) ST_MUST_CHECK;

#endif
