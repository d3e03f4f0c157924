/* Between the files of the http trigger: http_trigger.c (life), http_event.c (requests and
 * replies), http_cors.c (rules for other origins), http_file.c (files as bodies), http_logs.c
 * (records for the client). */
#ifndef TRIGGERS_HTTP_HTTP_INT_H
#define TRIGGERS_HTTP_HTTP_INT_H

#include "processor/core/slab.h"
#include "processor/event.h"
#include "processor/net/http1.h"
#include "processor/net/listener.h"
#include "processor/trigger.h"
#include "triggers/http/http_trigger.h"

/* `attributes.cors`. */
struct http_cors_options {
    bool enabled;
    struct st_string_list allow_origins, allow_methods, allow_headers, expose_headers;
    bool allow_credentials;
    int64_t preflight_max_age; /* seconds */
};

/* `attributes` of the trigger. */
struct http_attributes {
    uint64_t read_buffer_size;      /* bytes of request line and headers */
    uint64_t max_request_body_size; /* bytes */
    int64_t max_connections;        /* of all loops together */
    uint64_t header_timeout_ns, body_timeout_ns, idle_timeout_ns, write_timeout_ns;
    bool reduce_memory_usage; /* Nuclio's; idle connections hold no buffers here anyway */
    int mode;                 /* Nuclio's sync or async; without effect there, too */
    struct http_cors_options cors;
};

struct http_file; /* http_file.c: a file that is being sent */
struct http_cors; /* http_cors.c: the rules, and what replies say of them */

/* Where a reply's headers are put together: an array that grows. */
struct http_header_room {
    struct st_header *items;
    size_t capacity;
};

struct http_loop {
    struct http_trigger *trigger;
    struct st_loop *loop;
    struct st_listener listener;
    struct st_http_server server;
    struct st_slab events;
    const struct http_cors *cors; /* NULL: off */
    struct http_header_room room;
    struct st_timer linger;
    bool opened, draining, drained;
};

struct http_trigger {
    struct st_trigger base;
    struct http_loop *loops;  /* by loop index */
    char address[300];        /* to listen on; with the port that the first loop got */
    st_metric bad, big, late; /* refused requests; body memory is the trigger's no_memory */
    int unix_fd;              /* shared by all loops, or -1 */
    struct http_cors *cors;   /* NULL: off */
};

/* Event, exchange and their first memory in one object of a slab. */
struct http_event {
    struct st_event ev;
    struct st_exchange x;
    struct http_loop *hl;
    struct http_file *file; /* whose bytes are the reply's, or NULL */
    struct st_peer peer;    /* a copy, for when the connection is gone */
    struct st_header headers[ST_HTTP1_INLINE_HEADERS];
    _Alignas(16) char space[512];
};

extern const struct st_exchange_handler http_exchange_handler;

/* Answers without a handler, and without counting an event. */
void http_answer(struct http_event *he, const struct st_http_response *r);

/* r->headers becomes room->items, with space for `more` behind them. */
void http_own_headers(struct http_header_room *room, struct st_http_response *r, size_t more);

/* Ends a streamed reply; well false: the client must see that it is not whole. */
void http_stream_end(struct http_event *he, bool well);

/* Takes the headers that name a file out of a reply. True: the file is the reply and is under way.
 * False: to be answered with r, which tells of a file that could not be opened. */
bool http_file_reply(struct http_event *he, struct st_http_response *r);

/* While he->file is not NULL: n bytes of it have left; the connection is gone. */
void http_file_sent(struct http_event *he, size_t n);
void http_file_gone(struct http_event *he);

/* Table of struct http_cors_options. */
extern const struct st_option http_cors_table[];

/* Whether the rules can be kept. If not, member (of ST_TRIGGER_MEMBER_MAX bytes) gets the place and
 * *err the reason. */
int http_cors_check(const struct http_cors_options *options, char *member,
                    struct st_error *err) ST_MUST_CHECK;

/* The rules, which were checked; NULL when they are off. Main thread; constant afterwards, any
 * thread. */
struct http_cors *http_cors_new(const struct http_cors_options *options);
void http_cors_free(struct http_cors *cors);

/* A request while the rules are on: true when they have answered it (a preflight, or an origin that
 * is refused). Requests for the health path need no origin. */
bool http_cors_request(struct http_event *he, bool is_health);

/* Adds to a reply what the rules say; a header that the handler has set wins. */
void http_cors_reply(struct http_event *he, struct st_http_response *r);

/* The request has the header X-Nuclio-Log-Level; before it is dispatched. */
void http_logs_request(struct http_event *he);

/* Adds X-Nuclio-Logs to the reply, or its head; once, while he->ev.log is not NULL. */
void http_logs_reply(struct http_event *he, struct st_http_response *r);

void http_complete(struct st_event *ev, const struct st_result *result);
int http_detach(struct st_event *ev);
void http_release(struct st_event *ev);
void http_stream_head(struct st_event *ev, const struct st_result *head);
void http_stream_write(struct st_event *ev, struct st_buf bytes);

#endif
