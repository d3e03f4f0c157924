/* Streamed answers. */
#include "processor/stream.h"

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/loop.h"
#include "processor/worker.h"
#include "runtimes/native/native_int.h"
#include "runtimes/native/reply.h"

/* How long one wait for a slow client lasts where no eventTimeout ends it; the trigger's own limits
 * decide when a client that takes nothing is cut off. */
enum { WAIT_SECONDS = 30 };

static int code_of(int rc)
{
    switch (rc) {
    case 0:
        return STATOR_DONE;
    case ST_ERR_AGAIN:
        return STATOR_AGAIN;
    case ST_ERR_NOMEM:
    case ST_ERR_LIMIT:
        return STATOR_NOMEM;
    case ST_ERR_INVALID:
        return STATOR_INVALID;
    default:
        return STATOR_GONE;
    }
}

/* Blocks until the client has read; GONE also after eventTimeout. */
static int wait_writable(struct st_event *ev, uint64_t timeout_ns)
{
    uint64_t now, end, started;
    int rc;

    if (timeout_ns == 0) {
        do
            rc = st_stream_wait(ev, WAIT_SECONDS * ST_SEC);
        while (rc == ST_ERR_TIMEOUT);
        return code_of(rc);
    }
    now = st_clock_mono();
    started = atomic_load_explicit(&ev->started_ns, memory_order_relaxed);
    end = (started != 0 ? started : now) + timeout_ns;
    return now < end ? code_of(st_stream_wait(ev, end - now)) : STATOR_GONE;
}

int st_native_write(stator_event *event, const void *bytes, size_t len)
{
    struct st_event *ev = st_native_from(event);
    const struct st_native_worker *nw = st_native_context.worker;
    int rc;

    if (!ev->result.streamed || (len != 0 && bytes == NULL))
        return STATOR_INVALID;
    if (len == 0)
        return STATOR_DONE;
    rc = code_of(st_stream_write(ev, (struct st_slice){bytes, len}));
    if (rc == STATOR_AGAIN && nw != NULL && nw->on_thread)
        return wait_writable(ev, nw->timeout_ns);
    return rc;
}

int st_native_stream_open(stator_event *event, const struct stator_reply *head)
{
    struct st_event *ev = st_native_from(event);
    struct stator_reply reply;
    int rc;

    if (!st_native_reply_ok(head) || ev->result.streamed)
        return STATOR_INVALID;
    st_native_reply_read(&reply, head);
    reply.body = NULL;
    reply.body_len = 0;
    rc = st_native_reply_put(ev, &reply, true);
    if (rc != STATOR_DONE)
        return rc;
    ev->result.streamed = true;
    rc = code_of(st_stream_open(ev));
    if (rc != STATOR_DONE) {
        ev->result.streamed = false;
        return rc;
    }
    return st_native_write(event, head->body, head->body_len);
}

/* A callback on its way to the event's home, where streams are watched, and back to the loop that
 * runs the handler. By mail also on one loop, so that it never runs inside the handler. */
struct waiter {
    struct st_mail mail;
    struct st_event *ev;
    struct st_native_worker *worker;
    void (*fn)(stator_event *ev, void *arg);
    void *arg;
};

/* On the worker's loop. */
static void waiter_free(struct waiter *wt)
{
    st_event_unref(wt->ev);
    st_native_worker_release(wt->worker);
    free(wt);
}

static void waiter_drop(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    waiter_free(ST_CONTAINER_OF(mail, struct waiter, mail));
}

static void waiter_run(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct waiter *wt = ST_CONTAINER_OF(mail, struct waiter, mail);
    struct st_native_context outer = st_native_context;

    /* Nothing of the handler runs after fini(). */
    if (!wt->worker->ended) {
        st_native_context = (struct st_native_context){wt->ev, wt->worker};
        wt->fn(st_native_event(wt->ev), wt->arg);
        st_native_context = outer;
    }
    waiter_free(wt);
}

static void waiter_writable(struct st_event *ev ST_UNUSED, void *arg)
{
    struct waiter *wt = arg;

    st_loop_post(wt->worker->loop, &wt->mail, waiter_run);
}

static void waiter_at_home(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct waiter *wt = ST_CONTAINER_OF(mail, struct waiter, mail);
    struct waiter *before = st_stream_on_writable(wt->ev, waiter_writable, wt);

    if (before != NULL)
        st_loop_post(before->worker->loop, &before->mail, waiter_drop);
}

int st_native_on_writable(stator_event *event, void (*fn)(stator_event *ev, void *arg), void *arg)
{
    struct st_event *ev = st_native_from(event);
    struct st_native_worker *nw = st_native_context.worker;
    struct waiter *wt;

    if (fn == NULL || !ev->result.streamed || nw == NULL || nw->on_thread)
        return STATOR_INVALID;
    wt = st_try_malloc(sizeof *wt);
    if (wt == NULL)
        return STATOR_NOMEM;
    *wt = (struct waiter){.ev = ev, .worker = nw, .fn = fn, .arg = arg};
    nw->waiters++;
    /* The event may be answered, and its token gone, before the stream can be written to again. */
    st_event_ref(ev);
    st_loop_post(ev->home, &wt->mail, waiter_at_home);
    return STATOR_DONE;
}
