#include "runtimes/process/template.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/labels.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "runtimes/process/worker.h"

enum {
    FORK_S = 10,      /* between Fork and Forked */
    LOSSES_MAX = 3,   /* in a row, without a worker between: then workers start without it */
    FIRST_LOOK_S = 1, /* after the last fork: how much is shared */
    NEXT_LOOK_S = 60,
    LOOKED_AT = 16 /* workers, at most */
};

/* One process, from its start to its end; the template's present one or one that was given up. */
struct life {
    TAILQ_ENTRY(life) link;
    struct st_template *t;
    bool said_hello, imported, ending;
    uint64_t began_ns;
    struct st_process process;
    struct event exit_event;
    struct st_timer timer;    /* import, fork */
    struct st_spawn *forking; /* Fork was sent for it */
    struct st_control control;
    struct st_pipe out, err;
    struct st_garbage garbage;
    char failure[900]; /* Failed.text, or why it is ended */
};

struct st_template {
    struct st_process_runtime *rt;
    struct st_loop *loop;
    const char *argv[ST_PROCESS_MAX_ARGS + 1];
    TAILQ_HEAD(, life) lives;
    struct life *life; /* the present one; NULL: none */
    TAILQ_HEAD(, st_spawn) waiting;
    unsigned losses;
    bool off;           /* it can't fork */
    bool was_looked_at; /* how much is shared was logged, of this life */
    struct st_timer look;
    st_metric shared, private;
};

static void pump(struct st_template *t);

/* ---- the end of a process ---- */

static void free_life(struct st_garbage *g)
{
    free(ST_CONTAINER_OF(g, struct life, garbage));
}

static void dispose(struct life *life)
{
    st_loop_timer_cancel(life->t->loop, &life->timer);
    st_control_close(&life->control);
    st_pipe_close(&life->out);
    st_pipe_close(&life->err);
    st_loop_free_later(life->t->loop, &life->garbage, free_life);
}

/* Ends it; on_exit_event goes on. */
static void end(struct life *life, const char *why)
{
    life->ending = true;
    if (life->failure[0] == '\0')
        snprintf(life->failure, sizeof life->failure, "%.*s", (int)sizeof life->failure - 1, why);
    st_process_signal(&life->process, SIGKILL);
}

/* It is asked for nothing more, and ends when it has done what it was asked for. */
static void retire(struct st_template *t)
{
    Stator__Worker__V1__Terminate none = STATOR__WORKER__V1__TERMINATE__INIT;
    Stator__Worker__V1__ToWorker msg = STATOR__WORKER__V1__TO_WORKER__INIT;
    struct life *life = t->life;

    t->life = NULL;
    if (life == NULL || life->ending)
        return;
    msg.kind_case = STATOR__WORKER__V1__TO_WORKER__KIND_TERMINATE;
    msg.terminate = &none;
    if (!life->imported || st_control_send(&life->control, &msg) != ST_OK)
        end(life, "");
    else
        st_loop_timer_arm(t->loop, &life->timer, FORK_S * ST_SEC);
}

static void take_back(struct life *life)
{
    if (life->forking != NULL)
        TAILQ_INSERT_HEAD(&life->t->waiting, life->forking, link);
    life->forking = NULL;
}

static void turn_off(struct st_template *t, const char *why)
{
    if (!t->off)
        ST_LOG(ST_LOG_WARN, "processor.worker",
               "prefork: workers can't be forked from a template; each one starts by itself",
               ST_KV_STR("reason", why));
    t->off = true;
    retire(t);
}

static void fail(struct st_spawn *spawn, int code, const char *text)
{
    spawn->process = (struct st_process){.pid = 0, .pidfd = -1};
    st_error_set(&spawn->error, code, "%s", text);
    st_spawn_done(spawn);
}

static void fail_all(struct st_template *t, int code, const char *text)
{
    struct st_spawn *spawn;

    while ((spawn = TAILQ_FIRST(&t->waiting)) != NULL) {
        TAILQ_REMOVE(&t->waiting, spawn, link);
        fail(spawn, code, text);
    }
}

