/* Events as handlers see them: accessors over the record, and the table of host functions. */
#include <stdio.h>
#include <stdlib.h>

#include "runtimes/native_process/host/host.h"
#include "runtimes/native_process/host/link.h"

struct st_slice st_host_section(const struct st_wire_record *record, enum st_wire_id id)
{
    const struct st_wire_section *s = (const struct st_wire_section *)(record + 1);
    size_t count = (record->header_size - sizeof *record) / sizeof *s;

    for (size_t i = 0; i < count; i++)
        if (s[i].id == id)
            return (struct st_slice){(const char *)record + s[i].offset, s[i].length};
    return (struct st_slice){NULL, 0};
}

static void read_sections(struct st_host_event *ev)
{
    const struct st_wire_record *record = ev->record;
    const struct st_wire_section *s = (const struct st_wire_section *)(record + 1);
    size_t count = (record->header_size - sizeof *record) / sizeof *s;

    memset(ev->sections, 0, sizeof ev->sections);
    for (size_t i = 0; i < count; i++)
        if (st_likely(s[i].id < ST_HOST_SECTIONS))
            ev->sections[s[i].id] =
                (struct st_slice){(const char *)record + s[i].offset, s[i].length};
}

/* A large body lies in the pool until the result has come. */
static void find_body(struct st_host_event *ev)
{
    struct st_slice bytes = ev->sections[ST_WIRE_BODY_REF];
    struct st_wire_ref ref;

    if (st_likely(bytes.len < sizeof ref))
        return;
    memcpy(&ref, bytes.ptr, sizeof ref);
    ev->sections[ST_WIRE_BODY] = st_link_down_body(&ref);
}

static struct st_host_event *unused_event(void)
{
    bool locked = st_host_lock();
    struct st_host_event *ev = TAILQ_FIRST(&st_host.unused);

    if (st_likely(ev != NULL))
        TAILQ_REMOVE(&st_host.unused, ev, link);
    st_host_unlock(locked);
    if (st_unlikely(ev == NULL)) {
        ev = aligned_alloc(_Alignof(struct st_host_event), sizeof *ev);
        if (ev == NULL)
            st_host_die("out of memory");
    }
    return ev;
}

struct st_host_event *st_host_event_new(const struct st_wire_record *record)
{
    struct st_host_event *ev = unused_event();

    memset(ev, 0, offsetof(struct st_host_event, sections));
    memset(&ev->headers, 0,
           offsetof(struct st_host_event, arena) - offsetof(struct st_host_event, headers));
    ev->magic = ST_HOST_EVENT_MAGIC;
    ev->seq = record->seq;
    ev->record = record;
    ev->is_tombstone = (record->flags & ST_WIRE_NO_VALUE) != 0;
    ev->in_ring = true;
    st_arena_init(&ev->arena, ev->space, sizeof ev->space);
    st_arena_init(&ev->late, NULL, 0);
    read_sections(ev);
    memcpy(&ev->meta, ev->sections[ST_WIRE_META].ptr, sizeof ev->meta);
    find_body(ev);
    /* What accessors give may be kept beyond handle(), unless the handler is non-blocking. */
    if (st_host.blocking && !st_host_event_keep(ev))
        st_host_die("out of memory");
    return ev;
}

void st_host_event_free(struct st_host_event *ev)
{
    if (ev->stage != ST_HOST_RUNNING) {
        TAILQ_REMOVE(&st_host.events, ev, link);
        st_host.lasting--;
    }
    st_arena_release(&ev->arena);
    st_arena_release(&ev->late);
    free(ev->stream.bytes);
    ev->magic = 0;
    TAILQ_INSERT_HEAD(&st_host.unused, ev, link); /* the warmest */
}

/* The worker has an event that does not keep it busy and could run another one. The processor never
 * takes credits back, so it is told of the most that were needed. Batches wait for the end of the
 * one before. */
static void ask_for_more(void)
{
    struct st_wire_credit credit = {.n = 1};
    const struct st_link_part part = {ST_WIRE_META, {(const char *)&credit, sizeof credit}};

    if (st_host.lasting < st_host.credits ||
        st_host.credits >= st_host.configure->max_concurrency || st_host.configure->batch)
        return;
    st_host.credits++;
    st_link_send(ST_WIRE_CREDIT, 0, 0, &part, 1);
}

void st_host_event_last(struct st_host_event *ev, enum st_host_stage stage)
{
    if (ev->stage == ST_HOST_RUNNING) {
        TAILQ_INSERT_TAIL(&st_host.events, ev, link);
        st_host.lasting++;
        ask_for_more();
    }
    ev->stage = stage;
}

