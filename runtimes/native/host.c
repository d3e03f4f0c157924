/* The table of functions that handlers get. */
#include <stdio.h>

#include "processor/core/arena.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/event_log.h"
#include "processor/trigger.h"
#include "runtimes/native/native_int.h"

_Thread_local struct st_native_context st_native_context;

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
    struct st_event *ev = st_native_from(event);

    /* No event may be larger than half of the address space; this also keeps sums from wrapping. */
    return size <= PTRDIFF_MAX ? st_arena_try(&ev->arena, size != 0 ? size : 1) : NULL;
}

static struct stator_str host_id(stator_event *ev)
{
    return str_of(st_event_id_text(st_native_from(ev)));
}

static struct stator_str host_trigger_kind(stator_event *ev)
{
    return str_of_text(st_native_from(ev)->trigger->kind->name);
}

static struct stator_str host_trigger_name(stator_event *ev)
{
    return str_of_text(st_native_from(ev)->trigger->name);
}

#define TEXT_ACCESSOR(field)                                \
    static struct stator_str host_##field(stator_event *ev) \
    {                                                       \
        return str_of(st_native_from(ev)->field);           \
    }

TEXT_ACCESSOR(method)
TEXT_ACCESSOR(target)
TEXT_ACCESSOR(path)
TEXT_ACCESSOR(query)
TEXT_ACCESSOR(body)
TEXT_ACCESSOR(key)

static struct stator_str host_content_type(stator_event *event)
{
    struct st_event *ev = st_native_from(event);

    st_event_read(ev);
    return str_of(ev->content_type);
}

static const struct st_headers *headers_of(stator_event *event)
{
    struct st_event *ev = st_native_from(event);

    st_event_read(ev);
    return &ev->headers;
}

static struct stator_str host_topic(stator_event *ev)
{
    return str_of(st_native_from(ev)->position.topic);
}

static size_t host_header_count(stator_event *ev)
{
    return headers_of(ev)->count;
}

static struct stator_header host_header_at(stator_event *event, size_t i)
{
    const struct st_headers *headers = headers_of(event);
    const struct st_header *h;

    if (i >= headers->count)
        return (struct stator_header){{NULL, 0}, {NULL, 0}};
    h = &headers->items[i];
    return (struct stator_header){{h->name, h->name_len}, {h->value, h->value_len}};
}

static struct stator_str host_header(stator_event *ev, const char *name)
{
    const struct st_header *h = NULL;

    if (name != NULL)
        h = st_headers_find(headers_of(ev), st_slice_of(name));
    return h != NULL ? (struct stator_str){h->value, h->value_len} : (struct stator_str){NULL, 0};
}

static int32_t host_shard(stator_event *ev)
{
    return st_native_from(ev)->position.shard;
}

static uint64_t host_offset(stator_event *ev)
{
    return st_native_from(ev)->position.hi;
}

static uint32_t host_attempt(stator_event *ev)
{
    return st_native_from(ev)->attempt;
}

static int host_is_tombstone(stator_event *ev)
{
    return (st_native_from(ev)->flags & ST_EVENT_TOMBSTONE) != 0;
}

static int64_t host_timestamp_ns(stator_event *ev)
{
    return (int64_t)st_native_from(ev)->timestamp_ns;
}

static int64_t host_time_left_ms(stator_event *event)
{
    const struct st_event *ev = st_native_from(event);
    const struct st_native_worker *nw = st_native_context.worker;
    uint64_t now, end = ev->deadline_ns, started;

    if (nw != NULL && nw->timeout_ns != 0) {
        started = atomic_load_explicit(&ev->started_ns, memory_order_relaxed);
        /* Inline events start in the pass in which they arrive. */
        started = (started != 0 ? started : ev->arrived_ns) + nw->timeout_ns;
        end = end == 0 || started < end ? started : end;
    }
    if (end == 0)
        return -1;
    now = st_clock_mono();
    return now < end ? (int64_t)((end - now) / ST_MSEC) : 0;
}

static struct stator_str host_peer(stator_event *event)
{
    struct st_event *ev = st_native_from(event);
    const struct st_peer *peer = ev->peer;
    size_t size = sizeof peer->address + sizeof "[]:65535";
    char *text;
    int n;

    if (peer == NULL || peer->address[0] == '\0')
        return (struct stator_str){"", 0};
    text = st_arena_alloc(&ev->arena, size);
    n = snprintf(text, size, strchr(peer->address, ':') != NULL ? "[%s]:%u" : "%s:%u",
                 peer->address, (unsigned)peer->port);
    return (struct stator_str){text, (size_t)n};
}

static void host_log(stator_event *event, int level, const char *text)
{
    static const enum st_log_level levels[] = {
        [STATOR_LOG_DEBUG] = ST_LOG_DEBUG,
        [STATOR_LOG_INFO] = ST_LOG_INFO,
        [STATOR_LOG_WARN] = ST_LOG_WARN,
        [STATOR_LOG_ERROR] = ST_LOG_ERROR,
    };
    size_t i = level < 0 ? 0 : (size_t)level;
    enum st_log_level l = i < ST_ARRAY_LEN(levels) ? levels[i] : ST_LOG_ERROR;
    struct st_event *ev = event != NULL ? st_native_from(event) : NULL;
    char id[37];

    if (text == NULL)
        text = "";
    if (st_unlikely(ev != NULL && ev->log != NULL))
        st_event_log_add(ev, l, text, NULL);
    if (!st_log_wants_function(l))
        return;
    if (ev == NULL) {
        st_log_write_function(l, "function", text, NULL);
        return;
    }
    st_uuid_text(ev->id, id);
    st_log_write_function(l, "function", text,
                          (const struct st_log_var[]){ST_KV_STR("event", id), {.key = NULL}});
}

const struct stator_host_v1 st_native_host = {
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
    .reply = st_native_reply,
    .reply_text = st_native_reply_text,
    .fail = st_native_fail,
    .retry_after = st_native_retry_after,
    .reject = st_native_reject,
    .stream_open = st_native_stream_open,
    .write = st_native_write,
    .on_writable = st_native_on_writable,
    .defer = st_native_defer,
    .resolve = st_native_resolve,
    .log = host_log,
    .emit = st_native_emit,
    .is_tombstone = host_is_tombstone,
};
