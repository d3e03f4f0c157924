/* Start: loops, runtime, pools, workers; when all workers are ready, triggers; then readiness.
 * Stop: triggers drain, workers stop, triggers close, loops end. The main loop runs this as one
 * state machine (step), told by st_processor_notify that something changed. */
#include "processor/processor.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "processor/admin/admin.h"
#include "processor/admin/metric_push.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/labels.h"
#include "processor/output.h"
#include "processor/pool.h"
#include "processor/processor_int.h"
#include "processor/runtime.h"
#include "processor/trigger.h"
#include "processor/watch.h"

/* How long loops have to close their triggers when the time for draining is over. */
#define CLOSE_NS ST_SEC

static struct st_processor *processor_of_main(struct st_loop *loop)
{
    return ST_CONTAINER_OF(loop, struct st_processor, main_loop);
}

static void set_phase(struct st_processor *p, enum st_phase phase)
{
    atomic_store_explicit(&p->phase, (int)phase, memory_order_release);
}

static void deliver_done(struct st_loop *loop, struct st_mail *mail)
{
    struct st_loop_task *task = ST_CONTAINER_OF(mail, struct st_loop_task, mail);

    (void)loop;
    if (task->done != NULL)
        task->done(task);
}

static void deliver_task(struct st_loop *loop, struct st_mail *mail)
{
    struct st_loop_task *task = ST_CONTAINER_OF(mail, struct st_loop_task, mail);

    (void)loop;
    task->run(task);
    st_loop_post(&task->p->main_loop, &task->mail, deliver_done);
}

/* The task, of p->tasks or p->drains, must not be under way. */
static void task_start(struct st_processor *p, struct st_loop_task *task, unsigned loop,
                       void (*run)(struct st_loop_task *), void (*done)(struct st_loop_task *))
{
    task->p = p;
    task->loop = &p->loops[loop];
    task->run = run;
    task->done = done;
    st_loop_post(task->loop, &task->mail, deliver_task);
}

/* Closing */

static void run_close(struct st_loop_task *task)
{
    for (unsigned i = 0; i < task->p->trigger_count; i++)
        if (task->p->triggers[i]->kind->close != NULL)
            task->p->triggers[i]->kind->close(task->p->triggers[i], task->loop);
    st_outputs_close(task->p, task->loop);
}

static void all_done(void *arg)
{
    struct st_processor *p = arg;

    st_loop_stop(&p->main_loop);
}

static void close_done(struct st_loop_task *task)
{
    struct st_processor *p = task->p;

    if (++p->closed < p->loop_count)
        return;
    set_phase(p, ST_PHASE_STOPPED);
    st_loop_timer_cancel(&p->main_loop, &p->drain_timer);
    st_metric_push_last(p->push, all_done, p);
}

static void close_all(struct st_processor *p)
{
    if (p->closing)
        return;
    p->closing = true;
    for (unsigned i = 0; i < p->loop_count; i++)
        task_start(p, &p->tasks[i], i, run_close, close_done);
}

static void fail_start(struct st_processor *p, const char *text)
{
    fprintf(stderr, "stator: %s\n", text);
    p->exit_code = 1;
    set_phase(p, ST_PHASE_DRAINING);
    st_loop_stop(&p->main_loop);
}

/* Draining */

static void run_drain(struct st_loop_task *task)
{
    for (unsigned i = 0; i < task->p->trigger_count; i++) {
        struct st_trigger *t = task->p->triggers[i];
        if (t->kind->drain != NULL)
            t->kind->drain(t, task->loop, task->linger_ns);
        else
            st_trigger_drained(t, task->loop);
    }
}

/* A loop that a handler blocks closes nothing: then the process ends without it. */
static void close_timeout(struct st_timer *t)
{
    struct st_processor *p = ST_CONTAINER_OF(t, struct st_processor, drain_timer);

    st_processor_give_up(p);
}

static void close_soon(struct st_processor *p)
{
    close_all(p);
    st_timer_init(&p->drain_timer, close_timeout);
    st_loop_timer_arm(&p->main_loop, &p->drain_timer, CLOSE_NS);
}

