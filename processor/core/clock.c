#include "processor/core/clock.h"

#include <time.h>

static uint64_t clock_read(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * ST_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t st_clock_mono(void)
{
    return clock_read(CLOCK_MONOTONIC);
}

uint64_t st_clock_wall(void)
{
    return clock_read(CLOCK_REALTIME);
}

static char *put_digits(char *at, unsigned value, unsigned width)
{
    for (unsigned i = width; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    return at + width;
}

static char *put_text(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

/* "HH:MM:SS" */
static char *put_time(char *at, unsigned second)
{
    at = put_digits(at, second / 3600, 2);
    *at++ = ':';
    at = put_digits(at, second / 60 % 60, 2);
    *at++ = ':';
    return put_digits(at, second % 60, 2);
}

/* A moment in UTC by the Gregorian calendar. */
struct date {
    unsigned year, month, day; /* month and day from 1 */
    unsigned weekday;          /* 0: Sunday */
    unsigned second, msec;     /* of the day; of the second */
};

static void clock_split(uint64_t wall_ns, struct date *d)
{
    uint64_t seconds = wall_ns / ST_SEC;
    unsigned days = (unsigned)(seconds / 86400);
    /* From days to a date by eras of 400 years that begin on 1 March (Hinnant,
     * "chrono-Compatible Low-Level Date Algorithms"); 719468 days lie before the epoch. */
    unsigned z = days + 719468, doe = z % 146097;
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

    d->day = doy - (153 * mp + 2) / 5 + 1;
    d->month = mp < 10 ? mp + 3 : mp - 9;
    d->year = yoe + z / 146097 * 400 + (d->month <= 2 ? 1 : 0);
    d->weekday = (days + 4) % 7; /* 1 January 1970 was a Thursday */
    d->second = (unsigned)(seconds % 86400);
    d->msec = (unsigned)(wall_ns % ST_SEC / ST_MSEC);
}

void st_clock_http_date(uint64_t wall_ns, char out[ST_HTTP_DATE_LEN + 1])
{
    static const char weekdays[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct date d;

    clock_split(wall_ns, &d);
    out = put_text(out, weekdays + (size_t)3 * d.weekday, 3);
    out = put_text(out, ", ", 2);
    out = put_digits(out, d.day, 2);
    *out++ = ' ';
    out = put_text(out, months + (size_t)3 * (d.month - 1), 3);
    *out++ = ' ';
    out = put_digits(out, d.year, 4);
    *out++ = ' ';
    out = put_time(out, d.second);
    put_text(out, " GMT", 5);
}

void st_clock_iso8601(uint64_t wall_ns, char out[ST_ISO8601_LEN + 1])
{
    struct date d;

    clock_split(wall_ns, &d);
    out = put_digits(out, d.year, 4);
    *out++ = '-';
    out = put_digits(out, d.month, 2);
    *out++ = '-';
    out = put_digits(out, d.day, 2);
    *out++ = 'T';
    out = put_time(out, d.second);
    *out++ = '.';
    out = put_digits(out, d.msec, 3);
    put_text(out, "Z", 2);
}
