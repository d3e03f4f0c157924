#include "triggers/cron/policy.h"

#include <stdlib.h>

#include "triggers/cron/calendar.h"

#define NS ((int64_t)ST_SEC)
#define LATE_NS (60 * NS)
#define CORRECTION_NS (10800 * NS)

int64_t st_cron_times_next(const struct st_cron_times *times, int64_t after_ns)
{
    int64_t next;

    if (times->expression == NULL) {
        if (after_ns < times->start_ns)
            return times->start_ns + times->interval_ns;
        next = (after_ns - times->start_ns) / times->interval_ns + 1;
        if (next > (INT64_MAX - times->start_ns) / times->interval_ns)
            return ST_CRON_NEVER;
        return times->start_ns + next * times->interval_ns;
    }
    next = st_cron_next(times->expression, times->zone, st_cron_floor_div(after_ns, NS));
    return next < INT64_MAX / NS ? next * NS : ST_CRON_NEVER;
}

void st_cron_policy_init(struct st_cron_policy *p, enum st_cron_missed missed,
                         enum st_cron_concurrency concurrency, unsigned max, int64_t now_ns)
{
    *p = (struct st_cron_policy){
        .missed = missed,
        .concurrency = concurrency,
        .capacity = missed == ST_CRON_ALL ? max : 1,
        .seen_ns = now_ns,
    };
    ST_ASSERT(p->capacity > 0);
    p->waiting = calloc(p->capacity, sizeof p->waiting[0]);
    ST_ASSERT(p->waiting != NULL);
}

void st_cron_policy_free(struct st_cron_policy *p)
{
    free(p->waiting);
    p->waiting = NULL;
}

static int64_t pop(struct st_cron_policy *p)
{
    int64_t tick = p->waiting[p->first];

    p->first = (p->first + 1) % p->capacity;
    p->waiters--;
    return tick;
}

static void push(struct st_cron_policy *p, int64_t tick)
{
    if (p->waiters == p->capacity) {
        pop(p);
        p->dropped++;
    }
    p->waiting[(p->first + p->waiters) % p->capacity] = tick;
    p->waiters++;
}

static bool can_start(const struct st_cron_policy *p)
{
    return !p->paused && (p->concurrency != ST_CRON_FORBID || p->running == 0);
}

/* Whether at least n ticks lie in (from, now]. */
static bool has_ticks(const struct st_cron_times *times, int64_t from, int64_t now, unsigned n)
{
    for (; n > 0; n--)
        if ((from = st_cron_times_next(times, from)) > now)
            return false;
    return true;
}

/* Where to begin, so that the latest `capacity` ticks are found without a walk through a year of
 * seconds. */
static int64_t window(const struct st_cron_policy *p, const struct st_cron_times *times,
                      int64_t now)
{
    for (int64_t width = LATE_NS; width < INT64_MAX / 4 && width < now - p->seen_ns; width *= 2)
        if (has_ticks(times, now - width, now, p->capacity))
            return now - width;
    return p->seen_ns;
}

int64_t st_cron_policy_wake(struct st_cron_policy *p, const struct st_cron_times *times,
                            int64_t now_ns)
{
    int64_t tick = st_cron_times_next(times, p->seen_ns), next;

    if (tick > now_ns)
        return tick;
    for (tick = st_cron_times_next(times, window(p, times, now_ns)); tick <= now_ns; tick = next) {
        next = st_cron_times_next(times, tick);
        if (p->missed == ST_CRON_SKIP &&
            (next <= now_ns || now_ns - tick > LATE_NS || !can_start(p)))
            p->dropped++;
        else
            push(p, tick);
    }
    p->seen_ns = now_ns;
    return tick;
}

void st_cron_policy_clock_set(struct st_cron_policy *p, const struct st_cron_times *times,
                              int64_t now_ns, int64_t step_ns)
{
    bool by_hour = times->expression != NULL && st_cron_names_hours(times->expression);

    if (step_ns > CORRECTION_NS || step_ns < -CORRECTION_NS || (step_ns < 0 && !by_hour))
        p->seen_ns = now_ns;
}

bool st_cron_policy_take(struct st_cron_policy *p, int64_t *tick_ns)
{
    if (p->waiters == 0 || !can_start(p))
        return false;
    while (p->concurrency == ST_CRON_REPLACE && p->waiters > 1) {
        pop(p);
        p->dropped++;
    }
    *tick_ns = pop(p);
    p->running++;
    return true;
}

void st_cron_policy_done(struct st_cron_policy *p)
{
    ST_ASSERT(p->running > 0);
    p->running--;
}

void st_cron_policy_clear(struct st_cron_policy *p)
{
    p->waiters = 0;
}
