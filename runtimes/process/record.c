/* Events as records, and results out of records: once each for every event. */
#include "runtimes/process/record.h"

#include "processor/event_log.h"
#include "processor/net/http_msg.h"
#include "processor/net/net.h"

enum {
    MAX_HEADERS = 256,
    MAX_HEADER_BYTES = 64 * 1024 /* of the whole HEADERS section of a result */
};

_Static_assert(sizeof(struct st_wire_event) == 72, "META of EVENT is frozen");
_Static_assert(sizeof(struct st_wire_result) == 16, "META of RESULT is frozen");

/* ---- Events ---- */

static inline size_t round_up(size_t n)
{
    return (n + ST_WIRE_ALIGN - 1) & ~(size_t)(ST_WIRE_ALIGN - 1);
}

/* Path and query mostly are parts of the target, and need no bytes of their own then. */
static inline bool is_part(struct st_slice part, struct st_slice whole)
{
    uintptr_t at = (uintptr_t)part.ptr - (uintptr_t)whole.ptr;

    return at <= whole.len && part.len <= whole.len - at;
}

static inline struct st_slice peer_address(const struct st_event *ev)
{
    return st_slice_of(ev->peer != NULL ? ev->peer->address : NULL);
}

/* Where the bytes of sections begin. */
static inline size_t data_offset(const struct st_event *ev, const struct st_wire_ref *ref)
{
    size_t n = 1; /* META */

    n += ref != NULL;
    n += ev->headers.count != 0;
    n += ev->method.len != 0;
    n += ev->target.len != 0;
    n += ev->path.len != 0;
    n += ev->query.len != 0;
    n += ev->scheme.len != 0;
    n += ev->content_type.len != 0;
    n += ev->key.len != 0;
    n += ev->position.topic.len != 0;
    n += ev->peer != NULL && ev->peer->address[0] != '\0';
    n += ev->trace_parent.len != 0;
    n += ref == NULL && ev->body.len != 0;
    return round_up(sizeof(struct st_wire_record) + n * sizeof(struct st_wire_section));
}

static inline size_t headers_size(const struct st_headers *h)
{
    size_t n = sizeof(struct st_wire_headers) + h->count * sizeof(struct st_wire_header);

    for (uint32_t i = 0; i < h->count; i++)
        n += h->items[i].name_len + (size_t)h->items[i].value_len;
    return n;
}

size_t st_record_event_size(const struct st_event *ev, const struct st_wire_ref *ref)
{
    size_t n = data_offset(ev, ref) + sizeof(struct st_wire_event);

    n += ref != NULL ? sizeof *ref : ev->body.len;
    if (ev->headers.count != 0)
        n += headers_size(&ev->headers);
    n += ev->method.len + ev->target.len + ev->scheme.len + ev->content_type.len + ev->key.len +
         ev->position.topic.len + ev->trace_parent.len + peer_address(ev).len;
    n += is_part(ev->path, ev->target) ? 0 : ev->path.len;
    n += is_part(ev->query, ev->target) ? 0 : ev->query.len;
    return round_up(n);
}

