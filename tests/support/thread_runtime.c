#include "tests/support/thread_runtime.h"

#include <stdlib.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/deferred.h"
#include "processor/stream.h"

enum how { ANSWERED, DEFERRED, NOT_RUN };

struct task {
    TAILQ_ENTRY(task) link;
    struct st_mail mail;
    struct worker_thread *wt;
    struct st_event *ev;
    uint32_t assignment;
    enum how how;
};

TAILQ_HEAD(task_list, task);

struct worker_thread {
    struct st_worker *w;
    pthread_t id;
    struct st_mail ready_mail, exit_mail;
    bool stopping, given_up; /* of the loop */
    unsigned owed;           /* credits; of the loop */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct task_list tasks;
    bool stop, leave;
};

/* A result that will come for a token. */
struct job {
    TAILQ_ENTRY(job) link;
    uint64_t due_ns, token;
    enum st_outcome outcome;
};

static struct {
    struct st_deferred_table *const *tokens;
    pthread_t id;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    TAILQ_HEAD(, job) jobs;
    bool stop;
    struct st_rand rand; /* under lock */
    atomic_uint results;
} rt;

static unsigned random_below(unsigned bound)
{
    unsigned n;

    pthread_mutex_lock(&rt.lock);
    n = (unsigned)st_rand_below(&rt.rand, bound);
    pthread_mutex_unlock(&rt.lock);
    return n;
}

static struct scripted *script_of(struct st_event *ev)
{
    ST_CHECK(ev, ST_EVENT_MAGIC);
    return (struct scripted *)ev;
}

static void got_result(struct st_event *ev, enum st_outcome outcome)
{
    ev->result.outcome = outcome;
    ST_ASSERT(atomic_fetch_add(&script_of(ev)->results, 1) == 0);
    atomic_fetch_add(&rt.results, 1);
}

unsigned thread_runtime_results(void)
{
    return atomic_load(&rt.results);
}

/* ---- Tokens ---- */

struct answer {
    struct st_deferred_answer base;
    enum st_outcome outcome;
};

static void answer_free(struct st_deferred_answer *a)
{
    free(a);
}

static void resolve(uint64_t token, enum st_outcome outcome)
{
    struct answer *a = st_malloc(sizeof *a);
    struct st_event *ev;

    *a = (struct answer){{answer_free}, outcome};
    if (st_deferred_resolve(*rt.tokens, token, &a->base, &ev) != ST_OK) {
        free(a);
        return;
    }
    if (ev == NULL)
        return; /* the handler's thread will see it */
    got_result(ev, outcome);
    st_event_complete_from(ev);
    free(a);
}

static void add_job(uint64_t token, enum st_outcome outcome, uint64_t after_us)
{
    struct job *j = st_malloc(sizeof *j);

    *j = (struct job){
        .due_ns = st_clock_mono() + after_us * 1000, .token = token, .outcome = outcome};
    pthread_mutex_lock(&rt.lock);
    TAILQ_INSERT_TAIL(&rt.jobs, j, link);
    pthread_cond_signal(&rt.changed);
    pthread_mutex_unlock(&rt.lock);
}

/* Under the lock: one that is due, whichever. */
static struct job *take_due(void)
{
    uint64_t now = st_clock_mono();
    struct job *j;

    TAILQ_FOREACH (j, &rt.jobs, link) {
        if (j->due_ns <= now || rt.stop) {
            TAILQ_REMOVE(&rt.jobs, j, link);
            return j;
        }
    }
    return NULL;
}

static void *resolver_main(void *arg ST_UNUSED)
{
    struct job *j;

    pthread_mutex_lock(&rt.lock);
    for (;;) {
        while ((j = take_due()) != NULL) {
            pthread_mutex_unlock(&rt.lock);
            resolve(j->token, j->outcome);
            free(j);
            pthread_mutex_lock(&rt.lock);
        }
        if (rt.stop)
            break;
        if (TAILQ_EMPTY(&rt.jobs)) {
            pthread_cond_wait(&rt.changed, &rt.lock);
        } else {
            pthread_mutex_unlock(&rt.lock);
            usleep(200);
            pthread_mutex_lock(&rt.lock);
        }
    }
    pthread_mutex_unlock(&rt.lock);
    return NULL;
}

void thread_runtime_start(struct st_deferred_table *const *tokens, uint64_t seed)
{
    rt.tokens = tokens;
    rt.stop = false;
    atomic_store(&rt.results, 0);
    st_rand_seed(&rt.rand, seed);
    pthread_mutex_init(&rt.lock, NULL);
    pthread_cond_init(&rt.changed, NULL);
    TAILQ_INIT(&rt.jobs);
    ST_ASSERT(pthread_create(&rt.id, NULL, resolver_main, NULL) == 0);
}

void thread_runtime_stop(void)
{
    pthread_mutex_lock(&rt.lock);
    rt.stop = true;
    pthread_cond_signal(&rt.changed);
    pthread_mutex_unlock(&rt.lock);
    pthread_join(rt.id, NULL);
    pthread_mutex_destroy(&rt.lock);
    pthread_cond_destroy(&rt.changed);
}

