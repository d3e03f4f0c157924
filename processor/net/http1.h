/* HTTP/1.1 and 1.0 server sessions (RFC 9112) on llhttp in strict mode.
 *
 * Requests are parsed in the loop's read buffer; a pipeline of them is answered in order, all
 * replies of one read leave in one write. llhttp lets pass what a front server could understand
 * otherwise; such requests are refused with 400 and close (http1_parse.c lists them). */
#ifndef PROCESSOR_NET_HTTP1_H
#define PROCESSOR_NET_HTTP1_H

#include <llhttp.h>
#include <sys/queue.h>

#include "processor/core/base.h"
#include "processor/net/conn.h"
#include "processor/net/exchange.h"

enum {
    ST_HTTP1_MAX_PIPELINE = 128,
    ST_HTTP1_MAX_HEADERS = UINT8_MAX, /* what st_headers.last can name */
    ST_HTTP1_INLINE_HEADERS = 16,
    ST_HTTP1_MEMO_BYTES = 768 /* longest head that is kept to be recognised */
};

struct st_http1;
struct st_http1_memo;

/* One listener's settings on one loop; outlives its connections. */
struct st_http_server {
    struct st_net *net;
    const struct st_exchange_handler *handler;
    void *arg;
    size_t max_head; /* bytes of request line and headers */
    uint64_t max_body;
    uint64_t header_timeout_ns, body_timeout_ns, idle_timeout_ns, write_timeout_ns;
    struct st_conn_counts {
        size_t open;
        size_t max;
    } conns;
    bool closing;    /* drain: replies carry Connection: close */
    bool close_idle; /* drain, later: a connection that awaits its next request is closed */
    TAILQ_HEAD(, st_http1) sessions;
    void (*on_closed)(struct st_http_server *s); /* a descriptor is free again; may be NULL */
    struct {
        st_metric bad, big, late,
            memory; /* requests refused here: 400 and 501, 413 to 431, 408, 503 */
    } refused;
};

struct st_http1 {
    struct st_conn conn;
    struct st_http_server *server;
    TAILQ_ENTRY(st_http1) link;         /* of server->sessions */
    TAILQ_ENTRY(st_http1) starved_link; /* of net->starved */
    llhttp_t parser;
    STAILQ_HEAD(, st_exchange) pipeline; /* not answered, or answered out of turn; oldest first */
    unsigned outstanding;                /* in pipeline */
    size_t waiting;                      /* bytes of replies that wait there for their turn */
    struct st_exchange *cur;             /* being read, or NULL */
    char *base;                          /* of the message in the read buffer, during a read */
    char *carry;                         /* bytes kept between reads, or NULL */
    uint32_t carry_len, carry_parsed;    /* llhttp has seen the first carry_parsed of them */
    uint32_t url_off, url_len;           /* offsets from base */
    uint32_t line_end;                   /* where the next header line must begin */
    uint32_t trailer_len;                /* and of chunk extensions */
    const char *trailer_at;              /* begin of what trailers_ok has not seen */
    bool in_body;                        /* the head of cur is whole */
    bool in_trailers;
    bool line_begins;           /* the next byte of the trailers begins a line */
    char last_byte;             /* of the last read */
    bool in_value;              /* the last span was a header value */
    bool in_name;               /* the last span was a header name */
    bool in_read;               /* replies are sent when the read is done */
    bool more_input;            /* bytes behind the current message are there, during a read */
    bool stop_parsing;          /* after Connection: close or an error */
    bool backlogged;            /* parsing stopped: pipeline full or output high */
    bool resuming;              /* going on with a backlog */
    bool want_continue;         /* cur waits for 100 Continue */
    bool head_timed;            /* the header deadline is running */
    bool served;                /* had a whole request */
    bool starved;               /* on net->starved: waits for body memory */
    size_t discarded;           /* bytes that came after the last request */
    unsigned reject;            /* status that ends the session once all are answered; 0: none */
    struct st_http1_memo *memo; /* head of an earlier request, or NULL */
    uint32_t memo_misses;       /* in a row */
    uint64_t starved_since_ns;
    uint8_t host_len; /* of host: a value of Host that was found well-formed */
    char host[48];
    struct st_peer peer;
};

/* Starts a session on an accepted socket. */
void st_http1_accept(struct st_http_server *server, int fd, const struct st_peer *peer);

/* Drain: replies carry Connection: close from now on. close_idle: requests that have arrived are
 * read, then idle sessions are closed; those without any request yet get half a second for it. */
void st_http_server_drain(struct st_http_server *server, bool close_idle);

/* Closes all sessions at once. */
void st_http_server_close(struct st_http_server *server);

/* Bytes of a struct st_http1_memo. */
size_t st_http1_memo_size(void);

/* Timer of net->starved: tries again to get body memory; 503 after 5 s. */
void st_http1_retry_starved(struct st_timer *t);

#endif
