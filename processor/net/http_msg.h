/* What HTTP/1 and HTTP/2 have in common: header tables with O(1) access to well-known names, peers,
 * statuses. No I/O. */
#ifndef PROCESSOR_NET_HTTP_MSG_H
#define PROCESSOR_NET_HTTP_MSG_H

#include "processor/core/arena.h"
#include "processor/core/base.h"

/* Header names that code asks for: X(id, "lower-case name"). */
/* clang-format off */
#define ST_HTTP_HEADER_TABLE(X) \
    X(HOST, "host") \
    X(CONTENT_TYPE, "content-type") \
    X(CONTENT_LENGTH, "content-length") \
    X(TRANSFER_ENCODING, "transfer-encoding") \
    X(CONNECTION, "connection") \
    X(EXPECT, "expect") \
    X(DATE, "date") \
    X(SERVER, "server") \
    X(ORIGIN, "origin") \
    X(USER_AGENT, "user-agent") \
    X(ACCEPT, "accept") \
    X(UPGRADE, "upgrade") \
    X(KEEP_ALIVE, "keep-alive") \
    X(TE, "te") \
    X(TRAILER, "trailer") \
    X(PROXY_CONNECTION, "proxy-connection") \
    X(TRACEPARENT, "traceparent") \
    X(RETRY_AFTER, "retry-after") \
    X(X_NUCLIO_LOG_LEVEL, "x-nuclio-log-level") \
    X(X_NUCLIO_LOGS, "x-nuclio-logs")
/* clang-format on */

#define ST_HTTP_HEADER_ENUM(id, name) ST_HDR_##id,
enum st_header_id {
    ST_HDR_OTHER, /* not well known */
    ST_HTTP_HEADER_TABLE(ST_HTTP_HEADER_ENUM) ST_HDR_COUNT
};
#undef ST_HTTP_HEADER_ENUM

/* One header; names keep the case in which they came. */
struct st_header {
    const char *name, *value;
    uint32_t value_len;
    uint16_t name_len;
    uint8_t id; /* enum st_header_id */
};

/* All headers of a message in order, repeats included. `last` knows the first UINT8_MAX of them;
 * only messages of brokers have more, and st_headers_find looks at all. */
struct st_headers {
    struct st_header *items;
    uint32_t count;
    uint8_t last[24]; /* by well-known id: position + 1 of its last header; 0: none */
};

_Static_assert(ST_HDR_COUNT <= 24, "st_headers.last is indexed by well-known id");

/* The far end of a connection. */
struct st_peer {
    char address[46]; /* text: IPv4, IPv6, or "" for a unix socket */
    uint16_t port;
};

/* The id of a header name in any case, by length and bytes; ST_HDR_OTHER when not well known. */
uint8_t st_header_id_of(const char *name, size_t len);

static inline const struct st_header *st_headers_known(const struct st_headers *h,
                                                       enum st_header_id id)
{
    return h->last[id] != 0 ? &h->items[h->last[id] - 1] : NULL;
}

/* The last header of that name in any case, or NULL. */
const struct st_header *st_headers_find(const struct st_headers *h, struct st_slice name);

/* True when a comma-separated header value has the token, in any case (RFC 9110 section 5.6.1). */
bool st_http_has_token(struct st_slice value, const char *token);

/* Reason phrase of RFC 9110 and friends; "" for a status without one. */
struct st_slice st_http_reason(unsigned status);

/* Headers that the server writes itself, or that are about one connection only (RFC 9110 section
 * 7.6.1), and Content-Type, which has a place of its own: handlers don't set them. */
static inline bool st_header_is_ours(uint8_t id)
{
    const uint32_t ours = 1u << ST_HDR_CONTENT_TYPE | 1u << ST_HDR_CONTENT_LENGTH |
                          1u << ST_HDR_TRANSFER_ENCODING | 1u << ST_HDR_CONNECTION |
                          1u << ST_HDR_KEEP_ALIVE | 1u << ST_HDR_PROXY_CONNECTION |
                          1u << ST_HDR_TE | 1u << ST_HDR_TRAILER | 1u << ST_HDR_UPGRADE |
                          1u << ST_HDR_DATE | 1u << ST_HDR_SERVER;

    return (ours >> id & 1u) != 0;
}

/* True for what belongs to a header name / a header value (RFC 9110 section 5.1 and 5.5: no CR, LF,
 * NUL). */
bool st_http_name_ok(struct st_slice name);
bool st_http_value_ok(struct st_slice value);

/* Splits a target in origin or absolute form into raw path and query (behind "?"), drops a
 * fragment. False: neither form. "*" gives path "*". authority is set for absolute form only. */
bool st_http_split_target(struct st_slice target, struct st_slice *scheme,
                          struct st_slice *authority, struct st_slice *path,
                          struct st_slice *query);

/* The path decoded (%2F too) and normalised ("//", ".", ".."; a final slash stays), as Nuclio's
 * event path: the raw slice itself where nothing changes, otherwise a copy in the arena. Broken
 * escapes stay as they are. */
struct st_slice st_http_decode_path(struct st_arena *arena, struct st_slice raw);

#endif
