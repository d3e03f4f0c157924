/* A client that keeps its connection mostly sends the same head again, to the byte: probes,
 * sensors, RPC clients, load generators. Others ask for another path with the same headers. The
 * head of one earlier request is kept with what it meant, and one that is equal, or equal but for a
 * plain target, is taken without parsing: equal bytes at the begin of a message mean the same, and
 * a target has no say in how a message is framed. Anything else goes through llhttp; so does a
 * message that has not arrived whole. */
#include "processor/net/http1_int.h"

enum { MISSES_IN_A_ROW = 3, TRY_AGAIN_EVERY = 32 };

/* What a target may consist of to be taken unparsed: the characters of RFC 3986 section 3.3 and 3.4
 * that need no care. llhttp takes all of them anywhere behind a first "/". */
static const bool plain_target[256] = {
    ['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true, ['/'] = true, ['-'] = true,
    ['.'] = true,         ['_'] = true,         ['~'] = true,         ['?'] = true, ['&'] = true,
    ['='] = true,         ['%'] = true,         ['+'] = true,         [','] = true, [':'] = true,
    [';'] = true,         ['@'] = true,
};

/* Offsets are from the first byte of the head. */
struct st_http1_memo {
    uint32_t len;      /* of the head */
    uint32_t body_len; /* Content-Length */
    uint32_t method_len, target_off, target_len;
    uint16_t version;
    bool is_head;
    struct st_headers headers; /* items lies in the array below; its pointers are offsets */
    struct st_header items[ST_HTTP1_INLINE_HEADERS];
    char bytes[ST_HTTP1_MEMO_BYTES];
};

size_t st_http1_memo_size(void)
{
    return sizeof(struct st_http1_memo);
}

/* Clients whose heads always differ shall not pay for attempts and copies. */
static bool is_worth_it(const struct st_http1 *h)
{
    return h->memo_misses <= MISSES_IN_A_ROW || h->memo_misses % TRY_AGAIN_EVERY == 0;
}

/* The kept head with another target: the length of that target, 0 when it is none. */
static size_t other_target(const struct st_http1 *h, const char *p, const char *end)
{
    const struct st_http1_memo *m = h->memo;
    const char *target = p + m->target_off, *q = target;
    size_t rest = m->len - m->target_off - m->target_len, n;

    if ((size_t)(end - p) < m->len - m->target_len || memcmp(p, m->bytes, m->target_off) != 0 ||
        *q != '/')
        return 0;
    while (q < end && plain_target[(unsigned char)*q])
        q++;
    n = (size_t)(q - target);
    if ((size_t)(end - q) < rest + m->body_len || m->target_off + n + rest > h->server->max_head ||
        memcmp(q, m->bytes + m->target_off + m->target_len, rest) != 0)
        return 0;
    return n;
}

size_t st_http1_memo_take(struct st_http1 *h, char *p, const char *end)
{
    const struct st_http1_memo *m = h->memo;
    size_t target_len = m->target_len, len = m->len;
    struct st_exchange *x;
    char *moved;

    if ((size_t)(end - p) < len + m->body_len || memcmp(p, m->bytes, len) != 0) {
        target_len = is_worth_it(h) ? other_target(h, p, end) : 0;
        if (target_len == 0) {
            h->memo_misses++;
            return 0;
        }
        len = len - m->target_len + target_len;
    }
    x = h->server->handler->begin(h->server->arg, h->server->net);
    if (st_unlikely(x == NULL))
        return 0;
    ST_ASSERT(x->header_cap >= m->headers.count);
    h->memo_misses = 0;
    st_http1_exchange_init(h, x);
    x->head = (struct st_slice){p, len};
    x->method = (struct st_slice){p, m->method_len};
    x->target = (struct st_slice){p + m->target_off, target_len};
    x->version = m->version;
    x->is_head = m->is_head;
    x->keep_alive = true;
    x->content_left = 0;
    x->body = (struct st_slice){p + len, m->body_len};
    x->headers.count = m->headers.count;
    memcpy(x->headers.last, m->headers.last, sizeof x->headers.last);
    moved = p + len - m->len; /* headers follow the target */
    for (uint32_t i = 0; i < m->headers.count; i++) {
        x->headers.items[i] = m->items[i];
        x->headers.items[i].name = moved + (uintptr_t)m->items[i].name;
        x->headers.items[i].value = moved + (uintptr_t)m->items[i].value;
    }
    h->cur = x;
    return len + m->body_len;
}

void st_http1_memo_learn(struct st_http1 *h)
{
    const struct st_exchange *x = h->cur;
    const char *base = x->head.ptr;
    struct st_http1_memo *m;

    if (!(h->memo == NULL ? h->served : is_worth_it(h)) || x->detached || !x->keep_alive ||
        x->head.len > ST_HTTP1_MEMO_BYTES || x->headers.count > ST_HTTP1_INLINE_HEADERS ||
        x->content_left != 0 || st_headers_known(&x->headers, ST_HDR_EXPECT) != NULL)
        return;
    if (h->memo == NULL)
        h->memo = st_slab_get(&h->server->net->memos);
    m = h->memo;
    m->len = (uint32_t)x->head.len;
    m->body_len = (uint32_t)x->body.len;
    m->method_len = (uint32_t)x->method.len;
    m->target_off = (uint32_t)(x->target.ptr - base);
    m->target_len = (uint32_t)x->target.len;
    m->version = x->version;
    m->is_head = x->is_head;
    m->headers = x->headers;
    m->headers.items = m->items;
    memcpy(m->bytes, base, x->head.len);
    ST_ASSERT(x->headers.items != NULL);
    for (uint32_t i = 0; i < x->headers.count; i++) {
        m->items[i] = x->headers.items[i];
        m->items[i].name = (const char *)(uintptr_t)(x->headers.items[i].name - base);
        m->items[i].value = (const char *)(uintptr_t)(x->headers.items[i].value - base);
    }
}
