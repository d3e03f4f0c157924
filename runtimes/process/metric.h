/* What handlers count and measure themselves, of one function: families stator_handler_total and
 * stator_handler_gauge, with a bounded number of names. Any loop's thread. */
#ifndef RUNTIMES_PROCESS_METRIC_H
#define RUNTIMES_PROCESS_METRIC_H

#include "processor/core/base.h"
#include "worker.pb-c.h"

enum { ST_HANDLER_METRICS_MAX = 64 /* names of a function */, ST_HANDLER_METRIC_NAME_MAX = 64 };

struct st_handler_metrics;

/* Of a function, whose name is borrowed. Never NULL. */
struct st_handler_metrics *st_handler_metrics_new(const char *function);

/* Adds or sets what a worker of the pool says; the pool's name is borrowed until the table is
 * freed. Names that are too many are counted, and logged once. NULL, or how it breaks the protocol.
 */
const char *st_handler_metrics_take(struct st_handler_metrics *m, const char *pool, unsigned worker,
                                    const Stator__Worker__V1__Metric *metric) ST_MUST_CHECK;

/* When nothing scrapes any more; NULL is fine. */
void st_handler_metrics_free(struct st_handler_metrics *m);

#endif
