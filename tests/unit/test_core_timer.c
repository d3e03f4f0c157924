#include "tests/unit/test_core.h"

#include "processor/core/rand.h"
#include "processor/core/timer.h"

/* ---- by hand ---- */

struct probe {
    struct st_timer timer;
    unsigned fired, order;
};

static unsigned order;

static void on_probe(struct st_timer *t)
{
    struct probe *p = ST_CONTAINER_OF(t, struct probe, timer);

    assert_false(st_timer_armed(t));
    p->fired++;
    p->order = ++order;
}

static void test_never_early(void **state)
{
    struct st_wheel w;
    struct probe p = {.fired = 0};

    (void)state;
    st_wheel_init(&w, 1000 * ST_MSEC + 1);
    assert_true(st_wheel_next(&w) == UINT64_MAX);
    assert_false(st_timer_armed(&p.timer)); /* zeroed */
    st_timer_cancel(&w, &p.timer);
    st_timer_init(&p.timer, on_probe);
    st_timer_arm(&w, &p.timer, 1005 * ST_MSEC + 1);
    assert_true(st_timer_armed(&p.timer));
    assert_true(st_wheel_next(&w) == 1006 * ST_MSEC);
    assert_int_equal(st_wheel_run(&w, 1006 * ST_MSEC - 1), 0);
    assert_int_equal(p.fired, 0);
    assert_int_equal(st_wheel_run(&w, 1006 * ST_MSEC), 1);
    assert_int_equal(p.fired, 1);
    assert_int_equal(w.armed, 0);
    assert_int_equal(st_wheel_run(&w, 10000 * ST_MSEC), 0);

    /* On the tick: at that tick. */
    st_timer_arm(&w, &p.timer, 10005 * ST_MSEC);
    assert_int_equal(st_wheel_run(&w, 10005 * ST_MSEC - 1), 0);
    assert_int_equal(st_wheel_run(&w, 10005 * ST_MSEC), 1);
}

static void test_past_fires_at_next_run(void **state)
{
    struct st_wheel w;
    struct probe p, q;

    (void)state;
    st_timer_init(&p.timer, on_probe);
    st_timer_init(&q.timer, on_probe);
    p.fired = q.fired = 0;
    st_wheel_init(&w, 5000 * ST_MSEC);
    st_timer_arm(&w, &p.timer, 17);
    st_timer_arm(&w, &q.timer, 0);
    assert_true(st_wheel_next(&w) == 5000 * ST_MSEC);
    assert_int_equal(st_wheel_run(&w, 5000 * ST_MSEC), 2);
    assert_int_equal(p.fired, 1);
    assert_int_equal(q.order, p.order + 1);
    /* A clock that went back changes nothing. */
    st_timer_arm(&w, &p.timer, 6000 * ST_MSEC);
    assert_int_equal(st_wheel_run(&w, 10), 0);
    assert_true(w.now == 5000);
}

static void test_rearm_moves(void **state)
{
    struct st_wheel w;
    struct probe p;

    (void)state;
    st_timer_init(&p.timer, on_probe);
    p.fired = 0;
    st_wheel_init(&w, 0);
    st_timer_arm(&w, &p.timer, 10 * ST_MSEC);
    st_timer_arm(&w, &p.timer, 100000 * ST_MSEC);
    assert_int_equal(w.armed, 1);
    st_wheel_run(&w, 99999 * ST_MSEC);
    assert_int_equal(p.fired, 0);
    st_timer_arm(&w, &p.timer, 99999 * ST_MSEC + 1);
    st_wheel_run(&w, 100000 * ST_MSEC);
    assert_int_equal(p.fired, 1);
    assert_int_equal(w.armed, 0);
    st_timer_arm(&w, &p.timer, 200000 * ST_MSEC);
    st_timer_cancel(&w, &p.timer);
    st_timer_cancel(&w, &p.timer);
    assert_int_equal(w.armed, 0);
    assert_true(st_wheel_next(&w) == UINT64_MAX);
    st_wheel_run(&w, 300000 * ST_MSEC);
    assert_int_equal(p.fired, 1);
}

