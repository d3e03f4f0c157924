/* Messages that a worker process emits for its events (EMIT records).
 *
 * The value goes to the output as it lies, in memory that the worker may change: nobody looks at it
 * twice. The rest is copied first and checked then. Nothing is answered: what can't be sent fails
 * its event. */
#include "runtimes/process/emit.h"

#include "processor/core/alloc.h"
#include "processor/event.h"
#include "processor/pool.h"
#include "processor/trigger.h"
#include "runtimes/process/worker.h"

/* The HEADERS section of the most headers with the most bytes. */
#define MAX_HEADERS_SECTION                                                                \
    (sizeof(struct st_wire_headers) + ST_MESSAGE_HEADERS * sizeof(struct st_wire_header) + \
     (size_t)ST_MESSAGE_HEADER_BYTES)

static struct st_slice move(char **at, struct st_slice s)
{
    struct st_slice out = {s.ptr != NULL ? *at : NULL, s.len};

    if (s.ptr != NULL && s.len != 0)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return out;
}

static const char *read_headers(struct st_emitted *e, struct st_slice bytes)
{
    const struct st_wire_headers *head = (const struct st_wire_headers *)(const void *)bytes.ptr;
    size_t left, count;
    const char *at;

    if (bytes.ptr == NULL || bytes.len == 0)
        return NULL;
    if (bytes.len < sizeof *head)
        return "its headers are cut off";
    count = head->count;
    if (count > ST_MESSAGE_HEADERS)
        return "it has more than 256 headers";
    if (count > (bytes.len - sizeof *head) / sizeof head->lengths[0])
        return "its headers are cut off";
    left = bytes.len - sizeof *head - count * sizeof head->lengths[0];
    at = (const char *)&head->lengths[count];
    for (size_t i = 0; i < count; i++) {
        const struct st_wire_header length = head->lengths[i];
        size_t n = (size_t)length.name_length + length.value_length;

        if (n > left)
            return "its headers are cut off";
        if (length.name_length > UINT16_MAX)
            return "the name of a header is too long";
        e->headers[i] = (struct st_header){.name = at,
                                           .name_len = (uint16_t)length.name_length,
                                           .value = at + length.name_length,
                                           .value_len = length.value_length};
        at += n;
        left -= n;
    }
    e->m.headers = e->headers;
    e->m.header_count = count;
    return NULL;
}

const char *st_emitted_read(struct st_emitted *e, const struct st_wire_view *view)
{
    size_t size = view->headers.len + view->name.len + view->key.len + view->topic.len;
    struct st_slice headers;
    char *at;

    e->copy = NULL;
    if (view->headers.len > MAX_HEADERS_SECTION)
        return "it has more than 64 KiB of headers";
    if (view->key.len > ST_MESSAGE_KEY_BYTES)
        return "its key has more than 64 KiB";
    if (view->topic.len > UINT16_MAX || view->name.len > UINT16_MAX)
        return "its topic or its output's name is too long";
    if (size > sizeof e->space && (e->copy = st_try_malloc(size)) == NULL)
        return "no memory for it";
    at = e->copy != NULL ? e->copy : e->space;
    headers = move(&at, view->headers);
    e->output = move(&at, view->name);
    e->m = (struct st_message){.value = view->body,
                               .key = move(&at, view->key),
                               .topic = move(&at, view->topic),
                               .is_tombstone = (view->flags & ST_WIRE_NO_VALUE) != 0};
    return read_headers(e, headers);
}

void st_emitted_drop(struct st_emitted *e)
{
    free(e->copy);
    e->copy = NULL;
}

static void emit(struct st_process_worker *pw, const struct st_wire_view *view, struct st_event *ev)
{
    struct st_buf value = {0};
    struct st_output *o;
    struct st_emitted e;
    const char *why = st_emitted_read(&e, view);

    if (view->has_ref && st_channel_borrow_body(pw->channel, &view->ref, &value) != ST_OK &&
        why == NULL)
        why = "its value can't be taken";
    if (why != NULL) {
        st_output_fail(ev, ST_ERR_INVALID, "an emit failed: %s", why);
    } else {
        if (view->has_ref)
            e.m.value = st_buf_slice(&value);
        o = st_output_find(pw->w->pool->processor, e.output);
        if (o != NULL)
            st_output_publish(o, ev, &e.m);
        else
            st_output_fail(ev, ST_ERR_NOTFOUND, "spec.stator.outputs has no \"%.*s\"",
                           e.output.len < 64 ? (int)e.output.len : 64, e.output.ptr);
    }
    st_buf_drop(&value); /* sends ACK, where it was borrowed */
    st_emitted_drop(&e);
}

void st_answer_emit(struct st_process_worker *pw, const struct st_wire_view *view)
{
    struct st_flight *f = st_flight_of(pw, view->seq);

    if (f == NULL)
        st_process_kill(pw, ST_LOST_PROTOCOL, "it emitted for an event that it does not have");
    else if (f->owns)
        emit(pw, view, f->ev);
    else if (view->has_ref) /* answered: nobody waits for it */
        st_channel_return_body(pw->channel, &view->ref);
}
