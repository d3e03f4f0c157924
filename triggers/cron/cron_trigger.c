#include "triggers/cron/cron_trigger.h"

#include <stdio.h>
#include <stdlib.h>

#include "processor/config/config.h"
#include "processor/labels.h"
#include "processor/processor.h"
#include "triggers/cron/cron_int.h"

static const char *const missed_names[] = {"skip", "once", "all", NULL};
static const char *const concurrency_names[] = {"forbid", "allow", "replace", NULL};

#define EVENT(member) \
    (offsetof(struct cron_attributes, event.member) - offsetof(struct cron_attributes, event))
static const struct st_option event_options[] = {
    {.name = "body",
     .type = ST_OPT_STRING,
     .offset = EVENT(body),
     .value = "",
     .help = "Body of each event.",
     .example = "hello"},
    {.name = "headers",
     .type = ST_OPT_STRING_MAP,
     .offset = EVENT(headers),
     .flags = ST_OPT_SCALARS,
     .help = "Headers of each event.",
     .example = "{x-job: report}"},
    {.name = "path",
     .type = ST_OPT_STRING,
     .offset = EVENT(path),
     .value = "/",
     .help = "Path of each event.",
     .example = "/"},
    {.name = "method",
     .type = ST_OPT_STRING,
     .offset = EVENT(method),
     .value = "",
     .help = "Method of each event.",
     .example = "POST"},
    {.name = NULL},
};
#undef EVENT

#define AT(member) offsetof(struct cron_attributes, member)
static const struct st_option attributes[] = {
    {.name = "interval",
     .type = ST_OPT_DURATION,
     .offset = AT(interval_ns),
     .min = 1e6,
     .max = 3.2e17,
     .help = "Time between ticks, from the start on; goes before schedule.",
     .example = "30s"},
    {.name = "schedule",
     .type = ST_OPT_STRING,
     .offset = AT(schedule),
     .value = "",
     .help = "Cron expression of 5 fields, or 6 with leading seconds, @daily and its like, or "
             "@every DURATION.",
     .example = "*/15 9-17 * * MON-FRI"},
    {.name = "event",
     .type = ST_OPT_OBJECT,
     .offset = AT(event),
     .table = event_options,
     .help = "What each event carries.",
     .example = "{body: hello}"},
    {.name = "timeZone",
     .type = ST_OPT_STRING,
     .offset = AT(time_zone),
     .value = "",
     .help = "IANA name of the zone of schedule; by default the container's.",
     .example = "Europe/Berlin"},
    {.name = "missed",
     .type = ST_OPT_ENUM,
     .offset = AT(missed),
     .value = "once",
     .values = missed_names,
     .help = "Whether missed ticks are forgotten, run once for all, or run one by one.",
     .example = "once"},
    {.name = "maxMissed",
     .type = ST_OPT_INT,
     .offset = AT(max_missed),
     .value = "100",
     .min = 1,
     .max = 10000,
     .help = "With missed: all, how many ticks may wait; the latest are kept.",
     .example = "100"},
    {.name = "concurrency",
     .type = ST_OPT_ENUM,
     .offset = AT(concurrency),
     .value = "forbid",
     .values = concurrency_names,
     .help = "Whether a tick waits for the one that runs, runs beside it, or replaces it.",
     .example = "forbid"},
    {.name = "concurrencyPolicy", .type = ST_OPT_ANY, .help = "For the platform."},
    {.name = "jobBackoffLimit", .type = ST_OPT_ANY, .help = "For the platform."},
    {.name = NULL},
};
#undef AT

/* ---- configuration ---- */

/* What says when: nothing for an interval. *member is what is at fault. */
static int parse_schedule(const struct cron_attributes *a, struct st_cron_expression *expression,
                          struct st_cron_zone **zone, const char **member, struct st_error *err)
{
    const char *name = a->time_zone;
    int code;

    *member = "attributes";
    if (a->interval_ns != 0)
        return ST_OK;
    if (a->schedule[0] == '\0')
        return st_error_set(err, ST_ERR_INVALID,
                            "found neither schedule nor interval, expected one of them; an example "
                            "is schedule: \"*/15 9-17 * * MON-FRI\"");
    *member = "attributes.schedule";
    code = st_cron_parse(expression, a->schedule, err);
    if (code != ST_OK)
        return code;
    if (expression->zone[0] != '\0')
        name = expression->zone;
    else
        *member = "attributes.timeZone";
    return st_cron_zone_open(zone, name, err);
}

static int read_schedule(struct cron_trigger *ct, struct st_error *err)
{
    struct st_error inner;
    const char *member;
    int code = parse_schedule(cron_attributes_of(ct), &ct->expression, &ct->zone, &member, &inner);

    if (code != ST_OK)
        return st_error_set(err, code, "trigger %s: %s: %s", ct->base.name, member, inner.text);
    return ST_OK;
}

