/* The kafka trigger: a member of a consumer group whose messages become events. */
#ifndef TRIGGERS_KAFKA_KAFKA_TRIGGER_H
#define TRIGGERS_KAFKA_KAFKA_TRIGGER_H

#include "processor/trigger.h"

extern const struct st_trigger_kind st_trigger_kafka_kind;

#endif
