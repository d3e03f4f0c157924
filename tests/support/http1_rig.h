/* HTTP/1 sessions on socket pairs with a server that notes requests and answers when a test says
 * so. On net_rig: one thread, a clock that stands still, counted system calls. */
#ifndef TESTS_SUPPORT_HTTP1_RIG_H
#define TESTS_SUPPORT_HTTP1_RIG_H

#include "processor/net/http1.h"
#include "tests/support/net_rig.h"

struct h1_rig;

struct h1_exchange {
    struct st_exchange x;
    struct h1_rig *rig;
    struct st_arena arena;
    struct st_header headers[ST_HTTP1_INLINE_HEADERS];
    char space[256];
    struct st_buf body; /* of a request that is kept */
    char *text;         /* h1_rig.requests got it */
    unsigned index;
    bool is_open;                        /* waits for its answer */
    bool is_gone;                        /* its session ended first */
    size_t sent;                         /* bytes of its stream that have left */
    bool (*then)(struct h1_exchange *e); /* called by `sent` */
};

struct h1_rig {
    struct net_rig net;
    struct st_http_server server;
    struct net_client client;
    /* What the server does with a request; NULL: "ok" at once. It may keep it, see h1_keep. */
    void (*on_request)(struct h1_exchange *e);
    bool refuse; /* `begin` fails */
    /* Every request that was whole: "METHOD target 1.1 {Name=value}{...} body", lines */
    char *requests;
    size_t requests_len;
    struct h1_exchange **all; /* by index; NULL: it is over */
    unsigned count, room;
    unsigned begun, ended, dropped, gone, done, closed; /* calls */
    char *replies;                                      /* h1_replies */
};

/* Limits: 4096 bytes of head, 10000 of body; deadlines: header 10 s, body 30 s, idle 75 s, write
 * 30 s. */
void h1_open(struct h1_rig *rig);

/* Answers what is still open, ends all sessions; asserts that every exchange came back once. */
void h1_close(struct h1_rig *rig);

/* A session with rig->client, or with another one; any earlier client of it is freed. */
struct st_http1 *h1_connect(struct h1_rig *rig);
struct st_http1 *h1_connect_client(struct h1_rig *rig, struct net_client *client);

/* Runs passes until nothing happens; what lies in the read buffer is overwritten after each. */
void h1_run(struct h1_rig *rig);

/* The client sends, and gets what comes back. */
void h1_send(struct h1_rig *rig, const char *bytes, size_t n);
void h1_send_text(struct h1_rig *rig, const char *text);

/* The client has read everything there is. */
void h1_receive(struct h1_rig *rig);

/* For on_request: answered later. Head and body leave the read buffer. */
void h1_keep(struct h1_exchange *e);

/* Answers request number `index`, and runs. */
void h1_respond(struct h1_rig *rig, unsigned index, const struct st_http_response *r);
void h1_ok(struct h1_rig *rig, unsigned index, const char *body);

/* Streams, without running. */
void h1_stream_head(struct h1_rig *rig, unsigned index, const struct st_http_response *r);
void h1_stream_write(struct h1_rig *rig, unsigned index, const char *bytes, size_t n);
void h1_stream_end(struct h1_rig *rig, unsigned index, bool well);

/* What the client got so far, without the lines Server and Date; the client may be NULL for
 * rig->client. Valid until the next call. */
const char *h1_replies(struct h1_rig *rig, struct net_client *client);

/* Removes every "100 Continue" from such a text. */
void h1_strip_continue(char *replies);

/* A refusal as h1_replies has it. */
const char *h1_refusal(unsigned status);

#endif
