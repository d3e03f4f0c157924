/* Bytes on their way out: a chain of copied chunks and referenced buffers, for one gathered write.
 */
#ifndef PROCESSOR_NET_OUTQ_H
#define PROCESSOR_NET_OUTQ_H

#include <sys/uio.h>

#include "processor/core/base.h"
#include "processor/core/buf.h"

struct st_net;

/* A piece of the chain: bytes behind this header (capacity > 0), or of a referenced buffer. */
struct st_out {
    struct st_out *next;
    char *at;            /* first byte that has not left */
    uint32_t len;        /* bytes that have not left */
    uint32_t room;       /* free bytes behind them; 0 for a referenced buffer */
    struct st_buf owner; /* empty: the bytes are in this chunk */
};

/* Owns its pieces. Zeroed: empty. */
struct st_outq {
    struct st_out *first, *last;
    size_t bytes;
};

enum { ST_OUTQ_IOV = 64, ST_OUTQ_COPY_MAX = 16 * 1024 };

static inline void st_outq_init(struct st_outq *q)
{
    *q = (struct st_outq){0};
}

/* The slow half of st_outq_reserve: a new chunk. */
char *st_outq_grow(struct st_outq *q, struct st_net *net);

/* Room for n <= ST_NET_CHUNK_SIZE / 2 contiguous bytes; st_outq_commit tells how many were used. */
static inline char *st_outq_reserve(struct st_outq *q, struct st_net *net, size_t n)
{
    struct st_out *last = q->last;

    if (st_unlikely(last == NULL || last->room < n))
        return st_outq_grow(q, net);
    return last->at + last->len;
}

static inline void st_outq_commit(struct st_outq *q, size_t n)
{
    struct st_out *last = q->last;

    last->len += (uint32_t)n;
    last->room -= (uint32_t)n;
    q->bytes += n;
}

/* The slow half of st_outq_copy: fills the last chunk and more. */
void st_outq_copy_long(struct st_outq *q, struct st_net *net, struct st_slice bytes);

/* Copies the bytes. */
static inline void st_outq_copy(struct st_outq *q, struct st_net *net, struct st_slice bytes)
{
    struct st_out *last = q->last;

    if (st_unlikely(last == NULL || last->room < bytes.len || bytes.len == 0)) {
        st_outq_copy_long(q, net, bytes);
        return;
    }
    memcpy(last->at + last->len, bytes.ptr, bytes.len);
    st_outq_commit(q, bytes.len);
}

/* Takes over the buffer's reference; small ones are copied. */
void st_outq_take(struct st_outq *q, struct st_net *net, struct st_buf bytes);

/* Moves all of `from` behind `to`. */
void st_outq_splice(struct st_outq *to, struct st_outq *from);

/* Fills iov; returns how many entries. */
int st_outq_gather(const struct st_outq *q, struct iovec iov[ST_OUTQ_IOV]);

/* The first n bytes have left. */
void st_outq_consume(struct st_outq *q, struct st_net *net, size_t n);

void st_outq_clear(struct st_outq *q, struct st_net *net);

#endif
