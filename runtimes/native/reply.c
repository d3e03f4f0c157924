/* Answers: from what a handler says to ev->result. */
#include "runtimes/native/reply.h"

#include "processor/core/arena.h"
#include "processor/net/http_msg.h"
#include "runtimes/native/native_int.h"

/* What most handlers say, so that it needs no check and no copy. */
static struct st_slice known_type(struct stator_str s)
{
#define KNOWN(text)                                 \
    if (memcmp(s.ptr, text, sizeof(text) - 1) == 0) \
    return ST_SLICE(text)
    switch (s.len) {
    case 9:
        KNOWN("text/html");
        break;
    case 10:
        KNOWN("text/plain");
        break;
    case 16:
        KNOWN("application/json");
        break;
    case 24:
        KNOWN("text/html; charset=utf-8");
        KNOWN("application/octet-stream");
        break;
    case 25:
        KNOWN("text/plain; charset=utf-8");
        break;
    case 31:
        KNOWN("application/json; charset=utf-8");
        break;
    default:
        break;
    }
#undef KNOWN
    return (struct st_slice){0};
}

/* The text in the arena; false: out of memory. */
static bool copy(struct st_arena *a, const void *ptr, size_t len, struct st_slice *out)
{
    char *to = len != 0 ? st_arena_try(a, len) : NULL;

    *out = (struct st_slice){to, len};
    if (len == 0)
        return true;
    if (st_unlikely(to == NULL))
        return false;
    memcpy(to, ptr, len);
    return true;
}

struct head {
    struct st_slice content_type;
    struct st_header *items;
    size_t count;
};

static __attribute__((noinline)) bool
copy_headers(struct st_event *ev, const struct stator_reply *reply, struct head *out)
{
    struct st_header *items = st_arena_try(&ev->arena, reply->header_count * sizeof *items);
    struct st_slice name, value;
    size_t n = 0;

    if (items == NULL)
        return false;
    for (size_t i = 0; i < reply->header_count; i++) {
        const struct stator_header *h = &reply->headers[i];
        uint8_t id = st_header_id_of(h->name.ptr, h->name.len);

        if (st_header_is_ours(id) && (id != ST_HDR_CONTENT_TYPE || out->content_type.len != 0))
            continue;
        if (!copy(&ev->arena, h->value.ptr, h->value.len, &value))
            return false;
        if (id == ST_HDR_CONTENT_TYPE) {
            out->content_type = value;
            continue;
        }
        if (!copy(&ev->arena, h->name.ptr, h->name.len, &name))
            return false;
        items[n++] = (struct st_header){.name = name.ptr,
                                        .value = value.ptr,
                                        .name_len = (uint16_t)name.len,
                                        .value_len = (uint32_t)value.len,
                                        .id = id};
    }
    out->items = items;
    out->count = n;
    return true;
}

static bool lies_in(const char *ptr, size_t len, const char *base, size_t size)
{
    uintptr_t at = (uintptr_t)ptr - (uintptr_t)base;

    return base != NULL && at <= size && len <= size - at;
}

/* True when the bytes live as long as the event without a copy. Small blocks of alloc() lie in the
 * arena's first block, whose start nobody keeps; copying them costs less than finding them. */
static bool is_of_event(const struct st_event *ev, const char *ptr, size_t len)
{
    if (lies_in(ptr, len, ev->body.ptr, ev->body.len))
        return true;
    for (struct st_arena_block *b = ev->arena.blocks; b != NULL; b = b->next)
        if (lies_in(ptr, len, (const char *)(b + 1), b->size))
            return true;
    return false;
}

static __attribute__((noinline)) int copy_type(struct st_event *ev, struct stator_str type,
                                               struct st_slice *out)
{
    if (!st_native_type_ok(type))
        return STATOR_INVALID;
    return copy(&ev->arena, type.ptr, type.len, out) ? STATOR_DONE : STATOR_NOMEM;
}