/* ---- Handlers ---- */

static void stream_all(struct scripted *s, bool may_block)
{
    static const char bytes[64 * 1024];
    int code = st_stream_open(&s->ev);

    for (unsigned i = 0; i < s->pieces && code == ST_OK; i++) {
        code = st_stream_write(&s->ev, (struct st_slice){bytes, s->piece_size});
        if (code == ST_OK || code == ST_ERR_AGAIN)
            atomic_fetch_add(&s->written, s->piece_size);
        if (code == ST_ERR_AGAIN)
            code = may_block ? st_stream_wait(&s->ev, 20 * ST_MSEC) : ST_OK;
    }
}

/* What a handler that returned "deferred" leaves behind. */
static enum how handler_defers(struct scripted *s)
{
    struct st_deferred_answer *a = NULL;
    enum st_outcome outcome;

    switch (st_deferred_returned(*rt.tokens, &s->ev, &a)) {
    case ST_DEFERRED_WAITS:
        return DEFERRED;
    case ST_DEFERRED_ANSWERED:
        outcome = ((struct answer *)a)->outcome;
        free(a);
        got_result(&s->ev, outcome);
        return ANSWERED;
    case ST_DEFERRED_NONE:
        break;
    }
    st_panic(__FILE__, __LINE__, "a token was issued");
    return NOT_RUN;
}

static enum how run_script(struct scripted *s, bool may_block)
{
    uint64_t token = 0;

    ST_ASSERT(atomic_fetch_add(&s->began, 1) == 0);
    if (s->defer != SCRIPT_ANSWERS)
        token = st_deferred_issue(*rt.tokens, &s->ev);
    if (s->pieces > 0)
        stream_all(s, may_block);
    if (s->work_us > 0 && may_block)
        usleep(s->work_us);
    if (token == 0 || s->defer == SCRIPT_IN_SPITE) {
        if (s->defer == SCRIPT_IN_SPITE)
            st_deferred_close(*rt.tokens, &s->ev);
        got_result(&s->ev, s->outcome);
        return ANSWERED;
    }
    if (s->defer == SCRIPT_EARLY)
        resolve(token, s->outcome);
    for (int i = s->defer == SCRIPT_DEFERS_TWICE ? 0 : 1; i < 2 && s->defer != SCRIPT_NEVER; i++)
        add_job(token, s->outcome, s->resolve_us);
    return handler_defers(s);
}

/* ---- A worker's thread ---- */

static void on_done(struct st_loop *loop, struct st_mail *mail);
static void on_ready(struct st_loop *loop, struct st_mail *mail);
static void on_exit_mail(struct st_loop *loop, struct st_mail *mail);

static void run_task(struct task *t)
{
    t->how = NOT_RUN;
    if (st_event_claim_start(t->ev, t->assignment)) {
        atomic_store_explicit(&t->ev->started_ns, st_clock_mono(), memory_order_relaxed);
        t->how = run_script(script_of(t->ev), true);
    }
    st_loop_post(t->wt->w->loop, &t->mail, on_done);
}

static void *thread_main(void *arg)
{
    struct worker_thread *wt = arg;
    struct task *t;

    st_loop_post(wt->w->loop, &wt->ready_mail, on_ready);
    pthread_mutex_lock(&wt->lock);
    while (!wt->leave) {
        t = TAILQ_FIRST(&wt->tasks);
        if (t != NULL) {
            TAILQ_REMOVE(&wt->tasks, t, link);
            pthread_mutex_unlock(&wt->lock);
            run_task(t);
            pthread_mutex_lock(&wt->lock);
        } else if (wt->stop) {
            break;
        } else {
            pthread_cond_wait(&wt->changed, &wt->lock);
        }
    }
    pthread_mutex_unlock(&wt->lock);
    st_loop_post(wt->w->loop, &wt->exit_mail, on_exit_mail);
    return NULL;
}

/* ---- Its loop ---- */

static void on_ready(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct worker_thread *wt = ST_CONTAINER_OF(mail, struct worker_thread, ready_mail);

    if (!wt->stopping)
        st_worker_ready(wt->w, 1 + random_below(4));
}

static void on_exit_mail(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct worker_thread *wt = ST_CONTAINER_OF(mail, struct worker_thread, exit_mail);
    struct st_worker *w = wt->w;

    pthread_join(wt->id, NULL);
    ST_ASSERT(TAILQ_EMPTY(&wt->tasks));
    pthread_mutex_destroy(&wt->lock);
    pthread_cond_destroy(&wt->changed);
    free(wt);
    st_worker_stopped(w);
}

/* Takes up to n tasks that have not begun, newest first. */
static unsigned take_back(struct worker_thread *wt, struct task_list *out, unsigned n)
{
    unsigned taken = 0;
    struct task *t;

    TAILQ_INIT(out);
    pthread_mutex_lock(&wt->lock);
    while (taken < n && (t = TAILQ_LAST(&wt->tasks, task_list)) != NULL) {
        TAILQ_REMOVE(&wt->tasks, t, link);
        TAILQ_INSERT_TAIL(out, t, link);
        taken++;
    }
    pthread_mutex_unlock(&wt->lock);
    return taken;
}

