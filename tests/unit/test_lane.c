/* Lanes: order by key, one unit at a time, nothing lost; known cases, then random runs against a
 * model that looks at every entry each time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "processor/core/rand.h"
#include "processor/lane.h"

enum { LANES = 4 };

#define KEY ST_SLICE("0123456789abcdef")

struct setup {
    struct st_lane_group g;
    struct st_lane_shard *s;
    struct st_lane_entry a, b, c;
};

static void count_drop(void *arg, struct st_lane_entry *e)
{
    assert_int_equal(e->state, ST_LANE_OUT);
    ++*(unsigned *)arg;
}

/* A run of a, b and perhaps c, in this order, of one key. */
static void begin(struct setup *t, bool relaxed, unsigned count)
{
    struct st_lane_entry *all[] = {&t->a, &t->b, &t->c}, *out[3];

    memset(t, 0, sizeof *t);
    st_lane_group_init(&t->g, ST_ORDER_KEY, LANES, relaxed);
    t->s = st_lane_shard_new(&t->g);
    for (unsigned i = 0; i < count; i++) {
        all[i]->bytes = 10;
        st_lane_put(t->s, all[i], KEY);
    }
    assert_int_equal(st_lane_take_run(&t->g, out, 3, 1000), count);
    for (unsigned i = 0; i < count; i++)
        assert_ptr_equal(out[i], all[i]);
}

static void finish(struct setup *t)
{
    unsigned dropped = 0;

    st_lane_shard_drop(t->s, count_drop, &dropped);
    assert_int_equal(t->s->entries, 0);
    assert_true(t->s->bytes == 0);
    assert_int_equal(t->g.waiting + t->g.delayed + t->g.running, 0);
    st_lane_shard_free(t->s);
    st_lane_group_free(&t->g);
}

static void assert_next(struct setup *t, struct st_lane_entry *e)
{
    assert_ptr_equal(st_lane_take(&t->g), e);
}

/* Its dead letter is on the way while an older one waits for its retry: it is not handed out. */
static void test_detach_behind_retry(void **state)
{
    struct setup t;

    (void)state;
    begin(&t, false, 3);
    st_lane_retry(&t.a, 5);
    st_lane_detach(&t.b, true);
    assert_int_equal(t.b.state, ST_LANE_HELD);
    st_lane_retry(&t.c, 0);
    assert_true(st_lane_due(&t.g, 4) == 5);
    assert_next(&t, NULL);
    st_lane_due(&t.g, 5);
    assert_next(&t, &t.a);
    st_lane_done(&t.a);
    assert_next(&t, NULL); /* b holds the key */
    st_lane_done(&t.b);
    assert_next(&t, &t.c);
    st_lane_done(&t.c);
    finish(&t);
}

/* A follower that is held ends before the head does. */
static void test_held_ends_first(void **state)
{
    struct setup t;

    (void)state;
    begin(&t, false, 3);
    st_lane_retry(&t.a, 5);
    st_lane_detach(&t.b, true);
    st_lane_detach(&t.c, true);
    st_lane_done(&t.b);
    st_lane_done(&t.c);
    assert_int_equal(t.s->entries, 1);
    st_lane_due(&t.g, 5);
    assert_next(&t, &t.a);
    st_lane_done(&t.a);
    assert_int_equal(t.s->lanes[st_lane_hash(KEY) % LANES].key_count, 0);
    finish(&t);
}

static void test_halt_behind_retry(void **state)
{
    struct setup t;

    (void)state;
    begin(&t, false, 3);
    st_lane_retry(&t.a, 5);
    st_lane_halt(&t.b);
    st_lane_retry(&t.c, 0);
    assert_int_equal(t.b.state, ST_LANE_HALTED);
    st_lane_due(&t.g, 5);
    assert_next(&t, &t.a);
    st_lane_done(&t.a);
    assert_next(&t, NULL); /* b stops the key */
    assert_int_equal(t.b.state, ST_LANE_HALTED);
    assert_int_equal(t.c.state, ST_LANE_WAITING);
    finish(&t);
}

