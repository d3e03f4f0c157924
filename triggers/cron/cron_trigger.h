/* The cron trigger: events by schedule or interval. */
#ifndef TRIGGERS_CRON_CRON_TRIGGER_H
#define TRIGGERS_CRON_CRON_TRIGGER_H

#include "processor/trigger.h"

extern const struct st_trigger_kind st_trigger_cron_kind;

#endif