static void give_back(struct task_list *tasks, struct st_pool *pool)
{
    struct task *t;

    while ((t = TAILQ_FIRST(tasks)) != NULL) {
        TAILQ_REMOVE(tasks, t, link);
        if (st_event_recall(t->ev, t->assignment))
            st_pool_resubmit(pool, t->ev);
        else
            st_event_unref(t->ev);
        free(t);
    }
}

static void on_done(struct st_loop *loop, struct st_mail *mail)
{
    struct task *t = ST_CONTAINER_OF(mail, struct task, mail), done = *t;
    struct worker_thread *wt = t->wt;
    struct task_list back;
    unsigned n = 0;

    free(t);
    if (!wt->given_up && random_below(8) == 0)
        n = take_back(wt, &back, 2);
    if (n > 0) {
        wt->owed += n + st_worker_retreat(wt->w, n);
        give_back(&back, wt->w->pool);
    }
    st_worker_event_done(wt->w, 1000);
    wt->owed++;
    if (done.how != ANSWERED)
        st_event_unref(done.ev);
    else if (done.ev->home == loop)
        st_event_complete(done.ev);
    else
        st_event_complete_from(done.ev);
    if (!wt->stopping && !wt->given_up) {
        n = wt->owed;
        wt->owed = 0;
        st_worker_credit(wt->w, n);
    }
}

static void thread_invoke(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    struct worker_thread *wt = w->impl;
    struct task *t = st_malloc(sizeof *t);

    ST_ASSERT(st_loop_is_current(w->loop) && !wt->given_up);
    *t = (struct task){.wt = wt, .ev = ev, .assignment = assignment};
    pthread_mutex_lock(&wt->lock);
    TAILQ_INSERT_TAIL(&wt->tasks, t, link);
    pthread_cond_signal(&wt->changed);
    pthread_mutex_unlock(&wt->lock);
}

static void tell(struct worker_thread *wt, bool leave)
{
    pthread_mutex_lock(&wt->lock);
    wt->stop = true;
    wt->leave = wt->leave || leave;
    pthread_cond_signal(&wt->changed);
    pthread_mutex_unlock(&wt->lock);
}

static void thread_abandon(struct st_worker *w)
{
    struct worker_thread *wt = w->impl;
    struct task_list back;

    ST_ASSERT(st_loop_is_current(w->loop) && !wt->given_up);
    wt->given_up = true;
    take_back(wt, &back, UINT32_MAX);
    tell(wt, true);
    give_back(&back, w->pool);
}

static void thread_stop(struct st_worker *w)
{
    struct worker_thread *wt = w->impl;

    ST_ASSERT(st_loop_is_current(w->loop) && !wt->stopping && !wt->given_up);
    wt->stopping = true;
    tell(wt, false);
}

static void thread_spawn(struct st_worker *w)
{
    struct worker_thread *wt;

    if (st_processor_phase(w->pool->processor) != ST_PHASE_STARTING && random_below(6) == 0) {
        st_worker_failed(w, "by chance");
        return;
    }
    wt = st_calloc(1, sizeof *wt);
    wt->w = w;
    w->impl = wt;
    pthread_mutex_init(&wt->lock, NULL);
    pthread_cond_init(&wt->changed, NULL);
    TAILQ_INIT(&wt->tasks);
    ST_ASSERT(pthread_create(&wt->id, NULL, thread_main, wt) == 0);
}

static bool is_not_inline(struct st_runtime *runtime ST_UNUSED)
{
    return false;
}

/* Scripts finish what they have begun. */
static void worker_cancel(struct st_worker *w, struct st_event *ev)
{
    ST_CHECK(ev, ST_EVENT_MAGIC);
    ST_ASSERT(st_loop_is_current(w->loop) && !w->abandoned);
}

const struct st_runtime_kind thread_runtime_kind = {
    .name = "threads",
    .is_inline = is_not_inline,
    .spawn = thread_spawn,
    .invoke = thread_invoke,
    .cancel = worker_cancel,
    .abandon = thread_abandon,
    .stop = thread_stop,
};

/* ---- Inline ---- */

static bool is_inline(struct st_runtime *runtime ST_UNUSED)
{
    return true;
}

static void inline_spawn(struct st_worker *w)
{
    st_worker_ready(w, 1);
}

static void inline_invoke(struct st_worker *w, struct st_event *ev, uint32_t assignment ST_UNUSED)
{
    struct scripted *s = script_of(ev);
    enum how how;

    ST_ASSERT(st_loop_is_current(w->loop));
    if (!ev->counted && s->defer != SCRIPT_ANSWERS && st_event_outlive(ev) != ST_OK)
        s->defer = SCRIPT_ANSWERS;
    how = run_script(s, false);
    if (how != ANSWERED)
        st_event_unref(ev);
    else if (ev->home == w->loop)
        st_event_complete(ev);
    else
        st_event_complete_from(ev);
}

const struct st_runtime_kind thread_inline_kind = {
    .name = "threads-inline",
    .is_inline = is_inline,
    .spawn = inline_spawn,
    .invoke = inline_invoke,
    .stop = st_worker_stopped,
};
