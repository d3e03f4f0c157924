/* Streamed answers: chunks as far as the window goes, the rest waits here. */
#include <stdlib.h>

#include "runtimes/native/reply_check.h"
#include "runtimes/native_process/host/host.h"
#include "runtimes/native_process/host/link.h"

static size_t waiting(const struct st_host_stream *s)
{
    return s->to - s->from;
}

/* Sends as much as it may, in pieces that fit into a record; returns how much. */
static size_t send_some(struct st_host_event *ev, struct st_slice bytes)
{
    size_t most = st_link_max_bytes(), sent = 0;

    if (most > ST_WIRE_INLINE_BODY)
        most = ST_WIRE_INLINE_BODY;
    while (sent < bytes.len && ev->stream.window > 0) {
        struct st_link_part part = {ST_WIRE_BODY, {bytes.ptr + sent, bytes.len - sent}};

        if (part.bytes.len > most)
            part.bytes.len = most;
        if (part.bytes.len > ev->stream.window)
            part.bytes.len = (size_t)ev->stream.window;
        st_link_send(ST_WIRE_CHUNK, 0, ev->seq, &part, 1);
        ev->stream.window -= part.bytes.len;
        sent += part.bytes.len;
    }
    return sent;
}

bool st_host_stream_flush(struct st_host_event *ev)
{
    struct st_host_stream *s = &ev->stream;

    if (ev->gone)
        s->from = s->to;
    if (waiting(s) > 0)
        s->from += send_some(ev, (struct st_slice){s->bytes + s->from, waiting(s)});
    return waiting(s) == 0;
}

static bool append(struct st_host_stream *s, struct st_slice bytes)
{
    if (waiting(s) == 0)
        s->from = s->to = 0;
    if (s->room - s->to < bytes.len) {
        size_t room = 2 * (s->to + bytes.len);
        char *more = realloc(s->bytes, room);

        if (more == NULL)
            return false;
        s->bytes = more;
        s->room = room;
    }
    memcpy(s->bytes + s->to, bytes.ptr, bytes.len);
    s->to += bytes.len;
    return true;
}

bool st_host_stream_put(struct st_host_event *ev, struct st_slice bytes)
{
    size_t sent = waiting(&ev->stream) == 0 ? send_some(ev, bytes) : 0;

    return sent == bytes.len ||
           append(&ev->stream, (struct st_slice){bytes.ptr + sent, bytes.len - sent});
}

/* Until all bytes have left, the client has gone, or the processor wants an end. */
static int wait_flushed(struct st_host_event *ev)
{
    for (;;) {
        bool locked = st_host_lock(), done = st_host_stream_flush(ev);

        st_link_announce();
        st_host_unlock(locked);
        if (ev->gone || st_host.stop)
            return STATOR_GONE;
        if (done)
            return STATOR_DONE;
        /* The credit needs room in the ring. The event does not lie there any more. */
        st_link_scan();
        st_link_release(false);
        if (ev->stream.window == 0 && !ev->gone)
            st_link_sleep(true);
    }
}

int st_host_write(stator_event *event, const void *bytes, size_t len)
{
    struct st_host_event *ev = st_host_from(event);
    bool locked, ok;

    if (!ev->stream.open || (len != 0 && bytes == NULL))
        return STATOR_INVALID;
    if (len == 0)
        return STATOR_DONE;
    /* A handler that only ever writes sees here that nobody listens. */
    st_link_scan();
    if (ev->gone)
        return STATOR_GONE;
    locked = st_host_lock();
    ok = st_host_stream_put(ev, (struct st_slice){bytes, len});
    st_link_announce();
    st_host_unlock(locked);
    if (!ok)
        return STATOR_NOMEM;
    if (waiting(&ev->stream) == 0)
        return STATOR_DONE;
    return st_host.blocking ? wait_flushed(ev) : STATOR_AGAIN;
}

int st_host_stream_open(stator_event *event, const struct stator_reply *head)
{
    struct st_host_event *ev = st_host_from(event);
    struct stator_reply reply;
    bool locked;
    int rc;

    if (!st_native_reply_ok(head) || ev->stream.open)
        return STATOR_INVALID;
    st_native_reply_read(&reply, head);
    reply.body = NULL;
    reply.body_len = 0;
    locked = st_host_lock();
    rc = st_host_answer_put(&ev->answer, &ev->arena, ev, &reply);
    if (rc == STATOR_DONE &&
        ev->answer.content_type.len + ev->answer.headers.len + sizeof(struct st_wire_result) >
            st_link_max_bytes())
        rc = STATOR_NOMEM;
    if (rc == STATOR_DONE) {
        st_host_stream_begin(ev);
        st_link_announce();
    }
    st_host_unlock(locked);
    return rc == STATOR_DONE ? st_host_write(event, head->body, head->body_len) : rc;
}

int st_host_on_writable(stator_event *event, void (*fn)(stator_event *ev, void *arg), void *arg)
{
    struct st_host_event *ev = st_host_from(event);

    if (fn == NULL || !ev->stream.open || st_host.blocking)
        return STATOR_INVALID;
    ev->on_writable = fn;
    ev->writable_arg = arg;
    st_host.look_for_writable = true;
    return STATOR_DONE;
}

void st_host_stream_credit(uint64_t seq, uint32_t n)
{
    bool locked = st_host_lock();
    struct st_host_event *ev = st_host_event_find(seq);

    if (ev != NULL && ev->stream.open) {
        ev->stream.window += n;
        st_host.look_for_writable = true;
        if (ev->stage == ST_HOST_ENDING)
            st_host_answer_send(ev);
        else if (ev->stage == ST_HOST_WAITING)
            (void)st_host_stream_flush(ev);
        st_link_announce();
    }
    st_host_unlock(locked);
}

/* One that waits and can be written to, now without its callback. */
static struct st_host_event *take_writable(void)
{
    struct st_host_event *ev;

    TAILQ_FOREACH (ev, &st_host.events, link)
        if (ev->on_writable != NULL && ev->stage == ST_HOST_WAITING && waiting(&ev->stream) == 0)
            return ev;
    st_host.look_for_writable = false;
    return NULL;
}

bool st_host_stream_call(void)
{
    void (*fn)(stator_event * ev, void *arg) = NULL;
    struct st_host_event *ev;
    bool locked;

    if (st_likely(!st_host.look_for_writable))
        return false;
    locked = st_host_lock();
    ev = take_writable();
    if (ev != NULL) {
        fn = ev->on_writable;
        ev->on_writable = NULL;
        ev->in_callback = true;
    }
    st_host_unlock(locked);
    if (ev == NULL)
        return false;
    st_host.current = ev;
    fn(st_host_to(ev), ev->writable_arg);
    st_host.current = NULL;
    locked = st_host_lock();
    ev->in_callback = false;
    st_host_callback_returned(ev);
    st_link_announce();
    st_host_unlock(locked);
    return true;
}
