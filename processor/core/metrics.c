#include "processor/core/metrics.h"

#include <math.h>
#include <pthread.h>

#include "processor/core/alloc.h"

/* Slots of a histogram: its buckets, then the sum. */
enum { HISTOGRAM_SLOTS = ST_HISTOGRAM_BUCKETS + 1, SINK_SLOTS = HISTOGRAM_SLOTS };

struct family {
    const char *name;
    enum st_metric_type type;
    int64_t scale;
    const char *help;
};

static const struct family families[] = {
#define FAMILY_ROW(id, name, type, scale, help) {name, type, scale, help},
    ST_METRIC_TABLE(FAMILY_ROW)
#undef FAMILY_ROW
};

struct series {
    struct series *next;
    char *labels; /* as exposed, without braces */
    st_metric slot;
    st_metric_fn *fn; /* NULL: slot has it */
    void *arg;
};

struct series_list {
    struct series *first, **tail;
};

static struct {
    pthread_mutex_t lock;
    struct series_list series[ST_METRIC_FAMILIES];
    struct st_metrics_shard *shards;
    uint32_t used; /* slots; 0 before the first series */
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void put_escaped(FILE *out, const char *text, bool quote)
{
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            fputs("\\n", out);
        else if (*text == '\\' || (quote && *text == '"'))
            fprintf(out, "\\%c", *text);
        else
            putc(*text, out);
    }
}

/* Caller frees. */
static char *render_labels(const struct st_label *labels)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    ST_ASSERT(out != NULL);
    for (const struct st_label *l = labels; l != NULL && l->name != NULL; l++) {
        fprintf(out, "%s%s=\"", l == labels ? "" : ",", l->name);
        put_escaped(out, l->value, true);
        putc('"', out);
    }
    ST_ASSERT(fclose(out) == 0);
    return text;
}

/* Under the lock. labels_take becomes the series' or is freed. */
static struct series *series_get(enum st_metric_family family, char *labels_take)
{
    struct series_list *list = &registry.series[family];
    struct series *s;

    for (s = list->first; s != NULL; s = s->next) {
        if (strcmp(s->labels, labels_take) == 0) {
            free(labels_take);
            return s;
        }
    }
    s = st_calloc(1, sizeof(*s));
    s->labels = labels_take;
    if (list->first == NULL)
        list->tail = &list->first;
    *list->tail = s;
    list->tail = &s->next;
    return s;
}

st_metric st_metric_register(enum st_metric_family family, const struct st_label *labels)
{
    char *text = render_labels(labels);
    uint32_t need = 1;
    struct series *s;
    st_metric slot;

    ST_ASSERT(family < ST_METRIC_FAMILIES);
    if (families[family].type == ST_HISTOGRAM)
        need = HISTOGRAM_SLOTS;
    pthread_mutex_lock(&registry.lock);
    s = series_get(family, text);
    if (s->slot == 0) {
        ST_ASSERT(s->fn == NULL);
        if (registry.used == 0)
            registry.used = SINK_SLOTS;
        ST_ASSERT(registry.used + need <= ST_METRIC_MAX_SLOTS);
        s->slot = registry.used;
        registry.used += need;
    }
    slot = s->slot;
    pthread_mutex_unlock(&registry.lock);
    return slot;
}

void st_metric_register_fn(enum st_metric_family family, const struct st_label *labels,
                           st_metric_fn *fn, void *arg)
{
    char *text = render_labels(labels);
    struct series *s;

    ST_ASSERT(family < ST_METRIC_FAMILIES && families[family].type != ST_HISTOGRAM);
    pthread_mutex_lock(&registry.lock);
    s = series_get(family, text);
    ST_ASSERT(s->slot == 0);
    s->fn = fn;
    s->arg = arg;
    pthread_mutex_unlock(&registry.lock);
}

struct st_metrics_shard *st_metrics_shard_new(void)
{
    struct st_metrics_shard *s = aligned_alloc(_Alignof(struct st_metrics_shard), sizeof(*s));

    ST_ASSERT(s != NULL);
    for (size_t i = 0; i < ST_METRIC_MAX_SLOTS; i++)
        atomic_init(&s->slots[i], 0);
    pthread_mutex_lock(&registry.lock);
    s->next = registry.shards;
    registry.shards = s;
    pthread_mutex_unlock(&registry.lock);
    return s;
}

