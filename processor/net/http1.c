/* The answering half: replies in order, streams, deadlines, the end of a session. */
#include "processor/net/http1.h"

#include <errno.h>
#include <stdlib.h>

#include "processor/net/http1_int.h"

enum { STARVE_RETRY_MS = 20, STARVE_LIMIT_S = 5, FRESH_GRACE_MS = 500 };

static const struct st_exchange_ops http1_ops;

/* Refusals */

static st_metric refused_metric(const struct st_http_server *s, unsigned status)
{
    switch (status) {
    case 408:
        return s->refused.late;
    case 413:
    case 414:
    case 431:
        return s->refused.big;
    case 503:
        return s->refused.memory;
    default:
        return s->refused.bad;
    }
}

/* A reply outside any exchange, after which the session ends. */
static void encode_error(struct st_http1 *h, unsigned status)
{
    struct st_http_response r = {.status = status, .close = true};

    st_metric_add(h->server->net->loop->metrics, refused_metric(h->server, status), 1);
    r.content_type = ST_SLICE("text/plain; charset=utf-8");
    r.body = status == 431   ? ST_SLICE("Too big request header")
             : status == 414 ? ST_SLICE("Too long request target")
             : status == 413 ? ST_SLICE("Too big request body")
             : status == 501 ? ST_SLICE("Not implemented")
             : status == 408 ? ST_SLICE("Request timed out")
             : status == 400 ? ST_SLICE("Error when parsing request")
                             : st_http_reason(status);
    st_http1_encode_head(h, &h->conn.out, NULL, &r, ST_FRAME_LENGTH, true);
    st_outq_copy(&h->conn.out, h->server->net, r.body);
}

/* House-keeping */

static bool has_unparsed(const struct st_http1 *h)
{
    return h->carry_len > h->carry_parsed;
}

static void set_deadline(struct st_http1 *h)
{
    struct st_http_server *s = h->server;
    uint64_t now;

    if (h->cur == NULL && !h->head_timed && h->outstanding > 0) {
        st_conn_set_deadline(&h->conn, 0);
        return;
    }
    now = st_loop_now(s->net->loop);
    if (st_likely(h->cur == NULL && !h->head_timed))
        st_conn_set_deadline(&h->conn, now + s->idle_timeout_ns);
    else if (h->in_body)
        st_conn_set_deadline(&h->conn, now + s->body_timeout_ns);
}

static void starve_end(struct st_http1 *h)
{
    if (h->starved) {
        TAILQ_REMOVE(&h->server->net->starved, h, starved_link);
        h->starved = false;
    }
}

static void drop_cur(struct st_http1 *h)
{
    struct st_exchange *x = h->cur;

    starve_end(h);
    h->in_body = false;
    h->head_timed = false;
    if (x == NULL)
        return;
    h->cur = NULL;
    x->session = NULL;
    h->server->handler->drop(x);
}

static void http1_parse_on(struct st_http1 *h, char *data, size_t n);

/* Parses what a backlogged session kept, now that its pipeline has room. */
static void resume_parsing(struct st_http1 *h)
{
    struct st_net *net = h->server->net;
    size_t n = h->carry_len;

    h->backlogged = false;
    if (n == 0) {
        st_conn_resume(&h->conn);
        return;
    }
    memcpy(net->read_base, h->carry, n);
    free(h->carry);
    h->carry = NULL;
    h->carry_len = h->carry_parsed = 0;
    h->base = net->read_base;
    http1_parse_on(h, net->read_base, n);
    if (!h->backlogged && !h->stop_parsing && !h->starved)
        st_conn_resume(&h->conn);
}

static bool may_resume(const struct st_http1 *h)
{
    return h->backlogged && !h->in_read && !h->conn.closed &&
           h->outstanding < ST_HTTP1_MAX_PIPELINE / 2 && st_http1_output(h) < ST_CONN_LOW;
}

/* Nothing is out, and nothing more will come: after FIN, or at the end of a drain, where the last
 * reply did not know that it was the last. */
static bool is_over(const struct st_http1 *h)
{
    if (h->in_read)
        return false;
    if (h->conn.eof)
        return !has_unparsed(h);
    return h->server->close_idle && h->served && h->cur == NULL && h->carry == NULL;
}

