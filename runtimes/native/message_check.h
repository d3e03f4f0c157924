/* What a message of emit() must look like, in the processor and in isolated handlers. */
#ifndef RUNTIMES_NATIVE_MESSAGE_CHECK_H
#define RUNTIMES_NATIVE_MESSAGE_CHECK_H

#include <stator/handler.h>

#include "processor/core/base.h"
#include "processor/output.h"

static inline bool st_native_str_ok(struct stator_str s)
{
    return s.len == 0 || s.ptr != NULL;
}

/* STATOR_DONE; or STATOR_INVALID, STATOR_NOMEM (over a limit) and *why says it, static. */
static inline int st_native_message_check(const struct stator_message *m, const char **why)
{
    size_t bytes = 0;

    *why = "a struct stator_message that is not filled in";
    if (m == NULL || m->size < sizeof *m || !st_native_str_ok(m->value) ||
        !st_native_str_ok(m->key) || !st_native_str_ok(m->topic) ||
        (m->header_count != 0 && m->headers == NULL))
        return STATOR_INVALID;
    *why = "more than 256 headers, or 64 KiB of headers, or a key of more than 64 KiB";
    if (m->header_count > ST_MESSAGE_HEADERS || m->key.len > ST_MESSAGE_KEY_BYTES)
        return STATOR_NOMEM;
    for (size_t i = 0; i < m->header_count; i++) {
        const struct stator_header *h = &m->headers[i];

        if (h->name.len > ST_MESSAGE_HEADER_BYTES || h->value.len > ST_MESSAGE_HEADER_BYTES)
            return STATOR_NOMEM;
        bytes += h->name.len + h->value.len;
        if (h->name.len == 0 || !st_native_str_ok(h->name) || !st_native_str_ok(h->value)) {
            *why = "a header without a name";
            return STATOR_INVALID;
        }
    }
    return bytes <= ST_MESSAGE_HEADER_BYTES ? STATOR_DONE : STATOR_NOMEM;
}

#endif