/* The younger one's retry is due already when the older one is to be tried again. */
static void test_older_joins_ready(void **state)
{
    struct setup t;

    (void)state;
    begin(&t, false, 2);
    st_lane_retry(&t.b, 0);
    st_lane_due(&t.g, 1);
    st_lane_retry(&t.a, 5);
    assert_next(&t, NULL);
    st_lane_due(&t.g, 5);
    assert_next(&t, &t.a);
    assert_next(&t, NULL);
    st_lane_done(&t.a);
    assert_next(&t, &t.b);
    st_lane_done(&t.b);
    finish(&t);
}

static void test_older_joins_held(void **state)
{
    struct setup t;

    (void)state;
    begin(&t, false, 2);
    st_lane_detach(&t.b, true);
    st_lane_retry(&t.a, 5);
    st_lane_retry(&t.b, 1); /* its dead letter was refused */
    assert_true(st_lane_due(&t.g, 3) == 5);
    assert_next(&t, NULL);
    st_lane_due(&t.g, 5);
    assert_next(&t, &t.a);
    st_lane_done(&t.a);
    assert_next(&t, &t.b);
    st_lane_done(&t.b);
    finish(&t);
}

static void test_older_joins_halted(void **state)
{
    struct setup t;

    (void)state;
    begin(&t, false, 2);
    st_lane_halt(&t.b);
    st_lane_retry(&t.a, 5);
    st_lane_due(&t.g, 5);
    assert_next(&t, &t.a);
    st_lane_done(&t.a);
    finish(&t);
}

/* The bound holds with what is added, not before it; the first always goes. */
static void test_run_bytes(void **state)
{
    struct st_lane_entry *out[4];
    struct setup t;

    (void)state;
    begin(&t, false, 0);
    t.a.bytes = 100;
    t.b.bytes = t.c.bytes = 10;
    st_lane_put(t.s, &t.a, KEY);
    st_lane_put(t.s, &t.b, KEY);
    st_lane_put(t.s, &t.c, KEY);
    assert_int_equal(st_lane_take_run(&t.g, out, 4, 15), 1);
    assert_int_equal(st_lane_take_run(&t.g, out, 4, 15), 0);
    st_lane_done(&t.a);
    assert_int_equal(st_lane_take_run(&t.g, out, 4, 19), 1);
    assert_ptr_equal(out[0], &t.b);
    st_lane_retry(&t.b, 0);
    st_lane_due(&t.g, 0);
    assert_int_equal(st_lane_take_run(&t.g, out, 0, 20), 0);
    assert_next(&t, &t.b);
    st_lane_done(&t.b);
    assert_next(&t, &t.c);
    st_lane_done(&t.c);
    finish(&t);
}

/* After a retry those behind it are in its run, except where it is to be alone. */
static void test_run_after_retry(void **state)
{
    struct st_lane_entry *out[3];
    struct setup t;

    (void)state;
    begin(&t, false, 1);
    st_lane_put(t.s, &t.b, KEY);
    st_lane_put(t.s, &t.c, KEY);
    t.a.alone = true;
    for (unsigned i = 0; i < 3; i++) { /* the first time they are moved behind it */
        if (i == 2)
            t.a.alone = false;
        st_lane_retry(&t.a, 0);
        st_lane_due(&t.g, 0);
        assert_int_equal(st_lane_take_run(&t.g, out, 3, 1000), i < 2 ? 1 : 3);
        assert_ptr_equal(out[0], &t.a);
    }
    assert_ptr_equal(out[1], &t.b);
    assert_ptr_equal(out[2], &t.c);
    st_lane_done(&t.b);
    st_lane_retry(&t.a, 0);
    st_lane_done(&t.c);
    st_lane_due(&t.g, 0);
    assert_next(&t, &t.a);
    st_lane_done(&t.a);
    finish(&t);
}

/* What comes back together keeps its order, where nothing else does. */
static void test_due_at_one_time(void **state)
{
    struct st_lane_entry *next;
    struct setup t;

    (void)state;
    begin(&t, true, 3);
    st_lane_retry(&t.c, 50);
    st_lane_retry(&t.b, 50);
    st_lane_retry(&t.a, 50);
    st_lane_due(&t.g, 50);
    for (unsigned i = 0; i < 3; i++) {
        next = (struct st_lane_entry *[]){&t.a, &t.b, &t.c}[i];
        assert_next(&t, next);
        st_lane_done(next);
    }
    finish(&t);
}

