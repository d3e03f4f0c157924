/* `stator cron next`: when a schedule would tick. */
#ifndef TRIGGERS_CRON_CRON_COMMAND_H
#define TRIGGERS_CRON_CRON_COMMAND_H

#include "processor/command.h"

extern const struct st_command st_cron_command;

#endif
