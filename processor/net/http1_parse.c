/* The reading half: llhttp's callbacks, what it lets pass and we refuse, bodies.
 *
 * Refused with 400 although llhttp 8.1 takes it: folded headers (RFC 9112 section 5.2) and empty
 * names, anything but one space around the target, versions other than 1.0 and 1.1, an end of
 * headers or trailers that is not exactly CRLF, no Host or several, a Host that is no host,
 * Transfer-Encoding that is repeated, in HTTP/1.0 or not just "chunked" (501 where that is the
 * last). The structure is checked by position: each header line must begin where the one before
 * ended, so nothing can hide between what llhttp reports. */
#include "processor/net/http1_int.h"

#define SPAN_OFFSET(h, at) ((uint32_t)((at) - (h)->base))

static struct st_http1 *http1_of(llhttp_t *parser)
{
    return ST_CONTAINER_OF(parser, struct st_http1, parser);
}

static int reject(struct st_http1 *h, unsigned status)
{
    h->reject = status;
    return -1;
}

static int on_url(llhttp_t *parser, const char *at, size_t len)
{
    struct st_http1 *h = http1_of(parser);

    if (h->cur == NULL) {
        struct st_exchange *x = h->server->handler->begin(h->server->arg, h->server->net);
        if (x == NULL)
            return reject(h, 503);
        h->cur = x;
        h->url_off = SPAN_OFFSET(h, at);
        h->url_len = 0;
        h->in_name = h->in_value = false;
        x->headers.count = 0;
        memset(x->headers.last, 0, sizeof x->headers.last);
        st_http1_exchange_init(h, x);
    }
    h->url_len += (uint32_t)len;
    return h->url_len < h->server->max_head ? 0 : reject(h, 414);
}

/* The request line is exactly "METHOD SP target SP HTTP/1.x CRLF". llhttp knows the method; that
 * nothing else stands before the target is seen by going back to the line's begin. */