/* A copy of what is mostly short, without a call. */
static inline void copy(char *to, const char *from, size_t n)
{
    if (n > 32) {
        memcpy(to, from, n);
    } else if (n >= 16) {
        __builtin_memcpy(to, from, 16);
        __builtin_memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 8) {
        __builtin_memcpy(to, from, 8);
        __builtin_memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        __builtin_memcpy(to, from, 4);
        __builtin_memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

struct writer {
    char *at; /* the record */
    struct st_wire_section *section;
    uint32_t offset; /* where the next bytes go */
};

static inline void put_section(struct writer *w, enum st_wire_id id, uint32_t offset, size_t length)
{
    *w->section++ =
        (struct st_wire_section){.id = (uint16_t)id, .offset = offset, .length = (uint32_t)length};
}

static inline void put(struct writer *w, enum st_wire_id id, const void *bytes, size_t length)
{
    if (length == 0)
        return;
    put_section(w, id, w->offset, length);
    copy(w->at + w->offset, bytes, length);
    w->offset += (uint32_t)length;
}

static inline void put_slice(struct writer *w, enum st_wire_id id, struct st_slice s)
{
    put(w, id, s.ptr, s.len);
}

/* The target begins at `target`. */
static inline void put_part(struct writer *w, enum st_wire_id id, struct st_slice s,
                            struct st_slice whole, uint32_t target)
{
    if (s.len == 0)
        return;
    if (st_likely(is_part(s, whole)))
        put_section(w, id, target + (uint32_t)(s.ptr - whole.ptr), s.len);
    else
        put_slice(w, id, s);
}

static inline void put_headers(struct writer *w, const struct st_headers *h)
{
    struct st_wire_headers *head = (struct st_wire_headers *)(w->at + w->offset);
    char *to = (char *)&head->lengths[h->count];

    if (h->count == 0)
        return;
    head->count = h->count;
    for (uint32_t i = 0; i < h->count; i++) {
        const struct st_header *it = &h->items[i];

        head->lengths[i] = (struct st_wire_header){it->name_len, it->value_len};
        copy(to, it->name, it->name_len);
        to += it->name_len;
        copy(to, it->value, it->value_len);
        to += it->value_len;
    }
    put_section(w, ST_WIRE_HEADERS, w->offset, (size_t)(to - (char *)head));
    w->offset += (uint32_t)(to - (char *)head);
}

static inline void put_meta(struct writer *w, const struct st_event *ev, uint16_t trigger)
{
    const struct st_wire_event meta = {
        .timestamp_ns = ev->timestamp_ns,
        .hi = ev->position.hi,
        .lo = ev->position.lo,
        .deadline_ns = ev->deadline_ns,
        .shard = ev->position.shard,
        .shards = ev->position.shards,
        .attempt = ev->attempt,
        .http_version = ev->http_version,
        .peer_port = ev->peer != NULL ? ev->peer->port : 0,
        .trigger = trigger,
        .log_level = ev->log != NULL ? (uint8_t)st_event_log_level(ev) : (uint8_t)ST_WIRE_NO_LEVEL,
    };

    put_section(w, ST_WIRE_META, w->offset, sizeof meta);
    memcpy(w->at + w->offset, &meta, sizeof meta);
    memcpy(w->at + w->offset, ev->id, sizeof ev->id);
    w->offset += sizeof meta;
}

static inline uint8_t wire_flags(const struct st_event *ev)
{
    return (ev->flags & ST_EVENT_TOMBSTONE) != 0 ? ST_WIRE_NO_VALUE : 0;
}

void st_record_event_put(char *at, size_t size, const struct st_event *ev, uint64_t seq,
                         uint16_t trigger, const struct st_wire_ref *ref)
{
    struct st_wire_record *record = (struct st_wire_record *)at;
    const size_t data = data_offset(ev, ref);
    struct writer w = {at, (struct st_wire_section *)(record + 1), (uint32_t)data};
    uint32_t target;

    /* Padding: nothing of what lay here before reaches the worker. */
    memset(at + data - ST_WIRE_ALIGN, 0, ST_WIRE_ALIGN);
    memset(at + size - ST_WIRE_ALIGN, 0, ST_WIRE_ALIGN);
    put_meta(&w, ev, trigger);
    if (ref != NULL)
        put(&w, ST_WIRE_BODY_REF, ref, sizeof *ref);
    put_headers(&w, &ev->headers);
    put_slice(&w, ST_WIRE_METHOD, ev->method);
    target = w.offset;
    put_slice(&w, ST_WIRE_TARGET, ev->target);
    put_part(&w, ST_WIRE_PATH, ev->path, ev->target, target);
    put_part(&w, ST_WIRE_QUERY, ev->query, ev->target, target);
    put_slice(&w, ST_WIRE_SCHEME, ev->scheme);
    put_slice(&w, ST_WIRE_CONTENT_TYPE, ev->content_type);
    put_slice(&w, ST_WIRE_KEY, ev->key);
    put_slice(&w, ST_WIRE_TOPIC, ev->position.topic);
    put_slice(&w, ST_WIRE_PEER, peer_address(ev));
    put_slice(&w, ST_WIRE_TRACE_PARENT, ev->trace_parent);
    if (ref == NULL)
        put_slice(&w, ST_WIRE_BODY, ev->body);
    *record = (struct st_wire_record){.size = (uint32_t)size,
                                      .header_size = (uint16_t)((char *)w.section - at),
                                      .kind = ST_WIRE_EVENT,
                                      .flags = wire_flags(ev),
                                      .seq = seq};
}

/* ---- Results ---- */

_Static_assert((int)ST_OUTCOME_OK == ST_WIRE_OK && (int)ST_OUTCOME_ERROR == ST_WIRE_ERROR &&
                   (int)ST_OUTCOME_RETRY == ST_WIRE_RETRY &&
                   (int)ST_OUTCOME_REJECT == ST_WIRE_REJECT,
               "outcomes of the wire are ours");

static const char no_memory[] = "no memory for the result";

/* Everything that a worker said about one result, in the event's arena. */
struct said {
    struct st_slice content_type, body;
    struct st_buf body_owner;
    struct st_header *headers;
    size_t header_count;
};

/* One header whose bytes lie at *at; false: it must not be. */
static bool put_header(struct said *said, struct st_wire_header length, const char *at)
{
    struct st_slice name = {at, length.name_length}, value = {at + name.len, length.value_length};
    uint8_t id;

    if (!st_http_name_ok(name) || !st_http_value_ok(value))
        return false;
    id = st_header_id_of(name.ptr, name.len);
    if (id == ST_HDR_CONTENT_TYPE && said->content_type.len == 0)
        said->content_type = value;
    if (!st_header_is_ours(id))
        said->headers[said->header_count++] = (struct st_header){.name = name.ptr,
                                                                 .value = value.ptr,
                                                                 .name_len = (uint16_t)name.len,
                                                                 .value_len = (uint32_t)value.len,
                                                                 .id = id};
    return true;
}

/* `bytes` is a HEADERS section in our memory, of at most MAX_HEADER_BYTES. */
static const char *read_headers(struct st_event *ev, struct st_slice bytes, struct said *said)
{
    const struct st_wire_headers *head = (const struct st_wire_headers *)bytes.ptr;
    size_t left, count;
    const char *at;

    if (bytes.len < sizeof *head)
        return "headers of the result are cut off";
    count = head->count;
    if (count > MAX_HEADERS)
        return "the result has more than 256 headers";
    if (count > (bytes.len - sizeof *head) / sizeof head->lengths[0])
        return "headers of the result are cut off";
    left = bytes.len - sizeof *head - count * sizeof head->lengths[0];
    at = (const char *)&head->lengths[count];
    said->headers = st_arena_try(&ev->arena, count * sizeof *said->headers);
    if (said->headers == NULL)
        return no_memory;
    for (size_t i = 0; i < count; i++) {
        const struct st_wire_header length = head->lengths[i];
        size_t n = (size_t)length.name_length + length.value_length;

        if (n > left)
            return "headers of the result are cut off";
        if (!put_header(said, length, at))
            return "a header of the result has a bad name or value";
        at += n;
        left -= n;
    }
    return NULL;
}

/* Copies all parts into one piece of the arena: headers first, they are read as numbers. */
static const char *copy_parts(const struct st_wire_view *view, struct st_event *ev,
                              struct said *said)
{
    const size_t headers = view->headers.len, type = view->content_type.len,
                 body = said->body_owner.region == NULL ? view->body.len : 0;
    char *at = st_arena_try(&ev->arena, headers + type + body);

    if (at == NULL)
        return no_memory;
    if (type != 0) {
        copy(at + headers, view->content_type.ptr, type);
        said->content_type = (struct st_slice){at + headers, type};
        if (!st_http_value_ok(said->content_type))
            return "the content type of the result has a bad character";
    }
    if (body != 0) {
        memcpy(at + headers + type, view->body.ptr, body);
        said->body = (struct st_slice){at + headers + type, body};
    }
    if (headers == 0)
        return NULL;
    memcpy(at, view->headers.ptr, headers);
    return read_headers(ev, (struct st_slice){at, headers}, said);
}

/* A body that the arena does not take. */
static const char *take_body(struct st_channel *ch, const struct st_wire_view *view,
                             struct said *said)
{
    const size_t n = view->body.len;

    if (view->has_ref) {
        if (st_channel_borrow_body(ch, &view->ref, &said->body_owner) != ST_OK)
            return no_memory;
    } else {
        struct st_region *r = st_body_region_try_new(st_channel_bodies(ch), n);

        if (r == NULL)
            return no_memory;
        memcpy(r->base, view->body.ptr, n);
        said->body_owner = (struct st_buf){r, 0, n};
    }
    said->body = st_buf_slice(&said->body_owner);
    return NULL;
}

static const char *check(const struct st_wire_view *view)
{
    const struct st_wire_result *meta = &view->meta.result;

    if (meta->status != 0 && (unsigned)meta->status - 200u > 399u)
        return "the result's status is not a number from 200 to 599";
    if (meta->outcome > ST_WIRE_REJECT)
        return "the result's outcome is unknown";
    if (view->headers.len + view->content_type.len > MAX_HEADER_BYTES)
        return "the result has more than 64 KiB of headers";
    if (view->has_ref && view->ref.region != ST_WIRE_UP)
        return "the result's body lies in the wrong pool";
    return NULL;
}

int st_record_result(struct st_channel *ch, const struct st_wire_view *view, struct st_event *ev,
                     const char **why)
{
    const struct st_wire_result *meta = &view->meta.result;
    struct st_result *r = &ev->result;
    struct said said = {.headers = NULL};

    *why = check(view);
    if (*why != NULL) {
        if (view->has_ref)
            st_channel_return_body(ch, &view->ref);
        return ST_ERR_INVALID;
    }
    if (st_unlikely(view->has_ref || view->body.len > ST_WIRE_INLINE_BODY)) {
        *why = take_body(ch, view, &said);
        if (*why != NULL)
            return ST_ERR_NOMEM;
    }
    *why = copy_parts(view, ev, &said);
    if (st_unlikely(*why != NULL)) {
        st_buf_drop(&said.body_owner); /* sends ACK, where it was borrowed */
        return *why == no_memory ? ST_ERR_NOMEM : ST_ERR_INVALID;
    }
    r->outcome = (enum st_outcome)meta->outcome;
    r->status = meta->status;
    r->retry_after_ms = meta->retry_after_ms;
    r->content_type = said.content_type;
    r->headers = said.headers;
    r->header_count = said.header_count;
    r->body = said.body;
    r->body_owner = said.body_owner;
    return ST_OK;
}
