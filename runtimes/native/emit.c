/* emit(): messages of handlers for outputs. */
#include "processor/output.h"

#include <stdio.h>

#include "processor/core/log.h"
#include "processor/trigger.h"
#include "runtimes/native/message_check.h"
#include "runtimes/native/native_int.h"

_Static_assert(ST_MESSAGE_HEADER_BYTES <= UINT16_MAX + 1, "names of headers fit");

static struct st_slice slice_of(struct stator_str s)
{
    return (struct st_slice){s.ptr, s.len};
}

static int code_of(int code)
{
    switch (code) {
    case ST_OK:
        return STATOR_DONE;
    case ST_ERR_LIMIT:
    case ST_ERR_NOMEM:
        return STATOR_NOMEM;
    case ST_ERR_CLOSED:
        return STATOR_GONE;
    default:
        return STATOR_INVALID;
    }
}

/* The message is ok. */
static int emit(struct st_output *o, struct st_event *ev, const struct stator_message *message,
                struct st_error *err)
{
    struct st_header headers[ST_MESSAGE_HEADERS];
    struct st_message m = {.value = slice_of(message->value),
                           .key = slice_of(message->key),
                           .topic = slice_of(message->topic),
                           .headers = headers,
                           .header_count = message->header_count,
                           .is_tombstone = (message->flags & STATOR_NO_VALUE) != 0};

    for (size_t i = 0; i < message->header_count; i++) {
        const struct stator_header *h = &message->headers[i];

        headers[i] = (struct st_header){.name = h->name.ptr,
                                        .name_len = (uint16_t)h->name.len,
                                        .value = h->value.ptr,
                                        .value_len = (uint32_t)h->value.len};
    }
    if (!st_native_outlive(ev))
        return st_error_set(err, ST_ERR_NOMEM, "no memory to keep the event");
    return st_output_emit(o, ev, &m, err);
}

static int refuse(stator_event *event, const char *output, int code, const char *why)
{
    static _Thread_local struct st_log_limit limit;
    uint64_t suppressed;
    char text[512];

    if (!st_log_limit_pass(&limit, &suppressed))
        return code;
    snprintf(text, sizeof text, "emit to %.64s refused: %.400s", output, why);
    st_native_host.log(event, STATOR_LOG_WARN, text);
    return code;
}

int st_native_emit(stator_event *event, const char *output, const struct stator_message *message)
{
    struct st_event *ev = st_native_from(event);
    struct st_error err = {.code = ST_OK};
    const char *name = output != NULL ? output : "", *why;
    struct st_output *o = st_output_find(ev->trigger->processor, st_slice_of(name));
    int code = st_native_message_check(message, &why);

    if (o == NULL)
        return refuse(event, name, STATOR_INVALID, "spec.stator.outputs has none of that name");
    if (code != STATOR_DONE)
        return refuse(event, name, code, why);
    code = code_of(emit(o, ev, message, &err));
    return code == STATOR_DONE ? code : refuse(event, name, code, err.text);
}
