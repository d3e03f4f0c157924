#include "tests/unit/test_core.h"

#include "processor/core/clock.h"
#include "processor/core/loop.h"
#include "processor/core/metrics.h"

static struct st_loop loop;
static char trace[256]; /* a letter for everything that ran */

static void note(char c)
{
    size_t len = strlen(trace);

    assert_true(len < sizeof(trace) - 1);
    trace[len] = c;
    trace[len + 1] = '\0';
}

static int open_loop(void **state)
{
    struct st_error err;

    (void)state;
    trace[0] = '\0';
    return st_loop_open(&loop, 3, "test", &err);
}

static int close_loop(void **state)
{
    (void)state;
    st_loop_close(&loop);
    st_metrics_reset();
    return 0;
}

/* ---- a pass ---- */

struct thing {
    struct st_mail mail;
    struct st_flush flush;
    struct st_garbage garbage;
    struct st_timer timer;
    char name; /* its mail notes the name, its flush the next letter, its garbage the one after */
    struct thing *other;
};

static void on_garbage(struct st_garbage *g)
{
    note((char)(ST_CONTAINER_OF(g, struct thing, garbage)->name + 2));
}

static void on_flush(struct st_flush *f)
{
    struct thing *t = ST_CONTAINER_OF(f, struct thing, flush);

    assert_false(f->queued);
    note((char)(t->name + 1));
    if (t->other != NULL) {
        st_loop_flush_later(&loop, &t->other->flush);
        t->other = NULL;
    }
}

static void on_mail(struct st_loop *l, struct st_mail *mail)
{
    struct thing *t = ST_CONTAINER_OF(mail, struct thing, mail);

    assert_ptr_equal(l, &loop);
    note(t->name);
    st_loop_free_later(l, &t->garbage, on_garbage);
    st_loop_flush_later(l, &t->flush);
    st_loop_flush_later(l, &t->flush); /* once */
    assert_true(t->flush.queued);
}

static void test_pass_order(void **state)
{
    struct thing a = {.name = 'a', .flush.fn = on_flush};
    struct thing k = {.name = 'k', .flush.fn = on_flush};

    (void)state;
    st_loop_post(&loop, &a.mail, on_mail);
    st_loop_post(&loop, &k.mail, on_mail);
    st_loop_pass(&loop);
    assert_string_equal(trace, "akblcm");
    assert_int_equal(loop.passes, 1);
}

static void test_flush_in_flush(void **state)
{
    struct thing a = {.name = 'a', .flush.fn = on_flush};
    struct thing k = {.name = 'k', .flush.fn = on_flush, .other = &k};

    (void)state;
    a.other = &k;
    st_loop_post(&loop, &a.mail, on_mail);
    st_loop_pass(&loop);
    assert_string_equal(trace, "abllc"); /* k queued itself once more */
}

static void flush_from_garbage(struct st_garbage *g)
{
    struct thing *t = ST_CONTAINER_OF(g, struct thing, garbage);

    note('G');
    st_loop_flush_later(&loop, &t->flush);
}

static void post_from_flush(struct st_flush *f)
{
    struct thing *t = ST_CONTAINER_OF(f, struct thing, flush);

    note('F');
    st_loop_post(&loop, &t->mail, on_mail);
    t->flush.fn = on_flush;
}

/* What set-up code queued runs before the pass blocks, which it would here without end. */
static void test_settled_before_blocking(void **state)
{
    struct thing a = {.name = 'a', .flush.fn = post_from_flush};

    (void)state;
    st_loop_free_later(&loop, &a.garbage, flush_from_garbage);
    st_loop_pass(&loop);
    assert_string_equal(trace, "GFabc");
    assert_true(STAILQ_EMPTY(&loop.flush));
    assert_true(STAILQ_EMPTY(&loop.garbage));
}

/* ---- clock ---- */

static void on_clock_mail(struct st_loop *l, struct st_mail *mail)
{
    uint64_t now;

    (void)mail;
    assert_false(l->clock_valid);
    now = st_loop_now(l);
    usleep(2000);
    assert_true(st_loop_now(l) == now);
    assert_true(st_clock_mono() > now);
}

static void test_clock(void **state)
{
    struct st_mail mail;
    uint64_t before = st_loop_now(&loop), wall;

    (void)state;
    assert_true(loop.clock_valid);
    usleep(2000);
    st_loop_post(&loop, &mail, on_clock_mail);
    st_loop_pass(&loop);
    assert_false(loop.clock_valid);
    assert_true(st_loop_now(&loop) >= before + 4 * ST_MSEC);
    wall = st_clock_wall();
    assert_in_range(wall + ST_SEC - st_loop_wall(&loop), 0, 2 * ST_SEC);
}

