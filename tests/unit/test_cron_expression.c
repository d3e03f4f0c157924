/* Cron expressions: what they mean, and what is said about those that mean nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "triggers/cron/expression.h"

#define RANGE(a, b) ((2ull << (b)) - (1ull << (a)))
#define BIT(n) (1ull << (n))
#define ALL_S RANGE(0, 59)
#define ALL_H RANGE(0, 23)
#define ALL_D RANGE(1, 31)
#define ALL_M RANGE(1, 12)
#define ALL_W RANGE(0, 6)

static const struct good {
    const char *text;
    uint64_t seconds, minutes, hours, days, months, weekdays;
    bool any_day, any_weekday;
} good[] = {
    {"* * * * *", 1, ALL_S, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"  *\t*  * * *\n", 1, ALL_S, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"? ? ? ? ?", 1, ALL_S, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"0 0 1 1 0", 1, 1, 1, BIT(1), BIT(1), 1, false, false},
    {"59 23 31 12 6", 1, BIT(59), BIT(23), BIT(31), BIT(12), BIT(6), false, false},
    {"5,10,15 * * * *", 1, BIT(5) | BIT(10) | BIT(15), ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"*/20 * * * *", 1, 1 | BIT(20) | BIT(40), ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"50/4 * * * *", 1, BIT(50) | BIT(54) | BIT(58), ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"10-20/5,59 1-3 * * *", 1, BIT(10) | BIT(15) | BIT(20) | BIT(59), RANGE(1, 3), ALL_D, ALL_M,
     ALL_W, true, true},
    {"0 0 */10 * *", 1, 1, 1, BIT(1) | BIT(11) | BIT(21) | BIT(31), ALL_M, ALL_W, false, true},
    {"0 0 */1 * *", 1, 1, 1, ALL_D, ALL_M, ALL_W, true, true},
    {"0 0 *,5 * MON", 1, 1, 1, ALL_D, ALL_M, BIT(1), true, false},
    {"0 0 * jan-MAR,Dec mon-FRI", 1, 1, 1, ALL_D, RANGE(1, 3) | BIT(12), RANGE(1, 5), true, false},
    {"0 0 * * 7", 1, 1, 1, ALL_D, ALL_M, 1, true, false},
    {"0 0 * * 5-7", 1, 1, 1, ALL_D, ALL_M, BIT(5) | BIT(6) | 1, true, false},
    {"0 0 * * 5/2", 1, 1, 1, ALL_D, ALL_M, BIT(5), true, false},
    {"0 0 * * 0-7", 1, 1, 1, ALL_D, ALL_M, ALL_W, true, false},
    {"*/100 * * * *", 1, 1, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"0 0 29 2 *", 1, 1, 1, BIT(29), BIT(2), ALL_W, false, true},
    {"0 0 30 2 MON", 1, 1, 1, BIT(30), BIT(2), BIT(1), false, false},
    {"7 6 5 4 3 2", BIT(7), BIT(6), BIT(5), BIT(4), BIT(3), BIT(2), false, false},
    {"* * * * * *", 1, ALL_S, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"*/1 * * * * *", ALL_S, ALL_S, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"0-59 * * * * *", ALL_S, ALL_S, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
    {"@yearly", 1, 1, 1, BIT(1), BIT(1), ALL_W, false, true},
    {"@annually", 1, 1, 1, BIT(1), BIT(1), ALL_W, false, true},
    {"@monthly", 1, 1, 1, BIT(1), ALL_M, ALL_W, false, true},
    {"@weekly", 1, 1, 1, ALL_D, ALL_M, 1, true, false},
    {"@daily", 1, 1, 1, ALL_D, ALL_M, ALL_W, true, true},
    {"@Midnight ", 1, 1, 1, ALL_D, ALL_M, ALL_W, true, true},
    {"@hourly", 1, 1, ALL_H, ALL_D, ALL_M, ALL_W, true, true},
};

static void test_good(void **state)
{
    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(good); i++) {
        const struct good *g = &good[i];
        struct st_cron_expression e;
        struct st_error err;

        if (st_cron_parse(&e, g->text, &err) != ST_OK)
            fail_msg("%s: %s", g->text, err.text);
        if (e.seconds != g->seconds || e.minutes != g->minutes || e.hours != g->hours ||
            e.days != g->days || e.months != g->months || e.weekdays != g->weekdays ||
            e.any_day != g->any_day || e.any_weekday != g->any_weekday || e.every_s != 0 ||
            e.zone[0] != '\0')
            fail_msg("%s means something else", g->text);
    }
}

static void test_every_and_zone(void **state)
{
    static const struct {
        const char *text;
        uint64_t every_s;
        const char *zone;
    } cases[] = {
        {"@every 1m30s", 90, ""},
        {"@every  1h ", 3600, ""},
        {"@every 1.9s", 1, ""},
        {"@every 10ms", 1, ""},
        {"CRON_TZ=Europe/Berlin @every 2s", 2, "Europe/Berlin"},
        {"TZ=UTC 0 3 * * *", 0, "UTC"},
        {" CRON_TZ=Etc/GMT+5  */5 * 0 3 * *", 0, "Etc/GMT+5"},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_cron_expression e;
        struct st_error err;

        if (st_cron_parse(&e, cases[i].text, &err) != ST_OK)
            fail_msg("%s: %s", cases[i].text, err.text);
        assert_int_equal(e.every_s, cases[i].every_s);
        assert_string_equal(e.zone, cases[i].zone);
    }
}

