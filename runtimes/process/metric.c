#include "runtimes/process/metric.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"

/* A series. A scrape reads it without the table's lock, which is taken around the registry's. */
struct value {
    struct value *next;
    _Atomic double number;
    const char *pool; /* NULL: of all workers */
    unsigned worker;
};

struct name {
    char text[ST_HANDLER_METRIC_NAME_MAX + 1];
    bool gauge;
    struct value *values;
};

struct st_handler_metrics {
    pthread_mutex_t lock; /* of the table, and of who writes numbers */
    const char *function;
    struct name names[ST_HANDLER_METRICS_MAX];
    unsigned count;
    struct value dropped;
    bool is_used; /* `dropped` is registered */
};

static double read_value(void *arg)
{
    const struct value *v = arg;

    return atomic_load_explicit(&v->number, memory_order_relaxed);
}

/* Under the lock. */
static void add(struct value *v, double n)
{
    double before = atomic_load_explicit(&v->number, memory_order_relaxed);

    atomic_store_explicit(&v->number, before + n, memory_order_relaxed);
}

struct st_handler_metrics *st_handler_metrics_new(const char *function)
{
    struct st_handler_metrics *m = st_calloc(1, sizeof *m);

    m->function = function;
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

void st_handler_metrics_free(struct st_handler_metrics *m)
{
    struct value *v, *next;

    for (unsigned i = 0; m != NULL && i < m->count; i++) {
        for (v = m->names[i].values; v != NULL; v = next) {
            next = v->next;
            free(v);
        }
    }
    if (m != NULL)
        pthread_mutex_destroy(&m->lock);
    free(m);
}

static bool is_name(const char *text)
{
    size_t n = strlen(text);

    if (n == 0 || n > ST_HANDLER_METRIC_NAME_MAX || isdigit((unsigned char)text[0]))
        return false;
    return strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

/* NULL: there are too many. */
static struct name *get_name(struct st_handler_metrics *m, const char *text, bool gauge)
{
    struct name *name;

    for (unsigned i = 0; i < m->count; i++)
        if (m->names[i].gauge == gauge && strcmp(m->names[i].text, text) == 0)
            return &m->names[i];
    if (m->count == ST_HANDLER_METRICS_MAX)
        return NULL;
    name = &m->names[m->count++];
    snprintf(name->text, sizeof name->text, "%s", text);
    name->gauge = gauge;
    return name;
}

static struct value *new_value(const struct st_handler_metrics *m, struct name *name,
                               const char *pool, unsigned worker)
{
    struct value *v = st_calloc(1, sizeof *v);
    char number[16];
    const struct st_label counter[] = {{"function", m->function}, {"name", name->text}, {0}};
    const struct st_label gauge[] = {{"function", m->function},
                                     {"trigger_id", pool},
                                     {"worker", number},
                                     {"name", name->text},
                                     {0}};

    snprintf(number, sizeof number, "%u", worker);
    v->pool = pool;
    v->worker = worker;
    v->next = name->values;
    name->values = v;
    if (name->gauge)
        st_metric_register_fn(ST_METRIC_HANDLER_GAUGE, gauge, read_value, v);
    else
        st_metric_register_fn(ST_METRIC_HANDLER_COUNT, counter, read_value, v);
    return v;
}

static struct value *get_value(const struct st_handler_metrics *m, struct name *name,
                               const char *pool, unsigned worker)
{
    for (struct value *v = name->values; v != NULL; v = v->next)
        if (!name->gauge || (v->pool == pool && v->worker == worker))
            return v;
    return new_value(m, name, pool, worker);
}

/* Under the lock. */
static void use(struct st_handler_metrics *m)
{
    const struct st_label labels[] = {{"function", m->function}, {0}};

    if (!m->is_used)
        st_metric_register_fn(ST_METRIC_HANDLER_DROPPED, labels, read_value, &m->dropped);
    m->is_used = true;
}

const char *st_handler_metrics_take(struct st_handler_metrics *m, const char *pool, unsigned worker,
                                    const Stator__Worker__V1__Metric *metric)
{
    struct name *name;
    struct value *v;
    bool tell = false;

    if (!is_name(metric->name))
        return "a metric's name breaks the rules";
    if (!isfinite(metric->value) || (!metric->gauge && metric->value < 0))
        return "a metric has no such value";
    pthread_mutex_lock(&m->lock);
    use(m);
    name = metric->dropped == 0 ? get_name(m, metric->name, metric->gauge) : NULL;
    if (name == NULL) {
        tell = read_value(&m->dropped) == 0;
        add(&m->dropped, metric->dropped != 0 ? (double)metric->dropped : 1);
    } else {
        v = get_value(m, name, pool, worker);
        if (name->gauge)
            atomic_store_explicit(&v->number, metric->value, memory_order_relaxed);
        else
            add(v, metric->value);
    }
    pthread_mutex_unlock(&m->lock);
    if (tell)
        ST_LOG(ST_LOG_WARN, "processor.worker",
               "the function has too many names of metrics; the new ones are left out",
               ST_KV_STR("name", metric->name), ST_KV_INT("most", ST_HANDLER_METRICS_MAX));
    return NULL;
}