/* Under the lock. */
static int64_t slot_sum(st_metric m)
{
    int64_t sum = 0;

    for (struct st_metrics_shard *s = registry.shards; s != NULL; s = s->next)
        sum += atomic_load_explicit(&s->slots[m], memory_order_relaxed);
    return sum;
}

int64_t st_metric_value(st_metric m)
{
    int64_t sum;

    ST_ASSERT(m < ST_METRIC_MAX_SLOTS);
    pthread_mutex_lock(&registry.lock);
    sum = slot_sum(m);
    pthread_mutex_unlock(&registry.lock);
    return sum;
}

/* value / scale with as many decimals as the scale has; exact, unlike a double. */
static void put_scaled(FILE *out, int64_t value, int64_t scale)
{
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    uint64_t unit = (uint64_t)scale;
    const char *sign = value < 0 ? "-" : "";

    if (unit == 1)
        fprintf(out, "%s%llu\n", sign, (unsigned long long)magnitude);
    else
        fprintf(out, "%s%llu.%0*llu\n", sign, (unsigned long long)(magnitude / unit),
                unit == (uint64_t)ST_SEC ? 9 : 3, (unsigned long long)(magnitude % unit));
}

static void put_double(FILE *out, double value)
{
    if (isnan(value))
        fputs("NaN\n", out);
    else if (isinf(value))
        fputs(value > 0 ? "+Inf\n" : "-Inf\n", out);
    else
        fprintf(out, "%.15g\n", value);
}

static void write_histogram(FILE *out, const char *name, const struct series *s)
{
    const char *comma = s->labels[0] != '\0' ? "," : "";
    long long count = 0;

    for (unsigned k = 0; k < ST_HISTOGRAM_BUCKETS; k++) {
        count += slot_sum(s->slot + k);
        fprintf(out, "%s_bucket{%s%sle=\"", name, s->labels, comma);
        if (k == ST_HISTOGRAM_BUCKETS - 1)
            fputs("+Inf", out);
        else
            fprintf(out, "%.9g", 1e-6 * (double)(1u << k));
        fprintf(out, "\"} %lld\n", count);
    }
    fprintf(out, s->labels[0] != '\0' ? "%s_sum{%s} " : "%s_sum%s ", name, s->labels);
    put_scaled(out, slot_sum(s->slot + ST_HISTOGRAM_BUCKETS), (int64_t)ST_SEC);
    fprintf(out, s->labels[0] != '\0' ? "%s_count{%s} " : "%s_count%s ", name, s->labels);
    put_scaled(out, count, 1);
}

static void write_family(FILE *out, const struct family *f, const struct series *first)
{
    static const char *const types[] = {
        [ST_COUNTER] = "counter", [ST_GAUGE] = "gauge", [ST_HISTOGRAM] = "histogram"};

    fprintf(out, "# HELP %s ", f->name);
    put_escaped(out, f->help, false);
    fprintf(out, "\n# TYPE %s %s\n", f->name, types[f->type]);
    for (const struct series *s = first; s != NULL; s = s->next) {
        if (f->type == ST_HISTOGRAM) {
            write_histogram(out, f->name, s);
            continue;
        }
        fprintf(out, s->labels[0] != '\0' ? "%s{%s} " : "%s%s ", f->name, s->labels);
        if (s->fn != NULL)
            put_double(out, s->fn(s->arg));
        else
            put_scaled(out, slot_sum(s->slot), f->scale);
    }
}

void st_metrics_write(FILE *out)
{
    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < ST_METRIC_FAMILIES; i++)
        if (registry.series[i].first != NULL)
            write_family(out, &families[i], registry.series[i].first);
    pthread_mutex_unlock(&registry.lock);
}

void st_metrics_reset(void)
{
    struct st_metrics_shard *shard, *next_shard;
    struct series *s, *next;

    pthread_mutex_lock(&registry.lock);
    for (size_t i = 0; i < ST_METRIC_FAMILIES; i++) {
        for (s = registry.series[i].first; s != NULL; s = next) {
            next = s->next;
            free(s->labels);
            free(s);
        }
        registry.series[i].first = NULL;
    }
    for (shard = registry.shards; shard != NULL; shard = next_shard) {
        next_shard = shard->next;
        free(shard);
    }
    registry.shards = NULL;
    registry.used = 0;
    pthread_mutex_unlock(&registry.lock);
}
