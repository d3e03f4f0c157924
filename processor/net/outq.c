#include "processor/net/outq.h"

#include "processor/net/net.h"

static void outq_append(struct st_outq *q, struct st_out *o)
{
    o->next = NULL;
    if (q->last != NULL)
        q->last->next = o;
    else
        q->first = o;
    q->last = o;
}

char *st_outq_grow(struct st_outq *q, struct st_net *net)
{
    struct st_out *o = st_slab_get(&net->chunks);

    o->at = (char *)(o + 1);
    o->len = 0;
    o->room = (uint32_t)(ST_NET_CHUNK_SIZE - sizeof *o);
    o->owner = (struct st_buf){0};
    outq_append(q, o);
    return o->at;
}

void st_outq_copy_long(struct st_outq *q, struct st_net *net, struct st_slice bytes)
{
    ST_ASSERT(bytes.ptr != NULL || bytes.len == 0);
    while (bytes.len > 0) {
        char *to = st_outq_reserve(q, net, 1);
        size_t room = q->last->room;
        size_t n = bytes.len < room ? bytes.len : room;

        memcpy(to, bytes.ptr, n);
        st_outq_commit(q, n);
        bytes.ptr += n;
        bytes.len -= n;
    }
}

void st_outq_take(struct st_outq *q, struct st_net *net, struct st_buf bytes)
{
    struct st_out *o;

    if (bytes.region == NULL)
        return; /* empty */
    if (bytes.length <= ST_OUTQ_COPY_MAX) {
        st_outq_copy(q, net, st_buf_slice(&bytes));
        st_buf_drop(&bytes);
        return;
    }
    while (bytes.length > 0) {
        uint32_t n = bytes.length > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uint32_t)bytes.length;

        o = st_slab_get(&net->refs);
        o->at = st_buf_data(&bytes);
        o->len = n;
        o->room = 0;
        bytes.offset += n;
        bytes.length -= n;
        o->owner = bytes.length > 0 ? st_buf_ref(&bytes) : bytes;
        outq_append(q, o);
        q->bytes += n;
    }
}

void st_outq_splice(struct st_outq *to, struct st_outq *from)
{
    if (from->first == NULL)
        return;
    if (to->last != NULL)
        to->last->next = from->first;
    else
        to->first = from->first;
    to->last = from->last;
    to->bytes += from->bytes;
    st_outq_init(from);
}

int st_outq_gather(const struct st_outq *q, struct iovec iov[ST_OUTQ_IOV])
{
    int n = 0;

    for (struct st_out *o = q->first; o != NULL && n < ST_OUTQ_IOV; o = o->next)
        if (o->len > 0)
            iov[n++] = (struct iovec){o->at, o->len};
    return n;
}

static void outq_free(struct st_net *net, struct st_out *o)
{
    if (o->owner.region != NULL) {
        st_buf_drop(&o->owner);
        st_slab_put(&net->refs, o);
    } else {
        st_slab_put(&net->chunks, o);
    }
}

void st_outq_consume(struct st_outq *q, struct st_net *net, size_t n)
{
    struct st_out *o;

    ST_ASSERT(n <= q->bytes);
    q->bytes -= n;
    while ((o = q->first) != NULL && n >= o->len) {
        n -= o->len;
        q->first = o->next;
        if (q->first == NULL)
            q->last = NULL;
        outq_free(net, o);
    }
    if (n > 0) {
        ST_ASSERT(o != NULL);
        o->at += n;
        o->len -= (uint32_t)n;
    }
}

void st_outq_clear(struct st_outq *q, struct st_net *net)
{
    st_outq_consume(q, net, q->bytes);
}
