/* `stator kafka`: what can be asked and done about a kafka trigger from outside, over the same
 * configuration. */
#ifndef TRIGGERS_KAFKA_KAFKA_COMMAND_H
#define TRIGGERS_KAFKA_KAFKA_COMMAND_H

#include "processor/command.h"

extern const struct st_command st_kafka_command;

#endif
