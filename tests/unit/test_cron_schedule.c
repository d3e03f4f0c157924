/* The next time of a schedule: cases by hand, and a search minute by minute with libc's idea of
 * local time for random expressions around changes of the clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "processor/core/rand.h"
#include "triggers/cron/calendar.h"
#include "triggers/cron/schedule.h"

enum { WEEK = 7 * 86400, ALL_H24 = 0xffffff };

static struct st_cron_expression parse(const char *text)
{
    struct st_cron_expression e;
    struct st_error err;

    if (st_cron_parse(&e, text, &err) != ST_OK)
        fail_msg("%s", err.text);
    return e;
}

static struct st_cron_zone *zone_of(const char *name)
{
    struct st_cron_zone *zone = NULL;
    struct st_error err;

    if (st_cron_zone_open(&zone, name, &err) != ST_OK)
        fail_msg("%s", err.text);
    return zone;
}

/* "2026-03-29 01:59:59", UTC */
static int64_t utc(const char *text)
{
    struct tm tm = {.tm_isdst = 0};

    assert_non_null(strptime(text, "%Y-%m-%d %H:%M:%S", &tm));
    return timegm(&tm);
}

static const struct {
    const char *zone, *expression, *after, *next;
} cases[] = {
    {"UTC", "* * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01:00"},
    {"UTC", "* * * * *", "2026-12-31 23:59:59", "2027-01-01 00:00:00"},
    {"UTC", "*/1 * * * * *", "2026-12-31 23:59:59", "2027-01-01 00:00:00"},
    {"UTC", "30 5 4 3 2 *", "2026-01-01 00:00:00", "2026-02-03 04:05:30"},
    {"UTC", "0 0 29 2 *", "2024-02-29 00:00:00", "2028-02-29 00:00:00"},
    {"UTC", "0 0 29 2 *", "2096-02-29 00:00:00", "2104-02-29 00:00:00"},
    {"UTC", "0 0 31 * *", "2026-01-31 00:00:00", "2026-03-31 00:00:00"},
    {"UTC", "0 0 13 * FRI", "2026-02-01 00:00:00", "2026-02-06 00:00:00"},
    {"UTC", "0 0 13 * FRI", "2026-02-06 00:00:00", "2026-02-13 00:00:00"},
    {"UTC", "0 0 */2 * MON", "2026-02-01 00:00:00", "2026-02-02 00:00:00"},
    {"UTC", "@every 90s", "2026-02-01 00:00:10", "2026-02-01 00:01:40"},
    {"UTC", "0 0 1 1 *", "1960-06-01 00:00:00", "1961-01-01 00:00:00"},
    {"Asia/Kolkata", "0 9 * * *", "2026-02-01 00:00:00", "2026-02-01 03:30:00"},
    /* 02:00-03:00 local is skipped at 01:00 UTC */
    {"Europe/Berlin", "30 2 * * *", "2026-03-28 12:00:00", "2026-03-29 01:00:00"},
    {"Europe/Berlin", "30 2 * * *", "2026-03-29 01:00:00", "2026-03-30 00:30:00"},
    {"Europe/Berlin", "0 3 * * *", "2026-03-28 12:00:00", "2026-03-29 01:00:00"},
    {"Europe/Berlin", "*/20 2,3 * * *", "2026-03-28 12:00:00", "2026-03-29 01:00:00"},
    {"Europe/Berlin", "*/20 2,3 * * *", "2026-03-29 01:00:00", "2026-03-29 01:20:00"},
    {"Europe/Berlin", "30 * * * *", "2026-03-29 00:30:00", "2026-03-29 01:30:00"},
    /* 02:00-03:00 local comes at 00:00 and again at 01:00 UTC */
    {"Europe/Berlin", "30 2 * * *", "2026-10-24 12:00:00", "2026-10-25 00:30:00"},
    {"Europe/Berlin", "30 2 * * *", "2026-10-25 00:30:00", "2026-10-26 01:30:00"},
    {"Europe/Berlin", "30 2 * * *", "2026-10-25 01:00:00", "2026-10-26 01:30:00"},
    {"Europe/Berlin", "0 2,3 * * *", "2026-10-25 00:00:00", "2026-10-25 02:00:00"},
    {"Europe/Berlin", "30 * * * *", "2026-10-25 00:30:00", "2026-10-25 01:30:00"},
    {"Europe/Berlin", "0 0 2 * * *", "2099-10-24 12:00:00", "2099-10-25 00:00:00"},
    {"America/New_York", "30 2 * * *", "2026-03-08 00:00:00", "2026-03-08 07:00:00"},
    {"America/New_York", "30 1 * * *", "2026-11-01 05:30:00", "2026-11-02 06:30:00"},
    {"America/New_York", "30 1 * * *", "2126-11-02 12:00:00", "2126-11-03 05:30:00"},
    /* half an hour: 02:00-02:30 is skipped, 01:30-02:00 repeated */
    {"Australia/Lord_Howe", "15 2 * * *", "2026-10-03 12:00:00", "2026-10-03 15:30:00"},
    {"Australia/Lord_Howe", "45 1 * * *", "2026-04-04 14:45:00", "2026-04-05 15:15:00"},
    /* a whole day is skipped */
    {"Pacific/Apia", "0 12 30 12 *", "2011-01-01 00:00:00", "2011-12-30 10:00:00"},
    {"Europe/Dublin", "30 1 * * *", "2026-03-28 12:00:00", "2026-03-29 01:00:00"},
};

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_cron_expression e = parse(cases[i].expression);
        struct st_cron_zone *zone = zone_of(cases[i].zone);
        int64_t next = st_cron_next(&e, zone, utc(cases[i].after));

        if (next != utc(cases[i].next))
            fail_msg("%s: %s after %s is %lld, not %lld", cases[i].zone, cases[i].expression,
                     cases[i].after, (long long)next, (long long)utc(cases[i].next));
        st_cron_zone_free(zone);
    }
}

