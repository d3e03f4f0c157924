/* A client that keeps its connection mostly sends the same head again, to the byte: probes,
 * sensors, RPC clients, load generators. The head of one earlier request is kept with what it
 * meant, and an equal one is taken without parsing: equal bytes at the begin of a message mean the
 * same. Anything else goes through llhttp; so does a message that has not arrived whole. */
#include "processor/net/http1_int.h"

enum { MISSES_IN_A_ROW = 3, TRY_AGAIN_EVERY = 32 };

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

size_t st_http1_memo_take(struct st_http1 *h, char *p, const char *end)
{
    struct st_http1_memo *m = h->memo;
    struct st_exchange *x;

    if ((size_t)(end - p) < (size_t)m->len + m->body_len || memcmp(p, m->bytes, m->len) != 0) {
        h->memo_misses++;
        return 0;
    }
    x = h->server->handler->begin(h->server->arg, h->server->net);
    if (st_unlikely(x == NULL))
        return 0;
    ST_ASSERT(x->header_cap >= m->headers.count);
    h->memo_misses = 0;
    st_http1_exchange_init(h, x);
    x->head = (struct st_slice){p, m->len};
    x->method = (struct st_slice){p, m->method_len};
    x->target = (struct st_slice){p + m->target_off, m->target_len};
    x->version = m->version;
    x->is_head = m->is_head;
    x->keep_alive = true;
    x->content_left = 0;
    x->body = (struct st_slice){p + m->len, m->body_len};
    x->headers.count = m->headers.count;
    memcpy(x->headers.last, m->headers.last, sizeof x->headers.last);
    for (uint32_t i = 0; i < m->headers.count; i++) {
        x->headers.items[i] = m->items[i];
        x->headers.items[i].name = p + (uintptr_t)m->items[i].name;
        x->headers.items[i].value = p + (uintptr_t)m->items[i].value;
    }
    h->cur = x;
    return (size_t)m->len + m->body_len;
}

/* Clients whose heads always differ shall not pay for copies. */
static bool is_worth_it(const struct st_http1 *h)
{
    if (h->memo == NULL)
        return h->served;
    return h->memo_misses <= MISSES_IN_A_ROW || h->memo_misses % TRY_AGAIN_EVERY == 0;
}

void st_http1_memo_learn(struct st_http1 *h)
{
    const struct st_exchange *x = h->cur;
    const char *base = x->head.ptr;
    struct st_http1_memo *m;

    if (!is_worth_it(h) || x->detached || !x->keep_alive || x->head.len > ST_HTTP1_MEMO_BYTES ||
        x->headers.count > ST_HTTP1_INLINE_HEADERS || x->content_left != 0 ||
        st_headers_known(&x->headers, ST_HDR_EXPECT) != NULL)
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