struct st_host_event *st_host_event_find(uint64_t seq)
{
    struct st_host_event *ev = st_host.current;

    if (ev != NULL && ev->seq == seq)
        return ev;
    for (size_t i = 0; i < st_host.batch_count; i++)
        if (st_host.batch[i] != NULL && st_host.batch[i]->seq == seq)
            return st_host.batch[i];
    TAILQ_FOREACH (ev, &st_host.events, link)
        if (ev->seq == seq)
            return ev;
    return NULL;
}

/* Slices of the record that were handed out, or noted, go with it. */
static void move(struct st_slice *s, const char *from, size_t size, const char *to)
{
    uintptr_t at = (uintptr_t)s->ptr - (uintptr_t)from;

    if (s->ptr != NULL && at < size)
        s->ptr = to + at;
}

bool st_host_event_keep(struct st_host_event *ev)
{
    size_t size = ev->record->size;
    const char *from = (const char *)ev->record;
    char *to;

    if (!ev->in_ring)
        return true;
    to = st_arena_try(&ev->arena, size);
    if (to == NULL)
        return false;
    memcpy(to, from, size);
    for (size_t i = 0; i < ST_HOST_SECTIONS; i++)
        move(&ev->sections[i], from, size, to);
    move(&ev->answer.body, from, size, to);
    ev->headers = NULL;
    ev->record = (const struct st_wire_record *)(const void *)to;
    ev->in_ring = false;
    return true;
}

/* Accessors */

static struct stator_str str_of(struct st_slice s)
{
    return (struct stator_str){s.ptr, s.len};
}

static struct stator_str str_of_text(const char *text)
{
    return str_of(st_slice_of(text));
}

static void *host_alloc(stator_event *event, size_t size)
{
    struct st_host_event *ev = st_host_from(event);

    return size <= PTRDIFF_MAX ? st_arena_try(&ev->arena, size != 0 ? size : 1) : NULL;
}

static struct stator_str host_id(stator_event *event)
{
    struct st_host_event *ev = st_host_from(event);
    char *text = st_arena_try(&ev->arena, 37), *to = text;

    if (text == NULL)
        return (struct stator_str){"", 0};
    for (size_t i = 0; i < sizeof ev->meta.id; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *to++ = '-';
        *to++ = "0123456789abcdef"[ev->meta.id[i] >> 4];
        *to++ = "0123456789abcdef"[ev->meta.id[i] & 15];
    }
    return (struct stator_str){text, 36};
}

static const Stator__Worker__V1__Trigger *trigger_of(stator_event *event)
{
    const Stator__Worker__V1__Configure *c = st_host.configure;
    size_t i = st_host_from(event)->meta.trigger;

    return i < c->n_triggers ? c->triggers[i] : c->pool;
}

static struct stator_str host_trigger_kind(stator_event *ev)
{
    return str_of_text(trigger_of(ev)->kind);
}

static struct stator_str host_trigger_name(stator_event *ev)
{
    return str_of_text(trigger_of(ev)->name);
}

#define SECTION_ACCESSOR(name, id)                         \
    static struct stator_str host_##name(stator_event *ev) \
    {                                                      \
        return str_of(st_host_from(ev)->sections[id]);     \
    }

SECTION_ACCESSOR(method, ST_WIRE_METHOD)
SECTION_ACCESSOR(target, ST_WIRE_TARGET)
SECTION_ACCESSOR(path, ST_WIRE_PATH)
SECTION_ACCESSOR(query, ST_WIRE_QUERY)
SECTION_ACCESSOR(content_type, ST_WIRE_CONTENT_TYPE)
SECTION_ACCESSOR(body, ST_WIRE_BODY)
SECTION_ACCESSOR(key, ST_WIRE_KEY)
SECTION_ACCESSOR(topic, ST_WIRE_TOPIC)

static uint32_t count_of(const struct st_host_event *ev)
{
    struct st_slice s = ev->sections[ST_WIRE_HEADERS];
    uint32_t n = 0;

    if (s.len >= sizeof n)
        memcpy(&n, s.ptr, sizeof n);
    return n;
}

