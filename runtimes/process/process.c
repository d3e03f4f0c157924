/* The life of a worker process: start, ready, end, and what the pool asks for. */
#include "runtimes/process/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/slot.h"
#include "runtimes/process/template.h"
#include "runtimes/process/worker.h"

/* Of each body pool: address space, pages come on use. */
static const uint64_t max_pool_bytes = 256ull * 1024 * 1024;

bool st_process_is_inline(struct st_runtime *rt ST_UNUSED)
{
    return false;
}

/* The end */

static void free_worker(struct st_garbage *g)
{
    struct st_process_worker *pw = ST_CONTAINER_OF(g, struct st_process_worker, garbage);

    free(pw);
}

/* Nothing points to it any more but grants, which are on their way. */
static void release(struct st_process_worker *pw)
{
    if (pw->stage == ST_PROCESS_GONE && pw->grants == 0)
        st_loop_free_later(pw->loop, &pw->garbage, free_worker);
}

void st_process_grant_done(struct st_process_worker *pw)
{
    pw->grants--;
    release(pw);
}

static void close_far(struct st_process_worker *pw)
{
    static const int ours[] = {1, 2, ST_WIRE_FD_CONTROL};

    for (size_t i = 0; i < ST_ARRAY_LEN(ours); i++) {
        if (pw->options.fds[ours[i]] >= 0)
            close(pw->options.fds[ours[i]]);
        pw->options.fds[ours[i]] = -1;
    }
    if (pw->channel != NULL)
        st_channel_close_far(pw->channel);
}

/* Lets go of everything but the struct. */
static void dispose(struct st_process_worker *pw)
{
    close_far(pw);
    st_loop_timer_cancel(pw->loop, &pw->timer);
    if (pw->channel != NULL)
        st_channel_close(pw->channel);
    st_control_close(&pw->control);
    st_pipe_close(&pw->out);
    st_pipe_close(&pw->err);
    st_flight_free(pw);
    pw->slot_count = 0;
    pw->slots = NULL;
    pw->stage = ST_PROCESS_GONE;
    if (pw->w->impl == pw)
        pw->w->impl = NULL;
    release(pw);
}

/* It ended by itself: before it was ready its last words may say why. */
static void tell_own_end(const struct st_process_worker *pw, const char *how, char *text, size_t n)
{
    char tail[ST_PIPE_TAIL_MAX + 1] = "";

    if (!pw->was_ready)
        st_pipe_tail(&pw->err, tail, sizeof tail);
    snprintf(text, n, "The worker process %s%s%s%s", how,
             pw->was_ready ? "" : " before it was ready", tail[0] != '\0' ? ": " : "", tail);
}

/* Why it is gone, for people. */
static void tell_end(const struct st_process_worker *pw, const char *how, char *text, size_t n)
{
    if (pw->reason[0] != '\0')
        snprintf(text, n, "The worker process was ended: %s", pw->reason);
    else if (pw->failure[0] != '\0')
        snprintf(text, n, "%s", pw->failure);
    else
        tell_own_end(pw, how, text, n);
}

static void lose(struct st_process_worker *pw, const char *how)
{
    struct st_worker *w = pw->w;
    struct st_flight_list back;
    enum st_worker_loss loss = pw->loss;
    bool failed = !pw->was_ready && !pw->killed;
    char text[sizeof pw->failure + 128];

    tell_end(pw, how, text, sizeof text);
    pw->stage = ST_PROCESS_GONE; /* stop() is called as the last event goes */
    st_flight_fail(pw, text, &back);
    w->impl = NULL;
    if (pw->stopping)
        st_worker_stopped(w);
    else if (failed)
        st_worker_failed(w, text);
    else
        st_worker_lost(w, loss, text);
    st_flight_return(pw, &back);
    dispose(pw);
}

