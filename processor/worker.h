/* A worker: executes events one at a time on its slot. Its state equals the list of its pool that
 * it is on, and one function makes every move (the idea is pgbouncer's). */
#ifndef PROCESSOR_WORKER_H
#define PROCESSOR_WORKER_H

#include <sys/queue.h>

#include "processor/core/base.h"
#include "processor/core/mailbox.h"
#include "processor/core/metrics.h"
#include "processor/core/timer.h"

struct st_loop;
struct st_pool;
struct st_runtime;
struct st_slot;

enum { ST_WORKER_MAGIC = 0x776f726b, ST_WORKER_ERROR_MAX = 256 };

enum st_worker_state {
    ST_WORKER_STARTING,
    ST_WORKER_IDLE,     /* credits, nothing running */
    ST_WORKER_BUSY,     /* credits, something running */
    ST_WORKER_FULL,     /* no credit left */
    ST_WORKER_DRAINING, /* takes nothing new */
    ST_WORKER_STUCK,    /* past eventTimeout in a thread: never reused */
    ST_WORKER_RESTARTING,
    ST_WORKER_DEAD,
    ST_WORKER_STATES
};

/* Why a worker had to be started again. */
enum st_worker_loss {
    ST_LOST_STUCK,    /* a thread past eventTimeout: another one takes its place */
    ST_LOST_CRASH,    /* a signal, or an exit with another status than 0 */
    ST_LOST_EXIT,     /* it exited with 0 */
    ST_LOST_TIMEOUT,  /* ended, because an event ran past eventTimeout */
    ST_LOST_MEMORY,   /* ended, because it was over workerMemory */
    ST_LOST_RECYCLED, /* ended after maxRequests */
    ST_LOST_PROTOCOL, /* ended, because it broke the worker wire's rules */
    ST_LOST_START,    /* it was not ready yet: a start that failed */
    ST_LOST_CODE,     /* replaced, because the handler's code has changed */
    ST_LOSSES
};

struct st_worker {
    uint32_t magic;
    unsigned index; /* within the pool */
    struct st_pool *pool;
    struct st_runtime *runtime;
    struct st_slot *slot;
    struct st_loop *loop; /* owns its channel: spawn, invoke, stop run there */
    bool is_inline;       /* runs on loop's thread; reached by pool->inline_workers, not by credits,
                           * unless       its pool makes batches */
    bool was_ready;
    bool abandoned; /* w->loop: the runtime was told to give up on it */

    /* Under the pool's lock */
    enum st_worker_state state;
    TAILQ_ENTRY(st_worker) link;
    uint32_t credits;    /* events it takes now */
    uint32_t running;    /* events assigned to it, started or not */
    bool stop_called;    /* the runtime's stop() */
    bool feed_posted;    /* feed_mail is on its way */
    bool restart_called; /* the runtime's restart(), until it is lost */
    bool is_past;        /* another has its place, or it has none yet */
    unsigned restarts;   /* so far; failed starts are not among them */
    unsigned failures;   /* in a row: failed starts, and lives that were too short to be good */
    char last_error[ST_WORKER_ERROR_MAX]; /* why it did not start, or was lost; "": never */

    struct st_mail mail;      /* spawn, abandon: to w->loop */
    struct st_mail stop_mail; /* the other two may be on their way */
    struct st_mail feed_mail; /* a batch is due: to w->loop */
    struct st_timer retry;    /* w->loop: the next start; or, when ready, the end of its trial */
    uint64_t spawned_ns, ready_ns; /* w->loop, of this life; 0: not ready yet */
    uint64_t wasted_ns;            /* w->loop: by starts of lives that were not good, in a row */
    atomic_int pid;                /* of its process, for people; 0: it has none */
    void *impl;                    /* the runtime's own */
    struct {
        st_metric duration_sum, duration_count;
    } metrics;
};

TAILQ_HEAD(st_worker_list, st_worker);

/* The one mover. Asserts the edge; under the pool's lock. */
void st_worker_set_state(struct st_worker *w, enum st_worker_state state);

/* One credit becomes one running event. Under the pool's lock. */
void st_worker_take_event(struct st_worker *w);

/* True once, when it drains and nothing runs on it: the caller calls stop(). Under the pool's lock.
 */
bool st_worker_take_stop(struct st_worker *w);

const char *st_worker_state_name(enum st_worker_state state);

/* Starts it, for the first time or again; its state is STARTING. On w->loop. */
void st_worker_spawn(struct st_worker *w);

/* By runtimes, on w->loop. The worker may take events from now on, against the credits granted. */
void st_worker_ready(struct st_worker *w, uint32_t credits);

/* It could not start; text says why. At the processor's start this ends it; later it is retried. */
void st_worker_failed(struct st_worker *w, const char *text);

/* It was ready, or was killed from outside while it started, and has ended; none of its events is
 * left with it (each was given to st_worker_event_done or st_worker_retreat). It is started again:
 * at once, unless lives that are long beside their starts have been missing for a while; then with
 * growing delays. */
void st_worker_lost(struct st_worker *w, enum st_worker_loss loss, const char *text);

const char *st_worker_loss_name(enum st_worker_loss loss);

/* One of its events is over (answered or not); on w->loop. duration_ns of the handler, for the
 * statistics. Grants nothing. */
void st_worker_event_done(struct st_worker *w, uint64_t duration_ns);

/* All n events of its batch are over, and it takes the next one at once, but not in this call: for
 * workers that run on the loop. duration_ns is that of the whole batch. On w->loop. */
void st_worker_batch_done(struct st_worker *w, uint32_t n, uint64_t duration_ns);

/* Its runtime has taken `events` back that it had not begun (st_event_recall), because it is slow
 * just now or gone: they don't run here any more, and the credits that it has left are withdrawn.
 * Returns how many those were. On w->loop, before the events are resubmitted. */
uint32_t st_worker_retreat(struct st_worker *w, uint32_t events);

/* Grants n more credits; on w->loop. Hands it the oldest waiting events at once. */
void st_worker_credit(struct st_worker *w, uint32_t n);

/* It has ended as asked. */
void st_worker_stopped(struct st_worker *w);

#endif
