/* Answers: what the handler says, and its way to the processor. */
#include "runtimes/native/reply_check.h"
#include "runtimes/native_process/host/host.h"
#include "runtimes/native_process/host/link.h"

/* What the processor takes of one result. */
enum { MAX_HEADERS = 256, MAX_HEADER_BYTES = 64 * 1024 };

static bool lies_in(struct st_slice part, struct st_slice whole)
{
    uintptr_t at = (uintptr_t)part.ptr - (uintptr_t)whole.ptr;

    return whole.ptr != NULL && at <= whole.len && part.len <= whole.len - at;
}

static bool copy(struct st_arena *arena, struct st_slice *s)
{
    char *to = s->len != 0 ? st_arena_try(arena, s->len) : NULL;

    if (to != NULL)
        memcpy(to, s->ptr, s->len);
    else if (s->len != 0)
        return false;
    s->ptr = to;
    return true;
}

/* Writes the HEADERS section of what is not the server's; *type: a content type among them. */
static bool pack_headers(struct st_arena *arena, const struct stator_reply *reply,
                         struct st_slice *out, struct stator_str *type)
{
    size_t size = sizeof(struct st_wire_headers);
    struct st_wire_headers *head;
    char *at;

    for (size_t i = 0; i < reply->header_count; i++)
        size += sizeof head->lengths[0] + reply->headers[i].name.len + reply->headers[i].value.len;
    if (reply->header_count > MAX_HEADERS || size > MAX_HEADER_BYTES ||
        (head = st_arena_try(arena, size)) == NULL)
        return false;
    head->count = 0;
    at = (char *)&head->lengths[reply->header_count];
    for (size_t i = 0; i < reply->header_count; i++) {
        const struct stator_header *h = &reply->headers[i];
        uint8_t id = st_header_id_of(h->name.ptr, h->name.len);

        if (id == ST_HDR_CONTENT_TYPE && type->len == 0)
            *type = h->value;
        if (st_header_is_ours(id))
            continue;
        head->lengths[head->count++] =
            (struct st_wire_header){(uint32_t)h->name.len, (uint32_t)h->value.len};
        memcpy(at, h->name.ptr, h->name.len);
        at += h->name.len;
        if (h->value.len != 0)
            memcpy(at, h->value.ptr, h->value.len);
        at += h->value.len;
    }
    /* Without the lengths of those that were left out. */
    size = (size_t)(at - (char *)&head->lengths[reply->header_count]);
    memmove(&head->lengths[head->count], &head->lengths[reply->header_count], size);
    *out = (struct st_slice){(const char *)head,
                             (size_t)((char *)&head->lengths[head->count] - (char *)head) + size};
    return true;
}

void st_host_answer_drop(struct st_host_answer *a)
{
    if (a->in_pool)
        st_link_free_body(&a->ref);
    a->in_pool = false;
}

/* Where the body stays until it is sent: where it is, in the pool, or in the arena. */
static bool keep_body(struct st_host_answer *a, struct st_arena *arena,
                      const struct st_host_event *ev, const struct stator_reply *reply)
{
    a->body = (struct st_slice){reply->body, reply->body_len};
    if ((reply->flags & STATOR_BODY_STATIC) != 0 || lies_in(a->body, ev->sections[ST_WIRE_BODY]))
        return true;
    a->in_pool = a->body.len > ST_WIRE_INLINE_BODY && st_link_put_body(a->body, &a->ref);
    return a->in_pool || copy(arena, &a->body);
}

int st_host_answer_put(struct st_host_answer *a, struct st_arena *arena,
                       const struct st_host_event *ev, const struct stator_reply *reply)
{
    struct st_host_answer made = {.outcome = STATOR_OK, .status = (uint16_t)reply->status};
    struct stator_str type = reply->content_type;

    if (reply->header_count != 0 && !pack_headers(arena, reply, &made.headers, &type))
        return STATOR_NOMEM;
    made.content_type = (struct st_slice){type.ptr, type.len};
    if (type.len > MAX_HEADER_BYTES - made.headers.len || !copy(arena, &made.content_type) ||
        !keep_body(&made, arena, ev, reply))
        return STATOR_NOMEM;
    st_host_answer_drop(a);
    *a = made;
    return STATOR_DONE;
}

int st_host_reply(stator_event *event, const struct stator_reply *reply)
{
    struct st_host_event *ev = st_host_from(event);
    bool locked;
    int rc;

    if (!st_native_reply_ok(reply) || ev->stream.open)
        return STATOR_INVALID;
    locked = st_host_lock();
    rc = st_host_answer_put(&ev->answer, &ev->arena, ev, reply);
    st_host_unlock(locked);
    return rc;
}

/* status, text and nothing else. */
static int say(struct st_host_event *ev, int outcome, int status, const char *text)
{
    struct st_slice body = st_slice_of(text);
    bool locked;

    if (ev->stream.open)
        return STATOR_INVALID;
    if (!copy(&ev->arena, &body))
        return STATOR_NOMEM;
    locked = st_host_lock();
    st_host_answer_drop(&ev->answer);
    st_host_unlock(locked);
    ev->answer =
        (struct st_host_answer){.outcome = outcome, .status = (uint16_t)status, .body = body};
    return STATOR_DONE;
}

int st_host_reply_text(stator_event *event, int status, const char *text)
{
    return st_native_status_ok(status) ? say(st_host_from(event), STATOR_OK, status, text)
                                       : STATOR_INVALID;
}

