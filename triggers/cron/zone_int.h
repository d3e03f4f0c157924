/* Between zone.c (files, look-up) and zone_rule.c (POSIX TZ rules). */
#ifndef TRIGGERS_CRON_ZONE_INT_H
#define TRIGGERS_CRON_ZONE_INT_H

#include "processor/core/base.h"

/* When clocks change in a year, by the local time before the change. */
struct st_cron_rule_date {
    enum { ST_CRON_DATE_MONTH, ST_CRON_DATE_JULIAN, ST_CRON_DATE_DAY } form;
    unsigned month, week; /* Mm.w.d: week 5 is the last */
    unsigned day;         /* of the week; Jn: 1-365 without 29 February; n: 0-365 */
    int32_t time;         /* seconds from midnight; may lie on another day */
};

struct st_cron_rule {
    int32_t standard, summer; /* offsets; seconds east of UTC */
    bool has_summer;          /* otherwise only `standard` counts */
    struct st_cron_rule_date begin, end;
};

/* Parses POSIX.1-2017 section 8.3 TZ with the times of RFC 8536 section 3.3.1 (-167 to 167 hours).
 * False: it isn't one. */
bool st_cron_rule_parse(struct st_cron_rule *out, struct st_slice text);

/* Seconds from the epoch to the date's local time in that year, as if local were UTC. */
int64_t st_cron_rule_date_in(const struct st_cron_rule_date *d, int64_t year);

#endif