/* Retries of other keys that are always due at once: what is in the queue still has its turn. */
static void test_retries_starve_nobody(void **state)
{
    struct st_lane_entry retried[2] = {0}, queued[3] = {0};
    unsigned found = 0, done = 0;
    struct setup t;
    char text[17];

    (void)state;
    begin(&t, false, 0);
    for (unsigned i = 0; found < 5; i++) {
        struct st_slice key = {text, (size_t)snprintf(text, sizeof text, "%u", i)};

        if (st_lane_hash(key) % LANES != 0)
            continue;
        st_lane_put(t.s, found < 2 ? &retried[found] : &queued[found - 2], key);
        found++;
    }
    for (unsigned i = 0; i < 2 * 5; i++) {
        struct st_lane_entry *e = st_lane_take(&t.g);

        assert_non_null(e);
        if (e >= queued && e < queued + 3) {
            st_lane_done(e);
            done++;
            continue;
        }
        st_lane_retry(e, 0);
        st_lane_due(&t.g, 1);
    }
    assert_int_equal(done, 3);
    assert_int_equal(t.s->entries, 2);
    finish(&t);
}

/* Two shards of a group: neither waits for the other to be empty. */
static void test_shards_take_turns(void **state)
{
    struct st_lane_entry first[8] = {0}, second = {0};
    struct st_lane_shard *other;
    unsigned dropped = 0;
    struct setup t;

    (void)state;
    begin(&t, false, 0);
    other = st_lane_shard_new(&t.g);
    for (unsigned i = 0; i < 8; i++)
        st_lane_put(t.s, &first[i], KEY);
    st_lane_put(other, &second, KEY);
    assert_next(&t, &first[0]);
    st_lane_done(&first[0]);
    assert_next(&t, &second);
    st_lane_done(&second);
    st_lane_shard_drop(t.s, count_drop, &dropped);
    assert_int_equal(dropped, 7);
    st_lane_shard_free(other);
    finish(&t);
}

static void test_try(void **state)
{
    struct setup t;

    (void)state;
    begin(&t, false, 0);
    assert_true(st_lane_try(t.s, &t.a, KEY));
    assert_int_equal(t.a.state, ST_LANE_RUNNING);
    assert_false(st_lane_try(t.s, &t.b, KEY)); /* the lane runs */
    assert_int_equal(t.b.state, ST_LANE_OUT);
    assert_int_equal(t.s->entries, 1);
    st_lane_retry(&t.a, 5);
    assert_false(st_lane_try(t.s, &t.b, KEY)); /* the key is held up */
    st_lane_due(&t.g, 5);
    assert_next(&t, &t.a);
    st_lane_done(&t.a);
    st_lane_put(t.s, &t.a, KEY);
    assert_false(st_lane_try(t.s, &t.b, KEY)); /* a is before it */
    finish(&t);
}

/* A whole window of keys that fail: all come back, and a drop empties the lot. */
static void test_many_keys(void **state)
{
    enum { MANY = 20000 };
    struct st_lane_entry *all = calloc(MANY, sizeof *all), *e;
    unsigned early = 0, dropped = 0;
    struct setup t;

    (void)state;
    assert_non_null(all);
    begin(&t, false, 0);
    for (unsigned i = 0; i < MANY; i++) {
        uint64_t number = i;

        st_lane_put(t.s, &all[i], (struct st_slice){(const char *)&number, sizeof number});
    }
    for (unsigned i = 0; i < MANY; i++) {
        e = st_lane_take(&t.g);
        assert_non_null(e);
        early += i % 7 < 3;
        st_lane_retry(e, 1 + i % 7);
    }
    assert_int_equal(t.g.delayed, MANY);
    assert_true(st_lane_due(&t.g, 3) == 4);
    while ((e = st_lane_take(&t.g)) != NULL) {
        assert_true(e->due_ns <= 3);
        st_lane_done(e);
        early--;
    }
    assert_int_equal(early, 0);
    assert_int_equal(t.g.delayed, t.s->entries);
    assert_int_equal(t.g.waiting, 0);
    st_lane_shard_drop(t.s, count_drop, &dropped);
    assert_in_range(dropped, MANY / 7 * 4, MANY / 7 * 4 + 4);
    finish(&t);
    free(all);
}

