/* Waiting for the next tick. A schedule is bound to the wall clock: a timerfd on it that is also
 * told when the clock is set. An interval is bound to time that passes: the loop's wheel. Neither
 * wakes the loop without a reason. */
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "processor/core/log.h"
#include "triggers/cron/cron_int.h"

/* Smaller differences of the clocks are the cost of reading them one after the other. */
#define STEP_NS ((int64_t)ST_SEC / 10)

/* Time that passes, sleep of the machine included. */
static uint64_t clock_boot(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * ST_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t cron_clock_wall(const struct cron_trigger *ct, int64_t tick_ns)
{
    if (ct->times.expression != NULL)
        return (uint64_t)tick_ns;
    return st_clock_wall() - (st_clock_mono() - (uint64_t)tick_ns);
}

static void arm_wall(struct cron_trigger *ct, int64_t next_ns)
{
    struct itimerspec spec = {.it_value = {.tv_sec = 0}};

    if (next_ns != ST_CRON_NEVER) {
        spec.it_value.tv_sec = next_ns / (int64_t)ST_SEC;
        spec.it_value.tv_nsec = next_ns % (int64_t)ST_SEC;
    }
    /* Zero would disarm; a fresh setting also ends an ECANCELED. */
    ST_ASSERT(timerfd_settime(ct->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &spec, NULL) ==
              0);
}

/* Lets the policy look at now, arms for the next tick and starts what may run. */
static void wake(struct cron_trigger *ct, int64_t now_ns)
{
    uint64_t dropped = ct->policy.dropped;
    int64_t next_ns = st_cron_policy_wake(&ct->policy, &ct->times, now_ns);

    if (ct->fd >= 0)
        arm_wall(ct, next_ns);
    else
        st_loop_timer_arm(ct->loop, &ct->timer, (uint64_t)(next_ns - now_ns));
    dropped = ct->policy.dropped - dropped;
    if (dropped != 0) {
        st_metric_add(ct->loop->metrics, ct->missed, (int64_t)dropped);
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.cron", "Ticks were missed",
                       ST_KV_STR("trigger", ct->base.name), ST_KV_UINT("ticks", dropped));
    }
    cron_run(ct);
}

static void on_interval(struct st_timer *timer)
{
    struct cron_trigger *ct = ST_CONTAINER_OF(timer, struct cron_trigger, timer);

    wake(ct, (int64_t)st_loop_now(ct->loop));
}

/* How much further the wall clock has gone than time. */
static int64_t compare_clocks(struct cron_trigger *ct)
{
    uint64_t wall = st_clock_wall(), boot = clock_boot();
    int64_t step = (int64_t)(wall - ct->wall_ns) - (int64_t)(boot - ct->boot_ns);

    ct->wall_ns = wall;
    ct->boot_ns = boot;
    return step;
}

static void on_wall(evutil_socket_t fd, short what, void *arg)
{
    struct cron_trigger *ct = arg;
    uint64_t expirations;
    int64_t step;

    (void)what;
    if (read(fd, &expirations, sizeof expirations) < 0 && errno == EAGAIN)
        return;
    step = compare_clocks(ct);
    if (step > STEP_NS || step < -STEP_NS) {
        ST_LOG(ST_LOG_INFO, "processor.cron", "The clock was set",
               ST_KV_STR("trigger", ct->base.name),
               ST_KV_INT("milliseconds", step / (int64_t)ST_MSEC));
        st_cron_policy_clock_set(&ct->policy, &ct->times, (int64_t)ct->wall_ns, step);
    }
    wake(ct, (int64_t)ct->wall_ns);
}

static int open_wall(struct cron_trigger *ct, struct st_error *err)
{
    ct->fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    if (ct->fd < 0)
        return st_error_sys(err, errno, "trigger %s: timerfd", ct->base.name);
    event_assign(&ct->fd_event, ct->loop->base, ct->fd, EV_READ | EV_PERSIST, on_wall, ct);
    event_add(&ct->fd_event, NULL);
    return ST_OK;
}

int cron_clock_open(struct cron_trigger *ct, struct st_error *err)
{
    const struct cron_attributes *a = cron_attributes_of(ct);
    uint64_t interval = a->interval_ns != 0 ? a->interval_ns : ct->expression.every_s * ST_SEC;
    int64_t now;
    int code;

    ct->wall_ns = st_clock_wall();
    ct->boot_ns = clock_boot();
    if (interval != 0) {
        now = (int64_t)st_loop_now(ct->loop);
        ct->times = (struct st_cron_times){.start_ns = now, .interval_ns = (int64_t)interval};
        st_timer_init(&ct->timer, on_interval);
    } else {
        now = (int64_t)ct->wall_ns;
        ct->times = (struct st_cron_times){.expression = &ct->expression, .zone = ct->zone};
        if ((code = open_wall(ct, err)) != ST_OK)
            return code;
    }
    st_cron_policy_init(&ct->policy, (enum st_cron_missed)a->missed,
                        (enum st_cron_concurrency)a->concurrency, (unsigned)a->max_missed, now);
    wake(ct, now);
    return ST_OK;
}

void cron_clock_close(struct cron_trigger *ct)
{
    if (ct->fd >= 0) {
        event_del(&ct->fd_event);
        close(ct->fd);
        ct->fd = -1;
    } else {
        st_loop_timer_cancel(ct->loop, &ct->timer);
    }
}