/* What may follow from a reply, a read or a drained output. */
static void settle(struct st_http1 *h)
{
    struct st_conn *c = &h->conn;

    if (c->closed || c->close_when_sent)
        return;
    if (h->outstanding == 0) {
        if (h->reject != 0) {
            encode_error(h, h->reject);
            st_conn_close_when_sent(c, true);
            return;
        }
        if (h->want_continue && h->cur != NULL && h->cur->body.len == 0 && !h->starved) {
            st_outq_copy(&c->out, c->net, ST_SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
            h->want_continue = false;
            st_conn_send_later(c);
        }
        if (h->stop_parsing || is_over(h)) {
            st_conn_close_when_sent(c, h->discarded > 0);
            return;
        }
    }
    if (st_unlikely(h->backlogged) && !h->resuming) {
        h->resuming = true; /* what follows comes back here */
        while (may_resume(h))
            resume_parsing(h);
        h->resuming = false;
    }
}

/* Replies */

static bool is_turn(const struct st_http1 *h, const struct st_exchange *x)
{
    return STAILQ_FIRST(&h->pipeline) == x;
}

static bool closes_after(const struct st_http1 *h, const struct st_exchange *x)
{
    if (st_likely(x->keep_alive && !h->server->closing))
        return false;
    return !x->keep_alive || (is_turn(h, x) && STAILQ_NEXT(x, link) == NULL && h->cur == NULL &&
                              h->carry == NULL && !h->more_input);
}

/* Where the bytes of its reply go: out, or aside until it is its turn. */
static struct st_outq *output_of(struct st_http1 *h, struct st_exchange *x)
{
    return is_turn(h, x) ? &h->conn.out : &x->out;
}

/* The turn of this exchange has come. */
static void move_out(struct st_http1 *h, struct st_exchange *x)
{
    h->waiting -= x->out.bytes;
    st_outq_splice(&h->conn.out, &x->out);
}

static void pop(struct st_http1 *h)
{
    STAILQ_REMOVE_HEAD(&h->pipeline, link);
    h->outstanding--;
}

/* Whatever is in the pipeline gets no answer on this connection any more. */
static void abandon_pipeline(struct st_http1 *h)
{
    struct st_exchange *x;

    while ((x = STAILQ_FIRST(&h->pipeline)) != NULL) {
        pop(h);
        x->session = NULL;
        h->waiting -= x->out.bytes;
        st_outq_clear(&x->out, h->server->net);
        if (x->answered)
            h->server->handler->done(x);
        else
            h->server->handler->gone(x);
    }
}

/* The last reply is written: what stands behind it will not be answered. */
static void close_session(struct st_http1 *h)
{
    h->stop_parsing = true;
    abandon_pipeline(h);
    st_conn_close_when_sent(&h->conn, h->discarded > 0);
}

/* The peer must notice that the reply is not whole; what was written is still its own. */
static void cut_session(struct st_http1 *h)
{
    h->stop_parsing = true;
    h->backlogged = false;
    st_conn_send(&h->conn);
    st_conn_close(&h->conn);
}

/* The exchange whose turn it was is done: pass on those behind it that are answered. */
static void advance(struct st_http1 *h)
{
    struct st_exchange *x;
    bool keep_alive;

    while ((x = STAILQ_FIRST(&h->pipeline)) != NULL) {
        move_out(h, x);
        if (!x->answered)
            break;
        keep_alive = x->keep_alive;
        if (x->cut) {
            pop(h);
            h->server->handler->done(x);
            cut_session(h);
            return;
        }
        pop(h);
        h->server->handler->done(x);
        if (!keep_alive) {
            close_session(h);
            return;
        }
    }
}

/* After a reply was written in its turn. */
static void passed_on(struct st_http1 *h, bool close)
{
    pop(h);
    if (st_unlikely(close)) {
        close_session(h);
        return;
    }
    if (st_unlikely(h->outstanding > 0))
        advance(h);
    if (!h->in_read && !h->conn.closed) {
        st_conn_send_later(&h->conn);
        set_deadline(h);
        settle(h);
    }
}

static bool http1_respond(struct st_exchange *x, const struct st_http_response *r)
{
    struct st_http1 *h = x->session;
    bool close, turn;
    struct st_outq *q;

    ST_ASSERT(!x->answered);
    if (st_unlikely(h == NULL))
        return true;
    if (r->close)
        x->keep_alive = false;
    turn = is_turn(h, x);
    close = closes_after(h, x);
    q = output_of(h, x);
    st_http1_encode_head(h, q, x, r, ST_FRAME_LENGTH, close);
    if (!x->is_head && st_likely(!st_http1_has_no_body(r->status)))
        st_http1_encode_body(q, h->server->net, r);
    if (turn) {
        passed_on(h, close);
        return true;
    }
    h->waiting += q->bytes;
    x->keep_alive = !close;
    x->answered = true;
    return false;
}

/* q, of a streamed reply, has grown; it had so many bytes before. */
static void stream_grown(struct st_http1 *h, const struct st_outq *q, size_t before)
{
    if (q != &h->conn.out)
        h->waiting += q->bytes - before;
    else if (!h->in_read)
        st_conn_send_later(&h->conn);
}

static void http1_stream_head(struct st_exchange *x, const struct st_http_response *r)
{
    struct st_http1 *h = x->session;
    enum st_http1_framing framing = x->version == 11 ? ST_FRAME_CHUNKED : ST_FRAME_CLOSE;
    struct st_outq *q;
    size_t before;

    x->streaming = true;
    if (h == NULL)
        return;
    if (st_http1_has_no_body(r->status)) {
        x->is_head = true; /* what is written goes nowhere */
        framing = ST_FRAME_LENGTH;
    }
    x->chunked = x->version == 11 && !x->is_head;
    if (!x->chunked && !x->is_head)
        h->conn.end_tells = true;
    if (x->version == 10 || r->close)
        x->keep_alive = false;
    q = output_of(h, x);
    before = q->bytes;
    st_http1_encode_head(h, q, x, r, framing, !x->keep_alive);
    stream_grown(h, q, before);
}

static void http1_stream_write(struct st_exchange *x, struct st_buf bytes)
{
    struct st_http1 *h = x->session;
    struct st_outq *q;
    size_t n = bytes.length, before;
    char *p, *start;

    if (h == NULL || n == 0 || x->is_head || h->conn.close_when_sent) {
        st_buf_drop(&bytes);
        if (h != NULL && h->server->handler->sent != NULL)
            h->server->handler->sent(x, n);
        return;
    }
    q = output_of(h, x);
    before = q->bytes;
    x->stream_pending += n;
    if (x->chunked) {
        char digits[16];
        unsigned k = 0;
        for (size_t v = n; v > 0; v >>= 4)
            digits[k++] = "0123456789abcdef"[v & 15];
        p = start = st_outq_reserve(q, h->server->net, 24);
        while (k > 0)
            *p++ = digits[--k];
        *p++ = '\r';
        *p++ = '\n';
        st_outq_commit(q, (size_t)(p - start));
    }
    st_outq_take(q, h->server->net, bytes);
    if (x->chunked)
        st_outq_copy(q, h->server->net, ST_SLICE("\r\n"));
    stream_grown(h, q, before);
}

static bool http1_stream_end(struct st_exchange *x, bool well)
{
    struct st_http1 *h = x->session;
    struct st_outq *q;
    size_t before;

    ST_ASSERT(!x->answered);
    if (h == NULL)
        return true;
    q = output_of(h, x);
    before = q->bytes;
    if (well && x->chunked)
        st_outq_copy(q, h->server->net, ST_SLICE("0\r\n\r\n"));
    if (!is_turn(h, x)) {
        h->waiting += q->bytes - before;
        x->cut = !well;
        x->answered = true;
        return false;
    }
    if (!well) {
        pop(h);
        cut_session(h);
        return true;
    }
    passed_on(h, !x->keep_alive);
    return true;
}

static const struct st_exchange_ops http1_ops = {http1_respond, http1_stream_head,
                                                 http1_stream_write, http1_stream_end};

/* Reading */

void st_http1_request(struct st_http1 *h)
{
    struct st_exchange *x = h->cur;

    h->cur = NULL;
    h->in_body = false;
    h->served = true;
    h->want_continue = false;
    if (st_unlikely(!x->keep_alive))
        h->stop_parsing = true;
    x->ops = &http1_ops;
    STAILQ_INSERT_TAIL(&h->pipeline, x, link);
    h->outstanding++;
    h->server->handler->request(x);
}

static void keep(struct st_http1 *h, const char *from, size_t n, size_t parsed)
{
    h->carry = malloc(n);
    ST_ASSERT(h->carry != NULL);
    memcpy(h->carry, from, n);
    h->carry_len = (uint32_t)n;
    h->carry_parsed = (uint32_t)parsed;
}

/* A head is not whole: its bytes wait for the next read. */
static void keep_head(struct st_http1 *h, const char *end)
{
    size_t n = (size_t)(end - h->base);

    if (n > h->server->max_head) {
        h->reject = h->cur != NULL && h->cur->headers.count > 0 ? 431 : 414;
        h->stop_parsing = true;
        return;
    }
    keep(h, h->base, n, n);
    if (!h->head_timed) {
        h->head_timed = true;
        st_conn_set_deadline(&h->conn,
                             st_loop_now(h->server->net->loop) + h->server->header_timeout_ns);
    }
}

/* There is no memory for the body of h->cur: nothing more is read for a while. What came of it with
 * its head, a read at most, waits beside the budget. */
static void starve(struct st_http1 *h, bool in_place)
{
    struct st_net *net = h->server->net;
    struct st_exchange *x = h->cur;

    if (in_place) {
        keep(h, x->body.ptr, x->body.len, x->body.len);
        x->body.ptr = h->carry;
    }
    h->starved = true;
    h->starved_since_ns = st_loop_now(net->loop);
    TAILQ_INSERT_TAIL(&net->starved, h, starved_link);
    if (!st_timer_armed(&net->starve_timer))
        st_loop_timer_arm(net->loop, &net->starve_timer, STARVE_RETRY_MS * ST_MSEC);
    st_conn_pause(&h->conn);
}

/* A body is not whole: head and body leave the read buffer. */
static void keep_body(struct st_http1 *h)
{
    struct st_exchange *x = h->cur;
    bool in_place = !x->detached && x->body.len > 0;

    if (!x->detached)
        h->server->handler->detach(x);
    if (!st_http1_reserve_body(h))
        starve(h, in_place);
}

static void http1_parse_on(struct st_http1 *h, char *data, size_t n)
{
    char *end = data + n, *p;

    h->in_read = true;
    p = st_http1_parse(h, data, n);
    if (h->conn.closed)
        return;
    if (st_unlikely(h->backlogged)) {
        if (p < end)
            keep(h, p, (size_t)(end - p), 0);
        st_conn_pause(&h->conn);
    } else if (!h->stop_parsing) {
        if (h->in_body)
            keep_body(h);
        else if (end > h->base)
            keep_head(h, end);
    }
    if (st_unlikely(h->stop_parsing)) {
        drop_cur(h);
        if (h->reject != 0)
            st_conn_pause(&h->conn);
    }
    h->in_read = false;
    set_deadline(h);
    if (h->conn.out.bytes > 0)
        st_conn_send(&h->conn);
    settle(h);
}

static void http1_data(struct st_conn *c, char *data, size_t n)
{
    struct st_http1 *h = ST_CONTAINER_OF(c, struct st_http1, conn);

    if (st_unlikely(h->stop_parsing)) {
        /* Read on only to notice that the client is gone. */
        h->discarded += n;
        if (h->discarded > ST_NET_READ_SIZE)
            st_conn_pause(c);
        return;
    }
    h->base = data;
    if (st_unlikely(h->carry != NULL)) {
        /* The head goes on: its first bytes are put before the new ones. */
        h->base = data - h->carry_len;
        memcpy(h->base, h->carry, h->carry_len);
        free(h->carry);
        h->carry = NULL;
        h->carry_len = h->carry_parsed = 0;
    }
    http1_parse_on(h, data, n);
}

static void http1_eof(struct st_conn *c)
{
    struct st_http1 *h = ST_CONTAINER_OF(c, struct st_http1, conn);

    if (!has_unparsed(h))
        drop_cur(h);
    settle(h);
}

static void http1_sent(struct st_conn *c)
{
    struct st_http1 *h = ST_CONTAINER_OF(c, struct st_http1, conn);
    struct st_exchange *x = STAILQ_FIRST(&h->pipeline);

    if (st_unlikely(x != NULL && x->streaming && x->stream_pending > c->out.bytes)) {
        size_t n = x->stream_pending - c->out.bytes;
        x->stream_pending -= n;
        if (h->server->handler->sent != NULL)
            h->server->handler->sent(x, n);
    }
    if (st_unlikely(h->backlogged || h->server->closing))
        settle(h);
}

static void http1_expired(struct st_conn *c)
{
    struct st_http1 *h = ST_CONTAINER_OF(c, struct st_http1, conn);

    if (h->cur == NULL && !h->head_timed) {
        st_conn_close(c); /* idle: nothing to say */
        return;
    }
    h->reject = 408;
    h->stop_parsing = true;
    drop_cur(h);
    settle(h);
}

static void http1_free(struct st_garbage *g)
{
    struct st_conn *c = ST_CONTAINER_OF(g, struct st_conn, garbage);
    struct st_http1 *h = ST_CONTAINER_OF(c, struct st_http1, conn);

    st_slab_put(&c->net->conns, h);
}

static void http1_closed(struct st_conn *c)
{
    struct st_http1 *h = ST_CONTAINER_OF(c, struct st_http1, conn);
    struct st_http_server *s = h->server;

    drop_cur(h);
    abandon_pipeline(h);
    free(h->carry);
    h->carry = NULL;
    if (h->memo != NULL)
        st_slab_put(&c->net->memos, h->memo);
    h->memo = NULL;
    TAILQ_REMOVE(&s->sessions, h, link);
    s->conns.open--;
    st_loop_free_later(c->net->loop, &c->garbage, http1_free);
    if (s->on_closed != NULL)
        s->on_closed(s);
}

static const struct st_conn_proto http1_proto = {http1_data, http1_eof, http1_sent, http1_expired,
                                                 http1_closed};

void st_http1_accept(struct st_http_server *server, int fd, const struct st_peer *peer)
{
    struct st_http1 *h = st_slab_get(&server->net->conns);

    memset(h, 0, sizeof *h);
    h->server = server;
    h->peer = *peer;
    STAILQ_INIT(&h->pipeline);
    st_http1_parser_init(h);
    TAILQ_INSERT_TAIL(&server->sessions, h, link);
    server->conns.open++;
    st_conn_open(&h->conn, server->net, fd, &st_conn_plain, &http1_proto, server->write_timeout_ns);
    st_conn_set_deadline(&h->conn, st_loop_now(server->net->loop) + server->idle_timeout_ns);
}

/* The body of h->cur got its memory, and what there was of it is there. */
static void starve_over(struct st_http1 *h)
{
    free(h->carry);
    h->carry = NULL;
    h->carry_len = h->carry_parsed = 0;
    starve_end(h);
    st_conn_resume(&h->conn);
    set_deadline(h);
    settle(h);
}

void st_http1_retry_starved(struct st_timer *t)
{
    struct st_net *net = ST_CONTAINER_OF(t, struct st_net, starve_timer);
    uint64_t now = st_loop_now(net->loop);
    struct st_http1 *h, *next;

    for (h = TAILQ_FIRST(&net->starved); h != NULL; h = next) {
        next = TAILQ_NEXT(h, starved_link);
        if (st_http1_reserve_body(h)) {
            starve_over(h);
        } else if (now - h->starved_since_ns > STARVE_LIMIT_S * ST_SEC) {
            h->reject = 503;
            h->stop_parsing = true;
            drop_cur(h);
            settle(h);
        }
    }
    if (!TAILQ_EMPTY(&net->starved))
        st_loop_timer_arm(net->loop, t, STARVE_RETRY_MS * ST_MSEC);
}

static bool is_idle(const struct st_http1 *h)
{
    return h->outstanding == 0 && h->cur == NULL && h->carry == NULL && h->conn.out.bytes == 0;
}

void st_http_server_drain(struct st_http_server *server, bool close_idle)
{
    uint64_t now = st_loop_now(server->net->loop);
    struct st_http1 *h, *next;

    server->closing = true;
    if (!close_idle)
        return;
    server->close_idle = true;
    for (h = TAILQ_FIRST(&server->sessions); h != NULL; h = next) {
        next = TAILQ_NEXT(h, link);
        if (!is_idle(h))
            continue;
        st_conn_read_now(&h->conn);
        if (h->conn.closed || !is_idle(h))
            continue;
        if (h->served)
            st_conn_close(&h->conn);
        else
            st_conn_set_deadline(&h->conn, now + FRESH_GRACE_MS * ST_MSEC);
    }
}

void st_http_server_close(struct st_http_server *server)
{
    struct st_http1 *h;

    while ((h = TAILQ_FIRST(&server->sessions)) != NULL)
        st_conn_close(&h->conn);
}
