#include "processor/lane.h"

#include <stdlib.h>

/* The library's functions as static ones: a key's hash is a call per message. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "processor/core/alloc.h"

/* A key whose order a retry holds up. Its head is the entry that others wait for; followers stand
 * in the order of their turns. Entries of the key that are still in the lane's queue are younger
 * than every follower: they are moved when the queue comes to them. */
struct st_lane_key {
    TAILQ_ENTRY(st_lane_key) link;
    struct st_lane_entry *head;
    struct st_lane_entries followers;
};

#define SEED 0x537461746f72ull /* "Stator"; part of what is persisted: never another one */
enum { HEAP_FIRST = 64 };

/* ---- the delayed ones: a binary heap by due time ---- */

static void heap_set(struct st_lane_group *g, uint32_t at, struct st_lane_entry *e)
{
    g->heap[at] = e;
    e->heap = at;
}

static void heap_up(struct st_lane_group *g, uint32_t at, struct st_lane_entry *e)
{
    while (at > 0 && g->heap[(at - 1) / 2]->due_ns > e->due_ns) {
        heap_set(g, at, g->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(g, at, e);
}

static void heap_down(struct st_lane_group *g, uint32_t at, struct st_lane_entry *e)
{
    uint32_t child;

    while ((child = 2 * at + 1) < g->heap_count) {
        if (child + 1 < g->heap_count && g->heap[child + 1]->due_ns < g->heap[child]->due_ns)
            child++;
        if (g->heap[child]->due_ns >= e->due_ns)
            break;
        heap_set(g, at, g->heap[child]);
        at = child;
    }
    heap_set(g, at, e);
}

static void delay(struct st_lane_group *g, struct st_lane_entry *e, uint64_t due_ns)
{
    if (g->heap_count == g->heap_size) {
        g->heap_size = g->heap_size != 0 ? 2 * g->heap_size : HEAP_FIRST;
        g->heap = st_realloc(g->heap, g->heap_size * sizeof(void *));
    }
    e->due_ns = due_ns;
    e->state = ST_LANE_DELAYED;
    g->delayed++;
    heap_up(g, g->heap_count++, e);
}

static void undelay(struct st_lane_group *g, struct st_lane_entry *e)
{
    struct st_lane_entry *last = g->heap[--g->heap_count];
    uint32_t at = e->heap;

    g->delayed--;
    if (last == e)
        return;
    heap_up(g, at, last);
    heap_down(g, last->heap, last);
}

/* ---- set-up ---- */

void st_lane_group_init(struct st_lane_group *g, enum st_ordering ordering, uint32_t lanes,
                        bool relaxed)
{
    ST_ASSERT(lanes >= 1 && lanes <= 1024);
    *g = (struct st_lane_group){.ordering = ordering,
                                .lanes = ordering == ST_ORDER_KEY ? lanes : 1,
                                .relaxed = relaxed || ordering == ST_ORDER_NONE};
    TAILQ_INIT(&g->line);
}

void st_lane_group_free(struct st_lane_group *g)
{
    ST_ASSERT(g->heap_count == 0 && TAILQ_EMPTY(&g->line));
    free(g->heap);
    g->heap = NULL;
}

struct st_lane_shard *st_lane_shard_new(struct st_lane_group *g)
{
    struct st_lane_shard *s = st_calloc(1, sizeof *s + g->lanes * sizeof s->lanes[0]);

    s->group = g;
    for (uint32_t i = 0; i < g->lanes; i++) {
        struct st_lane *lane = &s->lanes[i];

        lane->shard = s;
        TAILQ_INIT(&lane->queue);
        TAILQ_INIT(&lane->ready);
        TAILQ_INIT(&lane->halted);
        TAILQ_INIT(&lane->keys);
    }
    return s;
}

void st_lane_shard_free(struct st_lane_shard *s)
{
    ST_ASSERT(s == NULL || s->entries == 0);
    free(s);
}

uint64_t st_lane_hash(struct st_slice key)
{
    return XXH64(key.ptr, key.len, SEED);
}

/* ---- helpers ---- */

static void line_up(struct st_lane *lane)
{
    struct st_lane_group *g = lane->shard->group;

    if (lane->in_line || (lane->running > 0 && g->ordering != ST_ORDER_NONE) ||
        (TAILQ_EMPTY(&lane->queue) && TAILQ_EMPTY(&lane->ready)))
        return;
    lane->in_line = true;
    TAILQ_INSERT_TAIL(&g->line, lane, link);
}

static void leave_line(struct st_lane *lane)
{
    if (!lane->in_line)
        return;
    lane->in_line = false;
    TAILQ_REMOVE(&lane->shard->group->line, lane, link);
}

static struct st_lane_key *find_key(struct st_lane *lane, uint64_t hash)
{
    struct st_lane_key *k;

    TAILQ_FOREACH (k, &lane->keys, link)
        if (k->head->hash == hash)
            return k;
    return NULL;
}

static void enter(struct st_lane_shard *s, struct st_lane *lane, struct st_lane_entry *e,
                  uint64_t hash)
{
    e->lane = lane;
    e->key = NULL;
    e->hash = hash;
    e->turn = s->turn++;
    s->entries++;
    s->bytes += e->bytes;
}

static void start(struct st_lane *lane, struct st_lane_entry *e)
{
    e->state = ST_LANE_RUNNING;
    lane->running++;
    lane->shard->running++;
    lane->shard->group->running++;
}

/* It neither runs nor is held any more. */
static void end(struct st_lane_entry *e)
{
    struct st_lane *lane = e->lane;

    ST_ASSERT(e->state == ST_LANE_RUNNING || e->state == ST_LANE_HELD);
    if (e->state != ST_LANE_RUNNING)
        return;
    lane->running--;
    lane->shard->running--;
    lane->shard->group->running--;
}

static void leave(struct st_lane_entry *e)
{
    struct st_lane_shard *s = e->lane->shard;

    s->entries--;
    s->bytes -= e->bytes;
    e->state = ST_LANE_OUT;
}

static void wait_in(struct st_lane_entries *list, struct st_lane_entry *e)
{
    e->state = ST_LANE_WAITING;
    e->lane->shard->group->waiting++;
    TAILQ_INSERT_TAIL(list, e, link);
}

/* ---- in and out ---- */

static uint64_t hash_of(const struct st_lane_group *g, struct st_slice key)
{
    return g->ordering == ST_ORDER_KEY && key.ptr != NULL ? st_lane_hash(key) : 0;
}

void st_lane_put(struct st_lane_shard *s, struct st_lane_entry *e, struct st_slice key)
{
    uint64_t hash = hash_of(s->group, key);
    struct st_lane *lane = &s->lanes[hash % s->group->lanes];

    enter(s, lane, e, hash);
    wait_in(&lane->queue, e);
    line_up(lane);
}

bool st_lane_try(struct st_lane_shard *s, struct st_lane_entry *e, struct st_slice key)
{
    struct st_lane_group *g = s->group;
    uint64_t hash = hash_of(g, key);
    struct st_lane *lane = &s->lanes[hash % g->lanes];

    if (lane->in_line || (lane->running > 0 && g->ordering != ST_ORDER_NONE) ||
        !TAILQ_EMPTY(&lane->queue) || !TAILQ_EMPTY(&lane->keys) || !TAILQ_EMPTY(&g->line))
        return false;
    enter(s, lane, e, hash);
    start(lane, e);
    return true;
}

static void follow(struct st_lane_key *k, struct st_lane_entry *e)
{
    struct st_lane_entry *f;

    e->key = k;
    /* Nearly always at the end: younger ones come from the queue in order. */
    TAILQ_FOREACH_REVERSE(f, &k->followers, st_lane_entries, link)
    if (f->turn < e->turn)
        break;
    if (f != NULL)
        TAILQ_INSERT_AFTER(&k->followers, f, e, link);
    else
        TAILQ_INSERT_HEAD(&k->followers, e, link);
}

/* The lane's next entry, whose order nothing holds up. */
static struct st_lane_entry *next_of(struct st_lane *lane)
{
    struct st_lane_entry *e = TAILQ_FIRST(&lane->ready);
    struct st_lane_key *k;

    if (e != NULL) {
        TAILQ_REMOVE(&lane->ready, e, link);
        lane->shard->group->waiting--;
        return e;
    }
    while ((e = TAILQ_FIRST(&lane->queue)) != NULL) {
        TAILQ_REMOVE(&lane->queue, e, link);
        k = st_likely(TAILQ_EMPTY(&lane->keys)) ? NULL : find_key(lane, e->hash);
        if (k == NULL) {
            lane->shard->group->waiting--;
            return e;
        }
        follow(k, e);
    }
    return NULL;
}

unsigned st_lane_take_run(struct st_lane_group *g, struct st_lane_entry **out, unsigned most,
                          uint64_t max_bytes)
{
    struct st_lane *lane;
    uint64_t bytes = 0;
    unsigned n = 0;

    while (n == 0 && most > 0 && (lane = TAILQ_FIRST(&g->line)) != NULL) {
        struct st_lane_entry *e;

        leave_line(lane);
        while (n < most && (n == 0 || bytes < max_bytes) && (e = next_of(lane)) != NULL) {
            start(lane, e);
            bytes += e->bytes;
            out[n++] = e;
        }
        line_up(lane);
    }
    return n;
}

struct st_lane_entry *st_lane_take(struct st_lane_group *g)
{
    struct st_lane_entry *e;

    return st_lane_take_run(g, &e, 1, UINT64_MAX) == 1 ? e : NULL;
}

/* ---- ends ---- */

/* The head of a key is over: the next of the key becomes it, or the key is free. */
static void release_key(struct st_lane_key *k)
{
    struct st_lane *lane = k->head->lane;
    struct st_lane_entry *next = TAILQ_FIRST(&k->followers);

    k->head->key = NULL;
    if (next == NULL) {
        TAILQ_REMOVE(&lane->keys, k, link);
        free(k);
        return;
    }
    TAILQ_REMOVE(&k->followers, next, link);
    k->head = next;
    TAILQ_INSERT_TAIL(&lane->ready, next, link); /* it counts as waiting already */
}

void st_lane_done(struct st_lane_entry *e)
{
    end(e);
    leave(e);
    if (st_unlikely(e->key != NULL))
        release_key(e->key);
    line_up(e->lane);
}

/* Makes e the entry that its key waits for; false: an older one of the key is that already, and e
 * follows it. */
static bool hold_key(struct st_lane_entry *e)
{
    struct st_lane *lane = e->lane;
    struct st_lane_group *g = lane->shard->group;
    struct st_lane_key *k = e->key;
    struct st_lane_entry *old;

    if (k != NULL || g->relaxed)
        return true;
    k = find_key(lane, e->hash);
    if (k == NULL) {
        k = st_calloc(1, sizeof *k);
        TAILQ_INIT(&k->followers);
        TAILQ_INSERT_TAIL(&lane->keys, k, link);
    } else if (k->head->state != ST_LANE_DELAYED || k->head->turn < e->turn) {
        e->state = ST_LANE_WAITING;
        g->waiting++;
        follow(k, e);
        return false;
    } else { /* of one run, the younger one came back first */
        old = k->head;
        undelay(g, old);
        old->state = ST_LANE_WAITING;
        g->waiting++;
        follow(k, old);
    }
    k->head = e;
    e->key = k;
    return true;
}

void st_lane_retry(struct st_lane_entry *e, uint64_t due_ns)
{
    end(e);
    if (hold_key(e))
        delay(e->lane->shard->group, e, due_ns);
    line_up(e->lane);
}

void st_lane_halt(struct st_lane_entry *e)
{
    end(e);
    if (hold_key(e)) {
        e->state = ST_LANE_HALTED;
        TAILQ_INSERT_TAIL(&e->lane->halted, e, link);
    }
    line_up(e->lane);
}

void st_lane_detach(struct st_lane_entry *e, bool hold)
{
    ST_ASSERT(e->state == ST_LANE_RUNNING);
    end(e);
    if (!hold && e->key != NULL)
        release_key(e->key);
    if (!hold || hold_key(e))
        e->state = ST_LANE_HELD;
    line_up(e->lane);
}

uint64_t st_lane_due(struct st_lane_group *g, uint64_t now_ns)
{
    while (g->heap_count > 0 && g->heap[0]->due_ns <= now_ns) {
        struct st_lane_entry *e = g->heap[0];

        undelay(g, e);
        wait_in(&e->lane->ready, e);
        line_up(e->lane);
    }
    return g->heap_count > 0 ? g->heap[0]->due_ns : UINT64_MAX;
}

/* ---- the end of a shard ---- */

struct drop {
    void (*fn)(void *arg, struct st_lane_entry *e);
    void *arg;
};

static void drop_one(const struct drop *d, struct st_lane_entry *e)
{
    if (e->state == ST_LANE_WAITING)
        e->lane->shard->group->waiting--;
    leave(e);
    d->fn(d->arg, e);
}

static void drop_list(const struct drop *d, struct st_lane_entries *list)
{
    struct st_lane_entry *e;

    while ((e = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, e, link);
        drop_one(d, e);
    }
}

static bool stays(const struct st_lane_entry *e)
{
    return e->state == ST_LANE_RUNNING || e->state == ST_LANE_HELD;
}

static void drop_lane(const struct drop *d, struct st_lane *lane)
{
    struct st_lane_key *k, *next;

    leave_line(lane);
    for (k = TAILQ_FIRST(&lane->keys); k != NULL; k = next) {
        next = TAILQ_NEXT(k, link);
        drop_list(d, &k->followers);
        if (stays(k->head))
            continue;
        TAILQ_REMOVE(&lane->keys, k, link);
        free(k);
    }
    drop_list(d, &lane->ready);
    drop_list(d, &lane->queue);
    drop_list(d, &lane->halted);
}

void st_lane_shard_drop(struct st_lane_shard *s, void (*fn)(void *arg, struct st_lane_entry *e),
                        void *arg)
{
    struct st_lane_group *g = s->group;
    struct drop d = {fn, arg};

    for (uint32_t i = 0; i < g->lanes; i++)
        drop_lane(&d, &s->lanes[i]);
    for (uint32_t i = g->heap_count; i > 0; i--) {
        struct st_lane_entry *e = g->heap[i - 1];

        if (i <= g->heap_count && e->lane->shard == s) {
            undelay(g, e);
            drop_one(&d, e);
            i = g->heap_count + 1; /* the heap has moved */
        }
    }
}
