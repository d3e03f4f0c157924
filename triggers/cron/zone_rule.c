#include "triggers/cron/calendar.h"
#include "triggers/cron/zone_int.h"

struct cursor {
    const char *at, *end;
};

static bool take(struct cursor *c, char wanted)
{
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool number(struct cursor *c, unsigned max, unsigned *out)
{
    unsigned n = 0;

    if (c->at == c->end || !is_digit(*c->at))
        return false;
    for (; c->at < c->end && is_digit(*c->at); c->at++) {
        n = n * 10 + (unsigned)(*c->at - '0');
        if (n > max)
            return false;
    }
    *out = n;
    return true;
}

/* CET, or <+03>: three characters at least. */
static bool skip_name(struct cursor *c)
{
    bool quoted = take(c, '<');
    size_t n = 0;

    for (; c->at < c->end; c->at++, n++)
        if (!is_letter(*c->at) && !(quoted && (is_digit(*c->at) || *c->at == '+' || *c->at == '-')))
            break;
    return n >= 3 && (!quoted || take(c, '>'));
}

/* [+-]h[:m[:s]] */
static bool read_time(struct cursor *c, unsigned max_hours, int32_t *out)
{
    bool negative = take(c, '-');
    unsigned h, m = 0, s = 0;

    if (!negative)
        take(c, '+');
    if (!number(c, max_hours, &h) || (take(c, ':') && !number(c, 59, &m)))
        return false;
    if (take(c, ':') && !number(c, 59, &s))
        return false;
    *out = (int32_t)(h * 3600 + m * 60 + s);
    if (negative)
        *out = -*out;
    return true;
}

/* ",M3.5.0/2" */
static bool read_date(struct cursor *c, struct st_cron_rule_date *d)
{
    d->time = 2 * 3600;
    if (!take(c, ','))
        return false;
    if (take(c, 'M')) {
        d->form = ST_CRON_DATE_MONTH;
        if (!number(c, 12, &d->month) || d->month == 0 || !take(c, '.') ||
            !number(c, 5, &d->week) || d->week == 0 || !take(c, '.') || !number(c, 6, &d->day))
            return false;
    } else if (take(c, 'J')) {
        d->form = ST_CRON_DATE_JULIAN;
        if (!number(c, 365, &d->day) || d->day == 0)
            return false;
    } else {
        d->form = ST_CRON_DATE_DAY;
        if (!number(c, 365, &d->day))
            return false;
    }
    return !take(c, '/') || read_time(c, 167, &d->time);
}

bool st_cron_rule_parse(struct st_cron_rule *out, struct st_slice text)
{
    const struct st_slice usual = ST_SLICE(",M3.2.0,M11.1.0");
    struct cursor c = {text.ptr, text.ptr + text.len};
    int32_t west;

    *out = (struct st_cron_rule){.has_summer = false};
    if (!skip_name(&c) || !read_time(&c, 24, &west))
        return false;
    out->standard = -west;
    if (c.at == c.end)
        return true;
    out->has_summer = true;
    out->summer = out->standard + 3600;
    if (!skip_name(&c))
        return false;
    if (c.at < c.end && *c.at != ',') {
        if (!read_time(&c, 24, &west))
            return false;
        out->summer = -west;
    }
    if (c.at == c.end) /* as glibc: the rule of the United States */
        c = (struct cursor){usual.ptr, usual.ptr + usual.len};
    return read_date(&c, &out->begin) && read_date(&c, &out->end) && c.at == c.end;
}

int64_t st_cron_rule_date_in(const struct st_cron_rule_date *d, int64_t year)
{
    static const unsigned char lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t first = st_cron_days(year, 1, 1);
    unsigned length, day;

    if (d->form == ST_CRON_DATE_DAY)
        return (first + d->day) * ST_CRON_DAY_S + d->time;
    if (d->form == ST_CRON_DATE_JULIAN)
        return (first + d->day - 1 + (d->day >= 60 && st_cron_is_leap(year))) * ST_CRON_DAY_S +
               d->time;
    first = st_cron_days(year, d->month, 1);
    length = lengths[d->month - 1];
    if (d->month == 2 && st_cron_is_leap(year))
        length++;
    day = (d->day + 7 - st_cron_weekday(first)) % 7 + (d->week - 1) * 7;
    if (day >= length)
        day -= 7;
    return (first + day) * ST_CRON_DAY_S + d->time;
}
