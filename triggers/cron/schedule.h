/* When an expression comes next in a time zone. Pure, no clock.
 *
 * What happens when clocks are changed. A schedule that names hours (0 3 * * *) means times of day:
 * those in a skipped hour run once, at the first time that exists again; those in a repeated hour
 * run the first time only. A schedule for every hour (hour field `*`) means time that passes: it
 * goes on through both. */
#ifndef TRIGGERS_CRON_SCHEDULE_H
#define TRIGGERS_CRON_SCHEDULE_H

#include "triggers/cron/expression.h"
#include "triggers/cron/zone.h"

#define ST_CRON_NEVER INT64_MAX

/* The first time behind `after`, both in seconds since the epoch, or ST_CRON_NEVER: not within nine
 * years. For @every: after + the duration. after lies within a million years of the epoch. */
int64_t st_cron_next(const struct st_cron_expression *e, const struct st_cron_zone *zone,
                     int64_t after);

/* Whether the schedule means times of day, not time that passes. */
bool st_cron_names_hours(const struct st_cron_expression *e);

#endif
