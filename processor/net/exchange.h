/* One HTTP request and its response, whatever the version: what a server (the http trigger, admin)
 * sees of HTTP/1 and HTTP/2.
 *
 * The server allocates exchanges (begin) and gets each back once: by `drop` (the request never
 * became whole), or after it answered, when st_exchange_respond returned true or `done` was called.
 * Everything is on the connection's loop. */
#ifndef PROCESSOR_NET_EXCHANGE_H
#define PROCESSOR_NET_EXCHANGE_H

#include <sys/queue.h>

#include "processor/core/arena.h"
#include "processor/core/base.h"
#include "processor/core/buf.h"
#include "processor/net/http_msg.h"
#include "processor/net/outq.h"

struct st_exchange;
struct st_net;

struct st_http_response {
    unsigned status;              /* 200 .. 599 */
    struct st_slice content_type; /* empty: no such header */
    const struct st_header *headers;
    size_t header_count;
    struct st_slice body;
    const struct st_buf *body_owner; /* NULL or empty: body is copied; else referenced if large */
    bool close;                      /* end the connection after it */
};

/* The protocol's side. */
struct st_exchange_ops {
    /* True: done, the exchange is the server's again. False: waits for its turn, `done` follows. */
    bool (*respond)(struct st_exchange *x, const struct st_http_response *r);
    void (*stream_head)(struct st_exchange *x, const struct st_http_response *r);
    void (*stream_write)(struct st_exchange *x, struct st_buf bytes);
    /* As respond: true when done. well false: cut the connection, so that the peer notices. */
    bool (*stream_end)(struct st_exchange *x, bool well);
};

struct st_exchange {
    STAILQ_ENTRY(st_exchange) link; /* the session's pipeline */
    const struct st_exchange_ops *ops;
    void *session;          /* NULL: the connection is gone, answers go nowhere */
    struct st_arena *arena; /* the server's, for what outlives a read */

    /* The request, whole when the server sees it. Slices lie in the read buffer or the arena. */
    struct st_slice head; /* request line and headers as they came: what detach must keep */
    struct st_slice method, target;
    struct st_headers headers;
    uint32_t header_cap; /* of headers.items; the first array comes from begin */
    struct st_slice body;
    struct st_buf body_owner; /* empty: body lies in the read buffer */
    uint16_t version;         /* 11, 10, 20 */
    const struct st_peer *peer;

    /* The session's own */
    bool detached; /* nothing lies in the read buffer */
    bool is_head;  /* HEAD: no body in the reply */
    bool keep_alive;
    bool answered;
    bool streaming;
    bool chunked;
    bool cut;              /* the stream ended badly */
    uint64_t content_left; /* of a body with Content-Length; UINT64_MAX: chunked */
    size_t stream_pending; /* bytes given to the session that have not left */
    struct st_outq out;    /* reply that waits for its turn */
};

/* The server's side; arg is st_http_server.arg. */
struct st_exchange_handler {
    /* A new request: memory with ops..peer zeroed or not (the session sets all), arena and
     * headers.items/header_cap (at least ST_HTTP1_INLINE_HEADERS) set by the server. */
    struct st_exchange *(*begin)(void *arg, struct st_net *net);
    /* The request is whole; answer now or later. Before it returns without an answer the server
     * must have called detach's work itself when it keeps the exchange. */
    void (*request)(struct st_exchange *x);
    /* Move head and headers from the read buffer to the arena (the session moves the body). */
    void (*detach)(struct st_exchange *x);
    /* Never became whole. */
    void (*drop)(struct st_exchange *x);
    /* The connection is gone, session is NULL; answering is harmless and still due. `done` follows
     * only for answered exchanges that waited for their turn. */
    void (*gone)(struct st_exchange *x);
    /* A reply that had to wait has been passed on: the exchange is the server's again. */
    void (*done)(struct st_exchange *x);
    /* n bytes of the streamed reply have left. May be NULL. */
    void (*sent)(struct st_exchange *x, size_t n);
};

static inline bool st_exchange_respond(struct st_exchange *x, const struct st_http_response *r)
{
    return x->ops->respond(x, r);
}

/* Copies head and headers from the read buffer to the arena; all slices into them move along.
 * Servers call it from their detach (and then move their own slices by the same distance). Returns
 * the distance to add to pointers into the old head; 0 if it was detached already. */
ptrdiff_t st_exchange_detach_head(struct st_exchange *x);

#endif