static void on_exit_event(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    struct st_process_worker *pw = arg;
    char how[128];

    /* What it said before counts. */
    event_del(&pw->exit_event);
    st_control_read(&pw->control);
    if (pw->said_hello)
        st_channel_read(pw->channel);
    st_pipe_close(&pw->out);
    st_pipe_close(&pw->err);
    pw->killed = st_process_reap(&pw->process, how, sizeof how) == SIGKILL &&
                 pw->reason[0] == '\0' && pw->failure[0] == '\0';
    atomic_store_explicit(&pw->w->pid, 0, memory_order_relaxed);
    if (pw->loss == ST_LOST_CRASH && strcmp(how, "exited with status 0") == 0)
        pw->loss = ST_LOST_EXIT;
    lose(pw, how);
}

static void terminate(struct st_process_worker *pw)
{
    Stator__Worker__V1__Terminate none = STATOR__WORKER__V1__TERMINATE__INIT;
    Stator__Worker__V1__ToWorker msg = STATOR__WORKER__V1__TO_WORKER__INIT;

    msg.kind_case = STATOR__WORKER__V1__TO_WORKER__KIND_TERMINATE;
    msg.terminate = &none;
    pw->stage = ST_PROCESS_ENDING;
    if (st_control_send(&pw->control, &msg) != ST_OK)
        st_process_signal(&pw->process, SIGTERM);
    st_loop_timer_arm(pw->loop, &pw->timer, ST_PROCESS_STOP_S * ST_SEC);
}

void st_process_kill(struct st_process_worker *pw, enum st_worker_loss loss, const char *text)
{
    if (pw->stage == ST_PROCESS_SPAWNING || pw->stage >= ST_PROCESS_KILLING)
        return;
    pw->loss = loss;
    snprintf(pw->reason, sizeof pw->reason, "%s", text);
    if (pw->stage == ST_PROCESS_RUNNING)
        st_flight_withdraw(pw);
    pw->stage = ST_PROCESS_KILLING;
    st_process_signal(&pw->process, SIGTERM);
    st_loop_timer_arm(pw->loop, &pw->timer, ST_PROCESS_GRACE_S * ST_SEC);
}

void st_process_retired(struct st_process_worker *pw)
{
    if (pw->stage == ST_PROCESS_RUNNING)
        terminate(pw);
}

void st_process_retire(struct st_process_worker *pw, enum st_worker_loss loss, const char *text)
{
    pw->retiring = true;
    pw->loss = loss;
    snprintf(pw->reason, sizeof pw->reason, "%s", text);
    st_flight_withdraw(pw);
}

void st_process_hung_up(struct st_process_worker *pw)
{
    pw->hung_up = true;
    if (pw->stage == ST_PROCESS_STARTING || pw->stage == ST_PROCESS_RUNNING)
        st_loop_timer_arm(pw->loop, &pw->timer, ST_PROCESS_GRACE_S * ST_SEC);
}

static void on_timer(struct st_timer *t)
{
    struct st_process_worker *pw = ST_CONTAINER_OF(t, struct st_process_worker, timer);

    switch (pw->stage) {
    case ST_PROCESS_STARTING:
    case ST_PROCESS_RUNNING:
        if (pw->hung_up)
            st_process_kill(pw, ST_LOST_PROTOCOL, "it closed its control socket");
        else
            st_process_kill(pw, ST_LOST_TIMEOUT, "it was not ready within 120 s");
        break;
    case ST_PROCESS_ENDING:
        pw->stage = ST_PROCESS_KILLING;
        st_process_signal(&pw->process, SIGTERM);
        st_loop_timer_arm(pw->loop, &pw->timer, ST_PROCESS_GRACE_S * ST_SEC);
        break;
    case ST_PROCESS_KILLING:
        st_process_signal(&pw->process, SIGKILL);
        break;
    default:
        break;
    }
}

/* The start */

