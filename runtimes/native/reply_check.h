/* What a handler may say in an answer. Plain C, without the processor: the executable that hosts
 * isolated handlers uses it too. */
#ifndef RUNTIMES_NATIVE_REPLY_CHECK_H
#define RUNTIMES_NATIVE_REPLY_CHECK_H

#include <stator/handler.h>

#include "processor/core/base.h"
#include "processor/net/http_msg.h"

enum { ST_NATIVE_MAX_HEADERS = 1000, ST_NATIVE_MAX_HEADER_NAME = UINT16_MAX };

/* Readers of 1.0 wrote this much; newer ones write more. */
#define ST_NATIVE_REPLY_MIN_SIZE (offsetof(struct stator_reply, body_len) + sizeof(size_t))

static inline bool st_native_status_ok(int status)
{
    return (unsigned)status - 200u <= 399u || status == 0;
}

static inline bool st_native_value_ok(struct stator_str s)
{
    return s.len <= UINT32_MAX && (s.len == 0 || s.ptr != NULL) &&
           st_http_value_ok((struct st_slice){s.ptr, s.len});
}

static inline bool st_native_headers_ok(const struct stator_reply *reply)
{
    if (reply->header_count > ST_NATIVE_MAX_HEADERS || reply->headers == NULL)
        return false;
    for (size_t i = 0; i < reply->header_count; i++) {
        const struct stator_header *h = &reply->headers[i];

        if (h->name.ptr == NULL || h->name.len == 0 || h->name.len > ST_NATIVE_MAX_HEADER_NAME ||
            !st_http_name_ok((struct st_slice){h->name.ptr, h->name.len}) ||
            !st_native_value_ok(h->value))
            return false;
    }
    return true;
}

/* All but the content type. */
static inline bool st_native_reply_mostly_ok(const struct stator_reply *reply)
{
    if (reply == NULL || reply->size < ST_NATIVE_REPLY_MIN_SIZE ||
        !st_native_status_ok(reply->status) || (reply->body == NULL && reply->body_len != 0))
        return false;
    return st_likely(reply->header_count == 0) || st_native_headers_ok(reply);
}

static inline bool st_native_type_ok(struct stator_str type)
{
    return type.len == 0 || (type.ptr != NULL && st_native_value_ok(type));
}

/* False: STATOR_INVALID. */
static inline bool st_native_reply_ok(const struct stator_reply *reply)
{
    return st_native_reply_mostly_ok(reply) && st_native_type_ok(reply->content_type);
}

/* Copies the members that the caller knows; the others are zero. The reply is ok. */
static inline void st_native_reply_read(struct stator_reply *out, const struct stator_reply *reply)
{
    memset(out, 0, sizeof *out);
    memcpy(out, reply, reply->size < sizeof *out ? reply->size : sizeof *out);
    out->size = sizeof *out;
}

/* Of fail(): by the outcome where it is none of a failure. */
static inline int st_native_failure_status(int status)
{
    return status >= 400 && status <= 599 ? status : 0;
}

#endif