/* ---- random expressions against a search ---- */

static void random_field(struct st_rand *r, char *out, size_t size, unsigned min, unsigned max)
{
    unsigned a = min + (unsigned)st_rand_below(r, max - min + 1);
    unsigned b = a + (unsigned)st_rand_below(r, max - a + 1);

    switch (st_rand_below(r, 6)) {
    case 0:
    case 1:
        snprintf(out, size, "*");
        break;
    case 2:
        snprintf(out, size, "%u", a);
        break;
    case 3:
        snprintf(out, size, "%u-%u", a, b);
        break;
    case 4:
        snprintf(out, size, "*/%u", 1 + (unsigned)st_rand_below(r, max / 2));
        break;
    default:
        snprintf(out, size, "%u,%u-%u/2", min, a, b);
        break;
    }
}

static void random_expression(struct st_rand *r, char *out, size_t size)
{
    char f[5][32];

    do {
        struct st_cron_expression e;

        random_field(r, f[0], sizeof f[0], 0, 59);
        random_field(r, f[1], sizeof f[1], 0, 23);
        random_field(r, f[2], sizeof f[2], 1, 31);
        random_field(r, f[3], sizeof f[3], 1, 12);
        random_field(r, f[4], sizeof f[4], 0, 6);
        snprintf(out, size, "%s %s %s %s %s", f[0], f[1], f[2], f[3], f[4]);
        if (st_cron_parse(&e, out, NULL) == ST_OK)
            return;
    } while (true);
}

static bool matches(const struct st_cron_expression *e, const struct tm *tm)
{
    bool date = (e->days >> tm->tm_mday & 1) != 0, week = (e->weekdays >> tm->tm_wday & 1) != 0;

    return (e->minutes >> tm->tm_min & 1) != 0 && (e->hours >> tm->tm_hour & 1) != 0 &&
           (e->months >> (tm->tm_mon + 1) & 1) != 0 &&
           (e->any_day || e->any_weekday ? date && week : date || week);
}

