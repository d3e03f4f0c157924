/* One thread's event loop: libevent's core as the poller, a mailbox, a timing wheel, a flush step.
 *
 * A pass is: event_base_loop(EVLOOP_ONCE) runs callbacks, then the flush list runs (what was
 * queued in this pass leaves in one write), then objects deleted in this pass are freed, because
 * libevent may still deliver an event for an object deleted in the same pass. Everything here
 * belongs to the loop's thread, but st_loop_post, st_loop_stop. */
#ifndef PROCESSOR_CORE_LOOP_H
#define PROCESSOR_CORE_LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <sys/queue.h>

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/mailbox.h"
#include "processor/core/rand.h"
#include "processor/core/timer.h"

struct st_metrics_shard;

/* Work for the end of this pass; part of the object it is about. */
struct st_flush {
    STAILQ_ENTRY(st_flush) link;
    void (*fn)(struct st_flush *f); /* may free the object through st_loop_free_later only */
    bool queued;
};

/* Something to free at the end of the pass. */
struct st_garbage {
    STAILQ_ENTRY(st_garbage) link;
    void (*fn)(struct st_garbage *g);
};

STAILQ_HEAD(st_flush_list, st_flush);
STAILQ_HEAD(st_garbage_list, st_garbage);

struct st_loop {
    uint32_t magic;
    unsigned index; /* 0 .. loops-1; ST_LOOP_MAIN for the main thread's */
    struct event_base *base;
    bool clock_valid;    /* now_ns is of this pass */
    bool timers_changed; /* the timerfd may be set too late */
    bool stopping;
    bool stop_posted;     /* atomic: stop_mail is on its way */
    bool has_thread;      /* atomic */
    uint64_t now_ns;      /* see st_loop_now */
    uint64_t wall_offset; /* wall = monotonic + this; refreshed every second */
    uint64_t wall_checked;
    uint64_t passes;
    struct st_flush_list flush;
    struct st_garbage_list garbage;
    struct st_wheel wheel;
    uint64_t wheel_armed_ns; /* what the timerfd is set to; UINT64_MAX: off */
    struct st_mailbox mailbox;
    struct st_rand rand;
    uint64_t id_ms, id_high, id_low;  /* UUIDv7 generator: last millisecond, last id's halves */
    struct st_metrics_shard *metrics; /* of this thread, made by st_loop_open */
    void *net;                        /* struct st_net of processor/net, set by st_net_open */
    struct event mail_event, timer_event;
    int timer_fd;
    pthread_t thread;
    struct st_mail stop_mail;
    char name[16];
};

enum { ST_LOOP_MAIN = 0xffff };

/* A loop that is not running yet. 0 or a negative code with *err filled. */
int st_loop_open(struct st_loop *loop, unsigned index, const char *name,
                 struct st_error *err) ST_MUST_CHECK;

/* Runs passes on the calling thread until st_loop_stop. */
void st_loop_run(struct st_loop *loop);

/* Runs st_loop_run on a new thread. st_loop_join waits for its end. */
int st_loop_start(struct st_loop *loop, struct st_error *err) ST_MUST_CHECK;
void st_loop_join(struct st_loop *loop);

/* As st_loop_join, but gives up after wait_ns: false, the thread still runs. */
bool st_loop_join_within(struct st_loop *loop, uint64_t wait_ns);

/* One pass; blocks at most until the first event. For tests. */
void st_loop_pass(struct st_loop *loop);

/* Runs what is queued for the end of the pass, and what that queues. Every pass does it; others
 * need it only to let go of a loop that has ended. */
void st_loop_settle(struct st_loop *loop);

/* Ends st_loop_run after the pass in which this arrives. Any thread. */
void st_loop_stop(struct st_loop *loop);

/* The loop must not run. Undelivered mail is the poster's to free. */
void st_loop_close(struct st_loop *loop);

/* Delivers on the loop's thread, in order. Any thread. */
static inline void st_loop_post(struct st_loop *loop, struct st_mail *mail, st_mail_fn *deliver)
{
    st_mailbox_post(&loop->mailbox, mail, deliver);
}

/* Runs fn(arg) on the loop's thread and waits for it. Not from a loop's thread, but from this
 * loop's own or before it runs: then it is called at once. */
void st_loop_call(struct st_loop *loop, void (*fn)(struct st_loop *loop, void *arg), void *arg);

/* True on the loop's own thread (or before the loop has one). */
bool st_loop_is_current(const struct st_loop *loop);

void st_loop_update_clock(struct st_loop *loop);

/* CLOCK_MONOTONIC at the first use in this pass, ns. */
static inline uint64_t st_loop_now(struct st_loop *loop)
{
    if (st_unlikely(!loop->clock_valid))
        st_loop_update_clock(loop);
    return loop->now_ns;
}

/* Wall clock that goes with st_loop_now, ns since the epoch. */
static inline uint64_t st_loop_wall(struct st_loop *loop)
{
    return st_loop_now(loop) + loop->wall_offset;
}

/* Queues f->fn for the end of this pass, once. */
static inline void st_loop_flush_later(struct st_loop *loop, struct st_flush *f)
{
    if (!f->queued) {
        f->queued = true;
        STAILQ_INSERT_TAIL(&loop->flush, f, link);
    }
}

/* Queues the freeing of an object for the end of this pass. */
static inline void st_loop_free_later(struct st_loop *loop, struct st_garbage *g,
                                      void (*fn)(struct st_garbage *g))
{
    g->fn = fn;
    STAILQ_INSERT_TAIL(&loop->garbage, g, link);
}

/* Arms t for after_ns from now. */
void st_loop_timer_arm(struct st_loop *loop, struct st_timer *t, uint64_t after_ns);
void st_loop_timer_cancel(struct st_loop *loop, struct st_timer *t);

/* Sixteen bytes of a UUIDv7 (RFC 9562 section 5.7; sub-millisecond order by counter, method 2). */
void st_loop_uuid(struct st_loop *loop, uint8_t out[16]);

#endif
