#include "processor/core/loop.h"

#include <errno.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "processor/core/clock.h"
#include "processor/core/metrics.h"

enum { LOOP_MAGIC = 0x5701100b };

static _Thread_local struct st_loop *current_loop; /* that runs on this thread */

/* Runs what is queued for the end of the pass. What flushing or freeing queues runs as well. */
void st_loop_settle(struct st_loop *loop)
{
    struct st_flush *f;
    struct st_garbage *g;

    do {
        while ((f = STAILQ_FIRST(&loop->flush)) != NULL) {
            STAILQ_REMOVE_HEAD(&loop->flush, link);
            f->queued = false;
            f->fn(f);
        }
        while ((g = STAILQ_FIRST(&loop->garbage)) != NULL) {
            STAILQ_REMOVE_HEAD(&loop->garbage, link);
            g->fn(g);
        }
    } while (!STAILQ_EMPTY(&loop->flush));
}

/* Sets the timerfd for the wheel's next need unless it fires before that anyway. */
static void loop_program_timer(struct st_loop *loop)
{
    uint64_t next = st_wheel_next(&loop->wheel);
    struct itimerspec spec = {.it_interval = {0, 0}};

    loop->timers_changed = false;
    if (next >= loop->wheel_armed_ns)
        return;
    loop->wheel_armed_ns = next;
    /* A zero it_value would switch the timer off. */
    spec.it_value.tv_sec = (time_t)(next / ST_SEC);
    spec.it_value.tv_nsec = next != 0 ? (long)(next % ST_SEC) : 1;
    ST_ASSERT(timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct st_loop *loop = arg;

    (void)fd;
    (void)what;
    loop->wheel_armed_ns = UINT64_MAX;
    loop->timers_changed = true;
    st_wheel_run(&loop->wheel, st_loop_now(loop));
}

static void on_mail(evutil_socket_t fd, short what, void *arg)
{
    struct st_loop *loop = arg;
    struct st_mail_list list;
    struct st_mail *mail;

    (void)fd;
    (void)what;
    st_mailbox_take(&loop->mailbox, &list);
    while ((mail = STAILQ_FIRST(&list)) != NULL) {
        STAILQ_REMOVE_HEAD(&list, link);
        mail->deliver(loop, mail);
    }
}

static struct event_base *loop_new_base(void)
{
    struct event_config *config = event_config_new();
    struct event_base *base = NULL;

    if (config == NULL)
        return NULL;
    if (event_config_require_features(config, EV_FEATURE_ET) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_NO_CACHE_TIME) == 0 &&
        event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV) == 0)
        base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

/* Edge-triggered: neither fd has to be read then, a new signal or expiry is a new edge. */
static bool loop_add_events(struct st_loop *loop)
{
    struct event *mail = &loop->mail_event, *timer = &loop->timer_event;
    short what = EV_READ | EV_PERSIST | EV_ET;

    return event_assign(mail, loop->base, loop->mailbox.fd, what, on_mail, loop) == 0 &&
           event_assign(timer, loop->base, loop->timer_fd, what, on_timer, loop) == 0 &&
           event_add(mail, NULL) == 0 && event_add(timer, NULL) == 0;
}

int st_loop_open(struct st_loop *loop, unsigned index, const char *name, struct st_error *err)
{
    int rc;

    memset(loop, 0, sizeof(*loop));
    loop->index = index;
    snprintf(loop->name, sizeof(loop->name), "%s", name);
    loop->timer_fd = -1;
    loop->wheel_armed_ns = UINT64_MAX;
    STAILQ_INIT(&loop->flush);
    STAILQ_INIT(&loop->garbage);
    st_rand_seed_os(&loop->rand);
    st_wheel_init(&loop->wheel, st_clock_mono());
    if (st_mailbox_open(&loop->mailbox) != ST_OK)
        return st_error_sys(err, errno, "can't open the mailbox of loop %s", loop->name);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (loop->timer_fd < 0) {
        rc = st_error_sys(err, errno, "can't create the timerfd of loop %s", loop->name);
        goto fail;
    }
    loop->base = loop_new_base();
    if (loop->base == NULL || !loop_add_events(loop)) {
        rc = st_error_sys(err, errno, "can't set up the event base of loop %s", loop->name);
        goto fail;
    }
    loop->metrics = st_metrics_shard_new();
    loop->magic = LOOP_MAGIC;
    return ST_OK;

fail:
    if (loop->base != NULL)
        event_base_free(loop->base);
    if (loop->timer_fd >= 0)
        close(loop->timer_fd);
    st_mailbox_close(&loop->mailbox);
    return rc;
}

static bool loop_is_settled(const struct st_loop *loop)
{
    return STAILQ_EMPTY(&loop->flush) && STAILQ_EMPTY(&loop->garbage);
}

void st_loop_pass(struct st_loop *loop)
{
    /* Left by set-up code: must not wait for the first event. */
    if (st_unlikely(!loop_is_settled(loop)))
        st_loop_settle(loop);
    if (st_unlikely(loop->timers_changed))
        loop_program_timer(loop);
    loop->clock_valid = false;
    event_base_loop(loop->base, EVLOOP_ONCE);
    if (!loop_is_settled(loop))
        st_loop_settle(loop);
    loop->clock_valid = false;
    loop->passes++;
}

static void loop_run_passes(struct st_loop *loop)
{
    struct st_loop *outer = current_loop;

    current_loop = loop;
    do
        st_loop_pass(loop);
    while (!loop->stopping);
    loop->stopping = false;
    current_loop = outer;
}

void st_loop_run(struct st_loop *loop)
{
    ST_CHECK(loop, LOOP_MAGIC);
    loop->thread = pthread_self();
    __atomic_store_n(&loop->has_thread, true, __ATOMIC_RELEASE);
    loop_run_passes(loop);
    __atomic_store_n(&loop->has_thread, false, __ATOMIC_RELEASE);
}