static void test_wall_is_refreshed(void **state)
{
    (void)state;
    st_loop_update_clock(&loop);
    loop.wall_offset = 12345;
    st_loop_update_clock(&loop);
    assert_true(loop.wall_offset == 12345); /* within the second */
    loop.wall_checked -= 2 * ST_SEC;
    st_loop_update_clock(&loop);
    assert_true(loop.wall_offset != 12345);
    assert_in_range(st_clock_wall() + ST_SEC - st_loop_wall(&loop), 0, 2 * ST_SEC);
}

/* ---- timers ---- */

static void on_timer(struct st_timer *t)
{
    note(ST_CONTAINER_OF(t, struct thing, timer)->name);
}

static void stop_by_timer(struct st_timer *t)
{
    (void)t;
    st_loop_stop(&loop);
}

static void timer_init(struct thing *t, char name)
{
    memset(t, 0, sizeof(*t));
    t->name = name;
    st_timer_init(&t->timer, on_timer);
}

static void test_timers(void **state)
{
    struct thing a, b, c, never, end;
    uint64_t start = st_clock_mono();

    (void)state;
    timer_init(&a, 'a');
    timer_init(&b, 'b');
    timer_init(&c, 'c');
    timer_init(&never, 'n');
    timer_init(&end, 'e');
    end.timer.fn = stop_by_timer;
    st_loop_timer_arm(&loop, &never.timer, 3 * ST_MSEC);
    st_loop_timer_arm(&loop, &end.timer, 80 * ST_MSEC);
    st_loop_timer_arm(&loop, &c.timer, 70 * ST_MSEC);
    st_loop_timer_arm(&loop, &a.timer, 0);
    st_loop_timer_arm(&loop, &b.timer, 20 * ST_MSEC);
    st_loop_timer_cancel(&loop, &never.timer);
    st_loop_run(&loop);
    assert_string_equal(trace, "abc");
    assert_true(st_clock_mono() - start >= 80 * ST_MSEC);
    assert_false(loop.stopping);
    assert_true(loop.wheel_armed_ns == UINT64_MAX);
    st_loop_timer_arm(&loop, &a.timer, UINT64_MAX); /* saturates */
    assert_true(st_timer_armed(&a.timer));
    st_loop_timer_cancel(&loop, &a.timer);
}

static uint64_t timerfd_setting(void)
{
    return loop.wheel_armed_ns;
}

static void nothing(struct st_loop *l, struct st_mail *mail)
{
    (void)l;
    (void)mail;
}

/* One pass that does not block. */
static void quick_pass(void)
{
    struct st_mail mail;

    st_loop_post(&loop, &mail, nothing);
    st_loop_pass(&loop);
}

static void test_timerfd_is_set_lazily(void **state)
{
    struct thing a, b;
    uint64_t set;

    (void)state;
    timer_init(&a, 'a');
    timer_init(&b, 'b');
    quick_pass();
    assert_true(timerfd_setting() == UINT64_MAX);
    st_loop_timer_arm(&loop, &a.timer, 50 * ST_SEC);
    assert_true(loop.timers_changed);
    quick_pass();
    set = timerfd_setting();
    assert_true(set < st_clock_mono() + 51 * ST_SEC);
    /* A later one and a cancelled one change nothing. */
    st_loop_timer_arm(&loop, &b.timer, 60 * ST_SEC);
    st_loop_timer_cancel(&loop, &a.timer);
    assert_false(loop.timers_changed);
    quick_pass();
    assert_true(timerfd_setting() == set);
    /* Nor does one that is gone before the pass ends. */
    st_loop_timer_arm(&loop, &a.timer, ST_SEC);
    st_loop_timer_cancel(&loop, &a.timer);
    assert_true(loop.timers_changed);
    quick_pass();
    assert_true(timerfd_setting() == set);
    st_loop_timer_arm(&loop, &a.timer, ST_SEC);
    quick_pass();
    assert_true(timerfd_setting() < set);
    assert_true(timerfd_setting() > st_clock_mono());
    st_loop_timer_cancel(&loop, &a.timer);
    st_loop_timer_cancel(&loop, &b.timer);
}

static void count_and_rearm(struct st_timer *t)
{
    note('t');
    if (strlen(trace) < 30)
        st_loop_timer_arm(&loop, t, strlen(trace) % 2 * ST_MSEC);
    else
        st_loop_stop(&loop);
}