static bool local_matches(const struct st_cron_expression *e, int64_t local)
{
    struct tm tm;
    time_t t = local;

    gmtime_r(&t, &tm);
    return matches(e, &tm);
}

/* Whether a run belongs to this minute, and the furthest local time so far. */
static bool search_minute(const struct st_cron_expression *e, int64_t t, int64_t *reached)
{
    struct tm tm;
    time_t at = t;
    int64_t local, before = *reached;
    bool by_hour = e->hours != ALL_H24;

    localtime_r(&at, &tm);
    local = t + tm.tm_gmtoff;
    if (local > *reached)
        *reached = local;
    if (!by_hour)
        return matches(e, &tm);
    for (int64_t gap = before + 60; gap < local; gap += 60)
        if (local_matches(e, gap))
            return true;
    return local > before && matches(e, &tm);
}

static void search(const char *name, const char *text, int64_t from, int64_t until)
{
    struct st_cron_expression e = parse(text);
    struct st_cron_zone *zone = zone_of(name);
    int64_t next = st_cron_next(&e, zone, from - 1), reached;
    struct tm tm;
    time_t at = from - 60;

    localtime_r(&at, &tm);
    reached = at + tm.tm_gmtoff;
    for (int64_t t = from; t < until; t += 60) {
        bool due = search_minute(&e, t, &reached);

        if (due != (next == t))
            fail_msg("%s in %s: %lld, found %lld", text, name, (long long)t, (long long)next);
        if (due)
            next = st_cron_next(&e, zone, t);
        assert_true(next > t);
    }
    st_cron_zone_free(zone);
}

static void test_search(void **state)
{
    static const char *const zones[] = {"Europe/Berlin", "America/New_York",  "Australia/Lord_Howe",
                                        "Europe/Dublin", "Africa/Casablanca", "UTC"};
    static const char *const begins[] = {"2026-03-01 00:00:00", "2026-03-20 00:00:00",
                                         "2026-09-25 00:00:00", "2026-10-20 00:00:00",
                                         "2044-10-20 00:00:00"};
    struct st_rand r;
    char text[160];

    (void)state;
    st_rand_seed(&r, 7);
    for (size_t z = 0; z < ST_ARRAY_LEN(zones); z++) {
        setenv("TZ", zones[z], 1);
        tzset();
        for (size_t b = 0; b < ST_ARRAY_LEN(begins); b++) {
            for (unsigned i = 0; i < 12; i++) {
                int64_t from = utc(begins[b]);
                random_expression(&r, text, sizeof text);
                search(zones[z], text, from, from + 2 * (int64_t)WEEK);
            }
        }
    }
    unsetenv("TZ");
}

/* ---- zones ---- */

static void test_calendar(void **state)
{
    (void)state;
    for (int64_t day = -800000; day < 800000; day += 13) {
        struct st_cron_date d = st_cron_date_of(day);
        time_t t = day * ST_CRON_DAY_S;
        struct tm tm;

        gmtime_r(&t, &tm);
        assert_int_equal(d.year, tm.tm_year + 1900);
        assert_int_equal(d.month, tm.tm_mon + 1);
        assert_int_equal(d.day, tm.tm_mday);
        assert_int_equal(st_cron_weekday(day), tm.tm_wday);
        assert_int_equal(st_cron_days(d.year, d.month, d.day), day);
    }
}

