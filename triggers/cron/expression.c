#include "triggers/cron/expression.h"

#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

#include "processor/config/scalar.h"

enum { FIELDS = 6, MAX_NUMBER = 1000000 };

#define EXAMPLE "\"*/15 9-17 * * MON-FRI\""

struct field {
    const char *name;
    unsigned min, max;
    const char *const *names; /* of min, min + 1 ...; NULL: numbers only */
};

static const char *const month_names[] = {"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL",
                                          "AUG", "SEP", "OCT", "NOV", "DEC", NULL};
static const char *const weekday_names[] = {"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT", NULL};

enum { SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY };

static const struct field fields[FIELDS] = {
    [SECOND] = {"second", 0, 59, NULL},      [MINUTE] = {"minute", 0, 59, NULL},
    [HOUR] = {"hour", 0, 23, NULL},          [DAY] = {"day of month", 1, 31, NULL},
    [MONTH] = {"month", 1, 12, month_names}, [WEEKDAY] = {"day of week", 0, 6, weekday_names},
};

static const struct {
    const char *name, *means;
} descriptors[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
};

struct parser {
    const char *text; /* whole, for positions */
    struct st_error *err;
};

/* Text as it may stand in a line for people. */
static void printable(const char *text, char *out, size_t size)
{
    size_t n = 0;

    for (; text[n] != '\0' && n + 1 < size; n++)
        out[n] = text[n] < ' ' || text[n] > '~' ? '?' : text[n];
    out[n] = '\0';
}

