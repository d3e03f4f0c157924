/* Requests become events, results become replies (the status table of Nuclio's http trigger). */
#include <stdio.h>
#include <stdlib.h>

#include "processor/dispatch.h"
#include "processor/net/net.h"
#include "processor/processor.h"
#include "processor/runtime.h"
#include "processor/stream.h"
#include "triggers/http/http_int.h"

enum { ARENA_BODY_MAX = 2048 };

#define HEALTH_PATH "/__internal/health"

static struct http_event *event_of_exchange(struct st_exchange *x)
{
    return ST_CONTAINER_OF(x, struct http_event, x);
}

static struct http_event *event_of(struct st_event *ev)
{
    return ST_CONTAINER_OF(ev, struct http_event, ev);
}

/* Requests */

static struct st_exchange *on_begin(void *arg, struct st_net *net)
{
    struct http_loop *hl = arg;
    struct http_event *he = st_slab_try(&hl->events);

    (void)net;
    if (st_unlikely(he == NULL))
        return NULL;
    st_event_init(&he->ev, &hl->trigger->base, hl->loop, he->space, sizeof he->space);
    he->hl = hl;
    he->file = NULL;
    he->x.arena = &he->ev.arena;
    he->x.headers.items = he->headers;
    he->x.header_cap = ST_HTTP1_INLINE_HEADERS;
    return &he->x;
}

static struct st_slice known_value(const struct st_headers *h, enum st_header_id id)
{
    const struct st_header *it = st_headers_known(h, id);

    return it != NULL ? (struct st_slice){it->value, it->value_len} : (struct st_slice){NULL, 0};
}

void http_answer(struct http_event *he, const struct st_http_response *r)
{
    he->ev.answered = true;
    st_buf_drop(&he->x.body_owner);
    if (st_exchange_respond(&he->x, r))
        st_event_unref(&he->ev);
}

static void answer_plain(struct http_event *he, unsigned status, struct st_slice body)
{
    struct st_http_response r = {.status = status, .body = body};

    if (body.len > 0)
        r.content_type = ST_SLICE("text/plain; charset=utf-8");
    http_answer(he, &r);
}

static bool is_health(struct st_slice path)
{
    return path.len >= sizeof HEALTH_PATH - 1 &&
           memcmp(path.ptr, HEALTH_PATH, sizeof HEALTH_PATH - 1) == 0;
}

static void on_request(struct st_exchange *x)
{
    struct http_event *he = event_of_exchange(x);
    struct st_event *ev = &he->ev;
    struct st_slice authority, raw_path;

    ev->arrived_ns = st_loop_now(ev->home);
    ev->method = x->method;
    ev->target = x->target;
    if (st_unlikely(
            !st_http_split_target(x->target, &ev->scheme, &authority, &raw_path, &ev->query))) {
        answer_plain(he, 400, ST_SLICE("Error when parsing request"));
        return;
    }
    if (st_likely(ev->scheme.len == 0))
        ev->scheme = ST_SLICE("http");
    ev->path = st_http_decode_path(&ev->arena, raw_path);
    if (st_unlikely(he->hl->cors != NULL) && http_cors_request(he, is_health(ev->path)))
        return;
    if (st_unlikely(is_health(ev->path))) {
        answer_plain(he, 200, (struct st_slice){NULL, 0});
        return;
    }
    ev->headers = x->headers;
    ev->content_type = known_value(&x->headers, ST_HDR_CONTENT_TYPE);
    ev->trace_parent = known_value(&x->headers, ST_HDR_TRACEPARENT);
    ev->body = x->body;
    ev->body_owner = x->body_owner; /* moves */
    x->body_owner = (struct st_buf){0};
    ev->peer = x->peer;
    ev->http_version = x->version;
    ev->flags = ST_EVENT_BORROWS; /* at least the peer's address is the connection's */
    if (st_unlikely(st_headers_known(&x->headers, ST_HDR_X_NUCLIO_LOG_LEVEL) != NULL))
        http_logs_request(he);
    st_dispatch(ev);
}

static void on_detach(struct st_exchange *x)
{
    st_exchange_detach_head(x);
}

static void on_drop(struct st_exchange *x)
{
    struct http_event *he = event_of_exchange(x);

    he->ev.answered = true;
    st_buf_drop(&x->body_owner);
    st_event_unref(&he->ev);
}

