#include <stdlib.h>

#include "processor/core/log.h"
#include "processor/dispatch.h"
#include "processor/processor.h"
#include "triggers/cron/cron_int.h"

#define TIME_HEADER "x-stator-scheduled-time"

static struct cron_event *event_of(struct st_event *ev)
{
    return ST_CONTAINER_OF(ev, struct cron_event, ev);
}

static void fill_headers(struct cron_event *ce)
{
    struct cron_trigger *ct = ce->trigger;
    struct st_headers *h = &ce->ev.headers;

    h->items = st_arena_alloc(&ce->ev.arena, (ct->header_count + 1) * sizeof h->items[0]);
    for (; h->count < ct->header_count; h->count++) {
        h->items[h->count] = ct->headers[h->count];
        if (h->items[h->count].id != ST_HDR_OTHER)
            h->last[h->items[h->count].id] = (uint8_t)(h->count + 1);
    }
    h->items[h->count++] = (struct st_header){.name = TIME_HEADER,
                                              .name_len = sizeof TIME_HEADER - 1,
                                              .value = ce->time_text,
                                              .value_len = ST_ISO8601_LEN,
                                              .id = ST_HDR_OTHER};
}

/* Texts are the configuration's, which outlives every event. */
static struct cron_event *tick_new(struct cron_trigger *ct, int64_t tick_ns)
{
    const struct cron_attributes *a = cron_attributes_of(ct);
    struct cron_event *ce = malloc(sizeof *ce);
    const struct st_header *type;
    struct st_event *ev;

    ST_ASSERT(ce != NULL);
    ev = &ce->ev;
    ce->trigger = ct;
    st_event_init(ev, &ct->base, ct->loop, ce->space, sizeof ce->space);
    ev->timestamp_ns = cron_clock_wall(ct, tick_ns);
    st_clock_iso8601(ev->timestamp_ns, ce->time_text);
    ev->body = st_slice_of(a->event.body);
    ev->method = st_slice_of(a->event.method);
    ev->target = ev->path = st_slice_of(a->event.path);
    fill_headers(ce);
    type = st_headers_known(&ev->headers, ST_HDR_CONTENT_TYPE);
    if (type != NULL)
        ev->content_type = (struct st_slice){type->value, type->value_len};
    return ce;
}

void cron_cancel_running(struct cron_trigger *ct)
{
    struct cron_event *ce;

    while ((ce = TAILQ_FIRST(&ct->running)) != NULL)
        st_event_cancel(&ce->ev); /* answers it: it leaves the list */
}

void cron_run(struct cron_trigger *ct)
{
    int64_t tick_ns;

    /* Events may be answered within dispatch and cancel: the loop below goes on with it. */
    if (ct->starting || ct->draining)
        return;
    ct->starting = true;
    while (st_cron_policy_take(&ct->policy, &tick_ns)) {
        struct cron_event *ce = tick_new(ct, tick_ns);

        if (ct->policy.concurrency == ST_CRON_REPLACE)
            cron_cancel_running(ct);
        TAILQ_INSERT_TAIL(&ct->running, ce, link);
        ST_LOG(ST_LOG_DEBUG, "processor.cron", "Tick", ST_KV_STR("trigger", ct->base.name),
               ST_KV_STR("scheduled", ce->time_text));
        st_dispatch(&ce->ev);
    }
    ct->starting = false;
}

static const char *outcome_name(enum st_outcome outcome)
{
    switch (outcome) {
    case ST_OUTCOME_OK:
    case ST_OUTCOME_DEFER:
        break;
    case ST_OUTCOME_ERROR:
        return "error";
    case ST_OUTCOME_RETRY:
        return "retry";
    case ST_OUTCOME_REJECT:
        return "reject";
    case ST_OUTCOME_TIMEOUT:
        return "timeout";
    case ST_OUTCOME_NO_WORKER:
        return "no worker";
    case ST_OUTCOME_NO_MEMORY:
        return "no memory";
    case ST_OUTCOME_CRASH:
        return "crash";
    case ST_OUTCOME_CANCELLED:
        return "cancelled";
    }
    return "ok";
}

void cron_complete(struct st_event *ev, const struct st_result *result)
{
    struct cron_event *ce = event_of(ev);
    struct cron_trigger *ct = ce->trigger;

    TAILQ_REMOVE(&ct->running, ce, link);
    st_cron_policy_done(&ct->policy);
    if (result->outcome != ST_OUTCOME_OK)
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.cron", "A tick did not succeed",
                       ST_KV_STR("trigger", ct->base.name), ST_KV_STR("scheduled", ce->time_text),
                       ST_KV_STR("outcome", outcome_name(result->outcome)));
    cron_run(ct);
    cron_check_drained(ct);
}

void cron_release(struct st_event *ev)
{
    free(event_of(ev));
}