static bool request_line_ok(struct st_http1 *h)
{
    struct st_exchange *x = h->cur;
    const char *url = h->base + h->url_off, *end = url + h->url_len, *method = url - 1;

    if (h->url_off < 2 || *method != ' ')
        return false;
    while (method > h->base && method[-1] > ' ')
        method--;
    if (method == url - 1 || (method > h->base && method[-1] != '\n') ||
        memcmp(end, " HTTP/1.", 8) != 0 || (end[8] != '1' && end[8] != '0') || end[9] != '\r' ||
        end[10] != '\n')
        return false;
    x->method = (struct st_slice){method, (size_t)(url - 1 - method)};
    x->target = (struct st_slice){url, h->url_len};
    x->version = end[8] == '1' ? 11 : 10;
    h->line_end = SPAN_OFFSET(h, end + 11);
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The newest header is whole: its line must be "name:OWS value OWS CRLF" and nothing else. While
 * the head is being read, names and values are offsets from h->base. */
static bool header_line_ok(struct st_http1 *h)
{
    struct st_header *it = &h->cur->headers.items[h->cur->headers.count - 1];
    uint32_t at = (uint32_t)(uintptr_t)it->name + it->name_len, end;
    const char *base = h->base;

    if (it->name_len == 0 || base[at++] != ':')
        return false;
    if (st_likely(base[at] == ' '))
        at++;
    while (st_unlikely(is_blank(base[at])))
        at++;
    if (it->value_len > 0 && (uint32_t)(uintptr_t)it->value != at)
        return false;
    end = at + it->value_len;
    while (it->value_len > 0 && st_unlikely(is_blank(base[end - 1]))) {
        end--;
        it->value_len--;
    }
    it->value = (const char *)(uintptr_t)at;
    while (st_unlikely(base[end] != '\r') && is_blank(base[end]))
        end++;
    h->line_end = end + 2;
    return base[end] == '\r' && base[end + 1] == '\n';
}

/* Room for one more header; the array moves to the arena when the server's first one is full. */
static int header_push(struct st_http1 *h)
{
    struct st_exchange *x = h->cur;

    if (x->headers.count == ST_HTTP1_MAX_HEADERS)
        return reject(h, 431);
    if (x->headers.count == x->header_cap) {
        struct st_header *more = st_arena_try(x->arena, 2 * (size_t)x->header_cap * sizeof *more);
        if (more == NULL)
            return reject(h, 503);
        memcpy(more, x->headers.items, x->headers.count * sizeof *more);
        x->headers.items = more;
        x->header_cap *= 2;
    }
    x->headers.count++;
    return 0;
}

/* Trailers and chunk extensions are dropped, but not without end. */
static int count_trailer(struct st_http1 *h, size_t len)
{
    h->trailer_len += (uint32_t)len;
    return h->trailer_len <= h->server->max_head ? 0 : reject(h, 431);
}

static int on_chunk_extension(llhttp_t *parser, const char *at, size_t len)
{
    (void)at;
    return count_trailer(http1_of(parser), len);
}

/* Trailer lines must begin like header lines, and end with an empty one: CRLF. They are looked at
 * up to `to`, where the message ends if it is whole; data is what this read brought. */
static bool trailers_ok(struct st_http1 *h, const char *data, const char *to, bool whole)
{
    if (!h->in_trailers)
        return !whole || (to - data > 1 ? to[-2] : h->last_byte) == '\r';
    for (const char *p = h->trailer_at; p < to; p++) {
        if (h->line_begins && (*p == ' ' || *p == '\t' || *p == '\n' || *p == ':'))
            return false;
        h->line_begins = *p == '\n';
    }
    h->trailer_at = to;
    return true;
}

static int on_header_field(llhttp_t *parser, const char *at, size_t len)
{
    struct st_http1 *h = http1_of(parser);
    struct st_header *it;

    if (st_unlikely(h->in_body)) {
        if (!h->in_trailers) {
            h->in_trailers = h->line_begins = true;
            h->trailer_at = at;
        }
        return count_trailer(h, len);
    }
    if (!h->in_name) {
        bool ok = h->cur->headers.count == 0 ? request_line_ok(h) : header_line_ok(h);
        if (!ok || SPAN_OFFSET(h, at) != h->line_end)
            return reject(h, 400);
        if (header_push(h) != 0)
            return -1;
        h->in_name = true;
        h->in_value = false;
        it = &h->cur->headers.items[h->cur->headers.count - 1];
        *it = (struct st_header){.name = (const char *)(uintptr_t)h->line_end};
    }
    it = &h->cur->headers.items[h->cur->headers.count - 1];
    if (it->name_len + len > UINT16_MAX)
        return reject(h, 431);
    it->name_len = (uint16_t)(it->name_len + len);
    return 0;
}

static int on_header_value(llhttp_t *parser, const char *at, size_t len)
{
    struct st_http1 *h = http1_of(parser);
    struct st_header *it;

    if (st_unlikely(h->in_body))
        return count_trailer(h, len);
    it = &h->cur->headers.items[h->cur->headers.count - 1];
    if (!h->in_value) {
        h->in_value = true;
        h->in_name = false;
        it->value = (const char *)(uintptr_t)SPAN_OFFSET(h, at);
    } else if (SPAN_OFFSET(h, at) != (uint32_t)(uintptr_t)it->value + it->value_len) {
        return reject(h, 400); /* folded */
    }
    it->value_len += (uint32_t)len;
    return 0;
}

/* Characters of uri-host [ ":" port ] (RFC 3986 section 3.2.2). */
static const bool host_chars[256] = {
    ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['-'] = true, ['.'] = true,
    ['_'] = true,         ['~'] = true,         [':'] = true,         ['['] = true, [']'] = true,
    ['%'] = true,         ['!'] = true,         ['$'] = true,         ['&'] = true, ['\''] = true,
    ['('] = true,         [')'] = true,         ['*'] = true,         ['+'] = true, [','] = true,
    [';'] = true,         ['='] = true,
};

/* By its characters; empty is allowed. The one that was fine last time is fine again. */
static bool host_ok(struct st_http1 *h, const struct st_header *host)
{
    if (host->value_len == h->host_len && memcmp(host->value, h->host, h->host_len) == 0)
        return true;
    for (uint32_t i = 0; i < host->value_len; i++)
        if (!host_chars[(unsigned char)host->value[i]])
            return false;
    if (host->value_len <= sizeof h->host) {
        h->host_len = (uint8_t)host->value_len;
        memcpy(h->host, host->value, host->value_len);
    }
    return true;
}

static bool is_chunked(const struct st_header *te)
{
    return st_slice_ieq((struct st_slice){te->value, te->value_len}, ST_SLICE("chunked"));
}

/* Offsets become pointers; well-known names get their id. False: Host or Transfer-Encoding twice.
 */
static bool headers_resolve(struct st_http1 *h)
{
    struct st_headers *hs = &h->cur->headers;
    bool ok = true;

    for (uint32_t i = 0; i < hs->count; i++) {
        struct st_header *it = &hs->items[i];
        it->name = h->base + (uintptr_t)it->name;
        it->value = h->base + (uintptr_t)it->value;
        it->id = st_header_id_of(it->name, it->name_len);
        if (it->id != ST_HDR_OTHER) {
            if (hs->last[it->id] != 0 &&
                (it->id == ST_HDR_HOST || it->id == ST_HDR_TRANSFER_ENCODING))
                ok = false;
            hs->last[it->id] = (uint8_t)(i + 1);
        }
    }
    return ok;
}

/* What the framing headers mean; 0, or the status to refuse with. */
static unsigned framing_status(struct st_http1 *h)
{
    struct st_exchange *x = h->cur;
    const struct st_header *host = st_headers_known(&x->headers, ST_HDR_HOST);
    const struct st_header *te = st_headers_known(&x->headers, ST_HDR_TRANSFER_ENCODING);
    const struct st_header *expect = st_headers_known(&x->headers, ST_HDR_EXPECT);

    if (host == NULL ? x->version == 11 : !host_ok(h, host))
        return 400;
    if (te != NULL) {
        if (x->version == 10)
            return 400;
        if (!is_chunked(te))
            return (h->parser.flags & F_CHUNKED) != 0 ? 501 : 400; /* RFC 9112 section 6.3 */
    }
    if (h->parser.method == HTTP_CONNECT || h->parser.method == HTTP_PRI)
        return 501;
    x->content_left = te != NULL ? UINT64_MAX : h->parser.content_length;
    if (te == NULL && x->content_left > h->server->max_body)
        return 413;
    if (expect != NULL && x->version == 11) {
        if (!st_slice_ieq((struct st_slice){expect->value, expect->value_len},
                          ST_SLICE("100-continue")))
            return 417;
        h->want_continue = x->content_left > 0;
    }
    return 0;
}

static int on_headers_complete(llhttp_t *parser)
{
    struct st_http1 *h = http1_of(parser);
    struct st_exchange *x = h->cur;
    bool ok = x->headers.count == 0 ? request_line_ok(h) : header_line_ok(h);
    unsigned status;

    if (!ok || h->base[h->line_end] != '\r' || h->base[h->line_end + 1] != '\n' ||
        !headers_resolve(h))
        return reject(h, 400);
    h->line_end += 2;
    if (h->line_end > h->server->max_head)
        return reject(h, 431);
    /* The request line may have come with an earlier read, at another place. */
    x->target.ptr = h->base + h->url_off;
    x->method.ptr = x->target.ptr - 1 - x->method.len;
    x->head = (struct st_slice){x->method.ptr, (size_t)(h->base + h->line_end - x->method.ptr)};
    x->is_head = parser->method == HTTP_HEAD;
    x->keep_alive = x->version == 11 ? (parser->flags & F_CONNECTION_CLOSE) == 0
                                     : (parser->flags & F_CONNECTION_KEEP_ALIVE) != 0;
    status = framing_status(h);
    if (status != 0)
        return reject(h, status);
    parser->upgrade = 0; /* Upgrade is an ordinary header here; the body is still the request's */
    h->in_body = true;
    h->trailer_len = 0;
    h->in_trailers = false;
    return 0;
}

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
    struct st_http1 *h = http1_of(parser);
    struct st_exchange *x = h->cur;
    size_t total = x->body.len + len;

    if (total > h->server->max_body)
        return reject(h, 413);
    if (x->content_left != UINT64_MAX)
        x->content_left -= len;
    if (!x->detached) {
        /* Chunks move together: what is overwritten is framing that llhttp has read. */
        if (x->body.len == 0)
            x->body.ptr = at;
        else if (x->body.ptr + x->body.len != at)
            memmove((char *)(uintptr_t)x->body.ptr + x->body.len, at, len);
    } else {
        if (x->body_owner.region == NULL || total > x->body_owner.region->size)
            return reject(h, 503);
        memcpy(x->body_owner.region->base + x->body.len, at, len);
        x->body_owner.length = total;
        x->body.ptr = x->body_owner.region->base;
    }
    x->body.len = total;
    return 0;
}