static int ST_PRINTF(3, 4) fail(const struct parser *p, const char *at, const char *fmt, ...)
{
    char what[200], shown[ST_CRON_MAX_TEXT + 1], clean[sizeof what];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    printable(what, clean, sizeof clean);
    printable(p->text, shown, sizeof shown);
    return st_error_set(p->err, ST_ERR_INVALID, "\"%s\", position %zu: %s; an example is " EXAMPLE,
                        shown, (size_t)(at - p->text) + 1, clean);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *skip_space(const char *at)
{
    while (is_space(*at))
        at++;
    return at;
}

/* Up to the next blank. */
static struct st_slice word_at(const char *at)
{
    size_t n = 0;

    while (at[n] != '\0' && !is_space(at[n]))
        n++;
    return (struct st_slice){at, n};
}

static unsigned read_number(const char **at)
{
    unsigned n = 0;

    for (; is_digit(**at); (*at)++)
        if (n < MAX_NUMBER)
            n = n * 10 + (unsigned)(**at - '0');
    return n;
}

/* A number or a name at *at, which moves behind it. */
static int read_value(const struct parser *p, const struct field *f, const char **at, unsigned *out)
{
    const char *begin = *at;
    size_t len = 0;

    if (is_digit(*begin)) {
        *out = read_number(at);
        /* Sunday has two numbers. */
        if (*out < f->min || *out > (f->names == weekday_names ? 7 : f->max))
            return fail(p, begin, "%s %u is not within %u-%u", f->name, *out, f->min, f->max);
        return ST_OK;
    }
    while (is_letter(begin[len]))
        len++;
    if (len == 0 && (*begin == '\0' || is_space(*begin)))
        return fail(p, begin, "the %s is missing", f->name);
    if (len == 0)
        return fail(p, begin, "\"%c\" where the %s is expected", *begin, f->name);
    for (unsigned i = 0; f->names != NULL && f->names[i] != NULL; i++) {
        if (strlen(f->names[i]) == len && strncasecmp(f->names[i], begin, len) == 0) {
            *out = f->min + i;
            *at += len;
            return ST_OK;
        }
    }
    if (f->names != NULL)
        return fail(p, begin, "\"%.*s\" is no %s: numbers are %u-%u, names %s, %s ...", (int)len,
                    begin, f->name, f->min, f->max, f->names[0], f->names[1]);
    return fail(p, begin, "\"%.*s\" is no %s: it is a number within %u-%u", (int)len, begin,
                f->name, f->min, f->max);
}

/* The end of a range; first is its begin. */
static int read_range_end(const struct parser *p, const struct field *f, const char **at,
                          unsigned first, unsigned *last)
{
    const char *begin = ++*at;
    int code = read_value(p, f, at, last);

    if (code == ST_OK && *last < first)
        return fail(p, begin, "range %u-%u goes backwards", first, *last);
    return code;
}

static int read_step(const struct parser *p, const char **at, unsigned *step)
{
    const char *begin = ++*at;

    *step = read_number(at);
    if (*step == 0)
        return fail(p, begin, "a step is a number from 1");
    return ST_OK;
}

/* One item of a list: `*`, a, a-b, each with or without /n. */
static int read_item(const struct parser *p, const struct field *f, const char **at, uint64_t *bits,
                     bool *any)
{
    unsigned first = f->min, last = f->max, step = 1;
    bool open = **at == '*' || **at == '?', single = false;
    int code = ST_OK;

    if (open) {
        (*at)++;
    } else {
        code = read_value(p, f, at, &first);
        last = first;
        single = **at != '-';
        if (code == ST_OK && !single)
            code = read_range_end(p, f, at, first, &last);
    }
    if (code == ST_OK && **at == '/') {
        code = read_step(p, at, &step);
        if (single && first <= f->max)
            last = f->max; /* a/n: from a on */
    }
    if (code != ST_OK)
        return code;
    for (unsigned i = first; i <= last; i += step)
        *bits |= 1ull << i;
    /* robfig/cron: with a step the field decides */
    if (open && step == 1)
        *any = true;
    return ST_OK;
}

static int read_field(const struct parser *p, const struct field *f, struct st_slice word,
                      uint64_t *bits, bool *any)
{
    const char *at = word.ptr, *end = word.ptr + word.len;

    *bits = 0;
    *any = false;
    for (;;) {
        int code = read_item(p, f, &at, bits, any);

        if (code != ST_OK)
            return code;
        if (at == end)
            break;
        if (*at != ',')
            return fail(p, at, "\"%c\" where a comma or the next field is expected", *at);
        at++;
    }
    if (f->names == weekday_names)
        *bits = (*bits | *bits >> 7) & 0x7f;
    return ST_OK;
}

/* Without a day of the week to fall back on, some day has to exist. */
static bool date_exists(const struct st_cron_expression *e)
{
    static const unsigned char lengths[] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    for (unsigned m = 1; m <= 12; m++)
        if ((e->months >> m & 1) != 0 && (e->days & ((2ull << lengths[m]) - 1)) != 0)
            return true;
    return !e->any_weekday;
}

static int parse_fields(const struct parser *p, const char *at, struct st_cron_expression *out)
{
    struct st_slice words[FIELDS];
    uint64_t bits[FIELDS] = {1};
    bool any[FIELDS];
    unsigned count = 0, skipped;

    for (at = skip_space(at); *at != '\0'; at = skip_space(at)) {
        if (count == FIELDS)
            return fail(p, at, "more than %d fields", FIELDS);
        words[count] = word_at(at);
        at += words[count++].len;
    }
    if (count < FIELDS - 1)
        return fail(p, at,
                    "%u %s found, needed are 5 (minute hour day month weekday), or 6 with "
                    "leading seconds",
                    count, count == 1 ? "field" : "fields");
    skipped = FIELDS - count;
    for (unsigned i = 0; i < count; i++) {
        int code =
            read_field(p, &fields[i + skipped], words[i], &bits[i + skipped], &any[i + skipped]);
        if (code != ST_OK)
            return code;
    }
    if (skipped == 0 && words[0].len == 1 && *words[0].ptr == '*')
        bits[SECOND] = 1; /* Nuclio's reading */
    out->seconds = bits[SECOND];
    out->minutes = bits[MINUTE];
    out->hours = (uint32_t)bits[HOUR];
    out->days = (uint32_t)bits[DAY];
    out->months = (uint32_t)bits[MONTH];
    out->weekdays = (uint32_t)bits[WEEKDAY];
    out->any_day = any[DAY];
    out->any_weekday = any[WEEKDAY];
    if (!date_exists(out))
        return fail(p, words[DAY - skipped].ptr, "there is no such day in these months");
    return ST_OK;
}

static int parse_every(const struct parser *p, const char *at, struct st_slice duration,
                       struct st_cron_expression *out)
{
    int64_t ns;

    if (duration.len == 0)
        return fail(p, at, "@every needs a duration, such as @every 1m30s");
    if (*skip_space(duration.ptr + duration.len) != '\0')
        return fail(p, skip_space(duration.ptr + duration.len), "more than one duration");
    if (st_scalar_duration(duration, &ns) != ST_OK || ns <= 0)
        return fail(p, duration.ptr, "\"%.*s\" is no duration, such as 1m30s", (int)duration.len,
                    duration.ptr);
    out->every_s = (uint64_t)ns / ST_SEC > 0 ? (uint64_t)ns / ST_SEC : 1;
    return ST_OK;
}

static int parse_descriptor(const struct parser *p, const char *at, struct st_cron_expression *out)
{
    struct st_slice word = word_at(at);
    const char *rest = skip_space(at + word.len);

    if (st_slice_ieq(word, ST_SLICE("@every")))
        return parse_every(p, rest, word_at(rest), out);
    for (size_t i = 0; i < ST_ARRAY_LEN(descriptors); i++) {
        if (!st_slice_ieq(word, st_slice_of(descriptors[i].name)))
            continue;
        if (*rest != '\0')
            return fail(p, rest, "%s stands alone", descriptors[i].name);
        return parse_fields(p, descriptors[i].means, out);
    }
    return fail(p, at,
                "there is no \"%.*s\": @every DURATION, @hourly, @daily, @midnight, @weekly, "
                "@monthly, @yearly, @annually",
                (int)(word.len < 32 ? word.len : 32), at);
}

/* CRON_TZ=Zone or TZ=Zone; *at moves behind it. */
static int parse_zone(const struct parser *p, const char **at, struct st_cron_expression *out)
{
    size_t prefix = 0;
    struct st_slice word;

    if (strncmp(*at, "CRON_TZ=", 8) == 0)
        prefix = 8;
    else if (strncmp(*at, "TZ=", 3) == 0)
        prefix = 3;
    else
        return ST_OK;
    word = word_at(*at + prefix);
    if (word.len == 0 || word.len > ST_CRON_MAX_ZONE)
        return fail(p, word.ptr, "a time zone is expected, such as Europe/Berlin");
    memcpy(out->zone, word.ptr, word.len);
    *at = skip_space(word.ptr + word.len);
    return ST_OK;
}

int st_cron_parse(struct st_cron_expression *out, const char *text, struct st_error *err)
{
    struct parser p = {text, err};
    const char *at = skip_space(text);
    int code;

    *out = (struct st_cron_expression){.every_s = 0};
    if (strlen(text) > ST_CRON_MAX_TEXT)
        return fail(&p, text + ST_CRON_MAX_TEXT, "more than %d characters", ST_CRON_MAX_TEXT);
    code = parse_zone(&p, &at, out);
    if (code != ST_OK)
        return code;
    return *at == '@' ? parse_descriptor(&p, at, out) : parse_fields(&p, at, out);
}
