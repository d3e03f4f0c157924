#include "triggers/cron/schedule.h"

#include "triggers/cron/calendar.h"

/* 29 February is at most eight years away, around 1900 or 2100. */
enum { HORIZON_DAYS = 9 * 366, ALL_HOURS = 0xffffff };

/* The lowest bit from `from` on, or -1. */
static int next_bit(uint64_t bits, unsigned from)
{
    uint64_t rest = from < 64 ? bits >> from << from : 0;

    return rest != 0 ? __builtin_ctzll(rest) : -1;
}

static int64_t time_of(const struct st_cron_expression *e, int hour, int minute)
{
    return (int64_t)hour * 3600 + (int64_t)minute * 60 + next_bit(e->seconds, 0);
}

/* The first time of day from `from` (seconds) on, or -1. */
static int64_t next_time(const struct st_cron_expression *e, int64_t from)
{
    int h = (int)(from / 3600), m = (int)(from / 60 % 60), s = (int)(from % 60);
    int hour = next_bit(e->hours, (unsigned)h), minute;

    if (hour == h) {
        minute = next_bit(e->minutes, (unsigned)m);
        if (minute == m && next_bit(e->seconds, (unsigned)s) >= 0)
            return (int64_t)h * 3600 + (int64_t)m * 60 + next_bit(e->seconds, (unsigned)s);
        if (minute == m)
            minute = next_bit(e->minutes, (unsigned)m + 1);
        if (minute >= 0)
            return time_of(e, h, minute);
        hour = next_bit(e->hours, (unsigned)h + 1);
    }
    return hour >= 0 ? time_of(e, hour, next_bit(e->minutes, 0)) : -1;
}

static bool day_matches(const struct st_cron_expression *e, int64_t day, unsigned day_of_month)
{
    bool by_date = (e->days >> day_of_month & 1) != 0;
    bool by_week = (e->weekdays >> st_cron_weekday(day) & 1) != 0;

    /* Two restricted fields are alternatives, since the first cron. */
    return e->any_day || e->any_weekday ? by_date && by_week : by_date || by_week;
}

/* The first local time in (after, limit), or ST_CRON_NEVER. */
static int64_t next_local(const struct st_cron_expression *e, int64_t after, int64_t limit)
{
    int64_t day = st_cron_floor_div(after + 1, ST_CRON_DAY_S);
    int64_t from = after + 1 - day * ST_CRON_DAY_S, last = day + HORIZON_DAYS, found;

    if (limit <= after + 1)
        return ST_CRON_NEVER;
    if (limit != INT64_MAX && st_cron_floor_div(limit - 1, ST_CRON_DAY_S) < last)
        last = st_cron_floor_div(limit - 1, ST_CRON_DAY_S);
    while (day <= last) {
        struct st_cron_date date = st_cron_date_of(day);
        if ((e->months >> date.month & 1) == 0) {
            day = date.month == 12 ? st_cron_days(date.year + 1, 1, 1)
                                   : st_cron_days(date.year, date.month + 1, 1);
            from = 0;
            continue;
        }
        if (day_matches(e, day, date.day) && (found = next_time(e, from)) >= 0) {
            found += day * ST_CRON_DAY_S;
            return found < limit ? found : ST_CRON_NEVER;
        }
        day++;
        from = 0;
    }
    return ST_CRON_NEVER;
}

bool st_cron_names_hours(const struct st_cron_expression *e)
{
    return e->every_s == 0 && e->hours != ALL_HOURS;
}

int64_t st_cron_next(const struct st_cron_expression *e, const struct st_cron_zone *zone,
                     int64_t after)
{
    bool by_hour = st_cron_names_hours(e);
    struct st_cron_span span, next;
    int64_t t = after, from, local;

    if (e->every_s != 0)
        return after + (int64_t)e->every_s;
    span = st_cron_zone_span(zone, after);
    for (;;) {
        from = t + span.offset;
        /* What was there before the clock went back has had its run. */
        if (by_hour && span.before > span.offset && from < span.begin + span.before - 1)
            from = span.begin + span.before - 1;
        local = next_local(e, from, span.end != INT64_MAX ? span.end + span.offset : INT64_MAX);
        if (local != ST_CRON_NEVER)
            return local - span.offset;
        if (span.end == INT64_MAX || span.end - after > (int64_t)HORIZON_DAYS * ST_CRON_DAY_S)
            return ST_CRON_NEVER;
        next = st_cron_zone_span(zone, span.end);
        if (by_hour && next.offset > span.offset &&
            next_local(e, span.end + span.offset - 1, span.end + next.offset) != ST_CRON_NEVER)
            return span.end;
        t = span.end - 1;
        span = next;
    }
}