static void drain_timeout(struct st_timer *t)
{
    struct st_processor *p = ST_CONTAINER_OF(t, struct st_processor, drain_timer);

    ST_LOG(ST_LOG_WARN, "processor",
           "Work was left when workerTerminationTimeout passed; it is given up");
    close_soon(p);
}

static uint64_t termination_timeout(const struct st_processor *p)
{
    uint64_t most = 0;

    for (size_t i = 0; i < p->config->function.trigger_count; i++)
        if (p->config->function.triggers[i].stop_ns > most)
            most = p->config->function.triggers[i].stop_ns;
    return most;
}

static void start_drain(struct st_processor *p)
{
    uint64_t linger = p->config->function.own.drain_delay_ns;

    ST_LOG(ST_LOG_INFO, "processor", "Draining");
    set_phase(p, ST_PHASE_DRAINING);
    p->drain_began_ns = st_loop_now(&p->main_loop);
    st_timer_init(&p->drain_timer, drain_timeout);
    st_loop_timer_arm(&p->main_loop, &p->drain_timer, linger + termination_timeout(p));
    for (unsigned i = 0; i < p->loop_count; i++) {
        p->drains[i].linger_ns = linger;
        task_start(p, &p->drains[i], i, run_drain, NULL);
    }
    st_processor_notify(p);
}

static bool pools_stopped(struct st_processor *p)
{
    for (unsigned i = 0; i < p->pool_count; i++)
        if (!st_pool_is_stopped(p->pools[i]))
            return false;
    return true;
}

static void step_drain(struct st_processor *p)
{
    if (!p->stopping_workers) {
        if (atomic_load(&p->drained) < p->trigger_count * p->loop_count)
            return;
        p->stopping_workers = true;
        for (unsigned i = 0; i < p->pool_count; i++)
            st_pool_stop(p->pools[i]);
    }
    if (pools_stopped(p))
        close_all(p);
}

/* Starting */

static void run_open(struct st_loop_task *task)
{
    task->error.code = ST_OK;
    if (st_outputs_open(task->p, task->loop, &task->error) != ST_OK)
        return;
    for (unsigned i = 0; i < task->p->trigger_count && task->error.code == ST_OK; i++) {
        struct st_trigger *t = task->p->triggers[i];
        if (t->kind->open != NULL && t->kind->open(t, task->loop, &task->error) != ST_OK &&
            task->error.code == ST_OK)
            st_error_set(&task->error, ST_ERR_INVALID, "trigger %s did not start", t->name);
    }
}

static void now_ready(struct st_processor *p)
{
    struct st_labels labels;
    uint64_t took = st_clock_mono() - p->started_ns;

    st_labels_own(&labels, p, NULL);
    st_metric_set(p->main_loop.metrics, st_metric_register(ST_METRIC_READY_SECONDS, labels.items),
                  (int64_t)(took / ST_MSEC));
    set_phase(p, ST_PHASE_READY);
    ST_LOG(ST_LOG_INFO, "processor", "Ready", ST_KV_STR("function", p->config->function.name),
           ST_KV_UINT("loops", p->loop_count), ST_KV_UINT("workers", p->slots.count),
           ST_KV_UINT("milliseconds", took / ST_MSEC));
}

static void open_done(struct st_loop_task *task)
{
    struct st_processor *p = task->p;
    struct st_error err;

    if (task->error.code != ST_OK)
        fail_start(p, task->error.text);
    else if (++p->opened < p->loop_count)
        task_start(p, &p->tasks[p->opened], p->opened, run_open, open_done);
    else if (st_processor_phase(p) != ST_PHASE_STARTING)
        return;
    else if (st_admin_open_http(p->admin, &err) != ST_OK)
        fail_start(p, err.text);
    else
        now_ready(p);
}

static void step_start(struct st_processor *p)
{
    for (unsigned i = 0; i < p->pool_count; i++)
        if (!st_pool_was_ready(p->pools[i]))
            return;
    if (p->opening)
        return;
    p->opening = true;
    task_start(p, &p->tasks[0], 0, run_open, open_done);
}