/* Re-armed from its callback for now and for the next tick: neither sleeps for ever nor spins. */
static void test_rearm_in_callback(void **state)
{
    struct thing a;

    (void)state;
    timer_init(&a, 'a');
    a.timer.fn = count_and_rearm;
    st_loop_timer_arm(&loop, &a.timer, ST_MSEC);
    st_loop_run(&loop);
    assert_int_equal(strlen(trace), 30);
    assert_in_range(loop.passes, 30, 64);
}

/* ---- threads ---- */

static void test_idle_loop_sleeps(void **state)
{
    (void)state;
    assert_int_equal(st_loop_start(&loop, NULL), ST_OK);
    usleep(100000);
    st_loop_stop(&loop);
    st_loop_join(&loop);
    assert_int_equal(loop.passes, 1);
}

enum { POSTED = 10000 };

static unsigned delivered;

static void count_mail(struct st_loop *l, struct st_mail *mail)
{
    (void)l;
    (void)mail;
    delivered++;
}

static void test_posted_before_stop_arrives(void **state)
{
    static struct st_mail mails[POSTED];

    (void)state;
    delivered = 0;
    assert_int_equal(st_loop_start(&loop, NULL), ST_OK);
    for (size_t i = 0; i < POSTED; i++)
        st_loop_post(&loop, &mails[i], count_mail);
    st_loop_stop(&loop);
    st_loop_stop(&loop);
    st_loop_join(&loop);
    assert_int_equal(delivered, POSTED);

    /* A stop that comes first waits for the run; the loop runs again after it. */
    st_loop_stop(&loop);
    st_loop_run(&loop);
    st_loop_post(&loop, &mails[0], count_mail);
    st_loop_stop(&loop);
    st_loop_run(&loop);
    assert_int_equal(delivered, POSTED + 1);
}

struct seen {
    pthread_t thread;
    bool current;
    char name[16];
    sigset_t mask;
    unsigned calls;
};

static void look(struct st_loop *l, void *arg)
{
    struct seen *seen = arg;

    seen->thread = pthread_self();
    seen->current = st_loop_is_current(l);
    pthread_getname_np(pthread_self(), seen->name, sizeof(seen->name));
    pthread_sigmask(SIG_SETMASK, NULL, &seen->mask);
    seen->calls++;
    if (seen->calls == 1)
        st_loop_call(l, look, arg); /* on the loop itself: at once */
}

static void test_call(void **state)
{
    static const int open_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGPROF};
    static const int blocked[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE, SIGUSR1};
    struct seen seen = {.calls = 0};
    sigset_t mine;

    (void)state;
    st_loop_call(&loop, look, &seen); /* no thread yet */
    assert_true(pthread_equal(seen.thread, pthread_self()));
    assert_true(seen.current);
    assert_int_equal(seen.calls, 2);

    seen.calls = 0;
    assert_true(st_loop_is_current(&loop));
    assert_int_equal(st_loop_start(&loop, NULL), ST_OK);
    assert_false(st_loop_is_current(&loop));
    st_loop_call(&loop, look, &seen);
    assert_int_equal(seen.calls, 2);
    assert_false(pthread_equal(seen.thread, pthread_self()));
    assert_true(seen.current);
    assert_string_equal(seen.name, "test");
    for (size_t i = 0; i < ST_ARRAY_LEN(open_signals); i++)
        assert_false(sigismember(&seen.mask, open_signals[i]));
    for (size_t i = 0; i < ST_ARRAY_LEN(blocked); i++)
        assert_true(sigismember(&seen.mask, blocked[i]));
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_false(sigismember(&mine, SIGTERM));
    st_loop_stop(&loop);
    st_loop_join(&loop);
    assert_true(st_loop_is_current(&loop));
}

static void bump(struct st_loop *l, void *arg)
{
    (void)l;
    ++*(unsigned *)arg;
}

static void *caller(void *arg)
{
    for (int i = 0; i < 1000; i++)
        st_loop_call(&loop, bump, arg);
    return NULL;
}

static void test_callers(void **state)
{
    pthread_t threads[3];
    unsigned count = 0; /* touched by the loop's thread only while it runs */

    (void)state;
    assert_int_equal(st_loop_start(&loop, NULL), ST_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, caller, &count), 0);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    st_loop_stop(&loop);
    st_loop_join(&loop);
    assert_int_equal(count, 3000);
}

/* ---- ids ---- */

static uint64_t id_ms(const uint8_t id[16])
{
    uint64_t ms = 0;

    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id[i];
    return ms;
}

