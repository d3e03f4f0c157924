#include "processor/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "processor/core/clock.h"
#include "processor/core/loop.h"
#include "processor/trigger.h"

enum { COLLECT_MAX = 4 << 20 };

struct st_stream {
    pthread_mutex_t lock;
    pthread_cond_t writable;
    size_t pending;     /* bytes written that the trigger has not sent; under lock */
    unsigned in_flight; /* pieces that have not reached the home loop; under lock */
    bool closed;        /* under lock */

    /* Home loop */
    bool started;                 /* the trigger has the head */
    STAILQ_HEAD(, piece) waiting; /* behind holds */
    void (*on_writable)(struct st_event *ev, void *arg);
    void *arg;
    struct st_region *collected; /* for triggers that can't stream */
    size_t collected_len;
    bool too_long; /* collected lacks something: no answer */
};

/* Head or bytes on their way to the home loop; holds a reference of the event. */
struct piece {
    struct st_mail mail;
    STAILQ_ENTRY(piece) link;
    struct st_event *ev;
    bool is_head;
    struct st_result head;
    struct st_buf bytes;
};

static struct st_stream *stream_of(struct st_event *ev)
{
    return atomic_load_explicit(&ev->stream, memory_order_acquire);
}

static bool can_stream(const struct st_event *ev)
{
    return ev->trigger->kind->stream_head != NULL;
}

/* Appends to the body that will be answered in one piece; false: over the limit. */
static bool collect(struct st_stream *s, struct st_slice bytes)
{
    size_t need = s->collected_len + bytes.len, size;

    if (need > COLLECT_MAX)
        return false;
    if (s->collected == NULL || need > s->collected->size) {
        struct st_region *r;
        size = need < 4096 ? 4096 : need * 2;
        r = st_region_try_new(size);
        if (r == NULL)
            return false;
        if (s->collected != NULL) {
            memcpy(r->base, s->collected->base, s->collected_len);
            st_region_unref(s->collected);
        }
        s->collected = r;
    }
    memcpy(s->collected->base + s->collected_len, bytes.ptr, bytes.len);
    s->collected_len = need;
    return true;
}

static void piece_free(struct piece *p)
{
    st_buf_drop(&p->bytes);
    free(p);
}

/* Gives one piece to the trigger. */
static void piece_pass(struct st_stream *s, struct piece *p)
{
    struct st_event *ev = p->ev;

    if (p->is_head) {
        s->started = true;
        if (can_stream(ev))
            ev->trigger->kind->stream_head(ev, &p->head);
    } else if (can_stream(ev)) {
        ev->trigger->kind->stream_write(ev, p->bytes);
        p->bytes = (struct st_buf){0};
    } else {
        size_t n = p->bytes.length;
        if (!s->too_long && !collect(s, st_buf_slice(&p->bytes))) {
            s->too_long = true;
            st_stream_close(ev);
        }
        st_stream_sent(ev, n);
    }
    piece_free(p);
}

void st_stream_settle(struct st_event *ev)
{
    struct st_stream *s = stream_of(ev);
    struct piece *p;

    while (!ev->answered && ev->holds == 0 && (p = STAILQ_FIRST(&s->waiting)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->waiting, link);
        piece_pass(s, p);
    }
}

bool st_stream_has_in_flight(struct st_event *ev)
{
    struct st_stream *s = stream_of(ev);
    bool some;

    pthread_mutex_lock(&s->lock);
    some = s->in_flight > 0;
    pthread_mutex_unlock(&s->lock);
    return some;
}

static void piece_arrive(struct piece *p)
{
    struct st_event *ev = p->ev;
    struct st_stream *s = stream_of(ev);

    if (ev->answered) {
        st_stream_close(ev);
        piece_free(p);
    } else {
        STAILQ_INSERT_TAIL(&s->waiting, p, link);
        st_stream_settle(ev);
    }
}

static void deliver_piece(struct st_loop *loop, struct st_mail *mail)
{
    struct piece *p = ST_CONTAINER_OF(mail, struct piece, mail);
    struct st_event *ev = p->ev;
    struct st_stream *s = stream_of(ev);
    bool last;

    (void)loop;
    piece_arrive(p);
    pthread_mutex_lock(&s->lock);
    last = --s->in_flight == 0;
    pthread_mutex_unlock(&s->lock);
    /* The result may have overtaken its pieces. */
    if (last && ev->has_result && !ev->answered && ev->holds == 0)
        st_event_finish(ev, &ev->result);
    st_event_unref(ev);
}

static void piece_send(struct st_stream *s, struct piece *p)
{
    struct st_event *ev = p->ev;
    bool direct = st_loop_is_current(ev->home);

    pthread_mutex_lock(&s->lock);
    direct = direct && s->in_flight == 0; /* else earlier ones are on their way */
    if (!direct)
        s->in_flight++;
    pthread_mutex_unlock(&s->lock);
    if (direct) {
        piece_arrive(p);
        return;
    }
    st_event_ref(ev);
    st_loop_post(ev->home, &p->mail, deliver_piece);
}

