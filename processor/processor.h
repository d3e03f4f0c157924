/* The composition root: one function, its triggers, pools, workers and loops; ordered start, drain,
 * stop. */
#ifndef PROCESSOR_PROCESSOR_H
#define PROCESSOR_PROCESSOR_H

#include <pthread.h>
#include <stdatomic.h>

#include "processor/config/config.h"
#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/loop.h"
#include "processor/net/net.h"
#include "processor/slot.h"

struct st_admin;
struct st_deferred_table;
struct st_loop_task;
struct st_metric_push;
struct st_output;
struct st_pool;
struct st_runtime;
struct st_trigger;
struct st_watch;

enum st_phase { ST_PHASE_STARTING, ST_PHASE_READY, ST_PHASE_DRAINING, ST_PHASE_STOPPED };

struct st_processor {
    const struct st_config *config;
    struct st_error start_error; /* under start_lock; code 0: none */
    pthread_mutex_t start_lock;
    struct st_mail notify_mail;
    _Atomic bool notified;
    struct st_loop_task *tasks;  /* one a loop: open, later close */
    struct st_loop_task *drains; /* one a loop; closing may begin before all are back */
    unsigned opened;             /* loops whose triggers are open */
    unsigned closed;             /* loops whose triggers are closed */
    _Atomic unsigned drained;    /* triggers times loops */
    bool opening, stopping_workers, closing, has_log;
    unsigned loops_started;
    struct event signal_event;
    int signal_fd;
    struct st_timer drain_timer;
    uint64_t drain_began_ns;
    struct st_topology topology;
    struct st_slots slots;
    struct st_loop main_loop; /* signals, supervision, admin */
    struct st_loop *loops;    /* I/O loops */
    unsigned loop_count;
    struct st_runtime *runtime;
    struct st_pool **pools;
    unsigned pool_count;
    struct st_trigger **triggers;
    unsigned trigger_count;
    struct st_output **outputs;
    unsigned output_count;
    struct st_admin *admin;
    struct st_metric_push *push; /* NULL: nobody gets pushes */
    struct st_watch *watch;      /* NULL: code is not watched */
    struct st_deferred_table *deferred;
    struct st_body_budget bodies;
    _Atomic int phase; /* enum st_phase */
    uint64_t started_ns;
    char instance[256]; /* for metric labels: NUCLIO_FUNCTION_INSTANCE or "<namespace>-<name>" */
    int exit_code;
};

/* Starts everything, serves until a signal, drains, stops. Returns the exit status of `run`. */
int st_processor_run(const struct st_config *config);

/* The slots of the workers that the processor would have; nothing is started. The handler is
 * loaded, because it decides whether workers run on the loops. Where that fails *handler says why
 * (its code is ST_OK otherwise), and they are counted as threads. Main thread. */
int st_processor_plan_slots(struct st_slots *out, const struct st_config *config,
                            struct st_error *handler, struct st_error *err) ST_MUST_CHECK;

/* For /ready and /live; main loop. reason (of size n) says what is missing. */
bool st_processor_is_ready(struct st_processor *p, char *reason, size_t n);

/* Something changed that start or drain may wait for: the main loop looks again. Any thread. */
void st_processor_notify(struct st_processor *p);

/* The shard of the calling loop's thread. */
struct st_metrics_shard *st_processor_shard(struct st_processor *p);

/* A worker could not start: before readiness this ends the processor. Any thread. */
void st_processor_start_failed(struct st_processor *p, const char *text);

static inline enum st_phase st_processor_phase(struct st_processor *p)
{
    return (enum st_phase)atomic_load_explicit(&p->phase, memory_order_acquire);
}

#endif
