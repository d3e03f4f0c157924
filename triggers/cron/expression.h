/* Cron expressions: text to sets of bits. Pure, no clock.
 *
 * The syntax is that of robfig/cron v3, which Nuclio's users know: five fields (minute hour
 * day-of-month month day-of-week) or six with leading seconds, each `*`, `?`, a value, a range
 * `a-b`, a step `x/n`, or a list of those; names JAN and MON in any case; @hourly and its like;
 * `@every 1m30s`; `CRON_TZ=Zone ` or `TZ=Zone ` in front. Beyond it, 7 is Sunday too. */
#ifndef TRIGGERS_CRON_EXPRESSION_H
#define TRIGGERS_CRON_EXPRESSION_H

#include "processor/core/base.h"
#include "processor/core/err.h"

enum { ST_CRON_MAX_TEXT = 256, ST_CRON_MAX_ZONE = 64 };

struct st_cron_expression {
    uint64_t seconds, minutes; /* bit n: at second or minute n */
    uint32_t hours;            /* bits 0-23 */
    uint32_t days;             /* bits 1-31 */
    uint32_t months;           /* bits 1-12 */
    uint32_t weekdays;         /* bits 0-6, Sunday first */
    bool any_day;              /* a `*` or `?` without a step: the other day field alone decides */
    bool any_weekday;
    uint64_t every_s;                /* @every, in whole seconds; 0: the sets say when */
    char zone[ST_CRON_MAX_ZONE + 1]; /* of the prefix; "": none */
};

/* Parses text. ST_ERR_INVALID with *err (text, position counted from 1, what is wrong, an example)
 * for what is no expression, and for a date that never comes. A `*` in the seconds field of six is
 * 0, as Nuclio has it. @every is cut to whole seconds and is at least one. */
int st_cron_parse(struct st_cron_expression *out, const char *text,
                  struct st_error *err) ST_MUST_CHECK;

#endif
