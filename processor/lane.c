#include "processor/lane.h"

#include <stdlib.h>

/* The library's functions as static ones: a key's hash is a call per message. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "processor/core/alloc.h"

/* A key whose order is held up. Its head is its oldest member, which is handed out before the
 * others, though perhaps in one run with those right behind it; followers are the others in the
 * order of their turns, in any state. Where a member's link is: a follower's in `followers`, that
 * of a head which waits in the lane's `ready`. Entries of the key that are still in the lane's
 * queue are moved when the queue comes to them. */
struct st_lane_key {
    struct st_lane_key *next; /* in its place of the lane's table */
    struct st_lane *lane;
    struct st_lane_entry *head;
    struct st_lane_entries followers;
    uint64_t hash;
};

#define SEED 0x537461746f72ull /* "Stator"; part of what is persisted: never another one */
enum { HEAP_FIRST = 64, KEYS_FIRST = 8 };

/* ---- the delayed ones: a binary heap by due time ---- */

static void heap_set(struct st_lane_group *g, uint32_t at, struct st_lane_entry *e)
{
    g->heap[at] = e;
    e->heap = at;
}

/* What is due at one time goes in the order of its turns. */
static bool is_later(const struct st_lane_entry *a, const struct st_lane_entry *b)
{
    return a->due_ns != b->due_ns ? a->due_ns > b->due_ns : a->turn > b->turn;
}