static const struct bad {
    const char *text;
    unsigned position;
    const char *says;
} bad[] = {
    {"", 1,
     "0 fields found, needed are 5 (minute hour day month weekday), or 6 with leading seconds"},
    {"   ", 4,
     "0 fields found, needed are 5 (minute hour day month weekday), or 6 with leading seconds"},
    {"*", 2,
     "1 field found, needed are 5 (minute hour day month weekday), or 6 with leading seconds"},
    {"* * * *", 8,
     "4 fields found, needed are 5 (minute hour day month weekday), or 6 with leading seconds"},
    {"0 0 1 1 * * 2027", 13, "more than 6 fields"},
    {"60 * * * *", 1, "minute 60 is not within 0-59"},
    {"60 * * * * *", 1, "second 60 is not within 0-59"},
    {"* 24 * * *", 3, "hour 24 is not within 0-23"},
    {"* * 0 * *", 5, "day of month 0 is not within 1-31"},
    {"* * 32 * *", 5, "day of month 32 is not within 1-31"},
    {"* * * 13 *", 7, "month 13 is not within 1-12"},
    {"* * * * 8", 9, "day of week 8 is not within 0-6"},
    {"99999999999999999999 * * * *", 1, "minute 9999999 is not within 0-59"},
    {"1,2,x * * * *", 5, "\"x\" is no minute: it is a number within 0-59"},
    {"* * * JANUARY *", 7, "\"JANUARY\" is no month: numbers are 1-12, names JAN, FEB ..."},
    {"* * * * mo", 9, "\"mo\" is no day of week: numbers are 0-6, names SUN, MON ..."},
    {"* * L * *", 5, "\"L\" is no day of month: it is a number within 1-31"},
    {"-5 * * * *", 1, "\"-\" where the minute is expected"},
    {"5- * * * *", 3, "the minute is missing"},
    {"5, * * * *", 3, "the minute is missing"},
    {",5 * * * *", 1, "\",\" where the minute is expected"},
    {"20-10 * * * *", 4, "range 20-10 goes backwards"},
    {"* * * * FRI-MON", 13, "range 5-1 goes backwards"},
    {"*/0 * * * *", 3, "a step is a number from 1"},
    {"*/ * * * *", 3, "a step is a number from 1"},
    {"*/x * * * *", 3, "a step is a number from 1"},
    {"1-2-3 * * * *", 4, "\"-\" where a comma or the next field is expected"},
    {"*5 * * * *", 2, "\"5\" where a comma or the next field is expected"},
    {"5#2 * * * *", 2, "\"#\" where a comma or the next field is expected"},
    {"0 0 31 2,4 *", 5, "there is no such day in these months"},
    {"0 0 31 2 *", 5, "there is no such day in these months"},
    {"0 0 30,31 FEB ?", 5, "there is no such day in these months"},
    {"@dayly", 1,
     "there is no \"@dayly\": @every DURATION, @hourly, @daily, @midnight, @weekly, @monthly, "
     "@yearly, @annually"},
    {"@daily 5", 8, "@daily stands alone"},
    {"@every", 7, "@every needs a duration, such as @every 1m30s"},
    {"@every 5", 8, "\"5\" is no duration, such as 1m30s"},
    {"@every -5s", 8, "\"-5s\" is no duration, such as 1m30s"},
    {"@every 0s", 8, "\"0s\" is no duration, such as 1m30s"},
    {"@every 1m 5s", 11, "more than one duration"},
    {"CRON_TZ= * * * * *", 9, "a time zone is expected, such as Europe/Berlin"},
    {"CRON_TZ=UTC", 12,
     "0 fields found, needed are 5 (minute hour day month weekday), or 6 with leading seconds"},
    {"cron_tz=UTC 1 2 3 4 5", 1, "\"cron\" is no second: it is a number within 0-59"},
    {"1 \x01 * * *", 3, "\"?\" where the hour is expected"},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(bad); i++) {
        const struct bad *b = &bad[i];
        struct st_cron_expression e;
        struct st_error err = {.code = ST_OK};
        char wanted[400], shown[ST_CRON_MAX_TEXT + 1];

        if (st_cron_parse(&e, b->text, &err) != ST_ERR_INVALID)
            fail_msg("%s was taken", b->text);
        snprintf(shown, sizeof shown, "%s", b->text);
        for (char *c = shown; *c != '\0'; c++)
            *c = *c < ' ' ? '?' : *c;
        snprintf(wanted, sizeof wanted,
                 "\"%s\", position %u: %s; an example is \"*/15 9-17 * * MON-FRI\"", shown,
                 b->position, b->says);
        assert_string_equal(err.text, wanted);
        assert_int_equal(err.code, ST_ERR_INVALID);
    }
}

static void test_too_long(void **state)
{
    char text[400];
    struct st_cron_expression e;
    struct st_error err;

    (void)state;
    memset(text, ' ', sizeof text);
    memcpy(text, "* * * * *", 9);
    text[ST_CRON_MAX_TEXT] = '\0';
    assert_int_equal(st_cron_parse(&e, text, &err), ST_OK);
    text[ST_CRON_MAX_TEXT] = ' ';
    text[ST_CRON_MAX_TEXT + 1] = '\0';
    assert_int_equal(st_cron_parse(&e, text, &err), ST_ERR_INVALID);
    assert_non_null(strstr(err.text, "position 257: more than 256 characters"));
    memset(text, 'Z', 100);
    memcpy(text, "TZ=", 3);
    memcpy(text + 100, " * * * * *", 11);
    assert_int_equal(st_cron_parse(&e, text, &err), ST_ERR_INVALID);
    assert_non_null(strstr(err.text, "position 4: a time zone is expected"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_every_and_zone),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_too_long),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
