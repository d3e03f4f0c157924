/* Between the files of the cron trigger: cron_trigger.c (configuration and life), cron_clock.c
 * (timers), cron_event.c (events). */
#ifndef TRIGGERS_CRON_CRON_INT_H
#define TRIGGERS_CRON_CRON_INT_H

#include "processor/config/option.h"
#include "processor/core/clock.h"
#include "processor/core/loop.h"
#include "processor/event.h"
#include "processor/trigger.h"
#include "triggers/cron/policy.h"

/* `attributes` of the trigger. */
struct cron_attributes {
    uint64_t interval_ns; /* 0: schedule */
    char *schedule;
    struct {
        char *body, *path, *method;
        struct st_string_map headers;
    } event;
    char *time_zone;
    int missed;      /* enum st_cron_missed */
    int concurrency; /* enum st_cron_concurrency */
    int64_t max_missed;
};

struct cron_event {
    struct st_event ev; /* first */
    struct cron_trigger *trigger;
    TAILQ_ENTRY(cron_event) link; /* in running, until answered */
    char time_text[ST_ISO8601_LEN + 1];
    _Alignas(16) char space[512];
};

TAILQ_HEAD(cron_event_list, cron_event);

/* Everything below `loop` belongs to its thread, the home of all events: one loop ticks, the pool
 * spreads. */
struct cron_trigger {
    struct st_trigger base;
    struct st_cron_expression expression;
    struct st_cron_zone *zone;
    struct st_header *headers; /* of the configuration, with room for one more */
    size_t header_count;
    st_metric missed; /* ticks that never ran */

    struct st_loop *loop; /* NULL: not open */
    struct st_cron_times times;
    struct st_cron_policy policy;
    struct cron_event_list running;
    int fd;                    /* timerfd on the wall clock, or -1: interval, by the loop's wheel */
    struct event fd_event;     /* of fd */
    struct st_timer timer;     /* of an interval */
    uint64_t wall_ns, boot_ns; /* the clocks when they were last compared */
    bool starting;             /* in cron_run */
    bool draining, drained;
};

static inline struct cron_trigger *cron_of(struct st_trigger *t)
{
    return ST_CONTAINER_OF(t, struct cron_trigger, base);
}

static inline const struct cron_attributes *cron_attributes_of(const struct cron_trigger *ct)
{
    return ct->base.attributes;
}

/* cron_clock.c: starts ticking on ct->loop; stops, for good. */
int cron_clock_open(struct cron_trigger *ct, struct st_error *err) ST_MUST_CHECK;
void cron_clock_close(struct cron_trigger *ct);

/* Wall clock time of a tick, ns since the epoch. */
uint64_t cron_clock_wall(const struct cron_trigger *ct, int64_t tick_ns);

/* cron_event.c: starts what the policy lets run. */
void cron_run(struct cron_trigger *ct);

/* Answers whatever runs as cancelled. */
void cron_cancel_running(struct cron_trigger *ct);

void cron_complete(struct st_event *ev, const struct st_result *result);
void cron_release(struct st_event *ev);

/* cron_trigger.c: tells the end of the drain when nothing runs any more. */
void cron_check_drained(struct cron_trigger *ct);

#endif
