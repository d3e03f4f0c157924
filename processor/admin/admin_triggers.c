/* /triggers: configuration and counts of each trigger. The shapes are Nuclio's: an object by id;
 * one trigger alone has its id among its keys. */
#include "processor/admin/admin_int.h"
#include "processor/config/config.h"
#include "processor/config/show.h"
#include "processor/core/metrics.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/trigger.h"

static json_t *describe(const struct st_trigger *t)
{
    json_t *out = st_trigger_show(t->config);

    /* As it came out, not as it was asked for. */
    json_object_set_new(out, "numWorkers", json_integer(t->pool->worker_count));
    json_object_set_new(out, "maxWorkers", json_integer(t->pool->worker_count));
    return out;
}

static json_t *value(st_metric m)
{
    return json_integer(st_metric_value(m));
}

static json_t *count(const struct st_trigger *t)
{
    int64_t events = 0;

    for (unsigned k = 0; k < ST_HISTOGRAM_BUCKETS; k++)
        events += st_metric_value(t->metrics.duration + k);
    return json_pack(
        "{s:o, s:o, s:o, s:{s:I, s:f}, s:o, s:{s:o, s:o}, s:{s:o, s:o}}", "success",
        value(t->metrics.ok), "failure", value(t->metrics.failed), "inFlight",
        value(t->metrics.in_flight), "duration", "count", (json_int_t)events, "seconds",
        (double)st_metric_value(t->metrics.duration + ST_HISTOGRAM_BUCKETS) / (double)ST_SEC,
        "lateResults", value(t->metrics.late), "clientGone", "queued",
        value(t->metrics.gone_queued), "running", value(t->metrics.gone_running), "rejected",
        "no_worker", value(t->metrics.no_worker), "body_memory", value(t->metrics.no_memory));
}

static const struct st_trigger *find(const struct st_processor *p, struct st_slice id)
{
    for (unsigned i = 0; i < p->trigger_count; i++)
        if (st_slice_eq(st_slice_of(p->triggers[i]->name), id))
            return p->triggers[i];
    return NULL;
}

static void answer_all(struct admin_exchange *ax)
{
    const struct st_processor *p = ax->admin->p;
    json_t *out = json_object();

    for (unsigned i = 0; i < p->trigger_count; i++)
        json_object_set_new(out, p->triggers[i]->name, describe(p->triggers[i]));
    st_admin_answer_json(ax, 200, out);
}

static void answer_one(struct admin_exchange *ax, const struct st_trigger *t)
{
    json_t *out = describe(t);

    json_object_set_new(out, "id", json_string(t->name));
    st_admin_answer_json(ax, 200, out);
}

void st_admin_triggers(struct admin_exchange *ax)
{
    static const char root[] = "/triggers/", stats[] = "/stats";
    const size_t root_len = sizeof root - 1, stats_len = sizeof stats - 1;
    struct st_slice id = ax->path;
    const struct st_trigger *t;

    if (id.len <= root_len) {
        answer_all(ax);
        return;
    }
    id = (struct st_slice){id.ptr + root_len, id.len - root_len};
    t = find(ax->admin->p, id);
    if (t != NULL) {
        answer_one(ax, t);
        return;
    }
    if (id.len > stats_len && memcmp(id.ptr + id.len - stats_len, stats, stats_len) == 0)
        t = find(ax->admin->p, (struct st_slice){id.ptr, id.len - stats_len});
    if (t == NULL)
        st_admin_answer_empty(ax, 404);
    else
        st_admin_answer_json(ax, 200, json_pack("{s:s, s:o}", "id", t->name, "stats", count(t)));
}