/* The present one has ended before it could fork: as a worker that ends before it is ready. */
static void import_failed(struct st_template *t, struct life *life, const char *how)
{
    char text[sizeof life->failure + ST_PIPE_TAIL_MAX], tail[ST_PIPE_TAIL_MAX + 1] = "";

    if (life->failure[0] != '\0') {
        fail_all(t, ST_ERR_INVALID, life->failure);
        return;
    }
    st_pipe_tail(&life->err, tail, sizeof tail);
    snprintf(text, sizeof text, "The worker process %s before it was ready%s%s", how,
             tail[0] != '\0' ? ": " : "", tail);
    fail_all(t, ST_ERR_INVALID, text);
}

static void lost(struct st_template *t, struct life *life, const char *how)
{
    char text[sizeof life->failure];

    t->life = NULL;
    if (!life->imported) {
        import_failed(t, life, how);
        return;
    }
    if (life->failure[0] != '\0')
        snprintf(text, sizeof text, "%s", life->failure);
    else
        snprintf(text, sizeof text, "The template %s", how);
    if (++t->losses == LOSSES_MAX)
        turn_off(t, text);
    else
        ST_LOG(ST_LOG_WARN, "processor.worker",
               "The template of the workers has ended; the next worker that starts starts it again",
               ST_KV_STR("reason", text));
}

static void on_exit_event(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    struct life *life = arg;
    struct st_template *t = life->t;
    char how[128];

    event_del(&life->exit_event);
    st_control_read(&life->control); /* what it said before counts */
    st_pipe_close(&life->out);
    st_pipe_close(&life->err);
    st_process_reap(&life->process, how, sizeof how);
    TAILQ_REMOVE(&t->lives, life, link);
    take_back(life);
    if (life == t->life)
        lost(t, life, how);
    dispose(life);
    pump(t);
}

static void on_timer(struct st_timer *timer)
{
    struct life *life = ST_CONTAINER_OF(timer, struct life, timer);

    end(life, life->imported ? "The template did not answer in time"
                             : "The worker process was ended: it was not ready within 120 s");
}

/* ---- a forked worker ---- */

/* Whether some worker, or a template, has this number already: the process that says it is the
 * handler's. */
static bool is_known(struct st_template *t, pid_t pid)
{
    const struct st_processor *p = t->rt->base.processor;
    struct life *life;

    TAILQ_FOREACH (life, &t->lives, link)
        if (life->process.pid == pid)
            return true;
    for (unsigned i = 0; i < p->pool_count; i++)
        if (st_pool_has_process(p->pools[i], pid))
            return true;
    return false;
}

