/* Counters, gauges and histograms in shards, one a thread; merged at scrape.
 *
 * A family is a row of ST_METRIC_TABLE (metrics_table.h). Series (a family and one set of label
 * values) are registered at start and give a handle; in the hot path a handle indexes the calling
 * thread's shard, without lookup, lock or atomic read-modify-write: each value has one writer. */
#ifndef PROCESSOR_CORE_METRICS_H
#define PROCESSOR_CORE_METRICS_H

#include <stdatomic.h>
#include <stdio.h>

#include "processor/core/base.h"
#include "processor/core/metrics_table.h"

enum st_metric_type { ST_COUNTER, ST_GAUGE, ST_HISTOGRAM };

/* Families: ST_METRIC_<id>. */
#define ST_METRIC_ENUM(id, ...) ST_METRIC_##id,
enum st_metric_family { ST_METRIC_TABLE(ST_METRIC_ENUM) ST_METRIC_FAMILIES };
#undef ST_METRIC_ENUM

enum { ST_METRIC_MAX_SLOTS = 8192, ST_HISTOGRAM_BUCKETS = 24 };

/* First slot of a series in every shard; invalid is 0, whose slots are a sink that nobody reads. */
typedef uint32_t st_metric;

struct st_metrics_shard {
    _Alignas(64) _Atomic int64_t slots[ST_METRIC_MAX_SLOTS];
    struct st_metrics_shard *next;
};

struct st_label {
    const char *name, *value;
};

/* A series; labels end with a NULL name and are copied. The same family and labels give the same
 * handle. Main thread, before the loops run or under the registry's lock. Aborts when
 * ST_METRIC_MAX_SLOTS are used up. */
st_metric st_metric_register(enum st_metric_family family, const struct st_label *labels);

/* A shard for a thread that will write; lives until st_metrics_reset. */
struct st_metrics_shard *st_metrics_shard_new(void);

/* Adds n to a counter or gauge (n may be negative for gauges). The shard's thread only. */
static inline void st_metric_add(struct st_metrics_shard *s, st_metric m, int64_t n)
{
    _Atomic int64_t *slot = &s->slots[m];

    atomic_store_explicit(slot, atomic_load_explicit(slot, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Sets a gauge in this shard; the scrape sums all shards, so one thread owns a set gauge. */
static inline void st_metric_set(struct st_metrics_shard *s, st_metric m, int64_t value)
{
    atomic_store_explicit(&s->slots[m], value, memory_order_relaxed);
}

/* Histogram of durations: bucket k counts values <= 2^k microseconds, k = 0 .. 22 (4.2 s), then
 * +Inf; slots: 24 buckets, then the sum in ns. n equal observations at once. */
static inline void st_metric_observe(struct st_metrics_shard *s, st_metric m, uint64_t ns,
                                     int64_t n)
{
    uint64_t us = ns == 0 ? 0 : (ns - 1) / 1000;
    unsigned k = us == 0 ? 0 : 64u - (unsigned)__builtin_clzll(us);

    if (k >= ST_HISTOGRAM_BUCKETS)
        k = ST_HISTOGRAM_BUCKETS - 1;
    st_metric_add(s, m + k, n);
    st_metric_add(s, m + ST_HISTOGRAM_BUCKETS, (int64_t)ns * n);
}

/* A value computed at scrape instead of kept in shards (queue lengths, process_*). fn runs under
 * the registry's lock, on the scraping thread: it calls nothing of this header. */
typedef double st_metric_fn(void *arg);
void st_metric_register_fn(enum st_metric_family family, const struct st_label *labels,
                           st_metric_fn *fn, void *arg);

/* Sum over all shards; for tests and /status. */
int64_t st_metric_value(st_metric m);

/* Writes Prometheus text exposition format 0.0.4 of everything. Any thread. */
void st_metrics_write(FILE *out);

/* Forgets series and shards; tests and process end. */
void st_metrics_reset(void);

#endif
