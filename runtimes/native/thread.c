/* Worker threads, for handlers that block.
 *
 * Two rings of one producer and one consumer connect the loop that owns the worker with its thread:
 * tasks go down, results come back. Each side wakes the other only when that one sleeps, once a
 * batch. Only the index from which tasks are taken has two writers: whoever moves `head` past a
 * task owns it, so that the loop can take back what a slow or stuck handler has not begun.
 *
 * Where the pool makes batches the rings hold a whole one. It comes when nothing else is there, so
 * a thread whose handler takes batches takes all tasks at once. */
#include <linux/futex.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/loop.h"
#include "processor/pool.h"
#include "processor/slot.h"
#include "processor/worker.h"
#include "runtimes/native/native_int.h"

enum {
    RING_SIZE = 128, /* at least; a power of two */
    MAX_CREDITS = 64 /* at most half a ring, so neither can overflow; or a batch */
};

/* What a wake-up costs, roughly. As long as an event may wait behind others, or its result beside
 * others, without being the worse for it. */
static const uint64_t batch_ns = 50000;

/* An event that takes this long is slow: what waits behind it, and results that wait for it, are
 * looked after by the loop. */
static const uint64_t slow_ns = 2 * ST_MSEC;

/* Flag in `head`: the thread takes nothing any more. */
static const uint64_t abandoned = 1ull << 63;

struct task {
    struct st_event *ev;
    uint32_t assignment;
};

enum how {
    ANSWERED, /* ev->result is final */
    DEFERRED, /* a token will bring the result */
    NOT_RUN   /* somebody took the event back before it began */
};

struct done {
    struct st_event *ev;
    uint64_t duration_ns;
    enum how how;
};

struct thread {
    struct st_native_worker base;

    /* Constant, away from what changes: the rings, and the bounds of `held` */
    struct task *tasks;
    struct done *dones;
    uint64_t mask;
    uint32_t least, most;

    pthread_t id;
    struct st_error failure; /* why it could not start; code 0: it did */
    struct st_mail start_mail, done_mail, exit_mail;
    struct st_garbage garbage;

    /* Of the loop */
    struct st_flush flush;
    struct st_timer timer;
    uint64_t done_head;
    uint64_t head_seen; /* when the timer was armed */
    uint32_t inside;    /* tasks whose results are not back */
    uint32_t held;      /* those, plus credits granted and not used */
    bool stopping;
    bool given_up; /* the pool goes on without it */

    /* Of the thread */
    uint64_t now_ns;    /* end of the last event; 0: long ago */
    uint64_t oldest_ns; /* end of the first event whose result was not told; 0: all were */
    uint64_t done_count;

    /* Loop to thread */
    _Alignas(64) _Atomic uint64_t tail;
    _Alignas(64) _Atomic uint64_t head;
    _Alignas(
        64) _Atomic uint32_t sleeping; /* futex word: 1 from before its last look at the ring */
    atomic_bool stop;

    /* Thread to loop */
    _Alignas(64) _Atomic uint64_t done_tail;
    _Alignas(64) atomic_bool notified; /* done_mail is on its way */
    _Atomic uint64_t mean_ns;          /* of the handler's recent durations */
};

static struct thread *thread_of(struct st_native_worker *nw)
{
    return ST_CONTAINER_OF(nw, struct thread, base);
}

static struct task *task_at(const struct thread *t, uint64_t i)
{
    return &t->tasks[i & t->mask];
}

/* ---- The thread's side ---- */

static void post(struct thread *t, struct st_mail *mail, st_mail_fn *deliver)
{
    if (!st_native_enter())
        for (;;)
            pause(); /* stuck while the processor ended: its loops are gone */
    st_loop_post(t->base.loop, mail, deliver);
    st_native_leave();
}

static void on_results(struct st_loop *loop, struct st_mail *mail);

/* The exchange orders the results before it, and is read by the one in on_results: either that one
 * sees them, or this one posts. */
static void tell_results(struct thread *t)
{
    t->oldest_ns = 0;
    if (t->done_count == 0)
        return;
    t->done_count = 0;
    if (!atomic_exchange_explicit(&t->notified, true, memory_order_acq_rel))
        post(t, &t->done_mail, on_results);
}

static void push_done(struct thread *t, struct st_event *ev, enum how how, uint64_t duration_ns)
{
    uint64_t tail = atomic_load_explicit(&t->done_tail, memory_order_relaxed);

    t->dones[tail & t->mask] = (struct done){ev, duration_ns, how};
    atomic_store_explicit(&t->done_tail, tail + 1, memory_order_release);
    t->done_count++;
}

