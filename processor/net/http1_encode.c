/* Replies as bytes. */
#include "processor/net/http1_int.h"

enum { HEAD_ROOM = 512 };

#define PUT_LITERAL(to, text) put((to), (text), sizeof(text) - 1)

static char *put(char *to, const char *bytes, size_t n)
{
    memcpy(to, bytes, n);
    return to + n;
}

static char *put_number(char *to, uint64_t value)
{
    unsigned n = 1;

    for (uint64_t v = value; v >= 10; v /= 10)
        n++;
    for (unsigned i = n; i-- > 0; value /= 10)
        to[i] = (char)('0' + value % 10);
    return to + n;
}

static char *put_status(char *to, struct st_net *net, unsigned status)
{
    struct st_slice prefix = st_net_prefix(net), reason;

    if (st_likely(status == 200)) {
        memcpy(to, net->prefix, sizeof net->prefix); /* of constant size: no call */
        return to + prefix.len;
    }
    reason = st_http_reason(status);
    to = PUT_LITERAL(to, "HTTP/1.1 ");
    to = put_number(to, status);
    *to++ = ' ';
    to = put(to, reason.ptr, reason.len);
    to = PUT_LITERAL(to, "\r\n");
    return put(to, prefix.ptr + ST_NET_STATUS_LEN, prefix.len - ST_NET_STATUS_LEN);
}

static void put_header(struct st_outq *q, struct st_net *net, struct st_slice name,
                       struct st_slice value)
{
    st_outq_copy(q, net, name);
    st_outq_copy(q, net, ST_SLICE(": "));
    st_outq_copy(q, net, value);
    st_outq_copy(q, net, ST_SLICE("\r\n"));
}

void st_http1_encode_head(struct st_http1 *h, struct st_outq *q, const struct st_exchange *x,
                          const struct st_http_response *r, enum st_http1_framing framing,
                          bool close)
{
    struct st_net *net = h->server->net;
    char *p = st_outq_reserve(q, net, HEAD_ROOM), *start = p;
    bool long_type = r->content_type.len > HEAD_ROOM / 2;

    p = put_status(p, net, r->status);
    if (st_likely(r->content_type.len > 0 && !long_type)) {
        p = PUT_LITERAL(p, "Content-Type: ");
        p = put(p, r->content_type.ptr, r->content_type.len);
        p = PUT_LITERAL(p, "\r\n");
    }
    if (st_likely(framing == ST_FRAME_LENGTH)) {
        if (!st_http1_has_no_body(r->status)) {
            p = PUT_LITERAL(p, "Content-Length: ");
            p = put_number(p, r->body.len);
            p = PUT_LITERAL(p, "\r\n");
        }
    } else if (framing == ST_FRAME_CHUNKED) {
        p = PUT_LITERAL(p, "Transfer-Encoding: chunked\r\n");
    }
    if (close)
        p = PUT_LITERAL(p, "Connection: close\r\n");
    else if (x != NULL && x->version == 10)
        p = PUT_LITERAL(p, "Connection: keep-alive\r\n");
    if (st_likely(r->header_count == 0 && !long_type)) {
        p = PUT_LITERAL(p, "\r\n");
        st_outq_commit(q, (size_t)(p - start));
        return;
    }
    st_outq_commit(q, (size_t)(p - start));
    if (long_type)
        put_header(q, net, ST_SLICE("Content-Type"), r->content_type);
    for (size_t i = 0; i < r->header_count; i++)
        put_header(q, net, (struct st_slice){r->headers[i].name, r->headers[i].name_len},
                   (struct st_slice){r->headers[i].value, r->headers[i].value_len});
    st_outq_copy(q, net, ST_SLICE("\r\n"));
}

void st_http1_encode_body(struct st_outq *q, struct st_net *net, const struct st_http_response *r)
{
    if (r->body.len > ST_OUTQ_COPY_MAX && r->body_owner != NULL && r->body_owner->region != NULL) {
        struct st_buf part = st_buf_ref(r->body_owner);
        part.offset = (size_t)(r->body.ptr - part.region->base);
        part.length = r->body.len;
        st_outq_take(q, net, part);
    } else {
        st_outq_copy(q, net, r->body);
    }
}