static int on_message_complete(llhttp_t *parser)
{
    if (http1_of(parser)->cur->keep_alive)
        parser->flags &= (uint16_t)~F_CONNECTION_CLOSE; /* of a trailer */
    return HPE_PAUSED; /* so that requests are handled outside the parser */
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_chunk_extension_name = on_chunk_extension,
    .on_chunk_extension_value = on_chunk_extension,
    .on_message_complete = on_message_complete,
};

void st_http1_parser_init(struct st_http1 *h)
{
    llhttp_init(&h->parser, HTTP_REQUEST, &settings);
}

static unsigned status_of(const struct st_http1 *h, llhttp_errno_t err)
{
    if (h->reject != 0)
        return h->reject;
    if (err == HPE_INVALID_METHOD)
        return 501;
    return 400;
}

/* "Unknown method" is for tokens: what lies between p and end, up to a space, is one. */
static bool method_is_token(const char *p, const char *end)
{
    const char *q;

    while (p < end && (*p == '\r' || *p == '\n'))
        p++;
    for (q = p; q < end && *q != ' '; q++)
        if (!st_http_name_ok((struct st_slice){q, 1}))
            return false;
    return q > p;
}

/* A whole message lies before p. False: parsing stops here. */
static bool message_whole(struct st_http1 *h, char *p, const char *end)
{
    h->base = p;
    h->more_input = p < end;
    h->head_timed = false;
    st_http1_request(h);
    if (st_unlikely(h->conn.closed))
        return false;
    if (st_unlikely(st_http1_is_backlogged(h)))
        h->backlogged = true;
    return !h->backlogged;
}