static void measure(struct thread *t, uint64_t duration_ns)
{
    uint64_t mean = atomic_load_explicit(&t->mean_ns, memory_order_relaxed);

    mean = mean - mean / 8 + duration_ns / 8;
    atomic_store_explicit(&t->mean_ns, mean, memory_order_relaxed);
}

static void run(struct thread *t, const struct task *task)
{
    struct st_event *ev = task->ev;
    uint64_t start, end;
    bool final;

    if (!st_event_claim_start(ev, task->assignment)) {
        push_done(t, ev, NOT_RUN, 0);
        return;
    }
    start = t->now_ns != 0 ? t->now_ns : st_clock_mono();
    atomic_store_explicit(&ev->started_ns, start, memory_order_relaxed);
    final = st_native_run(&t->base, ev);
    if (final)
        st_event_claim_done(ev); /* before somebody asks why it takes so long */
    end = st_clock_mono();
    push_done(t, ev, final ? ANSWERED : DEFERRED, end - start);
    measure(t, end - start);
    t->now_ns = end;
    if (t->oldest_ns == 0)
        t->oldest_ns = end;
    else if (end - t->oldest_ns > batch_ns)
        tell_results(t);
}

/* The same for all tasks of [from, to). Each event's duration is its share of the batch's. */
static void run_batch(struct thread *t, uint64_t from, uint64_t to)
{
    struct st_native_batch *b = st_native_batch_new(to - from);
    uint64_t start = t->now_ns != 0 ? t->now_ns : st_clock_mono(), share;

    for (; from != to; from++) {
        const struct task *task = task_at(t, from);

        if (!st_native_batch_add(b, task->ev, task->assignment, start))
            push_done(t, task->ev, NOT_RUN, 0);
    }
    st_native_batch_run(&t->base, b);
    t->now_ns = st_clock_mono();
    share = b->count != 0 ? (t->now_ns - start) / b->count : 0;
    for (size_t i = 0; i < b->count; i++) {
        struct st_event *ev = st_native_from(b->events[i]);
        bool final = st_native_settle(ev, b->results[i]);

        if (final)
            st_event_claim_done(ev);
        push_done(t, ev, final ? ANSWERED : DEFERRED, share);
    }
    free(b);
}

enum took { TOOK, EMPTY, LEAVE };

/* Takes the next task, or all that are there: [*from, *to). */
static inline enum took take(struct thread *t, bool all, uint64_t *from, uint64_t *to)
{
    uint64_t head = atomic_load_explicit(&t->head, memory_order_relaxed), tail;

    for (;;) {
        if ((head & abandoned) != 0)
            return LEAVE;
        tail = atomic_load_explicit(&t->tail, memory_order_acquire);
        if (head == tail)
            return EMPTY;
        if (!all)
            tail = head + 1;
        if (atomic_compare_exchange_weak_explicit(&t->head, &head, tail, memory_order_acq_rel,
                                                  memory_order_relaxed))
            break;
    }
    *from = head;
    *to = tail;
    return TOOK;
}

