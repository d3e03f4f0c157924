/* Label sets of metrics: Nuclio's names for its families, short ones for Stator's own. */
#ifndef PROCESSOR_LABELS_H
#define PROCESSOR_LABELS_H

#include "processor/core/metrics.h"

struct st_processor;

enum { ST_LABELS_MAX = 10 };

/* Texts are borrowed until the set is registered (registration copies). */
struct st_labels {
    struct st_label items[ST_LABELS_MAX + 1]; /* ends with a NULL name */
    unsigned count;
};

/* instance, namespace, function, project, trigger_kind, trigger_id: what Nuclio's families carry.
 */
void st_labels_for(struct st_labels *l, struct st_processor *p, const char *trigger_kind,
                   const char *trigger_id);

/* function and trigger_id; NULL trigger_id: function alone. */
void st_labels_own(struct st_labels *l, struct st_processor *p, const char *trigger_id);

void st_labels_add(struct st_labels *l, const char *name, const char *value);

#endif
