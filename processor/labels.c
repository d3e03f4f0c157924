#include "processor/labels.h"

#include <stdlib.h>

#include "processor/processor.h"

void st_labels_add(struct st_labels *l, const char *name, const char *value)
{
    ST_ASSERT(l->count < ST_LABELS_MAX);
    l->items[l->count++] = (struct st_label){name, value != NULL ? value : ""};
    l->items[l->count] = (struct st_label){NULL, NULL};
}

void st_labels_for(struct st_labels *l, struct st_processor *p, const char *trigger_kind,
                   const char *trigger_id)
{
    const struct st_function_config *f = &p->config->function;

    l->count = 0;
    st_labels_add(l, "instance", p->instance);
    st_labels_add(l, "namespace", f->namespace_);
    st_labels_add(l, "function", f->name);
    st_labels_add(l, "project", f->project);
    st_labels_add(l, "trigger_kind", trigger_kind);
    st_labels_add(l, "trigger_id", trigger_id);
}

void st_labels_own(struct st_labels *l, struct st_processor *p, const char *trigger_id)
{
    l->count = 0;
    st_labels_add(l, "function", p->config->function.name);
    if (trigger_id != NULL)
        st_labels_add(l, "trigger_id", trigger_id);
}
