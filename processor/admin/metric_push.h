/* Metrics for those that can't scrape: a PUT of the text of /metrics to a Prometheus push gateway,
 * every interval and once more at the end
 * (https://github.com/prometheus/pushgateway#api). On the main loop. */
#ifndef PROCESSOR_ADMIN_METRIC_PUSH_H
#define PROCESSOR_ADMIN_METRIC_PUSH_H

#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_metric_push;
struct st_processor;

/* Pushes to the platform's sinks once the main loop runs; *out is NULL where there are none. A
 * gateway that can't be reached is warned of and counted, never an error. */
int st_metric_push_open(struct st_metric_push **out, struct st_processor *p,
                        struct st_error *err) ST_MUST_CHECK;

/* No more pushes but one to each sink, now; when these have ended, after 2 s at the latest, calls
 * done(arg). With NULL at once. */
void st_metric_push_last(struct st_metric_push *push, void (*done)(void *arg), void *arg);

/* After the main loop has ended; it settles before it is closed. NULL is ignored. */
void st_metric_push_close(struct st_metric_push *push);

#endif