static long futex(_Atomic uint32_t *word, int op, uint32_t value)
{
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

/* True when there may be something to do; false: stop. */
static bool wait_for_tasks(struct thread *t)
{
    uint64_t head, tail;

    /* Set before the last look: the exchange reads what wake() wrote, and so sees what was put
     * into the ring before it, or wake() reads the 1. */
    atomic_exchange_explicit(&t->sleeping, 1, memory_order_acq_rel);
    head = atomic_load_explicit(&t->head, memory_order_relaxed);
    tail = atomic_load_explicit(&t->tail, memory_order_acquire);
    if (head == tail && !atomic_load_explicit(&t->stop, memory_order_relaxed)) {
        t->now_ns = 0;
        while (atomic_load_explicit(&t->sleeping, memory_order_acquire) == 1)
            futex(&t->sleeping, FUTEX_WAIT, 1);
        return true;
    }
    atomic_store_explicit(&t->sleeping, 0, memory_order_relaxed);
    return head != tail;
}

/* `batches` is a constant where it is called: the hot path does not ask. */
static inline void serve(struct thread *t, bool batches)
{
    uint64_t from, to;

    for (;;) {
        enum took got = take(t, batches, &from, &to);

        if (got == TOOK) {
            if (batches)
                run_batch(t, from, to);
            else
                run(t, task_at(t, from));
            continue;
        }
        tell_results(t);
        if (got == LEAVE || !wait_for_tasks(t))
            return;
    }
}

static void on_started(struct st_loop *loop, struct st_mail *mail);
static void on_ended(struct st_loop *loop, struct st_mail *mail);

static bool begin(struct thread *t)
{
    const struct st_slot *slot = t->base.w->slot;
    int rc;

    if (slot != NULL && st_slot_bind_thread(slot, &t->failure) != 0)
        return false;
    rc = st_native_worker_begin(&t->base);
    if (rc != 0)
        st_error_set(&t->failure, ST_ERR_INVALID, "init() of handler %s returned %d",
                     t->base.handler->file, rc);
    return rc == 0;
}

static void *thread_main(void *arg)
{
    struct thread *t = arg;
    char name[16];
    bool ok;

    snprintf(name, sizeof name, "st-w%u", t->base.index);
    pthread_setname_np(pthread_self(), name);
    ok = begin(t);
    post(t, &t->start_mail, on_started);
    if (!ok)
        return NULL;
    if (t->base.batches)
        serve(t, true);
    else
        serve(t, false);
    st_native_worker_end(&t->base);
    post(t, &t->exit_mail, on_ended);
    return NULL;
}

/* ---- The loop's side ---- */

static void free_thread(struct st_garbage *g)
{
    free(ST_CONTAINER_OF(g, struct thread, garbage));
}

/* The thread has posted its last mail. */
static void join(struct thread *t)
{
    pthread_join(t->id, NULL);
    st_loop_timer_cancel(t->base.loop, &t->timer);
    if (!t->given_up)
        t->base.w->impl = NULL;
    /* Later: its flush may be queued in this pass. */
    st_loop_free_later(t->base.loop, &t->garbage, free_thread);
}

static void on_started(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct thread *t = ST_CONTAINER_OF(mail, struct thread, start_mail);
    struct st_worker *w = t->base.w;

    if (t->failure.code == ST_OK) {
        if (!t->stopping) {
            t->held = t->least;
            st_worker_ready(w, t->least);
        }
        return;
    }
    join(t);
    if (t->stopping)
        st_worker_stopped(w);
    else
        st_worker_failed(w, t->failure.text);
}

static void finish(struct thread *t, const struct done *d)
{
    st_worker_event_done(t->base.w, d->duration_ns);
    if (d->how != ANSWERED)
        st_event_unref(d->ev);
    else if (d->ev->home == t->base.loop)
        st_event_complete(d->ev);
    else
        st_event_complete_from(d->ev);
}

/* Grants what is missing to as many events as may wait for the thread. */
static void grant(struct thread *t)
{
    uint64_t mean = atomic_load_explicit(&t->mean_ns, memory_order_relaxed);
    uint64_t fit = mean != 0 ? batch_ns / mean : MAX_CREDITS;
    uint32_t target = fit < t->least ? t->least : fit > t->most ? t->most : (uint32_t)fit, n;

    if (t->stopping || t->held >= target)
        return;
    n = target - t->held;
    t->held = target;
    st_worker_credit(t->base.w, n);
}

static void collect(struct thread *t)
{
    uint64_t tail = atomic_load_explicit(&t->done_tail, memory_order_acquire);

    if (t->done_head == tail)
        return;
    while (t->done_head != tail) {
        struct done d = t->dones[t->done_head++ & t->mask];

        t->inside--;
        t->held--;
        finish(t, &d);
    }
    grant(t);
}

static void on_results(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct thread *t = ST_CONTAINER_OF(mail, struct thread, done_mail);

    atomic_exchange_explicit(&t->notified, false, memory_order_acq_rel);
    collect(t);
}

static void on_ended(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct thread *t = ST_CONTAINER_OF(mail, struct thread, exit_mail);

    join(t);
    st_worker_stopped(t->base.w);
}

static void wake(struct thread *t)
{
    if (atomic_exchange_explicit(&t->sleeping, 0, memory_order_acq_rel) == 1)
        futex(&t->sleeping, FUTEX_WAKE, 1);
}

/* Gives tasks of the ring, which are the loop's again, back to the pool, newest first: each goes to
 * the front of its queue. */
static void give_back(struct thread *t, uint64_t from, uint64_t to)
{
    while (to-- != from) {
        const struct task *task = task_at(t, to);

        if (st_event_recall(task->ev, task->assignment))
            st_pool_resubmit(t->base.w->pool, task->ev);
        else
            st_event_unref(task->ev); /* withdrawn: answered already */
    }
}

/* Takes back what waits behind a slow event, so that other workers can have it; not out of a batch,
 * whose events stay in their order. */
static void rescue(struct thread *t)
{
    uint64_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed), head = t->head_seen;
    uint32_t n = (uint32_t)(tail - head);

    /* Where none has begun the thread has not got a CPU yet: it is not slow. */
    if (n == 0 || n == t->inside || t->base.w->pool->batch_size != 0 ||
        !atomic_compare_exchange_strong_explicit(&t->head, &head, tail, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return;
    t->inside -= n;
    t->held -= n + st_worker_retreat(t->base.w, n);
    give_back(t, head, tail);
}

/* Several tasks are in the thread: arms the timer that looks after them. The results of a batch
 * come all at once. */
static void watch(struct thread *t)
{
    if (t->given_up || t->inside < 2 || t->base.batches || st_timer_armed(&t->timer))
        return;
    t->head_seen = atomic_load_explicit(&t->head, memory_order_relaxed);
    st_loop_timer_arm(t->base.loop, &t->timer, slow_ns);
}

static void on_timer(struct st_timer *timer)
{
    struct thread *t = ST_CONTAINER_OF(timer, struct thread, timer);

    /* The thread tells results only when it has no task, or between two. */
    collect(t);
    if (t->inside > 1 && !t->given_up)
        rescue(t);
    watch(t);
}

/* Once a pass, however many tasks it brought. */
static void on_flush(struct st_flush *flush)
{
    struct thread *t = ST_CONTAINER_OF(flush, struct thread, flush);

    wake(t);
    watch(t);
}

void st_native_thread_invoke(struct st_native_worker *nw, struct st_event *ev, uint32_t assignment)
{
    struct thread *t = thread_of(nw);
    uint64_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);

    ST_ASSERT(t->inside <= t->mask);
    t->inside++;
    *task_at(t, tail) = (struct task){ev, assignment};
    atomic_store_explicit(&t->tail, tail + 1, memory_order_release);
    st_loop_flush_later(nw->loop, &t->flush);
}

void st_native_thread_invoke_batch(struct st_native_worker *nw, struct st_event *const *events,
                                   const uint32_t *assignments, unsigned n)
{
    struct thread *t = thread_of(nw);
    uint64_t tail = atomic_load_explicit(&t->tail, memory_order_relaxed);

    ST_ASSERT(t->inside == 0 && n <= t->most);
    t->inside = n;
    for (unsigned i = 0; i < n; i++)
        *task_at(t, tail + i) = (struct task){events[i], assignments[i]};
    /* All at once: they are one call. */
    atomic_store_explicit(&t->tail, tail + n, memory_order_release);
    st_loop_flush_later(nw->loop, &t->flush);
}

void st_native_thread_abandon(struct st_native_worker *nw)
{
    struct thread *t = thread_of(nw);
    uint64_t head, tail = atomic_load_explicit(&t->tail, memory_order_relaxed);

    /* What the thread has not taken by now is ours; it will see the flag and leave. */
    head = atomic_exchange_explicit(&t->head, abandoned, memory_order_acq_rel);
    t->stopping = true; /* no more credits */
    collect(t);
    t->given_up = true;
    st_loop_timer_cancel(nw->loop, &t->timer);
    give_back(t, head, tail);
    wake(t);
}

void st_native_thread_stop(struct st_native_worker *nw)
{
    struct thread *t = thread_of(nw);

    t->stopping = true;
    atomic_store_explicit(&t->stop, true, memory_order_relaxed);
    wake(t);
}

/* As on loops: faults stay with the thread that caused them, profilers sample every thread. */
static int create(struct thread *t)
{
    static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF};
    sigset_t block, old;
    int rc;

    sigfillset(&block);
    for (size_t i = 0; i < ST_ARRAY_LEN(kept); i++)
        sigdelset(&block, kept[i]);
    pthread_sigmask(SIG_SETMASK, &block, &old);
    rc = pthread_create(&t->id, NULL, thread_main, t);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

/* With rings for batches of so many events; 0: for no batches. */
static struct thread *thread_new(uint32_t batch_size)
{
    size_t ring = RING_SIZE;
    struct thread *t;

    while (ring < batch_size)
        ring *= 2;
    t = aligned_alloc(_Alignof(struct thread),
                      sizeof *t + ring * (sizeof *t->tasks + sizeof *t->dones));
    ST_ASSERT(t != NULL);
    memset(t, 0, sizeof *t);
    t->tasks = (struct task *)(t + 1);
    t->dones = (struct done *)(t->tasks + ring);
    t->mask = ring - 1;
    t->least = batch_size != 0 ? batch_size : 1;
    t->most = batch_size != 0 ? batch_size : MAX_CREDITS;
    return t;
}

void st_native_thread_spawn(struct st_worker *w)
{
    struct thread *t = thread_new(w->pool->batch_size);
    char text[128];
    int rc;

    st_native_worker_init(&t->base, w);
    t->base.on_thread = true;
    t->flush.fn = on_flush;
    st_timer_init(&t->timer, on_timer);
    atomic_store_explicit(&t->mean_ns, batch_ns, memory_order_relaxed);
    w->impl = &t->base;
    rc = create(t);
    if (rc == 0)
        return;
    w->impl = NULL;
    free(t);
    snprintf(text, sizeof text, "cannot create a thread: error %d", rc);
    st_worker_failed(w, text);
}
