/* spec.stator.outputs: objects whose keys are `kind` and what the kind's own table has. */
#ifndef PROCESSOR_CONFIG_OUTPUT_TABLE_H
#define PROCESSOR_CONFIG_OUTPUT_TABLE_H

#include <jansson.h>

#include "processor/config/config.h"
#include "processor/config/reader.h"

/* Fills f->outputs from the node, which may be nothing; faults go to the reader's diag. kinds is
 * NULL-terminated, or NULL. */
void st_outputs_read(struct st_reader *r, struct st_function_config *f, struct st_node node,
                     const struct st_output_kind *const *kinds);

/* An output as its part of function.yaml, without secrets. The caller drops the reference. */
json_t *st_output_show(const struct st_output_config *config);

#endif
