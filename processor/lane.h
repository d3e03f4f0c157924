/* Lanes: order by key with parallelism inside a shard of a source (a Kafka partition, a Redis
 * stream). Pure logic: no clock, no I/O, no events; one thread.
 *
 * A shard has L lanes; an entry goes to lane xxh64(key) mod L, and a lane hands out one unit at a
 * time: an entry, or a run of consecutive ones. No key: one lane of the shard. Shards that share a
 * group share its line of lanes that can hand something out, so that none starves.
 *
 * Retry. Strict: the entry and all later ones of its key wait until it is due and done; other keys
 * of the lane pass. Relaxed: later ones of its key pass too. The hash stands for the key: two keys
 * of one hash wait for each other, which harms nobody's order.
 *
 * Ordering `partition` is one lane and one key a shard; `none` hands out whatever there is. */
#ifndef PROCESSOR_LANE_H
#define PROCESSOR_LANE_H

#include <sys/queue.h>

#include "processor/core/base.h"

struct st_lane;
struct st_lane_key;
struct st_lane_shard;

enum st_ordering { ST_ORDER_KEY, ST_ORDER_PARTITION, ST_ORDER_NONE };

enum st_lane_state {
    ST_LANE_OUT,     /* not in a lane: new, or done */
    ST_LANE_WAITING, /* in its lane's queue, or behind an older one of its key */
    ST_LANE_RUNNING, /* handed out */
    ST_LANE_DELAYED, /* to be handed out again when it is due */
    ST_LANE_HELD,    /* its handler is done with it, its outcome is still open */
    ST_LANE_HALTED   /* never handed out again */
};

/* Part of the object that waits. Zeroed: not in a lane. */
struct st_lane_entry {
    TAILQ_ENTRY(st_lane_entry) link;
    struct st_lane *lane;
    struct st_lane_key *key; /* whose order it waits for or holds up, or NULL */
    uint64_t hash;
    uint64_t due_ns; /* DELAYED */
    uint64_t turn;   /* private: when it was put */
    uint32_t bytes;  /* for the bounds and the size of runs; set before put */
    uint32_t heap;   /* private: place among the delayed ones */
    enum st_lane_state state;
    bool alone; /* no other one of its key is in its run; the owner's to set */
};

TAILQ_HEAD(st_lane_entries, st_lane_entry);
TAILQ_HEAD(st_lane_list, st_lane);

struct st_lane {
    struct st_lane_shard *shard;
    TAILQ_ENTRY(st_lane) link; /* in the group's line, while in_line */
    struct st_lane_entries queue;
    struct st_lane_entries ready;  /* retries that are due, and what they held up */
    struct st_lane_entries halted; /* relaxed only: else they hold their keys */
    struct st_lane_key **keys;     /* those held up, a table by hash; NULL before the first */
    uint32_t key_count, key_size;
    uint32_t running; /* handed out and not back */
    bool in_line;
    bool queue_next; /* the queue's turn, when ready has something too */
};

struct st_lane_group {
    enum st_ordering ordering;
    uint32_t lanes; /* a shard has; 1 unless ordering is by key */
    bool relaxed;
    struct st_lane_list line;    /* lanes that can hand out something now */
    struct st_lane_entry **heap; /* delayed entries, by due time */
    uint32_t heap_count, heap_size;
    uint32_t waiting, delayed, running; /* entries, over all shards */
};

struct st_lane_shard {
    struct st_lane_group *group;
    uint32_t entries; /* put and not done */
    uint64_t bytes;   /* theirs */
    uint32_t running;
    uint64_t turn;          /* of the next entry */
    struct st_lane lanes[]; /* group->lanes */
};

/* lanes: 1 to 1024 a shard; means nothing unless ordering is by key. */
void st_lane_group_init(struct st_lane_group *g, enum st_ordering ordering, uint32_t lanes,
                        bool relaxed);
/* Its shards are freed. */
void st_lane_group_free(struct st_lane_group *g);

struct st_lane_shard *st_lane_shard_new(struct st_lane_group *g);
/* Nothing is in it (see st_lane_shard_drop), nor running. NULL is ignored. */
void st_lane_shard_free(struct st_lane_shard *s);

/* The hash of a key, with the fixed seed of this project, never that of a partitioner: with the
 * same function for both, all keys of a partition would meet in one lane. */
uint64_t st_lane_hash(struct st_slice key);

/* A new entry at the end of its lane; key.ptr NULL: it has none. */
void st_lane_put(struct st_lane_shard *s, struct st_lane_entry *e, struct st_slice key);

/* As st_lane_put and at once st_lane_take, when that would hand out this entry because no lane of
 * the group has anything to hand out: true, it runs. False: nothing was done. */
bool st_lane_try(struct st_lane_shard *s, struct st_lane_entry *e, struct st_slice key);

/* The next entry that may run, which then runs; NULL: none. Lanes take turns. */
struct st_lane_entry *st_lane_take(struct st_lane_group *g);

/* A run of one lane: its next entries in order, together one unit: at most `most`, and of at most
 * max_bytes together unless the first alone has more. Returns how many. The lane hands out nothing
 * until all are back. */
unsigned st_lane_take_run(struct st_lane_group *g, struct st_lane_entry **out, unsigned most,
                          uint64_t max_bytes);

/* A running or held entry is over for good: its place is free, it is OUT. */
void st_lane_done(struct st_lane_entry *e);

/* A running or held entry is to run again at due_ns (any clock; see st_lane_due). */
void st_lane_retry(struct st_lane_entry *e, uint64_t due_ns);

/* A running or held entry stays where it is until the shard is dropped, and with strict retries
 * all later ones of its key with it: its retries are used up. */
void st_lane_halt(struct st_lane_entry *e);

/* A running entry frees its lane, but still counts in entries and bytes: its handler has come back
 * and its outcome comes later (emits, explicit ack, delivery of a dead letter). hold_key: with
 * strict retries its key waits for that. For a held entry too: whether its key waits may change. */
void st_lane_detach(struct st_lane_entry *e, bool hold_key);

/* An entry of a lane has n bytes more than was known. */
static inline void st_lane_grow(struct st_lane_entry *e, uint32_t n)
{
    e->bytes += n;
    if (e->state != ST_LANE_OUT)
        e->lane->shard->bytes += n;
}

/* Lets go what is due; returns when the next one will be, UINT64_MAX: none is delayed. */
uint64_t st_lane_due(struct st_lane_group *g, uint64_t now_ns);

/* The shard is lost: every entry that neither runs nor is held leaves, OUT, and fn gets it, which
 * may free it but calls nothing of this file. The others stay until they are done. */
void st_lane_shard_drop(struct st_lane_shard *s, void (*fn)(void *arg, struct st_lane_entry *e),
                        void *arg);

#endif