/* The section has lengths only: where each header lies is found out once. */
static bool index_headers(struct st_host_event *ev)
{
    const struct st_wire_headers *head =
        (const struct st_wire_headers *)(const void *)ev->sections[ST_WIRE_HEADERS].ptr;
    uint32_t n = count_of(ev);
    const char *at;

    if (ev->headers != NULL || n == 0)
        return n != 0;
    ev->headers = st_arena_try(&ev->arena, n * sizeof ev->headers[0]);
    if (ev->headers == NULL)
        return false;
    at = (const char *)&head->lengths[n];
    for (uint32_t i = 0; i < n; i++) {
        ev->headers[i].name = (struct stator_str){at, head->lengths[i].name_length};
        at += head->lengths[i].name_length;
        ev->headers[i].value = (struct stator_str){at, head->lengths[i].value_length};
        at += head->lengths[i].value_length;
    }
    ev->header_count = n;
    return true;
}

static size_t host_header_count(stator_event *ev)
{
    return count_of(st_host_from(ev));
}

static struct stator_header host_header_at(stator_event *event, size_t i)
{
    struct st_host_event *ev = st_host_from(event);

    if (!index_headers(ev) || i >= ev->header_count)
        return (struct stator_header){{NULL, 0}, {NULL, 0}};
    return ev->headers[i];
}

static struct stator_str host_header(stator_event *event, const char *name)
{
    struct st_host_event *ev = st_host_from(event);
    struct st_slice wanted = st_slice_of(name);

    if (name == NULL || !index_headers(ev))
        return (struct stator_str){NULL, 0};
    for (uint32_t i = ev->header_count; i-- > 0;) {
        struct stator_str found = ev->headers[i].name;

        if (st_slice_ieq((struct st_slice){found.ptr, found.len}, wanted))
            return ev->headers[i].value;
    }
    return (struct stator_str){NULL, 0};
}

static int32_t host_shard(stator_event *ev)
{
    return st_host_from(ev)->meta.shard;
}

static uint64_t host_offset(stator_event *ev)
{
    return st_host_from(ev)->meta.hi;
}

static uint32_t host_attempt(stator_event *ev)
{
    return st_host_from(ev)->meta.attempt;
}

static int host_is_tombstone(stator_event *ev)
{
    return st_host_from(ev)->is_tombstone;
}

static int64_t host_timestamp_ns(stator_event *ev)
{
    return (int64_t)st_host_from(ev)->meta.timestamp_ns;
}

static int64_t host_time_left_ms(stator_event *event)
{
    const struct st_host_event *ev = st_host_from(event);
    uint64_t end = ev->meta.deadline_ns, timeout = st_host.configure->event_timeout_ns, now;

    if (timeout != 0 && (end == 0 || ev->begun_ns + timeout < end))
        end = ev->begun_ns + timeout;
    if (end == 0)
        return -1;
    now = st_host_clock();
    return now < end ? (int64_t)((end - now) / ST_MSEC) : 0;
}

static struct stator_str host_peer(stator_event *event)
{
    struct st_host_event *ev = st_host_from(event);
    struct st_slice address = ev->sections[ST_WIRE_PEER];
    size_t size = address.len + sizeof "[]:65535";
    char *text = address.len != 0 ? st_arena_try(&ev->arena, size) : NULL;
    int n;

    if (text == NULL)
        return (struct stator_str){"", 0};
    n = snprintf(text, size,
                 memchr(address.ptr, ':', address.len) != NULL ? "[%.*s]:%u" : "%.*s:%u",
                 (int)address.len, address.ptr, (unsigned)ev->meta.peer_port);
    return (struct stator_str){text, (size_t)n};
}

const struct stator_host_v1 st_host_table = {
    .abi = STATOR_ABI,
    .size = sizeof(struct stator_host_v1),
    .alloc = host_alloc,
    .id = host_id,
    .trigger_kind = host_trigger_kind,
    .trigger_name = host_trigger_name,
    .method = host_method,
    .target = host_target,
    .path = host_path,
    .query = host_query,
    .content_type = host_content_type,
    .body = host_body,
    .header_count = host_header_count,
    .header_at = host_header_at,
    .header = host_header,
    .key = host_key,
    .topic = host_topic,
    .shard = host_shard,
    .offset = host_offset,
    .attempt = host_attempt,
    .timestamp_ns = host_timestamp_ns,
    .time_left_ms = host_time_left_ms,
    .peer = host_peer,
    .reply = st_host_reply,
    .reply_text = st_host_reply_text,
    .fail = st_host_fail,
    .retry_after = st_host_retry_after,
    .reject = st_host_reject,
    .stream_open = st_host_stream_open,
    .write = st_host_write,
    .on_writable = st_host_on_writable,
    .defer = st_host_defer,
    .resolve = st_host_resolve,
    .log = st_host_log,
    .emit = st_host_emit,
    .is_tombstone = host_is_tombstone,
};
