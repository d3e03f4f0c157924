/* The kafka output: one idempotent producer for all loops. */
#ifndef TRIGGERS_KAFKA_KAFKA_OUTPUT_H
#define TRIGGERS_KAFKA_KAFKA_OUTPUT_H

#include "processor/output.h"

struct st_kafka_client_options;

extern const struct st_output_kind st_output_kafka_kind;

/* Options of an output to the servers of a client, whose texts they borrow; everything else has its
 * default. In one block that the caller frees. */
void *st_kafka_output_options(const struct st_kafka_client_options *client, const char *topic);

/* The topic of an output's options, or "", and its client. */
const char *st_kafka_output_topic(const void *options,
                                  const struct st_kafka_client_options **client);

#endif