/* ---- the model ---- */

enum { ITEMS = 40, SHARDS = 3, KEYS = 6, SEEDS = 300, STEPS = 2000, RUN = 5 };

struct item {
    struct st_lane_entry e;
    enum st_lane_state state;
    unsigned shard, key, lane; /* key 0: none */
    uint64_t turn, due, run;   /* run: of its last handing out; 0: never handed out */
    bool holds;                /* while it is held */
};

struct model {
    struct st_lane_group g;
    struct st_lane_shard *shards[SHARDS];
    struct item items[ITEMS];
    struct st_rand rand;
    uint64_t seed, now, turn, run, dropped;
    unsigned step, drop_shard;
    enum st_ordering ordering;
    unsigned lanes;
    bool relaxed;
};

#define EACH(m, x) for (struct item *x = (m)->items; (x) < (m)->items + ITEMS; (x)++)
#define MUST(m, cond)                                                                         \
    do {                                                                                      \
        if (!(cond)) {                                                                        \
            print_error("seed %llu, step %u: %s\n", (unsigned long long)(m)->seed, (m)->step, \
                        #cond);                                                               \
            fail();                                                                           \
        }                                                                                     \
    } while (0)

static struct st_slice key_of(unsigned key)
{
    static const char *const texts[] = {NULL, "", "a", "bb", "a key of 16 byte", "b", "c"};

    return st_slice_of(texts[key]);
}

static bool is_back(const struct item *x) /* it can end */
{
    return x->state == ST_LANE_RUNNING || x->state == ST_LANE_HELD;
}

/* y is put before x and x may not be handed out while it is like this. */
static bool is_before(const struct model *m, const struct item *y, const struct item *x)
{
    if (y->state == ST_LANE_OUT || y->turn >= x->turn || y->shard != x->shard ||
        (m->ordering != ST_ORDER_PARTITION && y->key != x->key))
        return false;
    if (m->relaxed) /* what was never handed out keeps its order */
        return y->state == ST_LANE_WAITING && y->run == 0 && x->run == 0;
    return y->state == ST_LANE_WAITING || y->state == ST_LANE_DELAYED ||
           y->state == ST_LANE_HALTED || (y->state == ST_LANE_HELD && y->holds);
}

static bool is_held_up(struct model *m, const struct item *x)
{
    EACH(m, y)
    if (is_before(m, y, x))
        return true;
    return false;
}

/* Its lane hands out nothing now. */
static bool is_busy(struct model *m, const struct item *x)
{
    if (m->ordering == ST_ORDER_NONE)
        return false;
    EACH(m, y)
    if (y->state == ST_LANE_RUNNING && y->shard == x->shard && y->lane == x->lane)
        return true;
    return false;
}

static void must_be_idle(struct model *m)
{
    EACH(m, x)
    if (x->state == ST_LANE_WAITING)
        MUST(m, is_held_up(m, x) || is_busy(m, x));
}

static void hand_out(struct model *m, struct item *x)
{
    MUST(m, x->state == ST_LANE_WAITING && !is_held_up(m, x));
    x->state = ST_LANE_RUNNING;
    x->run = m->run;
}

static void new_item(struct model *m, bool try)
{
    struct item *x = m->items;
    struct st_slice key;

    while (x < m->items + ITEMS && x->state != ST_LANE_OUT)
        x++;
    if (x == m->items + ITEMS)
        return;
    *x = (struct item){.shard = (unsigned)st_rand_below(&m->rand, SHARDS),
                       .key = (unsigned)st_rand_below(&m->rand, KEYS + 1),
                       .turn = ++m->turn};
    x->e.bytes = (uint32_t)st_rand_below(&m->rand, 100);
    key = key_of(x->key);
    if (m->ordering == ST_ORDER_KEY && key.ptr != NULL)
        x->lane = (unsigned)(st_lane_hash(key) % m->lanes);
    if (!try) {
        st_lane_put(m->shards[x->shard], &x->e, key);
        x->state = ST_LANE_WAITING;
    } else if (st_lane_try(m->shards[x->shard], &x->e, key)) {
        must_be_idle(m);
        MUST(m, !is_busy(m, x));
        x->state = ST_LANE_WAITING;
        m->run++;
        hand_out(m, x);
    } else {
        unsigned others = 0;

        EACH(m, y)
        others += y->state != ST_LANE_OUT;
        MUST(m, others > 0 && x->e.state == ST_LANE_OUT);
    }
}

static unsigned take(struct model *m, unsigned most, uint64_t bytes)
{
    struct st_lane_entry *out[RUN];
    unsigned n = st_lane_take_run(&m->g, out, most, bytes);
    uint64_t sum = 0;

    MUST(m, n <= most);
    if (n == 0 && most > 0)
        must_be_idle(m);
    m->run++;
    for (unsigned i = 0; i < n; i++) {
        struct item *x = ST_CONTAINER_OF(out[i], struct item, e);
        struct item *first = ST_CONTAINER_OF(out[0], struct item, e);

        MUST(m, x->shard == first->shard && x->lane == first->lane);
        MUST(m, i > 0 || !is_busy(m, x));
        hand_out(m, x);
        sum += x->e.bytes;
    }
    MUST(m, n <= 1 || sum <= bytes);
    if (n > 0 && st_rand_below(&m->rand, 4) == 0)
        st_lane_grow(out[0], (uint32_t)st_rand_below(&m->rand, 100));
    return n;
}

static void done(struct item *x)
{
    st_lane_done(&x->e);
    x->state = ST_LANE_OUT;
}

static void retry(struct model *m, struct item *x)
{
    x->due = m->now + st_rand_below(&m->rand, 30);
    st_lane_retry(&x->e, x->due);
    x->state = ST_LANE_DELAYED;
}

static void halt(struct item *x)
{
    st_lane_halt(&x->e);
    x->state = ST_LANE_HALTED;
}

static void detach(struct item *x, bool hold)
{
    st_lane_detach(&x->e, hold);
    x->state = ST_LANE_HELD;
    x->holds = hold;
}

static void pass_time(struct model *m, uint64_t by)
{
    uint64_t next = UINT64_MAX;

    m->now += by;
    EACH(m, x)
    {
        if (x->state != ST_LANE_DELAYED)
            continue;
        if (x->due <= m->now)
            x->state = ST_LANE_WAITING;
        else if (x->due < next)
            next = x->due;
    }
    MUST(m, st_lane_due(&m->g, m->now) == next);
}

static void on_drop(void *arg, struct st_lane_entry *e)
{
    struct model *m = arg;
    struct item *x = ST_CONTAINER_OF(e, struct item, e);

    MUST(m, x->shard == m->drop_shard && x->state != ST_LANE_OUT && !is_back(x));
    MUST(m, e->state == ST_LANE_OUT);
    memset(e, 0x5a, sizeof *e); /* as if freed */
    e->state = x->state = ST_LANE_OUT;
    m->dropped++;
}

static void drop(struct model *m, unsigned shard)
{
    m->drop_shard = shard;
    st_lane_shard_drop(m->shards[shard], on_drop, m);
    EACH(m, x)
    MUST(m, x->shard != shard || x->state == ST_LANE_OUT || is_back(x));
}

static void check(struct model *m)
{
    unsigned states[ST_LANE_HALTED + 1] = {0}, entries[SHARDS] = {0}, running[SHARDS] = {0};
    uint64_t bytes[SHARDS] = {0};

    EACH(m, x)
    {
        MUST(m, x->state == x->e.state);
        states[x->state]++;
        running[x->shard] += x->state == ST_LANE_RUNNING;
        entries[x->shard] += x->state != ST_LANE_OUT;
        bytes[x->shard] += x->state != ST_LANE_OUT ? x->e.bytes : 0;
    }
    MUST(m, m->g.waiting == states[ST_LANE_WAITING]);
    MUST(m, m->g.delayed == states[ST_LANE_DELAYED]);
    MUST(m, m->g.running == states[ST_LANE_RUNNING]);
    for (unsigned i = 0; i < SHARDS; i++) {
        MUST(m, m->shards[i]->entries == entries[i] && m->shards[i]->bytes == bytes[i]);
        MUST(m, m->shards[i]->running == running[i]);
    }
}

static struct item *any_back(struct model *m)
{
    unsigned from = (unsigned)st_rand_below(&m->rand, ITEMS);

    for (unsigned i = 0; i < ITEMS; i++)
        if (is_back(&m->items[(from + i) % ITEMS]))
            return &m->items[(from + i) % ITEMS];
    return NULL;
}

static void step(struct model *m)
{
    uint64_t what = st_rand_below(&m->rand, 1000);
    struct item *x = any_back(m);

    if (what < 250)
        new_item(m, false);
    else if (what < 320)
        new_item(m, true);
    else if (what < 470)
        take(m, 1, UINT64_MAX);
    else if (what < 600)
        take(m, (unsigned)st_rand_below(&m->rand, RUN + 1), st_rand_below(&m->rand, 300));
    else if (what < 680)
        pass_time(m, st_rand_below(&m->rand, 10));
    else if (what < 684)
        drop(m, (unsigned)st_rand_below(&m->rand, SHARDS));
    else if (x == NULL)
        return;
    else if (what < 820)
        done(x);
    else if (what < 920)
        retry(m, x);
    else if (what < 928)
        halt(x);
    else if (x->state == ST_LANE_RUNNING)
        detach(x, what < 965);
    check(m);
}

/* Everything ends well from here on: what is left is stopped, or behind what is. */
static void drain(struct model *m)
{
    unsigned busy = 1;

    while (busy > 0) {
        busy = 0;
        pass_time(m, 30);
        EACH(m, x)
        {
            if (is_back(x)) {
                done(x);
                busy++;
            }
        }
        busy += take(m, RUN, UINT64_MAX);
    }
    EACH(m, x)
    {
        if (x->state == ST_LANE_OUT || x->state == ST_LANE_HALTED)
            continue;
        MUST(m, x->state == ST_LANE_WAITING && is_held_up(m, x));
    }
}

static void play(uint64_t seed, enum st_ordering ordering, bool relaxed)
{
    struct model *m = calloc(1, sizeof *m);

    assert_non_null(m);
    st_rand_seed(&m->rand, seed);
    m->seed = seed;
    m->ordering = ordering;
    m->relaxed = relaxed || ordering == ST_ORDER_NONE;
    m->lanes = ordering == ST_ORDER_KEY ? 1 + (unsigned)st_rand_below(&m->rand, LANES) : 1;
    st_lane_group_init(&m->g, ordering, m->lanes, relaxed);
    for (unsigned i = 0; i < SHARDS; i++)
        m->shards[i] = st_lane_shard_new(&m->g);
    for (m->step = 0; m->step < STEPS; m->step++)
        step(m);
    drain(m);
    check(m);
    for (unsigned i = 0; i < SHARDS; i++)
        drop(m, i);
    check(m);
    for (unsigned i = 0; i < SHARDS; i++)
        st_lane_shard_free(m->shards[i]);
    st_lane_group_free(&m->g);
    free(m);
}

static void test_model_strict(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        play(seed, seed % 4 != 0 ? ST_ORDER_KEY : ST_ORDER_PARTITION, false);
}

static void test_model_relaxed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS / 2; seed++)
        play(seed, seed % 4 != 0 ? ST_ORDER_KEY : ST_ORDER_PARTITION, true);
}

static void test_model_none(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS / 4; seed++)
        play(seed, ST_ORDER_NONE, seed % 2 != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detach_behind_retry), cmocka_unit_test(test_held_ends_first),
        cmocka_unit_test(test_halt_behind_retry),   cmocka_unit_test(test_older_joins_ready),
        cmocka_unit_test(test_older_joins_held),    cmocka_unit_test(test_older_joins_halted),
        cmocka_unit_test(test_run_bytes),           cmocka_unit_test(test_due_at_one_time),
        cmocka_unit_test(test_run_after_retry),     cmocka_unit_test(test_retries_starve_nobody),
        cmocka_unit_test(test_shards_take_turns),   cmocka_unit_test(test_try),
        cmocka_unit_test(test_many_keys),           cmocka_unit_test(test_model_strict),
        cmocka_unit_test(test_model_relaxed),       cmocka_unit_test(test_model_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