static void heap_up(struct st_lane_group *g, uint32_t at, struct st_lane_entry *e)
{
    while (at > 0 && is_later(g->heap[(at - 1) / 2], e)) {
        heap_set(g, at, g->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_set(g, at, e);
}

static void heap_down(struct st_lane_group *g, uint32_t at, struct st_lane_entry *e)
{
    uint32_t child;

    while ((child = 2 * at + 1) < g->heap_count) {
        if (child + 1 < g->heap_count && is_later(g->heap[child], g->heap[child + 1]))
            child++;
        if (!is_later(e, g->heap[child]))
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
    }
    return s;
}

void st_lane_shard_free(struct st_lane_shard *s)
{
    if (s == NULL)
        return;
    ST_ASSERT(s->entries == 0);
    for (uint32_t i = 0; i < s->group->lanes; i++)
        free(s->lanes[i].keys);
    free(s);
}

uint64_t st_lane_hash(struct st_slice key)
{
    return XXH64(key.ptr, key.len, SEED);
}

/* ---- keys that are held up ---- */

static struct st_lane_key **place_of(const struct st_lane *lane, uint64_t hash)
{
    /* The low bits chose the lane. */
    return &lane->keys[(hash >> 32) & (lane->key_size - 1)];
}

static struct st_lane_key *find_key(const struct st_lane *lane, uint64_t hash)
{
    struct st_lane_key *k;

    if (st_likely(lane->key_count == 0))
        return NULL;
    for (k = *place_of(lane, hash); k != NULL && k->hash != hash; k = k->next)
        continue;
    return k;
}

static void link_key(struct st_lane *lane, struct st_lane_key *k)
{
    struct st_lane_key **place = place_of(lane, k->hash);

    k->next = *place;
    *place = k;
}

static void grow_keys(struct st_lane *lane)
{
    struct st_lane_key **old = lane->keys, *k;
    uint32_t size = lane->key_size;

    lane->key_size = size != 0 ? 2 * size : KEYS_FIRST;
    lane->keys = st_calloc(lane->key_size, sizeof(void *));
    for (uint32_t i = 0; i < size; i++) {
        while ((k = old[i]) != NULL) {
            old[i] = k->next;
            link_key(lane, k);
        }
    }
    free(old);
}

static void free_key(struct st_lane_key *k)
{
    struct st_lane_key **at = place_of(k->lane, k->hash);

    while (*at != k)
        at = &(*at)->next;
    *at = k->next;
    k->lane->key_count--;
    free(k);
}

static void follow(struct st_lane_key *k, struct st_lane_entry *e)
{
    struct st_lane_entry *f = TAILQ_LAST(&k->followers, st_lane_entries);

    e->key = k;
    /* Nearly always at the end: younger ones come from the queue in order. */
    while (f != NULL && f->turn > e->turn)
        f = TAILQ_PREV(f, st_lane_entries, link);
    if (f != NULL)
        TAILQ_INSERT_AFTER(&k->followers, f, e, link);
    else
        TAILQ_INSERT_HEAD(&k->followers, e, link);
}

/* Makes e a member of its key. The caller gives it its state, then settles the key. */
static void join(struct st_lane_entry *e)
{
    struct st_lane *lane = e->lane;
    struct st_lane_key *k;

    if (e->key != NULL)
        return;
    k = find_key(lane, e->hash);
    if (k != NULL) {
        follow(k, e);
        return;
    }
    if (lane->key_count == lane->key_size)
        grow_keys(lane);
    k = st_calloc(1, sizeof *k);
    *k = (struct st_lane_key){.lane = lane, .head = e, .hash = e->hash};
    TAILQ_INIT(&k->followers);
    link_key(lane, k);
    lane->key_count++;
    e->key = k;
}

/* After every change of a key: its oldest member is its head; without members it is freed. */
static void settle(struct st_lane_key *k)
{
    struct st_lane_entry *old = k->head, *first = TAILQ_FIRST(&k->followers);

    if (old != NULL && (first == NULL || old->turn < first->turn))
        return;
    if (first == NULL) {
        free_key(k);
        return;
    }
    TAILQ_REMOVE(&k->followers, first, link);
    if (old != NULL) {
        if (old->state == ST_LANE_WAITING)
            TAILQ_REMOVE(&k->lane->ready, old, link);
        follow(k, old);
    }
    k->head = first;
    if (first->state == ST_LANE_WAITING)
        TAILQ_INSERT_TAIL(&k->lane->ready, first, link); /* it counts as waiting already */
}

/* Its key waits for it no more. */
static void part(struct st_lane_entry *e)
{
    struct st_lane_key *k = e->key;

    if (st_likely(k == NULL))
        return;
    e->key = NULL;
    if (k->head == e)
        k->head = NULL;
    else
        TAILQ_REMOVE(&k->followers, e, link);
    settle(k);
}

/* ---- helpers ---- */

static void line_up(struct st_lane *lane)
{
    struct st_lane_group *g;

    if (lane->in_line || (TAILQ_EMPTY(&lane->queue) && TAILQ_EMPTY(&lane->ready)))
        return;
    g = lane->shard->group;
    if (lane->running > 0 && g->ordering != ST_ORDER_NONE)
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

/* It neither runs nor is held any more; the caller gives it its next state. */
static void end(struct st_lane_entry *e)
{
    struct st_lane *lane = e->lane;

    if (st_unlikely(e->state != ST_LANE_RUNNING)) {
        ST_ASSERT(e->state == ST_LANE_HELD);
        return;
    }
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
    struct st_lane *lane;
    uint64_t hash;

    if (!TAILQ_EMPTY(&g->line))
        return false;
    hash = hash_of(g, key);
    lane = &s->lanes[hash % g->lanes];
    /* A lane that has entries and does not run would be in the line. */
    if ((lane->running > 0 && g->ordering != ST_ORDER_NONE) || find_key(lane, hash) != NULL)
        return false;
    enter(s, lane, e, hash);
    start(lane, e);
    return true;
}

/* The lane's next entry whose order nothing holds up; it stays where it is. Ready ones and the
 * queue take turns: retries that are always due at once must not keep the others waiting. */
static struct st_lane_entry *next_of(struct st_lane *lane)
{
    struct st_lane_entry *ready = TAILQ_FIRST(&lane->ready), *e;
    struct st_lane_key *k;

    if (ready != NULL && !lane->queue_next)
        return ready;
    while ((e = TAILQ_FIRST(&lane->queue)) != NULL) {
        k = find_key(lane, e->hash);
        if (st_likely(k == NULL))
            return e;
        TAILQ_REMOVE(&lane->queue, e, link);
        follow(k, e);
    }
    return ready;
}

/* Hands out what next_of() gave. */
static void hand_out(struct st_lane *lane, struct st_lane_entry *e)
{
    bool is_ready = e == TAILQ_FIRST(&lane->ready);

    TAILQ_REMOVE(is_ready ? &lane->ready : &lane->queue, e, link);
    lane->queue_next = is_ready;
    lane->shard->group->waiting--;
    start(lane, e);
}

/* Hands out those behind the head e of its key, which was handed out just now, until one waits for
 * something else. Returns how many; *bytes of max_bytes are used. */
static unsigned take_followers(struct st_lane_entry *e, struct st_lane_entry **out, unsigned most,
                               uint64_t *bytes, uint64_t max_bytes)
{
    struct st_lane_entry *f = TAILQ_FIRST(&e->key->followers);
    unsigned n = 0;

    for (; n < most && f != NULL && f->state == ST_LANE_WAITING && !f->alone &&
           *bytes + f->bytes <= max_bytes;
         f = TAILQ_NEXT(f, link)) {
        e->lane->shard->group->waiting--;
        start(e->lane, f);
        *bytes += f->bytes;
        out[n++] = f;
    }
    return n;
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
        while (n < most && (e = next_of(lane)) != NULL &&
               (n == 0 || bytes + e->bytes <= max_bytes)) {
            hand_out(lane, e);
            bytes += e->bytes;
            out[n++] = e;
            if (n < most && st_unlikely(e->key != NULL) && !e->alone)
                n += take_followers(e, out + n, most - n, &bytes, max_bytes);
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

void st_lane_done(struct st_lane_entry *e)
{
    end(e);
    leave(e);
    part(e);
    line_up(e->lane);
}

void st_lane_retry(struct st_lane_entry *e, uint64_t due_ns)
{
    struct st_lane_group *g = e->lane->shard->group;

    end(e);
    if (!g->relaxed)
        join(e);
    delay(g, e, due_ns);
    if (e->key != NULL)
        settle(e->key);
    line_up(e->lane);
}

void st_lane_halt(struct st_lane_entry *e)
{
    struct st_lane *lane = e->lane;

    end(e);
    e->state = ST_LANE_HALTED;
    if (lane->shard->group->relaxed) {
        TAILQ_INSERT_TAIL(&lane->halted, e, link);
    } else {
        join(e);
        settle(e->key);
    }
    line_up(lane);
}

void st_lane_detach(struct st_lane_entry *e, bool hold_key)
{
    end(e);
    e->state = ST_LANE_HELD;
    if (!hold_key) {
        part(e);
    } else if (!e->lane->shard->group->relaxed) {
        join(e);
        settle(e->key);
    }
    line_up(e->lane);
}

uint64_t st_lane_due(struct st_lane_group *g, uint64_t now_ns)
{
    while (g->heap_count > 0 && g->heap[0]->due_ns <= now_ns) {
        struct st_lane_entry *e = g->heap[0];

        undelay(g, e);
        if (e->key == NULL || e->key->head == e) {
            wait_in(&e->lane->ready, e);
            line_up(e->lane);
        } else { /* it stays behind an older one */
            e->state = ST_LANE_WAITING;
            g->waiting++;
        }
    }
    return g->heap_count > 0 ? g->heap[0]->due_ns : UINT64_MAX;
}

/* ---- the end of a shard ---- */

struct drop {
    void (*fn)(void *arg, struct st_lane_entry *e);
    void *arg;
};

/* It is in no list any more. */
static void drop_one(const struct drop *d, struct st_lane_entry *e)
{
    struct st_lane_group *g = e->lane->shard->group;

    if (e->state == ST_LANE_WAITING)
        g->waiting--;
    else if (e->state == ST_LANE_DELAYED)
        undelay(g, e);
    leave(e);
    e->key = NULL;
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

static void drop_key(const struct drop *d, struct st_lane_key *k)
{
    struct st_lane_entry *head = k->head, *e, *next;

    for (e = TAILQ_FIRST(&k->followers); e != NULL; e = next) {
        next = TAILQ_NEXT(e, link);
        if (stays(e))
            continue;
        TAILQ_REMOVE(&k->followers, e, link);
        drop_one(d, e);
    }
    if (!stays(head)) {
        if (head->state == ST_LANE_WAITING)
            TAILQ_REMOVE(&k->lane->ready, head, link);
        k->head = NULL;
        drop_one(d, head);
    }
    settle(k);
}

static void drop_lane(const struct drop *d, struct st_lane *lane)
{
    struct st_lane_key *k, *next;

    leave_line(lane);
    for (uint32_t i = 0; i < lane->key_size; i++) {
        for (k = lane->keys[i]; k != NULL; k = next) {
            next = k->next;
            drop_key(d, k);
        }
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
    /* Delayed ones without a key. From the end: what a removal puts in another's place comes from
     * behind, and was looked at, or is looked at now. */
    for (uint32_t i = g->heap_count; i-- > 0;)
        while (i < g->heap_count && g->heap[i]->lane->shard == s)
            drop_one(&d, g->heap[i]);
}