static void fail(struct st_http1 *h, llhttp_errno_t err)
{
    h->reject = status_of(h, err);
    if (err == HPE_INVALID_METHOD &&
        !method_is_token(h->base, llhttp_get_error_pos(&h->parser) + 1))
        h->reject = 400;
    h->stop_parsing = true;
}

char *st_http1_parse(struct st_http1 *h, char *data, size_t n)
{
    char *p = data, *end = data + n;

    h->trailer_at = data;
    while (p < end && !h->stop_parsing) {
        llhttp_errno_t err;
        size_t taken = 0;

        if (h->memo != NULL && h->cur == NULL && p == h->base)
            taken = st_http1_memo_take(h, p, end);
        if (taken > 0) {
            p += taken;
        } else {
            err = llhttp_execute(&h->parser, p, (size_t)(end - p));
            p = err == HPE_OK ? end : (char *)(uintptr_t)llhttp_get_error_pos(&h->parser);
            if (st_unlikely(h->in_body && h->cur->content_left == UINT64_MAX &&
                            (err == HPE_OK || err == HPE_PAUSED) &&
                            !trailers_ok(h, data, p, err == HPE_PAUSED)))
                err = HPE_STRICT;
            if (err == HPE_OK)
                break;
            if (err != HPE_PAUSED) {
                fail(h, err);
                return end;
            }
            llhttp_resume(&h->parser);
            st_http1_memo_learn(h);
        }
        if (!message_whole(h, p, end))
            break;
    }
    h->more_input = false;
    h->last_byte = end[-1];
    return p;
}

bool st_http1_reserve_body(struct st_http1 *h)
{
    struct st_exchange *x = h->cur;
    struct st_region *old = x->body_owner.region, *region;
    size_t next = ST_NET_READ_SIZE, size;

    if (x->content_left < next)
        next = (size_t)x->content_left;
    if (old != NULL && x->body.len + next <= old->size)
        return true;
    size = x->body.len + next;
    if (old != NULL && size < 2 * old->size)
        size = 2 * old->size;
    if (x->content_left != UINT64_MAX && size > x->body.len + x->content_left)
        size = x->body.len + (size_t)x->content_left;
    region = old != NULL ? st_body_region_try_grow(old, size)
                         : st_body_region_try_new(h->server->net->bodies, size);
    if (region == NULL)
        return false;
    if (old == NULL && x->body.len > 0)
        memcpy(region->base, x->body.ptr, x->body.len);
    x->body_owner = (struct st_buf){region, 0, x->body.len};
    x->body.ptr = region->base;
    return true;
}
