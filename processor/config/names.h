/* The nearest of some names, for "did you mean". */
#ifndef PROCESSOR_CONFIG_NAMES_H
#define PROCESSOR_CONFIG_NAMES_H

#include "processor/core/base.h"

/* Edits (insert, drop, replace, swap neighbours) between two ASCII texts in any case; counts no
 * further than limit + 1. */
unsigned st_name_distance(struct st_slice a, struct st_slice b, unsigned limit);

struct st_nearest {
    struct st_slice wanted;
    const char *name; /* the best so far; NULL: none is near */
    unsigned distance;
};

/* Starts a search; names further than a third of the length are not near. */
void st_nearest_init(struct st_nearest *n, struct st_slice wanted);
void st_nearest_try(struct st_nearest *n, const char *name);

#endif
