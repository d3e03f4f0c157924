#include "processor/core/timer.h"

/* A timer lies on the level of the highest 6-bit digit in which its tick and w->now differ, in the
 * slot of that digit of its tick. So on every level but the last all timers lie behind the digit
 * of w->now, all of a level come before all of the next, and a slot is spread over the levels below
 * when w->now reaches its first tick. The last level goes round: slots up to the digit of w->now
 * belong to its next round. In the slot of w->now on level 0 is what was due when it was armed. */

enum { WHEEL_MASK = ST_WHEEL_SLOTS - 1, SLOT_DUE = ST_WHEEL_LEVELS * ST_WHEEL_SLOTS + 1 };

#define WHEEL_SPAN ((uint64_t)1 << (ST_WHEEL_LEVELS * ST_WHEEL_BITS))

void st_wheel_init(struct st_wheel *w, uint64_t now_ns)
{
    w->now = now_ns / ST_MSEC;
    w->armed = 0;
    TAILQ_INIT(&w->due);
    for (unsigned level = 0; level < ST_WHEEL_LEVELS; level++) {
        w->pending[level] = 0;
        for (unsigned i = 0; i < ST_WHEEL_SLOTS; i++)
            TAILQ_INIT(&w->slots[level][i]);
    }
}

/* Files t by t->expires, which is less than WHEEL_SPAN away from w->now. */
static void wheel_insert(struct st_wheel *w, struct st_timer *t)
{
    unsigned level, i;

    if (t->expires < w->now)
        t->expires = w->now;
    level = (63u - (unsigned)__builtin_clzll((t->expires ^ w->now) | 1)) / ST_WHEEL_BITS;
    if (level >= ST_WHEEL_LEVELS)
        level = ST_WHEEL_LEVELS - 1;
    i = (unsigned)(t->expires >> (level * ST_WHEEL_BITS)) & WHEEL_MASK;
    t->slot = (uint16_t)(level * ST_WHEEL_SLOTS + i + 1);
    w->pending[level] |= (uint64_t)1 << i;
    TAILQ_INSERT_TAIL(&w->slots[level][i], t, link);
}

void st_timer_arm(struct st_wheel *w, struct st_timer *t, uint64_t at_ns)
{
    st_timer_cancel(w, t);
    t->expires = at_ns / ST_MSEC + (at_ns % ST_MSEC != 0); /* never early */
    if (t->expires > w->now && t->expires - w->now >= WHEEL_SPAN)
        t->expires = w->now + WHEEL_SPAN - 1;
    wheel_insert(w, t);
    w->armed++;
}

void st_timer_cancel(struct st_wheel *w, struct st_timer *t)
{
    unsigned level, i;

    if (t->slot == 0)
        return;
    w->armed--;
    if (t->slot == SLOT_DUE) {
        TAILQ_REMOVE(&w->due, t, link);
    } else {
        level = (t->slot - 1u) / ST_WHEEL_SLOTS;
        i = (t->slot - 1u) & WHEEL_MASK;
        TAILQ_REMOVE(&w->slots[level][i], t, link);
        if (TAILQ_EMPTY(&w->slots[level][i]))
            w->pending[level] &= ~((uint64_t)1 << i);
    }
    t->slot = 0;
}

/* The next slot that is not empty: false if there is none. *tick is its first tick. */
static bool wheel_find(const struct st_wheel *w, unsigned *level, unsigned *slot, uint64_t *tick)
{
    for (unsigned l = 0; l < ST_WHEEL_LEVELS; l++) {
        unsigned shift = l * ST_WHEEL_BITS;
        uint64_t round = w->now >> shift & ~(uint64_t)WHEEL_MASK, ahead;

        if (w->pending[l] == 0)
            continue;
        ahead = w->pending[l];
        if (l == ST_WHEEL_LEVELS - 1) {
            uint64_t behind = ((uint64_t)2 << ((w->now >> shift) & WHEEL_MASK)) - 1;

            if ((ahead & ~behind) != 0)
                ahead &= ~behind;
            else
                round += ST_WHEEL_SLOTS;
        }
        *level = l;
        *slot = (unsigned)__builtin_ctzll(ahead);
        *tick = (round | *slot) << shift;
        return true;
    }
    return false;
}

static void wheel_empty_slot(struct st_wheel *w, unsigned level, unsigned slot)
{
    struct st_timer_list list = TAILQ_HEAD_INITIALIZER(list);
    struct st_timer *t;

    TAILQ_CONCAT(&list, &w->slots[level][slot], link);
    w->pending[level] &= ~((uint64_t)1 << slot);
    while ((t = TAILQ_FIRST(&list)) != NULL) {
        TAILQ_REMOVE(&list, t, link);
        if (level != 0) {
            wheel_insert(w, t);
        } else {
            t->slot = SLOT_DUE;
            TAILQ_INSERT_TAIL(&w->due, t, link);
        }
    }
}

size_t st_wheel_run(struct st_wheel *w, uint64_t now_ns)
{
    uint64_t target = now_ns / ST_MSEC, tick;
    unsigned level, slot;
    struct st_timer *t;
    size_t ran = 0;

    if (target < w->now)
        target = w->now;
    while (wheel_find(w, &level, &slot, &tick) && tick <= target) {
        w->now = tick;
        wheel_empty_slot(w, level, slot);
    }
    w->now = target;
    /* What callbacks arm for now goes to a slot, not here: this ends. */
    while ((t = TAILQ_FIRST(&w->due)) != NULL) {
        TAILQ_REMOVE(&w->due, t, link);
        t->slot = 0;
        w->armed--;
        ran++;
        t->fn(t);
    }
    return ran;
}

uint64_t st_wheel_next(const struct st_wheel *w)
{
    unsigned level, slot;
    uint64_t tick;

    return wheel_find(w, &level, &slot, &tick) ? tick * ST_MSEC : UINT64_MAX;
}
