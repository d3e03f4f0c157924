/* Cron expressions, TZ rules and time zone files from any bytes; the first byte picks which. */
#include <stdlib.h>

#include "triggers/cron/schedule.h"

#define YEAR_S (366ll * 86400)

/* Times go on, and spans join. */
static void walk(const struct st_cron_expression *e, const struct st_cron_zone *zone)
{
    int64_t t = 1774700000; /* days before a change of the clock in Europe */

    for (unsigned i = 0; i < 50 && t < 5000000000; i++) {
        struct st_cron_span span = st_cron_zone_span(zone, t);
        int64_t next = st_cron_next(e, zone, t);

        ST_ASSERT(next > t && span.begin <= t && t < span.end);
        if (next == ST_CRON_NEVER)
            break;
        t = next;
    }
}

static void run_expression(const char *text)
{
    struct st_cron_expression e;
    struct st_cron_zone *zone = NULL;
    struct st_error err = {.code = ST_OK};

    if (st_cron_parse(&e, text, &err) != ST_OK) {
        ST_ASSERT(err.code == ST_ERR_INVALID && err.text[0] != '\0');
        return;
    }
    ST_ASSERT(e.every_s != 0 || (e.seconds != 0 && e.minutes != 0 && e.hours != 0 && e.days != 0 &&
                                 e.months != 0 && e.weekdays != 0));
    if (st_cron_zone_rule(&zone, ST_SLICE("CET-1CEST,M3.5.0,M10.5.0/3"), NULL) == ST_OK)
        walk(&e, zone);
    st_cron_zone_free(zone);
}

static void run_zone(struct st_slice bytes, bool is_file)
{
    static const char *const expressions[] = {"* * * * *", "30 2 * * *", "0 0 29 2 *"};
    struct st_cron_expression e;
    struct st_cron_zone *zone = NULL;

    if ((is_file ? st_cron_zone_read(&zone, bytes, NULL) : st_cron_zone_rule(&zone, bytes, NULL)) !=
        ST_OK)
        return;
    for (size_t i = 0; i < ST_ARRAY_LEN(expressions); i++)
        if (st_cron_parse(&e, expressions[i], NULL) == ST_OK)
            walk(&e, zone);
    for (int64_t t = -500 * YEAR_S; t < 500 * YEAR_S; t += 17 * YEAR_S)
        ST_ASSERT(st_cron_zone_span(zone, t).end > t);
    st_cron_zone_free(zone);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text;

    if (size == 0)
        return 0;
    text = malloc(size); /* of just this size: a read behind the end is seen */
    ST_ASSERT(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (data[0] == 'z')
        run_zone((struct st_slice){text, size - 1}, true);
    else if (data[0] == 'r')
        run_zone((struct st_slice){text, size - 1}, false);
    else
        run_expression(text);
    free(text);
    return 0;
}