int st_stream_open(struct st_event *ev)
{
    struct st_stream *s;
    struct piece *p;
    pthread_condattr_t attr;

    if (stream_of(ev) != NULL)
        return ST_ERR_INVALID;
    if (st_loop_is_current(ev->home) && ev->answered)
        return ST_ERR_CLOSED;
    s = calloc(1, sizeof *s);
    p = calloc(1, sizeof *p);
    ST_ASSERT(s != NULL && p != NULL);
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->writable, &attr);
    pthread_condattr_destroy(&attr);
    STAILQ_INIT(&s->waiting);
    atomic_store_explicit(&ev->stream, s, memory_order_release);
    p->ev = ev;
    p->is_head = true;
    p->head = ev->result;
    p->head.body = (struct st_slice){NULL, 0};
    p->head.body_owner = (struct st_buf){0};
    ev->result.streamed = true;
    piece_send(s, p);
    return ST_OK;
}

int st_stream_write(struct st_event *ev, struct st_slice bytes)
{
    struct st_stream *s = stream_of(ev);
    struct piece *p;
    bool closed, high;

    if (s == NULL)
        return ST_ERR_INVALID;
    if (bytes.len == 0)
        return ST_OK;
    p = calloc(1, sizeof *p);
    if (p == NULL || st_buf_try_copy(&p->bytes, bytes) != ST_OK) {
        free(p);
        return ST_ERR_NOMEM;
    }
    p->ev = ev;
    pthread_mutex_lock(&s->lock);
    closed = s->closed;
    if (!closed)
        s->pending += bytes.len;
    high = s->pending > ST_STREAM_HIGH;
    pthread_mutex_unlock(&s->lock);
    if (closed) {
        piece_free(p);
        return ST_ERR_CLOSED;
    }
    piece_send(s, p);
    return high ? ST_ERR_AGAIN : ST_OK;
}

int st_stream_wait(struct st_event *ev, uint64_t wait_ns)
{
    struct st_stream *s = stream_of(ev);
    uint64_t end = st_clock_mono() + wait_ns;
    struct timespec ts = {(time_t)(end / ST_SEC), (long)(end % ST_SEC)};
    int code = ST_OK, rc = 0;

    pthread_mutex_lock(&s->lock);
    while (!s->closed && s->pending > ST_STREAM_LOW && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&s->writable, &s->lock, &ts);
    if (s->closed)
        code = ST_ERR_CLOSED;
    else if (s->pending > ST_STREAM_LOW)
        code = ST_ERR_TIMEOUT;
    pthread_mutex_unlock(&s->lock);
    return code;
}

/* Calls the waiting handler, once. */
static void call_writable(struct st_stream *s, struct st_event *ev)
{
    void (*fn)(struct st_event *, void *) = s->on_writable;

    s->on_writable = NULL;
    if (fn != NULL)
        fn(ev, s->arg);
}

void *st_stream_on_writable(struct st_event *ev, void (*fn)(struct st_event *ev, void *arg),
                            void *arg)
{
    struct st_stream *s = stream_of(ev);
    void *before = s->on_writable != NULL ? s->arg : NULL;
    bool now;

    pthread_mutex_lock(&s->lock);
    now = s->closed || s->pending <= ST_STREAM_LOW;
    pthread_mutex_unlock(&s->lock);
    s->on_writable = fn;
    s->arg = arg;
    if (now)
        call_writable(s, ev);
    return before;
}

void st_stream_sent(struct st_event *ev, size_t n)
{
    struct st_stream *s = stream_of(ev);
    bool low;

    pthread_mutex_lock(&s->lock);
    s->pending -= n < s->pending ? n : s->pending;
    low = s->pending <= ST_STREAM_LOW;
    if (low)
        pthread_cond_broadcast(&s->writable);
    pthread_mutex_unlock(&s->lock);
    if (low && !ev->answered)
        call_writable(s, ev);
}

void st_stream_close(struct st_event *ev)
{
    struct st_stream *s = stream_of(ev);
    bool was_closed;

    pthread_mutex_lock(&s->lock);
    was_closed = s->closed;
    s->closed = true;
    pthread_cond_broadcast(&s->writable);
    pthread_mutex_unlock(&s->lock);
    if (!was_closed)
        call_writable(s, ev);
}

bool st_stream_collected(struct st_event *ev, struct st_result *result)
{
    struct st_stream *s = stream_of(ev);

    if (can_stream(ev))
        return false;
    if (s->too_long) {
        *result = (struct st_result){.outcome = ST_OUTCOME_ERROR,
                                     .body = ST_SLICE("the streamed answer is too long")};
        return true;
    }
    result->streamed = false;
    result->body =
        (struct st_slice){s->collected != NULL ? s->collected->base : NULL, s->collected_len};
    return true;
}

void st_stream_free(struct st_stream *s)
{
    struct piece *p;

    while ((p = STAILQ_FIRST(&s->waiting)) != NULL) {
        STAILQ_REMOVE_HEAD(&s->waiting, link);
        piece_free(p);
    }
    if (s->collected != NULL)
        st_region_unref(s->collected);
    pthread_cond_destroy(&s->writable);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
