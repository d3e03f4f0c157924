#include "processor/deferred.h"

#include <pthread.h>

#include "processor/core/alloc.h"
#include "processor/event.h"

/* Values of st_event.token besides index + 1. Written under the lock; atomic because the thread
 * that runs the handler looks whether there is a token at all without it. */
enum {
    TOKEN_NONE = 0,
    TOKEN_REFUSED = UINT32_MAX - 2,  /* there was none and will be none */
    TOKEN_RESOLVED = UINT32_MAX - 1, /* the handler returned and the result is on its way */
    TOKEN_CLOSED = UINT32_MAX        /* answered without it */
};

enum { FIRST_SIZE = 64, NO_ENTRY = UINT32_MAX };

struct entry {
    struct st_event *ev; /* NULL: free */
    struct st_deferred_answer *answer;
    uint32_t generation;
    uint32_t next; /* free list */
    bool returned; /* the handler */
    bool resolved;
};

struct st_deferred_table {
    pthread_mutex_t lock;
    struct entry *entries;
    uint32_t size, used, free;
};

struct st_deferred_table *st_deferred_new(void)
{
    struct st_deferred_table *t = st_calloc(1, sizeof *t);

    pthread_mutex_init(&t->lock, NULL);
    t->free = NO_ENTRY;
    return t;
}

void st_deferred_free(struct st_deferred_table *t)
{
    if (t == NULL)
        return;
    for (uint32_t i = 0; i < t->size; i++) {
        struct st_deferred_answer *answer = t->entries[i].answer;

        if (answer != NULL)
            answer->free(answer);
    }
    pthread_mutex_destroy(&t->lock);
    free(t->entries);
    free(t);
}

static uint64_t token_of(const struct st_deferred_table *t, uint32_t index)
{
    return (uint64_t)t->entries[index].generation << 32 | (index + 1);
}

/* Doubles the table; false: it has its full size or memory is out. */
static bool grow(struct st_deferred_table *t)
{
    uint32_t size = t->size == 0 ? FIRST_SIZE : t->size * 2;
    struct entry *entries;

    if (size > ST_DEFERRED_MAX)
        return false;
    entries = st_try_realloc(t->entries, size * sizeof *entries);
    if (entries == NULL)
        return false;
    t->entries = entries;
    memset(entries + t->size, 0, (size - t->size) * sizeof *entries);
    for (uint32_t i = size; i-- > t->size;) {
        entries[i].next = t->free;
        t->free = i;
    }
    t->size = size;
    return true;
}

static void put(struct st_deferred_table *t, struct entry *e)
{
    e->ev = NULL;
    e->answer = NULL;
    e->generation++;
    e->next = t->free;
    t->free = (uint32_t)(e - t->entries);
    t->used--;
}

/* No token was ever issued. */
static bool is_none(uint32_t token)
{
    return token == TOKEN_NONE || token == TOKEN_REFUSED;
}

/* The entry of the event, or NULL; under the lock. */
static struct entry *entry_of(struct st_deferred_table *t, struct st_event *ev, uint32_t token)
{
    if (token == TOKEN_NONE || token - 1 >= t->size || t->entries[token - 1].ev != ev)
        return NULL;
    return &t->entries[token - 1];
}

static uint64_t issue_locked(struct st_deferred_table *t, struct st_event *ev)
{
    uint32_t index, token = atomic_load_explicit(&ev->token, memory_order_relaxed);
    struct entry *e = entry_of(t, ev, token);

    if (token != TOKEN_NONE)
        return e != NULL ? token_of(t, token - 1) : 0;
    if (t->free == NO_ENTRY && !grow(t))
        return 0;
    index = t->free;
    atomic_store_explicit(&ev->token, index + 1, memory_order_relaxed);
    e = &t->entries[index];
    t->free = e->next;
    t->used++;
    e->ev = ev;
    e->returned = false;
    e->resolved = false;
    st_event_ref(ev);
    return token_of(t, index);
}

uint64_t st_deferred_issue(struct st_deferred_table *t, struct st_event *ev)
{
    uint64_t token;

    pthread_mutex_lock(&t->lock);
    token = issue_locked(t, ev);
    pthread_mutex_unlock(&t->lock);
    return token;
}

enum st_deferred_return st_deferred_returned(struct st_deferred_table *t, struct st_event *ev,
                                             struct st_deferred_answer **answer)
{
    enum st_deferred_return ret = ST_DEFERRED_WAITS;
    bool drop = false;
    struct entry *e;
    uint32_t token;

    pthread_mutex_lock(&t->lock);
    token = atomic_load_explicit(&ev->token, memory_order_relaxed);
    e = entry_of(t, ev, token);
    if (e != NULL && e->resolved) {
        *answer = e->answer;
        ret = ST_DEFERRED_ANSWERED;
        drop = true;
        atomic_store_explicit(&ev->token, TOKEN_RESOLVED, memory_order_relaxed);
        put(t, e);
    } else if (e != NULL) {
        e->returned = true;
    } else if (is_none(token)) {
        ret = ST_DEFERRED_NONE;
    }
    pthread_mutex_unlock(&t->lock);
    if (drop)
        st_event_unref(ev);
    return ret;
}

int st_deferred_resolve(struct st_deferred_table *t, uint64_t token,
                        struct st_deferred_answer *answer, struct st_event **ev)
{
    uint32_t index = (uint32_t)token - 1;
    struct entry *e;
    int rc = ST_ERR_CLOSED;

    *ev = NULL;
    pthread_mutex_lock(&t->lock);
    e = index < t->size ? &t->entries[index] : NULL;
    if (e == NULL || e->ev == NULL || e->generation != token >> 32 || e->resolved) {
        rc = ST_ERR_CLOSED;
    } else if (!e->returned) {
        e->answer = answer;
        e->resolved = true;
        rc = 0;
    } else {
        *ev = e->ev;
        atomic_store_explicit(&e->ev->token, TOKEN_RESOLVED, memory_order_relaxed);
        put(t, e);
        rc = 0;
    }
    pthread_mutex_unlock(&t->lock);
    return rc;
}

bool st_deferred_refuse(struct st_deferred_table *t, struct st_event *ev)
{
    bool none;

    if (t == NULL)
        return true;
    pthread_mutex_lock(&t->lock);
    none = is_none(atomic_load_explicit(&ev->token, memory_order_relaxed));
    if (none)
        atomic_store_explicit(&ev->token, TOKEN_REFUSED, memory_order_relaxed);
    pthread_mutex_unlock(&t->lock);
    return none;
}

bool st_deferred_close(struct st_deferred_table *t, struct st_event *ev)
{
    struct st_deferred_answer *answer = NULL;
    bool returned, drop = false;
    struct entry *e;
    uint32_t token;

    if (t == NULL)
        return false;
    pthread_mutex_lock(&t->lock);
    token = atomic_load_explicit(&ev->token, memory_order_relaxed);
    atomic_store_explicit(&ev->token, is_none(token) ? TOKEN_REFUSED : TOKEN_CLOSED,
                          memory_order_relaxed);
    returned = token == TOKEN_RESOLVED;
    e = entry_of(t, ev, token);
    if (e != NULL) {
        returned = e->returned;
        answer = e->answer;
        drop = true;
        put(t, e);
    }
    pthread_mutex_unlock(&t->lock);
    if (answer != NULL)
        answer->free(answer);
    if (drop)
        st_event_unref(ev);
    return returned;
}

size_t st_deferred_count(struct st_deferred_table *t)
{
    size_t n;

    pthread_mutex_lock(&t->lock);
    n = t->used;
    pthread_mutex_unlock(&t->lock);
    return n;
}