static void *loop_thread_main(void *arg)
{
    struct st_loop *loop = arg;

    pthread_setname_np(pthread_self(), loop->name);
    loop_run_passes(loop);
    return NULL;
}

int st_loop_start(struct st_loop *loop, struct st_error *err)
{
    /* Faults stay with the thread that caused them, profilers sample every thread. */
    static const int kept[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF};
    sigset_t block, old;
    int rc;

    ST_CHECK(loop, LOOP_MAGIC);
    sigfillset(&block);
    for (size_t i = 0; i < ST_ARRAY_LEN(kept); i++)
        sigdelset(&block, kept[i]);
    pthread_sigmask(SIG_SETMASK, &block, &old);
    __atomic_store_n(&loop->has_thread, true, __ATOMIC_RELEASE);
    rc = pthread_create(&loop->thread, NULL, loop_thread_main, loop);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        __atomic_store_n(&loop->has_thread, false, __ATOMIC_RELEASE);
        return st_error_sys(err, rc, "can't start the thread of loop %s", loop->name);
    }
    return ST_OK;
}

void st_loop_join(struct st_loop *loop)
{
    ST_ASSERT(pthread_join(loop->thread, NULL) == 0);
    __atomic_store_n(&loop->has_thread, false, __ATOMIC_RELEASE);
}

bool st_loop_join_within(struct st_loop *loop, uint64_t wait_ns)
{
    uint64_t end = st_clock_wall() + wait_ns;
    struct timespec ts = {(time_t)(end / ST_SEC), (long)(end % ST_SEC)};

    if (pthread_timedjoin_np(loop->thread, NULL, &ts) != 0)
        return false;
    __atomic_store_n(&loop->has_thread, false, __ATOMIC_RELEASE);
    return true;
}

static void on_stop(struct st_loop *loop, struct st_mail *mail)
{
    (void)mail;
    __atomic_store_n(&loop->stop_posted, false, __ATOMIC_RELEASE);
    loop->stopping = true;
}

void st_loop_stop(struct st_loop *loop)
{
    /* A mail, so that what was posted before is delivered first. */
    if (!__atomic_exchange_n(&loop->stop_posted, true, __ATOMIC_ACQ_REL))
        st_loop_post(loop, &loop->stop_mail, on_stop);
}

void st_loop_close(struct st_loop *loop)
{
    ST_CHECK(loop, LOOP_MAGIC);
    ST_ASSERT(!loop->has_thread);
    st_loop_settle(loop);
    event_del(&loop->mail_event);
    event_del(&loop->timer_event);
    event_base_free(loop->base);
    close(loop->timer_fd);
    st_mailbox_close(&loop->mailbox);
    loop->base = NULL;
    loop->magic = 0;
}

struct loop_call {
    struct st_mail mail;
    void (*fn)(struct st_loop *loop, void *arg);
    void *arg;
    sem_t done;
};

static void on_call(struct st_loop *loop, struct st_mail *mail)
{
    struct loop_call *call = ST_CONTAINER_OF(mail, struct loop_call, mail);

    call->fn(loop, call->arg);
    sem_post(&call->done);
}

void st_loop_call(struct st_loop *loop, void (*fn)(struct st_loop *loop, void *arg), void *arg)
{
    struct loop_call call = {.fn = fn, .arg = arg};

    if (st_loop_is_current(loop)) {
        fn(loop, arg);
        return;
    }
    sem_init(&call.done, 0, 0);
    st_loop_post(loop, &call.mail, on_call);
    while (sem_wait(&call.done) != 0 && errno == EINTR)
        ;
    sem_destroy(&call.done);
}

bool st_loop_is_current(const struct st_loop *loop)
{
    return current_loop == loop || !__atomic_load_n(&loop->has_thread, __ATOMIC_ACQUIRE);
}

void st_loop_update_clock(struct st_loop *loop)
{
    loop->now_ns = st_clock_mono();
    loop->clock_valid = true;
    if (st_unlikely(loop->now_ns - loop->wall_checked > ST_SEC || loop->wall_checked == 0)) {
        loop->wall_offset = st_clock_wall() - loop->now_ns;
        loop->wall_checked = loop->now_ns;
    }
}

void st_loop_timer_arm(struct st_loop *loop, struct st_timer *t, uint64_t after_ns)
{
    uint64_t now = st_loop_now(loop),
             at = after_ns < UINT64_MAX - now ? now + after_ns : UINT64_MAX;

    st_timer_arm(&loop->wheel, t, at);
    /* A later one needs nothing: the wake-up that is set runs the wheel, then sets the next. */
    if (at < loop->wheel_armed_ns)
        loop->timers_changed = true;
}

void st_loop_timer_cancel(struct st_loop *loop, struct st_timer *t)
{
    st_timer_cancel(&loop->wheel, t);
}

void st_loop_uuid(struct st_loop *loop, uint8_t out[16])
{
    uint64_t ms = st_loop_wall(loop) / ST_MSEC, high, low;

    if (ms > loop->id_ms) {
        /* The counter's top bit starts as 0, so a millisecond never runs out of numbers. */
        loop->id_ms = ms;
        loop->id_high = ms << 16 | 0x7000u | (st_rand_next(&loop->rand) & 0xfffu);
        loop->id_low = (uint64_t)1 << 63 | st_rand_next(&loop->rand) >> 3;
    } else {
        loop->id_low++; /* also while a wall clock that went back catches up */
    }
    high = __builtin_bswap64(loop->id_high);
    low = __builtin_bswap64(loop->id_low);
    memcpy(out, &high, 8);
    memcpy(out + 8, &low, 8);
}