/* Offsets of the file and of the rule behind it agree with libc's, and so do their borders. */
static void test_offsets(void **state)
{
    static const char *const zones[] = {"Europe/Berlin", "America/New_York",  "Australia/Lord_Howe",
                                        "Pacific/Apia",  "Africa/Casablanca", "Asia/Kathmandu",
                                        "Europe/Dublin", "America/Sao_Paulo", "Antarctica/Troll"};

    (void)state;
    for (size_t z = 0; z < ST_ARRAY_LEN(zones); z++) {
        struct st_cron_zone *zone = zone_of(zones[z]);
        int64_t t = utc("1902-01-01 00:00:00");

        setenv("TZ", zones[z], 1);
        tzset();
        for (unsigned i = 0; i < 800; i++) {
            struct st_cron_span span = st_cron_zone_span(zone, t);
            struct tm tm;
            time_t at = t;

            localtime_r(&at, &tm);
            assert_int_equal(span.offset, tm.tm_gmtoff);
            assert_true(span.begin <= t && t < span.end);
            if (span.end == INT64_MAX || span.end > utc("2140-01-01 00:00:00"))
                break;
            assert_int_equal(st_cron_zone_span(zone, span.end).begin, span.end);
            assert_int_equal(st_cron_zone_span(zone, span.end).before, span.offset);
            at = span.end - 1;
            localtime_r(&at, &tm);
            assert_int_equal(span.offset, tm.tm_gmtoff);
            t = span.end;
        }
        assert_true(t > utc("1940-01-01 00:00:00"));
        st_cron_zone_free(zone);
    }
    unsetenv("TZ");
}

/* Not against libc: its default is a file, posixrules, with history. */
static void assert_american_default(void)
{
    struct st_cron_zone *zone = NULL;

    assert_int_equal(st_cron_zone_rule(&zone, ST_SLICE("XST5XDT"), NULL), ST_OK);
    assert_int_equal(st_cron_zone_span(zone, utc("2026-03-08 07:00:00")).offset, -4 * 3600);
    assert_int_equal(st_cron_zone_span(zone, utc("2026-11-01 06:00:00")).offset, -5 * 3600);
    assert_int_equal(st_cron_zone_span(zone, utc("2026-11-01 05:59:59")).offset, -4 * 3600);
    st_cron_zone_free(zone);
}

static void test_rules(void **state)
{
    static const char *const rules[] = {
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "EST5EDT,M3.2.0,M11.1.0",
        "IST-1GMT0,M10.5.0,M3.5.0/1",
        "<+0330>-3:30",
        "UTC0",
        "AAA3BBB,J60/0,J364/25",
        "AAA-3BBB,59,300/-1:30:15",
        "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
        "LHST-10:30LHDT-11,M10.1.0,M4.1.0",
    };
    static const char *const broken[] = {
        "",
        "CE-1",
        "CET",
        "CET25",
        "CET-1CEST,",
        "CET-1x",
        "<CET-1",
        "CET-1CEST,M3.5.0",
        "CET-1CEST,M13.5.0,M10.5.0",
        "CET-1CEST,M3.6.0,M10.5.0",
        "CET-1CEST,M3.5.7,M10.5.0",
        "CET-1CEST,J0,J5",
        "CET-1CEST,366,5",
        "CET-1CEST,M3.5.0/168,M10.5.0",
        "CET-1CEST,M3.5.0,M10.5.0x",
        "Europe/Berlin",
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(rules); i++) {
        struct st_cron_zone *zone = NULL;

        assert_int_equal(st_cron_zone_rule(&zone, st_slice_of(rules[i]), NULL), ST_OK);
        setenv("TZ", rules[i], 1);
        tzset();
        for (int64_t t = utc("2008-01-01 00:00:00"); t < utc("2040-01-01 00:00:00"); t += 1800) {
            struct tm tm;
            time_t at = t;

            localtime_r(&at, &tm);
            if (st_cron_zone_span(zone, t).offset != tm.tm_gmtoff)
                fail_msg("%s at %lld", rules[i], (long long)t);
        }
        st_cron_zone_free(zone);
    }
    unsetenv("TZ");
    assert_american_default();
    for (size_t i = 0; i < ST_ARRAY_LEN(broken); i++) {
        struct st_cron_zone *zone = NULL;
        if (st_cron_zone_rule(&zone, st_slice_of(broken[i]), NULL) != ST_ERR_INVALID)
            fail_msg("\"%s\" was taken", broken[i]);
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *name, *says;
    } refused[] = {
        {"Europe/Nowhere", "no time zone \"Europe/Nowhere\": /usr/share/zoneinfo/Europe/Nowhere "
                           "can't be opened: No such file or directory; is the package tzdata "
                           "there?"},
        {"../../etc/passwd", "\"../../etc/passwd\" is no name of a time zone; an example is "
                             "Europe/Berlin"},
        {"/etc/localtime",
         "\"/etc/localtime\" is no name of a time zone; an example is Europe/Berlin"},
        {"zone.tab", "\"zone.tab\" is no name of a time zone; an example is Europe/Berlin"},
        {"Europe",
         "no time zone \"Europe\": /usr/share/zoneinfo/Europe can't be read: Is a directory"},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(refused); i++) {
        struct st_cron_zone *zone = NULL;
        struct st_error err;

        assert_int_not_equal(st_cron_zone_open(&zone, refused[i].name, &err), ST_OK);
        assert_string_equal(err.text, refused[i].says);
    }
}