/* Makes it the request's process, if it is a child of ours that nobody has. */
static bool adopt(struct st_template *t, struct st_spawn *spawn, pid_t pid)
{
    struct st_process child = {.pid = pid, .pidfd = -1};
    char how[128];
    siginfo_t info;

    if (pid > 1 && !is_known(t, pid))
        child.pidfd = pidfd_open(pid, 0);
    if (child.pidfd < 0)
        return false;
    if (waitid(P_PIDFD, (id_t)child.pidfd, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
        close(child.pidfd);
        return false;
    }
    spawn->process = child;
    spawn->error.code = ST_OK;
    if (spawn->options->cpus != NULL &&
        sched_setaffinity(pid, sizeof *spawn->options->cpus, spawn->options->cpus) != 0 &&
        errno != ESRCH) {
        st_error_sys(&spawn->error, errno,
                     "can't bind a worker to its CPUs; the container's CPU set may have changed: "
                     "restart the processor");
        st_process_signal(&child, SIGKILL);
        st_process_reap(&child, how, sizeof how);
        spawn->process = child;
    }
    return true;
}

static void on_no_fork(struct life *life, const Stator__Worker__V1__Forked *forked)
{
    struct st_spawn *spawn = life->forking;

    if (forked->temporary && spawn != NULL) {
        life->forking = NULL;
        st_loop_timer_cancel(life->t->loop, &life->timer);
        fail(spawn, ST_ERR_SYSTEM, forked->text);
        return;
    }
    take_back(life);
    if (life == life->t->life)
        turn_off(life->t, forked->text);
}

static void on_forked(struct life *life, const Stator__Worker__V1__Forked *forked)
{
    struct st_spawn *spawn = life->forking;

    if (forked->pid == 0) {
        on_no_fork(life, forked);
    } else if (spawn == NULL || life->ending || forked->worker != spawn->number ||
               !adopt(life->t, spawn, forked->pid)) {
        end(life, "The template forked what it was not asked for");
        return;
    } else {
        life->forking = NULL;
        life->t->losses = 0;
        if (life == life->t->life)
            st_loop_timer_cancel(life->t->loop, &life->timer);
        st_loop_timer_arm(life->t->loop, &life->t->look, FIRST_LOOK_S * ST_SEC);
        st_spawn_done(spawn);
    }
    pump(life->t);
}

/* ---- what a template says ---- */

static void configure(struct life *life)
{
    Stator__Worker__V1__Configure c = STATOR__WORKER__V1__CONFIGURE__INIT;
    Stator__Worker__V1__ToWorker msg = STATOR__WORKER__V1__TO_WORKER__INIT;

    st_process_describe(life->t->rt, &c);
    msg.kind_case = STATOR__WORKER__V1__TO_WORKER__KIND_CONFIGURE;
    msg.configure = &c;
    if (st_control_send(&life->control, &msg) != ST_OK)
        end(life, "The template could not be configured");
}

static void on_hello(struct life *life, const Stator__Worker__V1__Hello *hello)
{
    if (hello->protocol != ST_WIRE_PROTOCOL || !hello->template_) {
        end(life, "The template speaks another version of the worker wire");
        return;
    }
    life->said_hello = true;
    configure(life);
}

static void on_imported(struct life *life)
{
    uint64_t took = st_loop_now(life->t->loop) - life->began_ns;

    if (life->imported || life->ending)
        return;
    life->imported = true;
    st_loop_timer_cancel(life->t->loop, &life->timer);
    ST_LOG(ST_LOG_INFO, "processor.worker", "The template of the workers is ready",
           ST_KV_INT("pid", life->process.pid), ST_KV_UINT("milliseconds", took / ST_MSEC),
           ST_KV_UINT("resident_bytes", st_process_memory(life->process.pid)));
    pump(life->t);
}

static void on_message(void *user, const Stator__Worker__V1__FromWorker *msg)
{
    struct life *life = user;

    if (msg->kind_case == STATOR__WORKER__V1__FROM_WORKER__KIND_HELLO && !life->said_hello)
        on_hello(life, msg->hello);
    else if (!life->said_hello)
        end(life, "The template did not begin with Hello");
    else if (msg->kind_case == STATOR__WORKER__V1__FROM_WORKER__KIND_READY)
        on_imported(life);
    else if (msg->kind_case == STATOR__WORKER__V1__FROM_WORKER__KIND_FAILED)
        snprintf(life->failure, sizeof life->failure, "%s", msg->failed->text);
    else if (msg->kind_case == STATOR__WORKER__V1__FROM_WORKER__KIND_FORKED)
        on_forked(life, msg->forked);
}

static void on_broken(void *user, const char *text)
{
    end(user, text);
}

/* As a rule it ends, and may say more by how it does. */
static void on_closed(void *user)
{
    struct life *life = user;

    st_loop_timer_arm(life->t->loop, &life->timer, ST_PROCESS_GRACE_S * ST_SEC);
}

static const struct st_control_handler control_handler = {
    .message = on_message,
    .broken = on_broken,
    .closed = on_closed,
};

static void print(enum st_log_level level, const char *stream, struct st_slice line)
{
    struct st_log_var vars[] = {ST_KV_STR("stream", stream), {.key = NULL}};
    char text[ST_PIPE_LINE_MAX + 1];

    snprintf(text, sizeof text, "%.*s", (int)line.len, line.ptr);
    if (st_log_wants_function(level))
        st_log_write_function(level, "template", text, vars);
}

static void on_stdout(struct st_pipe *out ST_UNUSED, struct st_slice line)
{
    print(ST_LOG_INFO, "stdout", line);
}

static void on_stderr(struct st_pipe *out ST_UNUSED, struct st_slice line)
{
    print(ST_LOG_WARN, "stderr", line);
}

/* ---- its start ---- */

static int open_life(struct life *life, int fds[ST_WIRE_FD_END], struct st_error *err)
{
    struct st_loop *loop = life->t->loop;
    int code;

    if ((code = st_pipe_open(&life->out, loop, on_stdout, &fds[1], err)) != ST_OK ||
        (code = st_pipe_open(&life->err, loop, on_stderr, &fds[2], err)) != ST_OK)
        return code;
    return st_control_open(&life->control, loop, &control_handler, life, &fds[ST_WIRE_FD_CONTROL],
                           err);
}

static int spawn_life(struct life *life, struct st_error *err)
{
    const struct st_process_runtime *rt = life->t->rt;
    struct st_spawn_options opt = {.argv = life->t->argv,
                                   .envp = rt->envp,
                                   .directory = rt->base.code_dir,
                                   .uid = rt->uid,
                                   .gid = rt->gid};
    int code;

    for (int i = 0; i < ST_WIRE_FD_END; i++)
        opt.fds[i] = -1;
    code = open_life(life, opt.fds, err);
    if (code == ST_OK)
        code = st_spawn_now(&opt, &life->process, err);
    for (int i = 0; i < ST_WIRE_FD_END; i++)
        if (opt.fds[i] >= 0)
            close(opt.fds[i]);
    return code;
}

static int start(struct st_template *t, struct st_error *err)
{
    struct life *life = st_calloc(1, sizeof *life);
    int code;

    life->t = t;
    life->control.fd = life->out.fd = life->err.fd = -1;
    life->began_ns = st_loop_now(t->loop);
    st_timer_init(&life->timer, on_timer);
    code = spawn_life(life, err);
    if (code != ST_OK) {
        dispose(life);
        return code;
    }
    event_assign(&life->exit_event, t->loop->base, life->process.pidfd, EV_READ | EV_PERSIST,
                 on_exit_event, life);
    ST_ASSERT(event_add(&life->exit_event, NULL) == 0);
    st_control_start(&life->control);
    st_loop_timer_arm(t->loop, &life->timer, ST_PROCESS_START_S * ST_SEC);
    TAILQ_INSERT_TAIL(&t->lives, life, link);
    t->life = life;
    t->was_looked_at = false;
    return ST_OK;
}

/* ---- requests ---- */

static void ask(struct st_template *t)
{
    static const int order[] = {
        ST_WIRE_FD_CONTROL,        ST_WIRE_FD_DATA, ST_WIRE_FD_MEMORY, ST_WIRE_FD_WAKE_WORKER,
        ST_WIRE_FD_WAKE_PROCESSOR, STDOUT_FILENO,   STDERR_FILENO};
    Stator__Worker__V1__Fork fork = STATOR__WORKER__V1__FORK__INIT;
    Stator__Worker__V1__ToWorker msg = STATOR__WORKER__V1__TO_WORKER__INIT;
    struct st_spawn *spawn = TAILQ_FIRST(&t->waiting);
    int fds[ST_ARRAY_LEN(order)];
    struct st_error err;

    for (size_t i = 0; i < ST_ARRAY_LEN(order); i++)
        fds[i] = spawn->options->fds[order[i]];
    fork.worker = spawn->number;
    msg.kind_case = STATOR__WORKER__V1__TO_WORKER__KIND_FORK;
    msg.fork = &fork;
    if (st_control_send_fds(&t->life->control, &msg, fds, ST_ARRAY_LEN(order), &err) != ST_OK) {
        end(t->life, err.text);
        return;
    }
    TAILQ_REMOVE(&t->waiting, spawn, link);
    t->life->forking = spawn;
    st_loop_timer_arm(t->loop, &t->life->timer, FORK_S * ST_SEC);
}

static void start_plain(struct st_template *t)
{
    struct st_spawn *spawn;

    while ((spawn = TAILQ_FIRST(&t->waiting)) != NULL) {
        TAILQ_REMOVE(&t->waiting, spawn, link);
        st_spawn_make(spawn);
        st_spawn_done(spawn);
    }
}

/* Does the next thing for the requests that wait. One is forked after the other: the kernel bounds
 * how many descriptors may be on their way. */
static void pump(struct st_template *t)
{
    struct st_error err = {.code = ST_OK};

    if (TAILQ_EMPTY(&t->waiting))
        return;
    if (!t->off && st_orphans_adopt(&t->rt->orphans, &err) != ST_OK)
        turn_off(t, err.text);
    if (t->off)
        start_plain(t);
    else if (t->life == NULL && start(t, &err) != ST_OK)
        fail_all(t, err.code, err.text);
    else if (t->life != NULL && t->life->imported && !t->life->ending && t->life->forking == NULL)
        ask(t);
}

static void on_request(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct st_spawn *spawn = ST_CONTAINER_OF(mail, struct st_spawn, mail);

    TAILQ_INSERT_TAIL(&spawn->template->waiting, spawn, link);
    pump(spawn->template);
}

void st_template_spawn(struct st_spawn *spawn)
{
    st_loop_post(spawn->main_loop, &spawn->mail, on_request);
}

void st_template_cancel(struct st_spawn *spawn)
{
    struct st_spawn *s;

    TAILQ_FOREACH (s, &spawn->template->waiting, link)
        if (s == spawn)
            break;
    if (s == NULL)
        return;
    TAILQ_REMOVE(&spawn->template->waiting, spawn, link);
    fail(spawn, ST_ERR_CLOSED, "the worker is not wanted any more");
}

void st_process_code_changed(struct st_runtime *rt)
{
    struct st_template *t = ST_CONTAINER_OF(rt, struct st_process_runtime, base)->template;

    if (t == NULL)
        return;
    t->off = false; /* the new code may be one that can be forked */
    t->losses = 0;
    retire(t);
    pump(t);
}

/* ---- how much is shared ---- */

static unsigned look_at_workers(const struct st_processor *p, uint64_t *shared, uint64_t *own)
{
    int pids[LOOKED_AT];
    unsigned found = 0, n = 0;

    *shared = *own = 0;
    for (unsigned i = 0; i < p->pool_count; i++)
        found += st_pool_processes(p->pools[i], pids + found, LOOKED_AT - found);
    for (unsigned i = 0; i < found; i++) {
        uint64_t a, b;

        if (!st_process_shares(pids[i], &a, &b))
            continue;
        *shared += a;
        *own += b;
        n++;
    }
    *shared /= n > 0 ? n : 1;
    *own /= n > 0 ? n : 1;
    return n;
}

static void on_look(struct st_timer *timer)
{
    struct st_template *t = ST_CONTAINER_OF(timer, struct st_template, look);
    uint64_t shared, own;
    unsigned n = look_at_workers(t->rt->base.processor, &shared, &own);

    st_metric_set(t->loop->metrics, t->shared, (int64_t)shared);
    st_metric_set(t->loop->metrics, t->private, (int64_t)own);
    if (n > 0 && !t->was_looked_at && !t->off) {
        t->was_looked_at = true;
        ST_LOG(ST_LOG_INFO, "processor.worker", "Memory of a forked worker, on average",
               ST_KV_UINT("shared_bytes", shared), ST_KV_UINT("own_bytes", own),
               ST_KV_UINT("workers", n));
    }
    st_loop_timer_arm(t->loop, &t->look, NEXT_LOOK_S * ST_SEC);
}

/* ---- life ---- */

static st_metric memory_metric(struct st_processor *p, const char *kind)
{
    struct st_labels labels;

    st_labels_own(&labels, p, NULL);
    st_labels_add(&labels, "kind", kind);
    return st_metric_register(ST_METRIC_WORKER_MEMORY, labels.items);
}

struct st_template *st_template_new(struct st_process_runtime *rt)
{
    struct st_template *t = st_calloc(1, sizeof *t);
    size_t n = 0;

    t->rt = rt;
    t->loop = &rt->base.processor->main_loop;
    for (; rt->argv[n] != NULL; n++)
        t->argv[n] = rt->argv[n];
    t->argv[n] = rt->template_argument;
    TAILQ_INIT(&t->lives);
    TAILQ_INIT(&t->waiting);
    st_timer_init(&t->look, on_look);
    t->shared = memory_metric(rt->base.processor, "shared");
    t->private = memory_metric(rt->base.processor, "own");
    return t;
}

void st_template_free(struct st_template *t)
{
    struct life *life;
    char how[128];

    if (t == NULL)
        return;
    st_loop_timer_cancel(t->loop, &t->look);
    while ((life = TAILQ_FIRST(&t->lives)) != NULL) {
        TAILQ_REMOVE(&t->lives, life, link);
        event_del(&life->exit_event);
        st_process_reap(&life->process, how, sizeof how); /* which ends it first */
        dispose(life);
    }
    free(t);
}