void st_host_fail(stator_event *event, int status, const char *text)
{
    int s = st_native_failure_status(status);

    /* Without memory for the text the status alone must do. */
    if (say(st_host_from(event), STATOR_ERROR, s, text) == STATOR_NOMEM)
        (void)say(st_host_from(event), STATOR_ERROR, s, NULL);
}

void st_host_retry_after(stator_event *event, uint32_t ms)
{
    st_host_from(event)->retry_after_ms = ms;
}

void st_host_reject(stator_event *event, const char *reason)
{
    if (say(st_host_from(event), STATOR_REJECT, 0, reason) == STATOR_NOMEM)
        (void)say(st_host_from(event), STATOR_REJECT, 0, NULL);
}

void st_host_answer_end(struct st_host_event *ev, int rc)
{
    struct st_host_answer *a = &ev->answer;

    if (rc < STATOR_OK || rc > STATOR_REJECT)
        rc = STATOR_ERROR;
    /* A reply says nothing about a failure, and a failure's text is no reply. */
    if (!ev->stream.open && (a->outcome == STATOR_OK) != (rc == STATOR_OK)) {
        st_host_answer_drop(a);
        *a = (struct st_host_answer){.status = 0};
    }
    a->outcome = rc;
}

void st_host_answer_failed(struct st_host_event *ev, const char *text)
{
    st_host_answer_drop(&ev->answer);
    ev->answer = (struct st_host_answer){.outcome = STATOR_ERROR, .body = st_slice_of(text)};
}

/* Sending */

static struct st_wire_result meta_of(const struct st_host_event *ev)
{
    return (struct st_wire_result){.duration_ns = ev->duration_ns,
                                   .retry_after_ms = ev->retry_after_ms,
                                   .status = ev->answer.status,
                                   .outcome = (uint8_t)ev->answer.outcome};
}

static uint8_t flags_of(const struct st_host_event *ev)
{
    return __atomic_load_n(&ev->logged, __ATOMIC_RELAXED) ? ST_WIRE_LOGGED : 0;
}

void st_host_stream_begin(struct st_host_event *ev)
{
    struct st_wire_result meta = meta_of(ev);
    const struct st_link_part parts[] = {
        {ST_WIRE_META, {(const char *)&meta, sizeof meta}},
        {ST_WIRE_CONTENT_TYPE, ev->answer.content_type},
        {ST_WIRE_HEADERS, ev->answer.headers},
    };

    ev->stream.open = true;
    ev->stream.window = ST_WIRE_STREAM_WINDOW;
    st_link_send(ST_WIRE_CHUNK, ST_WIRE_HEAD, ev->seq, parts, ST_ARRAY_LEN(parts));
}

/* The end of a stream, when all of it has left. */
static void send_end(struct st_host_event *ev)
{
    struct st_wire_result meta = meta_of(ev);
    const struct st_link_part part = {ST_WIRE_META, {(const char *)&meta, sizeof meta}};
    bool failed = ev->answer.outcome != STATOR_OK || ev->gone;

    ev->stream.ended = true;
    if (!st_host_stream_flush(ev)) {
        st_host_event_last(ev, ST_HOST_ENDING);
        return;
    }
    st_link_send(ST_WIRE_RESULT,
                 (uint8_t)(flags_of(ev) | ST_WIRE_STREAMED | (failed ? ST_WIRE_FAILED : 0)),
                 ev->seq, &part, 1);
    st_host_event_free(ev);
}

static void send_result(struct st_host_event *ev)
{
    const struct st_host_answer *a = &ev->answer;
    struct st_wire_result meta = meta_of(ev);
    const struct st_link_part parts[] = {
        {ST_WIRE_META, {(const char *)&meta, sizeof meta}},
        {ST_WIRE_CONTENT_TYPE, a->content_type},
        {ST_WIRE_HEADERS, a->headers},
        {a->in_pool ? ST_WIRE_BODY_REF : ST_WIRE_BODY,
         a->in_pool ? (struct st_slice){(const char *)&a->ref, sizeof a->ref} : a->body},
    };

    st_link_send(ST_WIRE_RESULT, flags_of(ev), ev->seq, parts, ST_ARRAY_LEN(parts));
    ev->answer.in_pool = false; /* until ACK it is the processor's */
    st_host_event_free(ev);
}

/* A body that no record takes goes to the pool, or, where that is full, in chunks. */
static bool place_body(struct st_host_event *ev)
{
    struct st_host_answer *a = &ev->answer;
    size_t head = sizeof(struct st_wire_result) + a->content_type.len + a->headers.len;

    if (head + sizeof a->ref > st_link_max_bytes()) {
        st_host_answer_failed(ev, "The reply's headers are too large for its worker: raise "
                                  "spec.stator.ringBytes");
        return true;
    }
    if (a->in_pool ||
        (a->body.len <= ST_WIRE_INLINE_BODY && head + a->body.len <= st_link_max_bytes()))
        return true;
    a->in_pool = st_link_put_body(a->body, &a->ref);
    return a->in_pool;
}

void st_host_answer_send(struct st_host_event *ev)
{
    if (ev->stream.open) {
        send_end(ev);
    } else if (place_body(ev)) {
        send_result(ev);
    } else {
        st_host_stream_begin(ev);
        if (!st_host_stream_put(ev, ev->answer.body))
            ev->answer.outcome = STATOR_ERROR;
        send_end(ev);
    }
}