/* The container's zone, as libc would find it. */
static void test_local(void **state)
{
    static const struct {
        const char *tz;
        int32_t offset; /* in January 2026 */
    } zones[] = {{"Europe/Berlin", 3600},
                 {":Asia/Tokyo", 32400},
                 {"", 0},
                 {"UTC", 0},
                 {"EST5EDT,M3.2.0,M11.1.0", -18000},
                 {"/usr/share/zoneinfo/Asia/Tokyo", 32400}};
    struct st_cron_zone *zone = NULL;
    struct st_error err;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(zones); i++) {
        setenv("TZ", zones[i].tz, 1);
        zone = zone_of(i % 2 == 0 ? "" : "Local");
        assert_int_equal(st_cron_zone_span(zone, utc("2026-01-10 00:00:00")).offset,
                         zones[i].offset);
        st_cron_zone_free(zone);
    }
    setenv("TZ", "Nowhere", 1);
    assert_int_not_equal(st_cron_zone_open(&zone, "", &err), ST_OK);
    assert_non_null(strstr(err.text, "TZ of the environment: no time zone \"Nowhere\""));
    unsetenv("TZ");
    st_cron_zone_free(zone_of(""));
}

/* Every cut of a real file, and every byte of its heads changed, is refused or read; never more. */
static void test_broken_files(void **state)
{
    static char bytes[16384];
    FILE *f = fopen("/usr/share/zoneinfo/Europe/Berlin", "re");
    size_t len;

    (void)state;
    assert_non_null(f);
    len = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    for (size_t cut = 0; cut < len; cut++) {
        struct st_cron_zone *zone = NULL;
        char *copy = malloc(cut + 1);

        assert_non_null(copy);
        memcpy(copy, bytes, cut);
        assert_int_equal(st_cron_zone_read(&zone, (struct st_slice){copy, cut}, NULL),
                         ST_ERR_INVALID);
        free(copy);
    }
    for (size_t i = 0; i < len; i++) {
        struct st_cron_zone *zone = NULL;

        bytes[i] = (char)(bytes[i] ^ 0x81);
        if (st_cron_zone_read(&zone, (struct st_slice){bytes, len}, NULL) == ST_OK) {
            st_cron_zone_span(zone, utc("2026-01-10 00:00:00"));
            st_cron_zone_free(zone);
        }
        bytes[i] = (char)(bytes[i] ^ 0x81);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),    cmocka_unit_test(test_search),
        cmocka_unit_test(test_calendar), cmocka_unit_test(test_offsets),
        cmocka_unit_test(test_rules),    cmocka_unit_test(test_names),
        cmocka_unit_test(test_local),    cmocka_unit_test(test_broken_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