static void step(struct st_loop *loop, struct st_mail *mail)
{
    struct st_processor *p = processor_of_main(loop);
    bool failed;

    (void)mail;
    atomic_store(&p->notified, false);
    pthread_mutex_lock(&p->start_lock);
    failed = p->start_error.code != ST_OK;
    pthread_mutex_unlock(&p->start_lock);
    if (st_processor_phase(p) == ST_PHASE_STARTING) {
        if (failed)
            fail_start(p, p->start_error.text);
        else
            step_start(p);
    } else if (st_processor_phase(p) == ST_PHASE_READY) {
        st_watch_step(p->watch);
    } else if (st_processor_phase(p) == ST_PHASE_DRAINING && p->exit_code == 0) {
        step_drain(p);
    }
}

void st_processor_notify(struct st_processor *p)
{
    if (!atomic_exchange(&p->notified, true))
        st_loop_post(&p->main_loop, &p->notify_mail, step);
}

void st_processor_start_failed(struct st_processor *p, const char *text)
{
    pthread_mutex_lock(&p->start_lock);
    if (p->start_error.code == ST_OK)
        st_error_set(&p->start_error, ST_ERR_INVALID, "%s", text);
    pthread_mutex_unlock(&p->start_lock);
    st_processor_notify(p);
}

void st_trigger_drained(struct st_trigger *t, struct st_loop *loop)
{
    (void)loop;
    atomic_fetch_add(&t->processor->drained, 1);
    st_processor_notify(t->processor);
}

struct st_metrics_shard *st_processor_shard(struct st_processor *p)
{
    for (unsigned i = 0; i < p->loop_count; i++)
        if (st_loop_is_current(&p->loops[i]))
            return p->loops[i].metrics;
    return p->main_loop.metrics;
}

bool st_processor_is_ready(struct st_processor *p, char *reason, size_t n)
{
    if (st_processor_phase(p) == ST_PHASE_STARTING) {
        snprintf(reason, n, "Processor not ready yet");
        return false;
    }
    if (st_processor_phase(p) != ST_PHASE_READY) {
        snprintf(reason, n, "Processor is draining");
        return false;
    }
    for (unsigned i = 0; i < p->pool_count; i++) {
        if (!st_pool_is_usable(p->pools[i])) {
            snprintf(reason, n, "Pool %s has no usable worker", p->pools[i]->name);
            return false;
        }
    }
    snprintf(reason, n, "OK");
    return true;
}

/* Signals. One that follows at once is the same wish, told to process and group. */

#define SECOND_SIGNAL_NS ST_SEC

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
    struct st_processor *p = arg;
    struct signalfd_siginfo info;

    (void)what;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (st_processor_phase(p) == ST_PHASE_READY) {
            start_drain(p);
        } else if (st_processor_phase(p) == ST_PHASE_STARTING) {
            set_phase(p, ST_PHASE_DRAINING);
            st_loop_stop(&p->main_loop);
        } else if (st_loop_now(&p->main_loop) - p->drain_began_ns > SECOND_SIGNAL_NS) {
            ST_LOG(ST_LOG_WARN, "processor", "Second signal: ending at once");
            st_loop_timer_cancel(&p->main_loop, &p->drain_timer);
            if (st_processor_phase(p) == ST_PHASE_STOPPED)
                all_done(p);
            else
                close_soon(p);
        }
    }
}

int st_processor_watch_signals(struct st_processor *p, struct st_error *err)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGQUIT);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    p->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (p->signal_fd < 0)
        return st_error_sys(err, errno, "signalfd");
    event_assign(&p->signal_event, p->main_loop.base, p->signal_fd, EV_READ | EV_PERSIST, on_signal,
                 p);
    event_add(&p->signal_event, NULL);
    return ST_OK;
}

/* Life */

int st_processor_run(const struct st_config *config)
{
    struct st_processor *p = calloc(1, sizeof *p);
    struct st_error err = {.code = ST_OK};
    int status;

    ST_ASSERT(p != NULL);
    p->config = config;
    p->started_ns = st_clock_mono();
    p->signal_fd = -1;
    pthread_mutex_init(&p->start_lock, NULL);
    if (st_processor_build(p, &err) != ST_OK) {
        fprintf(stderr, "stator: %s\n", err.text);
        p->exit_code = 1;
    } else {
        for (unsigned i = 0; i < p->pool_count; i++)
            st_pool_spawn(p->pools[i]);
        st_processor_notify(p);
        st_loop_run(&p->main_loop);
    }
    status = p->exit_code;
    st_processor_dismantle(p);
    return status;
}
