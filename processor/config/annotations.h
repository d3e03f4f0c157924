/* metadata.annotations that set options of triggers. */
#ifndef PROCESSOR_CONFIG_ANNOTATIONS_H
#define PROCESSOR_CONFIG_ANNOTATIONS_H

#include "processor/config/function_table.h"
#include "processor/config/reader.h"

/* Sets what the trigger's kind has annotations for; faults and unknown names go to the reader's
 * diag. The trigger's kind and attributes are there. annotations: the object, or nothing. */
void st_annotations_read(struct st_reader *r, struct st_node annotations,
                         struct st_raw_trigger *raw);

#endif