static void test_beyond_two_years(void **state)
{
    const uint64_t span = (uint64_t)1 << 36, start = 77777;
    struct st_wheel w;
    struct probe p;

    (void)state;
    st_timer_init(&p.timer, on_probe);
    p.fired = 0;
    st_wheel_init(&w, start * ST_MSEC);
    st_timer_arm(&w, &p.timer, UINT64_MAX);
    st_wheel_run(&w, (start + span - 2) * ST_MSEC);
    assert_int_equal(p.fired, 0);
    st_wheel_run(&w, (start + span - 1) * ST_MSEC);
    assert_int_equal(p.fired, 1);
}

/* ---- against a model: a plain array ---- */

enum { TIMERS = 150, STEPS = 60000 };

struct model_timer {
    struct st_timer timer;
    bool armed, due; /* due: must run in the current st_wheel_run */
    uint64_t expires, seq;
};

static struct {
    struct st_wheel wheel;
    struct st_rand rand;
    uint64_t now_ns, seq;
    unsigned fired, cancelled_due, rearmed_now;
    struct model_timer timers[TIMERS];
} m;

static void model_arm(struct model_timer *t, uint64_t at_ns)
{
    uint64_t tick = at_ns / ST_MSEC + (at_ns % ST_MSEC != 0),
             last = m.wheel.now + ((uint64_t)1 << 36);

    st_timer_arm(&m.wheel, &t->timer, at_ns);
    t->armed = true;
    t->due = false;
    t->expires = tick < m.wheel.now ? m.wheel.now : tick >= last ? last - 1 : tick;
    t->seq = ++m.seq;
}

static void model_cancel(struct model_timer *t)
{
    st_timer_cancel(&m.wheel, &t->timer);
    t->armed = false;
    t->due = false;
}

/* Mostly near, but up to twice the wheel's span away. */
static uint64_t random_distance(void)
{
    return st_rand_below(&m.rand, (uint64_t)1 << (st_rand_below(&m.rand, 58) + 1));
}

static struct model_timer *random_timer(void)
{
    return &m.timers[st_rand_below(&m.rand, TIMERS)];
}

/* The due timer that must run next: earliest tick, then the order of arming. */
static struct model_timer *model_first_due(void)
{
    struct model_timer *first = NULL;

    for (size_t i = 0; i < TIMERS; i++) {
        struct model_timer *t = &m.timers[i];

        if (t->due && (first == NULL || t->expires < first->expires ||
                       (t->expires == first->expires && t->seq < first->seq)))
            first = t;
    }
    return first;
}

static void on_model_timer(struct st_timer *timer)
{
    struct model_timer *t = ST_CONTAINER_OF(timer, struct model_timer, timer), *other;

    assert_ptr_equal(t, model_first_due());
    assert_false(st_timer_armed(timer));
    t->armed = t->due = false;
    m.fired++;
    switch (st_rand_below(&m.rand, 5)) {
    case 0:
        model_arm(t, m.now_ns + random_distance());
        break;
    case 1: /* for now or the past: must wait for the next run */
        model_arm(t, st_rand_below(&m.rand, m.now_ns + 1));
        m.rearmed_now++;
        break;
    case 2:
        other = random_timer();
        m.cancelled_due += other->due;
        model_cancel(other);
        break;
    case 3:
        other = model_first_due();
        if (other != NULL)
            model_arm(other, m.now_ns + random_distance());
        break;
    default:
        break;
    }
}

static void model_run(uint64_t now_ns)
{
    uint64_t target = now_ns / ST_MSEC;
    unsigned before = m.fired;
    size_t ran;

    m.now_ns = now_ns;
    for (size_t i = 0; i < TIMERS; i++)
        m.timers[i].due = m.timers[i].armed && m.timers[i].expires <= target;
    ran = st_wheel_run(&m.wheel, now_ns);
    assert_int_equal(ran, m.fired - before);
    assert_null(model_first_due());
}

static void model_check(void)
{
    uint64_t next = st_wheel_next(&m.wheel), earliest = UINT64_MAX;
    size_t armed = 0;

    for (size_t i = 0; i < TIMERS; i++) {
        const struct model_timer *t = &m.timers[i];

        assert_int_equal(st_timer_armed(&t->timer), t->armed);
        if (!t->armed)
            continue;
        armed++;
        if (t->expires < earliest)
            earliest = t->expires;
    }
    assert_int_equal(m.wheel.armed, armed);
    if (armed == 0) {
        assert_true(next == UINT64_MAX);
        return;
    }
    /* Never too late, and never a busy loop: in the future unless something is due. */
    assert_true(next <= earliest * ST_MSEC);
    assert_true(next > m.wheel.now * ST_MSEC || earliest == m.wheel.now);
}