static void on_gone(struct st_exchange *x)
{
    struct http_event *he = event_of_exchange(x);

    if (st_unlikely(he->file != NULL))
        http_file_gone(he); /* answered, so that nothing is left to cancel */
    else
        st_event_cancel(&he->ev);
}

static void on_done(struct st_exchange *x)
{
    st_event_unref(&event_of_exchange(x)->ev);
}

static void on_sent(struct st_exchange *x, size_t n)
{
    struct http_event *he = event_of_exchange(x);

    if (he->file != NULL)
        http_file_sent(he, n);
    else if (he->ev.stream != NULL) /* not of a file that is read to its end */
        st_stream_sent(&he->ev, n);
}

const struct st_exchange_handler http_exchange_handler = {on_begin, on_request, on_detach, on_drop,
                                                          on_gone,  on_done,    on_sent};

/* Events */

static void move_slice(struct st_slice *s, struct st_slice old, ptrdiff_t distance)
{
    if (s->ptr >= old.ptr && s->ptr <= old.ptr + old.len)
        s->ptr += distance;
}

int http_detach(struct st_event *ev)
{
    struct http_event *he = event_of(ev);
    struct st_exchange *x = &he->x;
    struct st_slice old = x->head;
    ptrdiff_t distance;

    if (ev->body.len > ARENA_BODY_MAX && ev->body_owner.region == NULL) {
        struct st_region *r = st_body_region_try_new(he->hl->server.net->bodies, ev->body.len);
        if (r == NULL)
            return ST_ERR_NOMEM;
        memcpy(r->base, ev->body.ptr, ev->body.len);
        ev->body_owner = (struct st_buf){r, 0, ev->body.len};
        ev->body.ptr = r->base;
    } else if (ev->body.len > 0 && ev->body_owner.region == NULL) {
        ev->body = st_arena_copy(&ev->arena, ev->body);
    }
    if (!x->detached) {
        distance = st_exchange_detach_head(x);
        move_slice(&ev->method, old, distance);
        move_slice(&ev->target, old, distance);
        move_slice(&ev->path, old, distance);
        move_slice(&ev->query, old, distance);
        move_slice(&ev->scheme, old, distance);
        move_slice(&ev->content_type, old, distance);
        move_slice(&ev->trace_parent, old, distance);
    }
    if (ev->peer != NULL) {
        he->peer = *ev->peer;
        ev->peer = &he->peer;
    }
    return ST_OK;
}

void http_release(struct st_event *ev)
{
    struct http_event *he = event_of(ev);

    st_slab_put(&he->hl->events, he);
}

/* Replies */

void http_own_headers(struct http_header_room *room, struct st_http_response *r, size_t more)
{
    bool is_own = r->headers == room->items;
    size_t need = r->header_count + more;

    if (need > room->capacity) {
        room->capacity = need * 2;
        room->items = realloc(room->items, room->capacity * sizeof *room->items);
        ST_ASSERT(room->items != NULL);
    }
    if (!is_own && r->header_count > 0)
        memcpy(room->items, r->headers, r->header_count * sizeof *r->headers);
    r->headers = room->items;
}

/* The exchange waits behind others: it lives until `done`. */
static void wait_turn(struct http_event *he, bool done)
{
    if (st_unlikely(!done))
        st_event_ref(&he->ev);
}

void http_stream_end(struct http_event *he, bool well)
{
    wait_turn(he, he->x.ops->stream_end(&he->x, well));
}

/* As Nuclio answers it: chunked, which is how its clients know it. */
static void answer_timeout(struct http_event *he)
{
    struct st_http_response r = {.status = 408,
                                 .content_type = ST_SLICE("text/plain; charset=utf-8")};
    struct st_buf body;

    if (st_unlikely(he->hl->cors != NULL))
        http_cors_reply(he, &r);
    if (st_unlikely(he->ev.log != NULL))
        http_logs_reply(he, &r);
    he->x.ops->stream_head(&he->x, &r);
    if (st_buf_try_copy(&body, ST_SLICE("{\"error\": \"handler timed out\"}")) == ST_OK)
        he->x.ops->stream_write(&he->x, body);
    http_stream_end(he, true);
}

