/* Counts the messages of each key, and publishes the counts of a partition when a minute of it is
 * over. Each worker has the partitions that it was given: no locks. */
#include <inttypes.h>
#include <stator/handler.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 1024, KEY_MAX = 64 };

struct count {
    size_t len;
    unsigned long count; /* 0: a free place */
    char key[KEY_MAX];
};

struct partition {
    struct partition *next;
    int32_t shard;
    int64_t minute; /* since the epoch: which one is counted */
    unsigned used;
    struct count counts[KEYS];
};

static struct partition *find_partition(struct partition **list, int32_t shard)
{
    struct partition *p = *list;

    while (p != NULL && p->shard != shard)
        p = p->next;
    if (p == NULL && (p = calloc(1, sizeof *p)) != NULL) {
        p->shard = shard;
        p->next = *list;
        *list = p;
    }
    return p;
}

/* The place of the key, which may be free. There is always one: see handle(). */
static struct count *find_count(struct partition *p, struct stator_str key)
{
    size_t i = 0;

    for (size_t n = 0; n < key.len; n++)
        i = i * 31 + (unsigned char)key.ptr[n];
    while (p->counts[i %= KEYS].count > 0 &&
           (p->counts[i].len != key.len || memcmp(p->counts[i].key, key.ptr, key.len) != 0))
        i++;
    return &p->counts[i];
}

/* The minute's counts become messages of this event: it is acknowledged when they are confirmed. */
static int publish(const struct stator_host_v1 *host, stator_event *ev, struct partition *p)
{
    for (size_t i = 0; i < KEYS; i++) {
        struct count *c = &p->counts[i];
        struct stator_message m = {.size = sizeof m, .key = {c->key, c->len}};
        char text[96];

        if (c->count == 0)
            continue;
        m.value.ptr = text;
        m.value.len = (size_t)snprintf(text, sizeof text, "{\"minute\":%" PRId64 ",\"count\":%lu}",
                                       p->minute * 60, c->count);
        if (host->emit(ev, "counts", &m) != STATOR_DONE)
            return STATOR_RETRY; /* what is published is not counted any more */
        c->count = 0;
    }
    p->used = 0;
    return STATOR_OK;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct partition *p = find_partition(user, host->shard(ev));
    int64_t minute = host->timestamp_ns(ev) / 60000000000;
    struct stator_str key = host->key(ev);
    struct count *c;

    if (p == NULL || key.len > KEY_MAX) {
        host->reject(ev, p == NULL ? "out of memory" : "the key is too long");
        return STATOR_REJECT;
    }
    if (p->used > 0 && (minute > p->minute || p->used == KEYS / 2)) {
        int rc = publish(host, ev, p);

        if (rc != STATOR_OK)
            return rc;
    }
    if (minute > p->minute)
        p->minute = minute;
    c = find_count(p, key);
    if (c->count++ == 0) {
        p->used++;
        c->len = key.len;
        memcpy(c->key, key.len > 0 ? key.ptr : "", key.len);
    }
    return STATOR_OK;
}

static int init(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                void **user)
{
    (void)worker;
    if (!STATOR_HAS(host, struct stator_host_v1, emit)) {
        host->log(NULL, STATOR_LOG_ERROR, "this processor has no outputs");
        return 1;
    }
    *user = calloc(1, sizeof(struct partition *));
    return *user == NULL;
}

static void fini(const struct stator_host_v1 *host, void *user)
{
    struct partition **list = user, *p;

    (void)host;
    while ((p = *list) != NULL) {
        *list = p->next;
        free(p);
    }
    free(list);
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "click-counts",
    .init = init,
    .handle = handle,
    .fini = fini,
};