static void model_step(void)
{
    uint64_t next;

    switch (st_rand_below(&m.rand, 8)) {
    case 0:
    case 1:
    case 2:
    case 3:
        model_arm(random_timer(), m.now_ns + random_distance());
        break;
    case 4:
        model_cancel(random_timer());
        break;
    case 5: /* as the loop does it: exactly when asked */
        next = st_wheel_next(&m.wheel);
        if (next != UINT64_MAX)
            model_run(next > m.now_ns ? next : m.now_ns);
        break;
    case 6:
        model_run(m.now_ns + st_rand_below(&m.rand, 200 * ST_MSEC));
        break;
    default:
        model_run(m.now_ns + random_distance() / 16);
        break;
    }
}

static void model_test(uint64_t seed, uint64_t start_ns)
{
    memset(&m, 0, sizeof(m));
    st_rand_seed(&m.rand, seed);
    m.now_ns = start_ns;
    st_wheel_init(&m.wheel, start_ns);
    for (size_t i = 0; i < TIMERS; i++)
        st_timer_init(&m.timers[i].timer, on_model_timer);
    for (int i = 0; i < STEPS && m.now_ns < UINT64_MAX / 2; i++) {
        model_step();
        if (i % 16 == 0)
            model_check();
    }
    assert_true(m.fired > 1000);
    assert_true(m.cancelled_due > 10);
    assert_true(m.rearmed_now > 100);
}

static void test_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++)
        model_test(seed, seed * 123456789);
}

/* Where the last level goes round: the wheel's span after boot. */
static void test_model_at_wrap(void **state)
{
    const uint64_t span = (uint64_t)1 << 36;

    (void)state;
    model_test(11, (span - 5) * ST_MSEC);
    model_test(12, (3 * span - 70000) * ST_MSEC + 17);
}

static struct probe many[10000];

/* Each timer fires at its very tick when the wheel is run whenever it asks to be. */
static void test_driven_by_next(void **state)
{
    static uint64_t at[ST_ARRAY_LEN(many)];
    struct st_wheel w;
    struct st_rand r;
    unsigned runs = 0;
    uint64_t next;
    size_t fired = 0;

    (void)state;
    st_rand_seed(&r, 5);
    st_wheel_init(&w, 123 * ST_MSEC);
    for (size_t i = 0; i < ST_ARRAY_LEN(many); i++) {
        at[i] = 123 + 1 + st_rand_below(&r, 10000000);
        st_timer_init(&many[i].timer, on_probe);
        st_timer_arm(&w, &many[i].timer, at[i] * ST_MSEC);
    }
    while ((next = st_wheel_next(&w)) != UINT64_MAX) {
        size_t ran = st_wheel_run(&w, next);

        fired += ran;
        runs++;
    }
    assert_int_equal(fired, ST_ARRAY_LEN(many));
    /* Slots that cascade cost some runs, but not one a tick. */
    assert_true(runs < 3 * ST_ARRAY_LEN(many));
    for (size_t i = 0; i < ST_ARRAY_LEN(many); i++) {
        size_t k = st_rand_below(&r, ST_ARRAY_LEN(many));

        assert_int_equal(many[i].fired, 1);
        if (at[i] < at[k])
            assert_true(many[i].order < many[k].order);
    }
}

struct freed {
    struct st_timer timer;
    char rest[100];
};

static void free_myself(struct st_timer *t)
{
    free(ST_CONTAINER_OF(t, struct freed, timer));
}

static void test_callback_may_free(void **state)
{
    struct st_wheel w;

    (void)state;
    st_wheel_init(&w, 0);
    for (unsigned i = 0; i < 100; i++) {
        struct freed *f = malloc(sizeof(*f));

        assert_non_null(f);
        st_timer_init(&f->timer, free_myself);
        st_timer_arm(&w, &f->timer, ST_MSEC * 100 * (i / 10));
    }
    assert_int_equal(st_wheel_run(&w, 10000 * ST_MSEC), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_early),    cmocka_unit_test(test_past_fires_at_next_run),
        cmocka_unit_test(test_rearm_moves),    cmocka_unit_test(test_beyond_two_years),
        cmocka_unit_test(test_model),          cmocka_unit_test(test_model_at_wrap),
        cmocka_unit_test(test_driven_by_next), cmocka_unit_test(test_callback_may_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
