/* What can be seen of the trigger: metrics, the reasons of `degraded`. */
#include <stdio.h>

#include "processor/core/clock.h"
#include "processor/labels.h"
#include "triggers/kafka/kafka_int.h"

static st_metric own(struct kafka_trigger *kt, enum st_metric_family family, const char *name,
                     const char *value)
{
    struct st_labels labels;

    st_labels_own(&labels, kt->base.processor, kt->base.name);
    if (name != NULL)
        st_labels_add(&labels, name, value);
    return st_metric_register(family, labels.items);
}

int kafka_on_stats(rd_kafka_t *rk ST_UNUSED, char *text, size_t len, void *opaque)
{
    struct kafka_trigger *kt = opaque;

    st_kafka_stats_read(&kt->stats, text, len);
    return 0; /* librdkafka frees the text */
}

void kafka_register_metrics(struct kafka_trigger *kt)
{
    struct st_labels labels;

    kt->metrics.commit = own(kt, ST_METRIC_COMMIT_SECONDS, NULL, NULL);
    kt->metrics.retries = own(kt, ST_METRIC_RETRIES, NULL, NULL);
    kt->metrics.dead_letters = own(kt, ST_METRIC_DEAD_LETTERS, NULL, NULL);
    kt->metrics.rebalances = own(kt, ST_METRIC_REBALANCES, NULL, NULL);
    kt->metrics.rebalance_seconds = own(kt, ST_METRIC_REBALANCE_SECONDS, NULL, NULL);
    kt->metrics.acked_failed = own(kt, ST_METRIC_ACKED_FAILED, NULL, NULL);
    kt->metrics.duplicates = st_trigger_rejected_metric(&kt->base, "duplicate");
    st_labels_own(&labels, kt->base.processor, kt->base.name);
    if (kafka_attributes_of(kt)->client.statistics_ns > 0)
        st_kafka_stats_register(&kt->stats, labels.items, false);
}

static double show_lag(void *arg)
{
    struct kafka_partition *p = arg;

    return (double)atomic_load_explicit(&p->shown.lag, memory_order_relaxed);
}

static double show_pending(void *arg)
{
    struct kafka_partition *p = arg;

    return (double)atomic_load_explicit(&p->shown.pending, memory_order_relaxed);
}

static double show_age(void *arg)
{
    struct kafka_partition *p = arg;
    int64_t since = atomic_load_explicit(&p->shown.oldest_ns, memory_order_relaxed);

    return since == 0 ? 0 : (double)(st_clock_mono() - (uint64_t)since) / (double)ST_SEC;
}

void kafka_register_partition(struct kafka_partition *p)
{
    struct st_labels labels;
    char number[16];

    snprintf(number, sizeof number, "%d", p->number);
    st_labels_own(&labels, p->kt->base.processor, p->kt->base.name);
    st_labels_add(&labels, "topic", p->topic);
    st_labels_add(&labels, "partition", number);
    st_metric_register_fn(ST_METRIC_SOURCE_LAG, labels.items, show_lag, p);
    st_metric_register_fn(ST_METRIC_SOURCE_PENDING, labels.items, show_pending, p);
    st_metric_register_fn(ST_METRIC_SOURCE_AGE, labels.items, show_age, p);
}

/* The age of the watermark: since when the position has not moved although something is open. */
static int64_t since_when(struct kafka_partition *p)
{
    if (st_watermark_open(&p->wm) == 0)
        return 0;
    if (p->wm.lo != p->seen_lo || p->seen_ns == 0) {
        p->seen_lo = p->wm.lo;
        p->seen_ns = st_loop_now(p->kt->loop);
    }
    return (int64_t)p->seen_ns;
}

void kafka_publish(struct kafka_partition *p)
{
    int64_t low, high, lag = 0;
    uint64_t offset;

    if (p->assigned && st_watermark_position(&p->wm, &offset) &&
        rd_kafka_get_watermark_offsets(p->kt->rk, p->topic, p->number, &low, &high) ==
            RD_KAFKA_RESP_ERR_NO_ERROR &&
        high > (int64_t)offset)
        lag = high - (int64_t)offset;
    atomic_store_explicit(&p->shown.lag, lag, memory_order_relaxed);
    atomic_store_explicit(&p->shown.pending, p->assigned ? st_watermark_open(&p->wm) : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&p->shown.oldest_ns, p->assigned ? since_when(p) : 0,
                          memory_order_relaxed);
}

void kafka_trouble(struct kafka_trigger *kt, enum kafka_trouble which, const char *text)
{
    pthread_mutex_lock(&kt->trouble_lock);
    snprintf(kt->trouble[which], sizeof kt->trouble[which], "%s", text);
    pthread_mutex_unlock(&kt->trouble_lock);
}

bool kafka_show_trouble(struct st_trigger *t, char *out, size_t n)
{
    struct kafka_trigger *kt = kafka_of(t);
    bool any = false;

    pthread_mutex_lock(&kt->trouble_lock);
    for (int i = 0; i < KAFKA_TROUBLES && !any; i++) {
        any = kt->trouble[i][0] != '\0';
        if (any)
            snprintf(out, n, "%s", kt->trouble[i]);
    }
    pthread_mutex_unlock(&kt->trouble_lock);
    return any;
}