static void on_spawned(struct st_spawn *spawn)
{
    struct st_process_worker *pw = ST_CONTAINER_OF(spawn, struct st_process_worker, spawn);
    struct st_worker *w = pw->w;
    char text[sizeof spawn->error.text];

    close_far(pw);
    if (spawn->error.code != ST_OK) {
        snprintf(text, sizeof text, "%s", spawn->error.text);
        w->impl = NULL;
        if (pw->stopping)
            st_worker_stopped(w);
        else
            st_worker_failed(w, text);
        dispose(pw);
        return;
    }
    pw->process = spawn->process;
    event_assign(&pw->exit_event, pw->loop->base, pw->process.pidfd, EV_READ | EV_PERSIST,
                 on_exit_event, pw);
    ST_ASSERT(event_add(&pw->exit_event, NULL) == 0);
    pw->stage = ST_PROCESS_STARTING;
    st_control_start(&pw->control); /* a quick worker is ready before we hear of its start */
    st_loop_timer_arm(pw->loop, &pw->timer, ST_PROCESS_START_S * ST_SEC);
    if (pw->stopping) /* it has nothing to lose */
        st_process_signal(&pw->process, SIGKILL);
}

void st_process_ready(struct st_process_worker *pw, uint32_t credits)
{
    if (pw->stage != ST_PROCESS_STARTING || pw->stopping)
        return;
    if (!pw->hung_up)
        st_loop_timer_cancel(pw->loop, &pw->timer);
    pw->stage = ST_PROCESS_RUNNING;
    pw->was_ready = true;
    if (pw->w->pool->batch_size != 0) /* events of one batch at once */
        credits = pw->w->pool->batch_size;
    else if (credits > pw->max_concurrency)
        credits = pw->max_concurrency;
    st_flight_open(pw, credits);
    st_worker_ready(pw->w, credits);
}

static void on_stdout(struct st_pipe *out, struct st_slice line)
{
    st_process_line(ST_CONTAINER_OF(out, struct st_process_worker, out), ST_LOG_INFO, "stdout",
                    line);
}

static void on_stderr(struct st_pipe *out, struct st_slice line)
{
    struct st_process_worker *pw = ST_CONTAINER_OF(out, struct st_process_worker, err);

    st_process_line(pw, ST_LOG_WARN, "stderr", line);
}

static size_t pool_bytes(const struct st_processor *p)
{
    uint64_t n = p->bodies.limit;

    return (size_t)(n < max_pool_bytes ? n : max_pool_bytes);
}

static int open_planes(struct st_process_worker *pw, struct st_error *err)
{
    const struct st_function_config *f = pw->rt->base.config;
    struct st_processor *p = pw->rt->base.processor;
    struct st_channel_options opt = {
        .loop = pw->loop,
        .handler = &st_flight_handler,
        .bodies = &p->bodies,
        .ring_bytes = (size_t)f->own.ring_bytes,
        .pool_bytes = pool_bytes(p),
    };
    const struct st_channel_far *far;
    int *fds = pw->options.fds, code;

    if ((code = st_pipe_open(&pw->out, pw->loop, on_stdout, &fds[1], err)) != ST_OK ||
        (code = st_pipe_open(&pw->err, pw->loop, on_stderr, &fds[2], err)) != ST_OK ||
        (code = st_control_open(&pw->control, pw->loop, &st_process_control_handler, pw,
                                &fds[ST_WIRE_FD_CONTROL], err)) != ST_OK)
        return code;
    pw->channel = st_channel_new(&opt, err);
    if (pw->channel == NULL)
        return err->code;
    st_channel_set_user(pw->channel, pw);
    far = st_channel_far(pw->channel);
    fds[ST_WIRE_FD_DATA] = far->data;
    fds[ST_WIRE_FD_MEMORY] = far->memory;
    fds[ST_WIRE_FD_WAKE_WORKER] = far->wake_worker;
    fds[ST_WIRE_FD_WAKE_PROCESSOR] = far->wake_processor;
    return ST_OK;
}

/* A tenth more or less, so that workers of one age are not replaced at once. */
static uint64_t requests_of(struct st_process_worker *pw)
{
    uint64_t n = (uint64_t)pw->rt->base.config->own.max_requests;

    return n < 10 ? n : n - n / 10 + st_rand_below(&pw->loop->rand, n / 5);
}

