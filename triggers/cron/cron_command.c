#include "triggers/cron/cron_command.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "processor/cli/usage.h"
#include "triggers/cron/calendar.h"
#include "triggers/cron/schedule.h"

static const char synopsis[] = "cron next EXPR [-n N] [--tz ZONE] [--after TIME]";

enum { OPT_TZ = 0x100, OPT_AFTER, OPT_HELP, MAX_COUNT = 1000000 };

struct words {
    const char *verb, *expression, *zone;
    int64_t after; /* seconds since the epoch */
    int count;
};

/* RFC 3339 in UTC: 2026-03-29T00:59:59Z. */
static int64_t parse_time(const char *text)
{
    struct tm tm = {.tm_isdst = 0};
    const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);

    if (end == NULL || *end != '\0')
        st_usage_fail(synopsis,
                      "cron: --after needs a time such as 2026-03-29T00:59:59Z, found \"%s\"",
                      text);
    return timegm(&tm);
}

static error_t parse_option(int key, char *arg, struct argp_state *state);

static const struct argp_option options[] = {
    {"count", 'n', "N", 0, "How many times to show (5)", 0},
    {"tz", OPT_TZ, "ZONE", 0, "Time zone, such as Europe/Berlin; by default this machine's", 0},
    {"after", OPT_AFTER, "TIME", 0, "Begin behind this time in UTC, such as 2026-03-29T00:59:59Z",
     0},
    {"help", OPT_HELP, NULL, 0, "Show this help", -1},
    {0},
};

static const struct argp command_argp = {
    options,
    parse_option,
    "next EXPR",
    "Show when a schedule of the cron trigger comes next.\v"
    "EXPR is one argument, so it needs quotes: 5 fields (minute hour day month weekday), 6 with "
    "leading seconds, @daily and its like, or @every 1m30s. A zone in EXPR (CRON_TZ=Zone) goes "
    "before --tz.",
    NULL,
    NULL,
    NULL};

static void take_word(struct words *w, const char *word)
{
    if (w->verb == NULL) {
        if (strcmp(word, "next") != 0)
            st_usage_fail(synopsis, "cron: there is no \"%s\"", word);
        w->verb = word;
    } else if (w->expression == NULL) {
        w->expression = word;
    } else {
        st_usage_fail(synopsis,
                      "cron: one expression is needed, found \"%s\" and \"%s\": put it in quotes",
                      w->expression, word);
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct words *w = state->input;

    switch (key) {
    case 'n':
        w->count = (int)st_usage_number(synopsis, "cron: -n", arg, 1, MAX_COUNT);
        return 0;
    case OPT_TZ:
        w->zone = arg;
        return 0;
    case OPT_AFTER:
        w->after = parse_time(arg);
        return 0;
    case OPT_HELP:
        argp_help(&command_argp, stdout, ARGP_HELP_LONG | ARGP_HELP_USAGE | ARGP_HELP_DOC,
                  state->name);
        exit(EXIT_SUCCESS);
    case ARGP_KEY_ARG:
        take_word(w, arg);
        return 0;
    case ARGP_KEY_ERROR:
        st_usage_bad_option("cron", synopsis, options, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* 2026-03-29T03:00:00+02:00 */
static void print_time(const struct st_cron_zone *zone, int64_t t)
{
    int32_t offset = st_cron_zone_span(zone, t).offset, minutes = abs(offset) / 60;
    int64_t day = st_cron_floor_div(t + offset, ST_CRON_DAY_S);
    int second = (int)(t + offset - day * ST_CRON_DAY_S);
    struct st_cron_date d = st_cron_date_of(day);

    printf("%04lld-%02u-%02uT%02d:%02d:%02d%c%02d:%02d\n", (long long)d.year, d.month, d.day,
           second / 3600, second / 60 % 60, second % 60, offset < 0 ? '-' : '+', minutes / 60,
           minutes % 60);
}

static int show(const struct words *w)
{
    struct st_cron_expression e;
    struct st_cron_zone *zone = NULL;
    struct st_error err;
    int64_t t = w->after;

    if (st_cron_parse(&e, w->expression, &err) != ST_OK ||
        st_cron_zone_open(&zone, e.zone[0] != '\0' ? e.zone : w->zone, &err) != ST_OK) {
        fprintf(stderr, "stator: %s\n", err.text);
        return EXIT_FAILURE;
    }
    for (int i = 0; i < w->count; i++) {
        t = st_cron_next(&e, zone, t);
        if (t == ST_CRON_NEVER)
            break;
        print_time(zone, t);
    }
    st_cron_zone_free(zone);
    return EXIT_SUCCESS;
}

static int run(int argc, char **argv)
{
    struct words w = {.zone = "", .after = time(NULL), .count = 5};

    if (argp_parse(&command_argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &w) != 0)
        st_usage_fail(synopsis, "cron: wrong usage");
    if (w.verb == NULL || w.expression == NULL)
        st_usage_fail(synopsis, "cron: an expression is missing");
    return show(&w);
}

const struct st_command st_cron_command = {.name = "cron", .run = run};