static void test_uuid(void **state)
{
    uint8_t last[16] = {0}, id[16];
    unsigned new_ms = 0;

    (void)state;
    for (int i = 0; i < 200000; i++) {
        if (i % 16 == 0)
            loop.clock_valid = false;
        st_loop_uuid(&loop, id);
        assert_int_equal(id[6] >> 4, 7);
        assert_int_equal(id[8] >> 6, 2);
        assert_true(memcmp(id, last, sizeof(id)) > 0);
        new_ms += id_ms(id) != id_ms(last);
        memcpy(last, id, sizeof(id));
    }
    assert_true(new_ms >= 1);
    assert_in_range(st_clock_wall() / ST_MSEC - id_ms(last), 0, 1000);
}

static void test_uuid_when_the_clock_goes_back(void **state)
{
    uint8_t last[16], id[16];
    uint64_t ms;

    (void)state;
    st_loop_uuid(&loop, last);
    ms = id_ms(last);
    loop.wall_offset -= 3600 * ST_SEC;
    for (int i = 0; i < 1000; i++) {
        st_loop_uuid(&loop, id);
        assert_true(memcmp(id, last, sizeof(id)) > 0);
        assert_true(id_ms(id) == ms);
        memcpy(last, id, sizeof(id));
    }
    loop.wall_offset += 3601 * ST_SEC;
    st_loop_uuid(&loop, id);
    assert_true(id_ms(id) > ms);
}

static void test_uuids_of_loops_differ(void **state)
{
    struct st_loop other;
    uint8_t a[16], b[16];

    (void)state;
    assert_int_equal(st_loop_open(&other, 1, "other", NULL), ST_OK);
    st_loop_uuid(&loop, a);
    st_loop_uuid(&other, b);
    assert_memory_not_equal(a + 8, b + 8, 8);
    st_loop_close(&other);
}

/* ---- set-up ---- */

static void test_open(void **state)
{
    (void)state;
    assert_int_equal(loop.index, 3);
    assert_string_equal(loop.name, "test");
    assert_non_null(loop.metrics);
    assert_null(loop.net);
    assert_true(event_base_get_features(loop.base) & EV_FEATURE_ET);
}

/* With 0, 1 and 2 descriptors left: mailbox, timerfd and epoll fail. With less than five libevent
 * itself exits. */
static void test_open_without_descriptors(void **state)
{
    struct rlimit old, few;
    struct st_loop l;
    struct st_error err;
    int first = dup(0);

    (void)state;
    close(first);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    for (int left = 0; left < 3; left++) {
        int rc;

        few = (struct rlimit){(rlim_t)(first + left), old.rlim_max};
        memset(&err, 0, sizeof(err));
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = st_loop_open(&l, 0, "a name of more than fifteen", &err);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(rc, ST_ERR_SYSTEM);
        assert_int_equal(err.code, ST_ERR_SYSTEM);
        assert_non_null(strstr(err.text, "of loop a name of more"));
        assert_int_equal(dup(0), first); /* nothing was left open */
        close(first);
    }
    assert_int_equal(st_loop_open(&l, 0, "a name of more than fifteen", NULL), ST_OK);
    assert_string_equal(l.name, "a name of more ");
    st_loop_close(&l);
    assert_int_equal(dup(0), first);
    close(first);
    st_metrics_reset();
}

static void close_running(void)
{
    if (st_loop_open(&loop, 0, "x", NULL) == ST_OK && st_loop_start(&loop, NULL) == ST_OK)
        st_loop_close(&loop);
}

static void run_closed(void)
{
    if (st_loop_open(&loop, 0, "x", NULL) != ST_OK)
        return;
    st_loop_close(&loop);
    st_loop_run(&loop);
}

static void test_misuse(void **state)
{
    (void)state;
    assert_panics(close_running, "has_thread");
    assert_panics(run_closed, "magic");
}

int main(void)
{
#define ON_LOOP(test) cmocka_unit_test_setup_teardown(test, open_loop, close_loop)
    const struct CMUnitTest tests[] = {
        ON_LOOP(test_open),
        ON_LOOP(test_pass_order),
        ON_LOOP(test_flush_in_flush),
        ON_LOOP(test_settled_before_blocking),
        ON_LOOP(test_clock),
        ON_LOOP(test_wall_is_refreshed),
        ON_LOOP(test_timers),
        ON_LOOP(test_timerfd_is_set_lazily),
        ON_LOOP(test_rearm_in_callback),
        ON_LOOP(test_idle_loop_sleeps),
        ON_LOOP(test_posted_before_stop_arrives),
        ON_LOOP(test_call),
        ON_LOOP(test_callers),
        ON_LOOP(test_uuid),
        ON_LOOP(test_uuid_when_the_clock_goes_back),
        ON_LOOP(test_uuids_of_loops_differ),
        cmocka_unit_test(test_open_without_descriptors),
        cmocka_unit_test(test_misuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