void st_process_worker_spawn(struct st_worker *w)
{
    struct st_process_worker *pw = st_calloc(1, sizeof *pw);
    struct st_process_runtime *rt = ST_CONTAINER_OF(w->runtime, struct st_process_runtime, base);
    struct st_error err = {.code = ST_OK};

    pw->w = w;
    pw->rt = rt;
    pw->loop = w->loop;
    pw->loss = ST_LOST_CRASH;
    pw->control.fd = pw->out.fd = pw->err.fd = -1;
    pw->max_concurrency = w->pool->max_concurrency;
    pw->max_requests = requests_of(pw);
    st_timer_init(&pw->timer, on_timer);
    st_flight_init(pw);
    pw->options = (struct st_spawn_options){.argv = rt->argv,
                                            .envp = rt->envp,
                                            .directory = rt->base.code_dir,
                                            .cpus = w->slot->pinned ? &w->slot->cpus : NULL,
                                            .uid = rt->uid,
                                            .gid = rt->gid};
    for (int i = 0; i < ST_WIRE_FD_END; i++)
        pw->options.fds[i] = -1;
    if (open_planes(pw, &err) != ST_OK) {
        st_worker_failed(w, err.text);
        dispose(pw);
        return;
    }
    w->impl = pw;
    pw->spawn = (struct st_spawn){.main_loop = &rt->base.processor->main_loop,
                                  .loop = w->loop,
                                  .options = &pw->options,
                                  .done = on_spawned,
                                  .pid = &w->pid,
                                  .template = rt->template,
                                  .number = w->index};
    if (rt->template != NULL)
        st_template_spawn(&pw->spawn);
    else
        st_spawn_start(&pw->spawn);
}

/* What the pool asks for */

void st_process_worker_invoke(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    if (st_likely(w->impl != NULL))
        st_flight_add(w->impl, ev, assignment);
    else
        st_flight_refuse(w, ev, assignment);
}

void st_process_worker_invoke_batch(struct st_worker *w, struct st_event *const *events,
                                    const uint32_t *assignments, unsigned n)
{
    if (st_likely(w->impl != NULL)) {
        st_flight_add_batch(w->impl, events, assignments, n);
        return;
    }
    while (n-- > 0)
        st_flight_refuse(w, events[n], assignments[n]);
}

void st_process_worker_cancel(struct st_worker *w, struct st_event *ev)
{
    struct st_process_worker *pw = w->impl;

    if (pw != NULL && pw->stage == ST_PROCESS_RUNNING)
        st_flight_cancel(pw, ev);
}

void st_process_worker_restart(struct st_worker *w)
{
    struct st_process_worker *pw = w->impl;

    /* One that has just been started again has nothing to do with it. */
    if (pw != NULL && pw->stage >= ST_PROCESS_RUNNING)
        st_process_kill(pw, ST_LOST_TIMEOUT, "an event ran past eventTimeout");
}

static void on_cancelled(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    st_process_grant_done(ST_CONTAINER_OF(mail, struct st_process_worker, cancel_mail));
}

static void on_cancel(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct st_process_worker *pw = ST_CONTAINER_OF(mail, struct st_process_worker, cancel_mail);

    st_template_cancel(&pw->spawn);
    st_loop_post(pw->loop, mail, on_cancelled);
}

/* It may wait for a template that imports for long. */
static void cancel_spawn(struct st_process_worker *pw)
{
    if (pw->rt->template == NULL)
        return;
    pw->grants++;
    st_loop_post(&pw->rt->base.processor->main_loop, &pw->cancel_mail, on_cancel);
}

void st_process_worker_stop(struct st_worker *w)
{
    struct st_process_worker *pw = w->impl;

    if (pw == NULL || pw->stage == ST_PROCESS_GONE) /* lose() goes on */
        return;
    pw->stopping = true;
    if (pw->stage == ST_PROCESS_RUNNING) {
        pw->loss = ST_LOST_EXIT;
        terminate(pw);
    } else if (pw->stage == ST_PROCESS_SPAWNING) {
        cancel_spawn(pw);
    } else if (pw->stage == ST_PROCESS_STARTING) {
        pw->loss = ST_LOST_EXIT;
        pw->stage = ST_PROCESS_KILLING;
        st_process_signal(&pw->process, SIGKILL);
    }
}
