/* The proleptic Gregorian calendar, in days since 1970-01-01 (algorithms: Howard Hinnant,
 * "chrono-Compatible Low-Level Date Algorithms"). */
#ifndef TRIGGERS_CRON_CALENDAR_H
#define TRIGGERS_CRON_CALENDAR_H

#include "processor/core/base.h"

enum { ST_CRON_DAY_S = 86400 };

struct st_cron_date {
    int64_t year;
    unsigned month, day; /* from 1 */
};

/* Rounds down, also below zero. */
static inline int64_t st_cron_floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static inline int64_t st_cron_days(int64_t year, unsigned month, unsigned day)
{
    int64_t y = year - (month <= 2), era = st_cron_floor_div(y, 400), yoe = y - era * 400;
    int64_t doy = (153 * (int64_t)(month > 2 ? month - 3 : month + 9) + 2) / 5 + (int64_t)day - 1;

    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static inline struct st_cron_date st_cron_date_of(int64_t days)
{
    int64_t z = days + 719468, era = st_cron_floor_div(z, 146097), doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);

    return (struct st_cron_date){yoe + era * 400 + (month <= 2), month,
                                 (unsigned)(doy - (153 * mp + 2) / 5 + 1)};
}

/* 0: Sunday. */
static inline unsigned st_cron_weekday(int64_t days)
{
    return (unsigned)((days % 7 + 11) % 7);
}

static inline bool st_cron_is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

#endif
