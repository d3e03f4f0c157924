#include "tests/unit/test_core.h"

#include <time.h>

#include "processor/core/clock.h"
#include "processor/core/rand.h"

static void check(uint64_t wall_ns, const char *http, const char *iso)
{
    char date[ST_HTTP_DATE_LEN + 1], stamp[ST_ISO8601_LEN + 1];

    st_clock_http_date(wall_ns, date);
    st_clock_iso8601(wall_ns, stamp);
    assert_string_equal(date, http);
    assert_string_equal(stamp, iso);
}

static void test_known(void **state)
{
    (void)state;
    check(0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000Z");
    check(784111777 * ST_SEC + 999999999, "Sun, 06 Nov 1994 08:49:37 GMT",
          "1994-11-06T08:49:37.999Z");
    check(951782400 * ST_SEC + 7 * ST_MSEC, "Tue, 29 Feb 2000 00:00:00 GMT",
          "2000-02-29T00:00:00.007Z");
    check(4107542399 * ST_SEC, "Sun, 28 Feb 2100 23:59:59 GMT", "2100-02-28T23:59:59.000Z");
    check(4107542400 * ST_SEC, "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01T00:00:00.000Z");
}

/* Against the C library, over the five centuries that 64 bits of nanoseconds hold. */
static void test_random(void **state)
{
    struct st_rand r;
    char http[64], iso[64], day[32];

    (void)state;
    st_rand_seed(&r, 3);
    for (int i = 0; i < 20000; i++) {
        uint64_t ns = i % 2 != 0 ? st_rand_next(&r) : (uint64_t)i * 86400 * ST_SEC;
        time_t t = (time_t)(ns / ST_SEC);
        struct tm tm;

        gmtime_r(&t, &tm);
        strftime(http, sizeof(http), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(iso, sizeof(iso), "%s.%03uZ", day, (unsigned)(ns % ST_SEC / ST_MSEC));
        check(ns, http, iso);
    }
}

static void test_now(void **state)
{
    uint64_t a = st_clock_mono(), b = st_clock_mono();
    uint64_t wall = st_clock_wall();
    time_t t = time(NULL);

    (void)state;
    assert_true(b >= a);
    assert_true(a > 0);
    assert_in_range((uint64_t)t - wall / ST_SEC + 1, 0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_now),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