static inline int put(struct st_event *ev, const struct stator_reply *reply, bool keep_body)
{
    struct st_slice body = {reply->body, reply->body_len};
    struct st_result *r = &ev->result;
    struct head head = {.items = NULL};

    if (reply->content_type.len != 0) {
        head.content_type = known_type(reply->content_type);
        if (head.content_type.len == 0) {
            int rc = copy_type(ev, reply->content_type, &head.content_type);

            if (rc != STATOR_DONE)
                return rc;
        }
    }
    if (st_unlikely(reply->header_count != 0) && !copy_headers(ev, reply, &head))
        return STATOR_NOMEM;
    if (!keep_body && (reply->flags & STATOR_BODY_STATIC) == 0 &&
        !is_of_event(ev, body.ptr, body.len) && !copy(&ev->arena, body.ptr, body.len, &body))
        return STATOR_NOMEM;
    r->outcome = ST_OUTCOME_OK;
    r->status = (uint16_t)reply->status;
    r->content_type = head.content_type;
    r->headers = head.items;
    r->header_count = head.count;
    r->body = body;
    return STATOR_DONE;
}

int st_native_reply_put(struct st_event *ev, const struct stator_reply *reply, bool keep_body)
{
    return put(ev, reply, keep_body);
}

int st_native_reply(stator_event *event, const struct stator_reply *reply)
{
    struct st_event *ev = st_native_from(event);

    if (st_unlikely(!st_native_reply_mostly_ok(reply) || ev->result.streamed))
        return STATOR_INVALID;
    return put(ev, reply, false);
}

/* status, text and nothing else. */
static int say(struct st_event *ev, enum st_outcome outcome, int status, const char *text)
{
    struct st_result *r = &ev->result;
    struct st_slice body = {0};

    if (st_unlikely(r->streamed))
        return STATOR_INVALID;
    if (text != NULL && !copy(&ev->arena, text, strlen(text), &body))
        return STATOR_NOMEM;
    r->outcome = outcome;
    r->status = (uint16_t)status;
    r->content_type = (struct st_slice){0};
    r->headers = NULL;
    r->header_count = 0;
    r->body = body;
    return STATOR_DONE;
}

int st_native_reply_text(stator_event *event, int status, const char *text)
{
    if (st_unlikely(!st_native_status_ok(status)))
        return STATOR_INVALID;
    return say(st_native_from(event), ST_OUTCOME_OK, status, text);
}

void st_native_fail(stator_event *event, int status, const char *text)
{
    /* Without memory for the text the status alone must do. */
    if (say(st_native_from(event), ST_OUTCOME_ERROR, st_native_failure_status(status), text) ==
        STATOR_NOMEM)
        (void)say(st_native_from(event), ST_OUTCOME_ERROR, st_native_failure_status(status), NULL);
}

void st_native_retry_after(stator_event *event, uint32_t ms)
{
    st_native_from(event)->result.retry_after_ms = ms;
}

void st_native_reject(stator_event *event, const char *reason)
{
    if (say(st_native_from(event), ST_OUTCOME_REJECT, 0, reason) == STATOR_NOMEM)
        (void)say(st_native_from(event), ST_OUTCOME_REJECT, 0, NULL);
}

enum st_outcome st_native_outcome(int rc)
{
    switch (rc) {
    case STATOR_OK:
        return ST_OUTCOME_OK;
    case STATOR_RETRY:
        return ST_OUTCOME_RETRY;
    case STATOR_REJECT:
        return ST_OUTCOME_REJECT;
    default:
        return ST_OUTCOME_ERROR;
    }
}

static void forget(struct st_result *r)
{
    r->status = 0;
    r->content_type = (struct st_slice){0};
    r->headers = NULL;
    r->header_count = 0;
    r->body = (struct st_slice){0};
}

void st_native_reply_end(struct st_event *ev, enum st_outcome outcome)
{
    struct st_result *r = &ev->result;

    /* A reply says nothing about a failure, and a failure's text is no reply. A stream's head is
     * on its way already: the outcome alone tells how it ends. */
    if (!r->streamed && (r->outcome == ST_OUTCOME_OK) != (outcome == ST_OUTCOME_OK))
        forget(r);
    r->outcome = outcome;
}

void st_native_reply_failed(struct st_event *ev, const char *text)
{
    struct st_result *r = &ev->result;

    if (!r->streamed) {
        forget(r);
        r->body = st_slice_of(text);
    }
    r->outcome = ST_OUTCOME_ERROR;
}
