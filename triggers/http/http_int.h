/* Between the files of the http trigger: http_trigger.c (life), http_event.c (requests and
 * replies). */
#ifndef TRIGGERS_HTTP_HTTP_INT_H
#define TRIGGERS_HTTP_HTTP_INT_H

#include "processor/core/slab.h"
#include "processor/event.h"
#include "processor/net/http1.h"
#include "processor/net/listener.h"
#include "processor/trigger.h"
#include "triggers/http/http_trigger.h"

/* `attributes` of the trigger. */
struct http_attributes {
    uint64_t read_buffer_size;      /* bytes of request line and headers */
    uint64_t max_request_body_size; /* bytes */
    int64_t max_connections;        /* of all loops together */
    uint64_t header_timeout_ns, body_timeout_ns, idle_timeout_ns, write_timeout_ns;
    bool reduce_memory_usage; /* Nuclio's; idle connections hold no buffers here anyway */
    int mode;                 /* Nuclio's sync or async; without effect there, too */
};

struct http_loop {
    struct http_trigger *trigger;
    struct st_loop *loop;
    struct st_listener listener;
    struct st_http_server server;
    struct st_slab events;
    struct st_timer linger;
    bool opened, draining, drained;
};

struct http_trigger {
    struct st_trigger base;
    struct http_loop *loops;  /* by loop index */
    char address[300];        /* to listen on; with the port that the first loop got */
    st_metric bad, big, late; /* refused requests; body memory is the trigger's no_memory */
    int unix_fd;              /* shared by all loops, or -1 */
};

/* Event, exchange and their first memory in one object of a slab. */
struct http_event {
    struct st_event ev;
    struct st_exchange x;
    struct http_loop *hl;
    struct st_peer peer; /* a copy, for when the connection is gone */
    struct st_header headers[ST_HTTP1_INLINE_HEADERS];
    _Alignas(16) char space[512];
};

extern const struct st_exchange_handler http_exchange_handler;

void http_complete(struct st_event *ev, const struct st_result *result);
int http_detach(struct st_event *ev);
void http_release(struct st_event *ev);
void http_stream_head(struct st_event *ev, const struct st_result *head);
void http_stream_write(struct st_event *ev, struct st_buf bytes);

#endif