static int check_headers(const struct st_string_map *map, struct st_error *err)
{
    if (map->count >= UINT8_MAX)
        return st_error_set(err, ST_ERR_INVALID, "found %zu headers, expected at most %d",
                            map->count, UINT8_MAX - 1);
    for (size_t i = 0; i < map->count; i++) {
        const char *value = map->items[i].value != NULL ? map->items[i].value : "";
        struct st_slice name = st_slice_of(map->items[i].name);

        if (name.len > UINT16_MAX || !st_http_name_ok(name) ||
            !st_http_value_ok(st_slice_of(value)))
            return st_error_set(err, ST_ERR_INVALID, "\"%.64s\" is no header", name.ptr);
    }
    return ST_OK;
}

static int cron_check(const struct st_trigger_config *config, char member[ST_TRIGGER_MEMBER_MAX],
                      struct st_error *err)
{
    const struct cron_attributes *a = config->attributes;
    struct st_cron_expression expression;
    struct st_cron_zone *zone = NULL;
    const char *where;
    int code = parse_schedule(a, &expression, &zone, &where, err);

    st_cron_zone_free(zone);
    if (code == ST_OK) {
        where = "attributes.event.headers";
        code = check_headers(&a->event.headers, err);
    }
    snprintf(member, ST_TRIGGER_MEMBER_MAX, "%s", where);
    return code;
}

static int read_headers(struct cron_trigger *ct, struct st_error *err)
{
    const struct st_string_map *map = &cron_attributes_of(ct)->event.headers;
    struct st_error inner;

    if (check_headers(map, &inner) != ST_OK)
        return st_error_set(err, ST_ERR_INVALID, "trigger %s: attributes.event.headers: %s",
                            ct->base.name, inner.text);
    ct->headers = calloc(map->count + 1, sizeof ct->headers[0]);
    ST_ASSERT(ct->headers != NULL);
    for (size_t i = 0; i < map->count; i++) {
        const char *value = map->items[i].value != NULL ? map->items[i].value : "";
        struct st_slice name = st_slice_of(map->items[i].name);

        ct->headers[i] = (struct st_header){.name = name.ptr,
                                            .name_len = (uint16_t)name.len,
                                            .value = value,
                                            .value_len = (uint32_t)strlen(value),
                                            .id = st_header_id_of(name.ptr, name.len)};
    }
    ct->header_count = map->count;
    return ST_OK;
}

static int cron_init(struct st_trigger *t, struct st_error *err)
{
    struct cron_trigger *ct = cron_of(t);
    struct st_labels labels;
    int code;

    ct->fd = -1;
    TAILQ_INIT(&ct->running);
    st_labels_own(&labels, t->processor, t->name);
    st_labels_add(&labels, "reason", "missed");
    ct->missed = st_metric_register(ST_METRIC_REJECTED, labels.items);
    code = read_schedule(ct, err);
    return code != ST_OK ? code : read_headers(ct, err);
}

/* ---- life ---- */

static int cron_open(struct st_trigger *t, struct st_loop *loop, struct st_error *err)
{
    struct cron_trigger *ct = cron_of(t);

    if (loop->index != 0)
        return ST_OK;
    ct->loop = loop;
    return cron_clock_open(ct, err);
}

static void cron_pause(struct st_trigger *t, struct st_loop *loop)
{
    if (loop->index == 0)
        cron_of(t)->policy.paused = true;
}

static void cron_resume(struct st_trigger *t, struct st_loop *loop)
{
    if (loop->index != 0)
        return;
    cron_of(t)->policy.paused = false;
    cron_run(cron_of(t));
}

void cron_check_drained(struct cron_trigger *ct)
{
    if (!ct->draining || ct->drained || ct->policy.running > 0)
        return;
    ct->drained = true;
    st_trigger_drained(&ct->base, ct->loop);
}

/* Nobody waits for a tick as a client does: there is nothing to linger for. */
static void cron_drain(struct st_trigger *t, struct st_loop *loop, uint64_t linger_ns)
{
    struct cron_trigger *ct = cron_of(t);

    (void)linger_ns;
    if (loop->index != 0) {
        st_trigger_drained(t, loop);
        return;
    }
    cron_clock_close(ct);
    st_cron_policy_clear(&ct->policy);
    ct->draining = true;
    cron_check_drained(ct);
}

static void cron_close(struct st_trigger *t, struct st_loop *loop)
{
    struct cron_trigger *ct = cron_of(t);

    if (loop->index != 0 || ct->loop == NULL)
        return;
    ct->drained = true;
    if (!ct->draining)
        cron_clock_close(ct);
    ct->draining = true;
    cron_cancel_running(ct);
}

static void cron_destroy(struct st_trigger *t)
{
    struct cron_trigger *ct = cron_of(t);

    st_cron_policy_free(&ct->policy);
    st_cron_zone_free(ct->zone);
    free(ct->headers);
}

const struct st_trigger_kind st_trigger_cron_kind = {
    .name = "cron",
    .event_class = "async",
    .attributes = attributes,
    .attributes_size = sizeof(struct cron_attributes),
    .obj_size = sizeof(struct cron_trigger),
    .check = cron_check,
    .init = cron_init,
    .open = cron_open,
    .pause = cron_pause,
    .resume = cron_resume,
    .complete = cron_complete,
    .release = cron_release,
    .drain = cron_drain,
    .close = cron_close,
    .destroy = cron_destroy,
};
