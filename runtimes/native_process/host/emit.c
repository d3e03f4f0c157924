/* emit(): messages of the handler for the processor's outputs. */
#include <stdio.h>

#include "processor/core/alloc.h"
#include "runtimes/native/message_check.h"
#include "runtimes/native_process/host/host.h"
#include "runtimes/native_process/host/link.h"

static bool is_output(const char *name)
{
    for (size_t i = 0; i < st_host.configure->n_outputs; i++)
        if (strcmp(st_host.configure->outputs[i], name) == 0)
            return true;
    return false;
}

/* A HEADERS section, the caller's to free; NULL: no memory. */
static struct st_wire_headers *pack_headers(const struct stator_message *m, size_t *size)
{
    struct st_wire_headers *head;
    char *at;

    *size = sizeof *head;
    for (size_t i = 0; i < m->header_count; i++)
        *size += sizeof head->lengths[0] + m->headers[i].name.len + m->headers[i].value.len;
    head = st_try_malloc(*size);
    if (head == NULL)
        return NULL;
    head->count = (uint32_t)m->header_count;
    at = (char *)&head->lengths[head->count];
    for (size_t i = 0; i < m->header_count; i++) {
        const struct stator_header *h = &m->headers[i];

        head->lengths[i] = (struct st_wire_header){(uint32_t)h->name.len, (uint32_t)h->value.len};
        memcpy(at, h->name.ptr, h->name.len);
        at += h->name.len;
        if (h->value.len != 0)
            memcpy(at, h->value.ptr, h->value.len);
        at += h->value.len;
    }
    return head;
}

/* The message is ok. */
static int emit(struct st_host_event *ev, const char *output, const struct stator_message *m,
                struct st_slice headers)
{
    struct st_slice name = st_slice_of(output), value = {m->value.ptr, m->value.len};
    struct st_wire_ref ref;
    struct st_link_part parts[] = {
        {.id = ST_WIRE_NAME, .bytes = name},
        {.id = ST_WIRE_TOPIC, .bytes = {m->topic.ptr, m->topic.len}},
        {.id = ST_WIRE_KEY, .bytes = {m->key.ptr, m->key.len}},
        {.id = ST_WIRE_HEADERS, .bytes = headers},
        {.id = ST_WIRE_BODY, .bytes = value},
    };
    bool no_value = (m->flags & STATOR_NO_VALUE) != 0, locked = st_host_lock();
    int code = STATOR_DONE;

    if (no_value)
        parts[4].bytes = (struct st_slice){NULL, 0};
    if (parts[4].bytes.len > ST_WIRE_INLINE_BODY) {
        if (st_link_put_body(value, &ref))
            parts[4] = (struct st_link_part){.id = ST_WIRE_BODY_REF,
                                             .bytes = {(const char *)&ref, sizeof ref}};
        else
            code = STATOR_NOMEM;
    }
    if (code == STATOR_DONE)
        st_link_send(ST_WIRE_EMIT, no_value ? ST_WIRE_NO_VALUE : 0, ev->seq, parts,
                     ST_ARRAY_LEN(parts));
    st_host_unlock(locked);
    return code;
}

static int refuse(stator_event *event, const char *output, int code, const char *why)
{
    char text[256];

    snprintf(text, sizeof text, "emit to %.64s refused: %s", output, why);
    st_host_log(event, STATOR_LOG_WARN, text);
    return code;
}

int st_host_emit(stator_event *event, const char *output, const struct stator_message *m)
{
    struct st_host_event *ev = st_host_from(event);
    struct st_wire_headers *head = NULL;
    struct st_slice headers = {NULL, 0};
    const char *why;
    int code = st_native_message_check(m, &why);

    if (output == NULL || !is_output(output))
        return refuse(event, output != NULL ? output : "", STATOR_INVALID,
                      "spec.stator.outputs has none of that name");
    if (code != STATOR_DONE)
        return refuse(event, output, code, why);
    if (ev->gone)
        return STATOR_GONE;
    if (m->header_count != 0 && (head = pack_headers(m, &headers.len)) == NULL)
        return STATOR_NOMEM;
    headers.ptr = (const char *)head;
    if (strlen(output) + m->topic.len + m->key.len + headers.len + ST_WIRE_INLINE_BODY >
        st_link_max_bytes())
        code = STATOR_NOMEM;
    else
        code = emit(ev, output, m, headers);
    free(head);
    return code == STATOR_DONE
               ? code
               : refuse(event, output, code, "it is larger than what the ring or the pool takes");
}
