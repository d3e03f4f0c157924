/* Deadlines of one thread: a hierarchical timing wheel (Varghese and Lauck 1987), O(1) to arm and
 * cancel, 1 ms ticks, never early, late by less than a tick plus the loop's pass.
 *
 * The wheel has no clock of its own: st_loop drives it with one timerfd that is armed only for the
 * earliest deadline, so a loop without timers never wakes. */
#ifndef PROCESSOR_CORE_TIMER_H
#define PROCESSOR_CORE_TIMER_H

#include <sys/queue.h>

#include "processor/core/base.h"

enum { ST_WHEEL_BITS = 6, ST_WHEEL_SLOTS = 1 << ST_WHEEL_BITS, ST_WHEEL_LEVELS = 6 };

struct st_timer;
typedef void st_timer_fn(struct st_timer *t);

/* Part of the object that waits. Zeroed or after st_timer_init: not armed. */
struct st_timer {
    TAILQ_ENTRY(st_timer) link;
    uint64_t expires; /* tick; meaningful while armed */
    st_timer_fn *fn;  /* runs on the wheel's thread, disarmed before the call; may re-arm or free */
    uint16_t slot;    /* level * ST_WHEEL_SLOTS + index + 1; 0: not armed; last + 1: in due */
};

TAILQ_HEAD(st_timer_list, st_timer);

struct st_wheel {
    uint64_t now;                      /* tick up to which everything has run */
    size_t armed;                      /* timers in the wheel */
    uint64_t pending[ST_WHEEL_LEVELS]; /* a bit a slot that is not empty */
    struct st_timer_list due;          /* what the current run has still to call */
    struct st_timer_list slots[ST_WHEEL_LEVELS][ST_WHEEL_SLOTS];
};

void st_wheel_init(struct st_wheel *w, uint64_t now_ns);

static inline void st_timer_init(struct st_timer *t, st_timer_fn *fn)
{
    t->fn = fn;
    t->slot = 0;
}

static inline bool st_timer_armed(const struct st_timer *t)
{
    return t->slot != 0;
}

/* Arms or re-arms for the absolute CLOCK_MONOTONIC time; a time that has passed fires at the next
 * st_wheel_run. Times further than 2 years away fire then and must be re-armed by fn. */
void st_timer_arm(struct st_wheel *w, struct st_timer *t, uint64_t at_ns);

/* No effect on a timer that is not armed. */
void st_timer_cancel(struct st_wheel *w, struct st_timer *t);

/* Runs what is due at now_ns; returns how many ran. */
size_t st_wheel_run(struct st_wheel *w, uint64_t now_ns);

/* When st_wheel_run must be called next (ns; no timer fires later than it must because of it), or
 * UINT64_MAX when no timer is armed. May be earlier than the earliest timer: slots cascade. */
uint64_t st_wheel_next(const struct st_wheel *w);

#endif