static unsigned default_status(enum st_outcome outcome)
{
    if (st_likely(outcome == ST_OUTCOME_OK))
        return 200;
    switch (outcome) {
    case ST_OUTCOME_REJECT:
        return 400;
    case ST_OUTCOME_RETRY:
    case ST_OUTCOME_NO_WORKER:
    case ST_OUTCOME_NO_MEMORY:
    case ST_OUTCOME_CANCELLED:
        return 503;
    case ST_OUTCOME_TIMEOUT:
        return 408;
    case ST_OUTCOME_ERROR:
    case ST_OUTCOME_CRASH:
    case ST_OUTCOME_DEFER:
    case ST_OUTCOME_OK:
        break;
    }
    return 500;
}

static void set_type(struct http_event *he, const struct st_result *result,
                     struct st_http_response *r)
{
    r->content_type = result->content_type;
    if (result->content_type.len == 0 && result->body.len > 0)
        r->content_type =
            st_slice_of(he->ev.trigger->processor->runtime->kind->default_content_type);
}

/* Bytes of the event, or static ones: they stay while the event does. */
struct event_region {
    struct st_region region;
    struct st_event *ev;
};

static void event_region_release(struct st_region *r)
{
    st_event_unref(ST_CONTAINER_OF(r, struct event_region, region)->ev);
}

/* A large body is not copied: its event lives until the last byte has left. */
static struct st_buf lend_body(struct st_event *ev, struct st_slice body)
{
    struct event_region *er = st_arena_alloc(&ev->arena, sizeof *er);

    atomic_init(&er->region.refs, 1);
    er->region.base = (char *)(uintptr_t)body.ptr;
    er->region.size = body.len;
    er->region.release = event_region_release;
    er->ev = ev;
    st_event_ref(ev);
    return (struct st_buf){&er->region, 0, body.len};
}

static bool lies_in(struct st_slice part, const struct st_buf *whole)
{
    const char *base = st_buf_data(whole);

    return base != NULL && part.ptr >= base && part.ptr + part.len <= base + whole->length;
}

void http_complete(struct st_event *ev, const struct st_result *result)
{
    struct http_event *he = event_of(ev);
    struct st_buf lent = {0};
    struct st_http_response r;
    struct st_header retry;
    char seconds[16];

    if (st_unlikely(he->x.streaming)) {
        http_stream_end(he, result->outcome == ST_OUTCOME_OK);
        return;
    }
    if (st_unlikely(result->outcome == ST_OUTCOME_TIMEOUT)) {
        answer_timeout(he);
        return;
    }
    r.status = result->status != 0 ? result->status : default_status(result->outcome);
    set_type(he, result, &r);
    r.headers = result->headers;
    r.header_count = result->header_count;
    r.body = result->body;
    r.body_owner = lies_in(r.body, &ev->body_owner) ? &ev->body_owner : &result->body_owner;
    r.close = false;
    if (st_unlikely(result->outcome == ST_OUTCOME_RETRY && result->header_count == 0)) {
        int n = snprintf(seconds, sizeof seconds, "%u", (result->retry_after_ms + 999) / 1000);
        retry = (struct st_header){
            .name = "Retry-After", .name_len = 11, .value = seconds, .value_len = (uint32_t)n};
        r.headers = &retry;
        r.header_count = 1;
    }
    if (st_unlikely(he->hl->cors != NULL))
        http_cors_reply(he, &r);
    if (st_unlikely(he->ev.log != NULL))
        http_logs_reply(he, &r);
    if (st_unlikely(r.header_count > 0) && http_file_reply(he, &r))
        return;
    if (st_unlikely(r.body.len > ST_OUTQ_COPY_MAX && r.body_owner->region == NULL)) {
        lent = lend_body(ev, r.body);
        r.body_owner = &lent;
    }
    wait_turn(he, st_exchange_respond(&he->x, &r));
    st_buf_drop(&lent);
}

void http_stream_head(struct st_event *ev, const struct st_result *head)
{
    struct http_event *he = event_of(ev);
    struct st_http_response r = {.status = head->status != 0 ? head->status : 200,
                                 .content_type = head->content_type,
                                 .headers = head->headers,
                                 .header_count = head->header_count};

    if (r.content_type.len == 0)
        r.content_type = st_slice_of(ev->trigger->processor->runtime->kind->default_content_type);
    if (st_unlikely(he->hl->cors != NULL))
        http_cors_reply(he, &r);
    if (st_unlikely(he->ev.log != NULL))
        http_logs_reply(he, &r);
    he->x.ops->stream_head(&he->x, &r);
}

void http_stream_write(struct st_event *ev, struct st_buf bytes)
{
    struct http_event *he = event_of(ev);

    he->x.ops->stream_write(&he->x, bytes);
}
