/* Which ticks run: what becomes of those that were missed, or come while one runs. Pure: the caller
 * brings the time, in ns of whatever clock its ticks are on.
 *
 * A tick is missed when it comes while the trigger is paused, while another one runs and
 * concurrency is forbidden, more than a minute late, or together with a later one (the machine
 * slept, the clock was put forward, the loop was busy). */
#ifndef TRIGGERS_CRON_POLICY_H
#define TRIGGERS_CRON_POLICY_H

#include "triggers/cron/schedule.h"

enum st_cron_missed {
    ST_CRON_SKIP, /* forgotten */
    ST_CRON_ONCE, /* all of them run once, as the latest */
    ST_CRON_ALL   /* each runs, in order; of more than max the latest */
};
enum st_cron_concurrency {
    ST_CRON_FORBID, /* a tick waits for the one that runs, as a missed one */
    ST_CRON_ALLOW,
    ST_CRON_REPLACE /* the one that runs is cancelled */
};

/* Where ticks come from: an expression in a zone, or every interval_ns from start_ns on. */
struct st_cron_times {
    const struct st_cron_expression *expression; /* NULL: interval_ns */
    const struct st_cron_zone *zone;
    int64_t start_ns, interval_ns;
};

/* The first tick behind after_ns, or ST_CRON_NEVER. */
int64_t st_cron_times_next(const struct st_cron_times *times, int64_t after_ns);

struct st_cron_policy {
    enum st_cron_missed missed;
    enum st_cron_concurrency concurrency;
    int64_t seen_ns;         /* ticks up to here have been looked at */
    int64_t *waiting;        /* ring of ticks that may run */
    unsigned first, waiters; /* of the ring */
    unsigned capacity;
    unsigned running;
    bool paused;
    uint64_t dropped; /* ticks that will never run; at least so many, after a long sleep */
};

/* max: the most that wait under ST_CRON_ALL, from 1; other policies keep one. */
void st_cron_policy_init(struct st_cron_policy *p, enum st_cron_missed missed,
                         enum st_cron_concurrency concurrency, unsigned max, int64_t now_ns);
void st_cron_policy_free(struct st_cron_policy *p);

/* Looks at the ticks up to now_ns and returns when to look again, or ST_CRON_NEVER. */
int64_t st_cron_policy_wake(struct st_cron_policy *p, const struct st_cron_times *times,
                            int64_t now_ns);

/* The wall clock was set to now_ns, step_ns further than time that has passed; before the next
 * wake. More than three hours are the correction of a wrong clock: everything begins anew. Less,
 * forward: ticks in between were missed. Less, back: times of day that have had their run have no
 * second one (see schedule.h), a schedule for every hour goes on at once. */
void st_cron_policy_clock_set(struct st_cron_policy *p, const struct st_cron_times *times,
                              int64_t now_ns, int64_t step_ns);

/* True: *tick_ns runs from now on, until st_cron_policy_done. With ST_CRON_REPLACE whatever runs
 * already has to be cancelled (and told as done). */
bool st_cron_policy_take(struct st_cron_policy *p, int64_t *tick_ns);
void st_cron_policy_done(struct st_cron_policy *p);

/* Ticks that wait are forgotten. */
void st_cron_policy_clear(struct st_cron_policy *p);

#endif
