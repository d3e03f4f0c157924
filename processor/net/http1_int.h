/* Between the files of the HTTP/1 session: http1_parse.c reads, http1_memo.c recognises, http1.c
 * answers and keeps house, http1_encode.c writes replies. */
#ifndef PROCESSOR_NET_HTTP1_INT_H
#define PROCESSOR_NET_HTTP1_INT_H

#include "processor/net/http1.h"

/* Prepares the parser of a new session. */
void st_http1_parser_init(struct st_http1 *h);

/* Feeds the n bytes at data; h->base is where the message under way (or the next) begins. Calls the
 * server for each whole message. Returns where it stopped: the end, or earlier when the session is
 * backlogged or takes no more (h->stop_parsing). */
char *st_http1_parse(struct st_http1 *h, char *data, size_t n);

/* Sets what the session sets in a new exchange. */
static inline void st_http1_exchange_init(struct st_http1 *h, struct st_exchange *x)
{
    x->session = h;
    x->peer = &h->peer;
    x->detached = x->answered = x->streaming = x->chunked = x->cut = false;
    x->body = (struct st_slice){NULL, 0};
    x->body_owner = (struct st_buf){0};
    x->stream_pending = 0;
    st_outq_init(&x->out);
}

/* http1_memo.c: a whole message at p whose head is the kept one, but maybe for its target, becomes
 * h->cur; returns its length, 0 when it is another. h->memo must not be NULL. */
size_t st_http1_memo_take(struct st_http1 *h, char *p, const char *end);

/* Keeps the head of h->cur, a whole message. */
void st_http1_memo_learn(struct st_http1 *h);

/* Makes room in the body of h->cur for the next read. False: no memory in the budget now. */
bool st_http1_reserve_body(struct st_http1 *h);

/* A message is whole: queue it and give it to the server. */
void st_http1_request(struct st_http1 *h);

/* How the end of a reply's body is told. */
enum st_http1_framing { ST_FRAME_LENGTH, ST_FRAME_CHUNKED, ST_FRAME_CLOSE };

static inline bool st_http1_has_no_body(unsigned status)
{
    return status < 200 || status == 204 || status == 304;
}

/* Appends status line and headers, the blank line included. x: NULL for a reply to no request. */
void st_http1_encode_head(struct st_http1 *h, struct st_outq *q, const struct st_exchange *x,
                          const struct st_http_response *r, enum st_http1_framing framing,
                          bool close);

/* Appends the body as it is. */
void st_http1_encode_body(struct st_outq *q, struct st_net *net, const struct st_http_response *r);

/* Bytes of replies that have not left. Those that wait for their turn count too: what holds them up
 * has been read already, so reading can stop until they have left. */
static inline size_t st_http1_output(const struct st_http1 *h)
{
    return h->conn.out.bytes + h->waiting;
}

/* The pipeline is full, or the output is. */
static inline bool st_http1_is_backlogged(const struct st_http1 *h)
{
    return h->outstanding >= ST_HTTP1_MAX_PIPELINE || st_http1_output(h) >= ST_CONN_HIGH;
}

#endif
