/* The kafka output: one idempotent producer for all loops. */
#ifndef TRIGGERS_KAFKA_KAFKA_OUTPUT_H
#define TRIGGERS_KAFKA_KAFKA_OUTPUT_H

#include "processor/output.h"

extern const struct st_output_kind st_output_kafka_kind;

#endif
