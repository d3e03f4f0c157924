/* What the connections of one loop share: the read buffer, free lists, cached header lines. */
#ifndef PROCESSOR_NET_NET_H
#define PROCESSOR_NET_NET_H

#include <stdatomic.h>

#include <sys/queue.h>

#include "processor/core/base.h"
#include "processor/core/buf.h"
#include "processor/core/loop.h"
#include "processor/core/metrics.h"
#include "processor/core/slab.h"

struct st_http1;

enum {
    ST_NET_READ_SIZE = 64 * 1024,  /* most bytes of one read */
    ST_NET_CARRY_SIZE = 80 * 1024, /* room before them for what earlier reads left */
    ST_NET_CHUNK_SIZE = 16 * 1024  /* of an output chunk */
};

/* Memory of all request bodies together (contracts: bodyMemory); shared by all loops. */
struct st_body_budget {
    _Atomic uint64_t used;
    uint64_t limit;
};

struct st_net {
    struct st_loop *loop;
    char *read_base;       /* ST_NET_CARRY_SIZE + ST_NET_READ_SIZE bytes */
    struct st_slab chunks; /* output chunks */
    struct st_slab refs;   /* output entries that refer to a buffer */
    struct st_slab conns;  /* HTTP/1 connections */
    struct st_slab memos;  /* heads that HTTP/1 connections keep */
    struct st_body_budget *bodies;
    int spare_fd;         /* given up at EMFILE, to answer and close one connection */
    uint64_t date_second; /* begin of the second that prefix names, ns since the epoch */
    char prefix[96];      /* "HTTP/1.1 200 OK\r\nServer: stator\r\nDate: ...\r\n" of date_second */
    size_t prefix_len;
    struct st_timer starve_timer; /* retries connections that wait for body memory */
    TAILQ_HEAD(, st_http1) starved;
    st_metric connections, bytes_in, bytes_out;
};

/* Sets loop->net. The budget is shared and outlives all loops. */
int st_net_open(struct st_loop *loop, struct st_body_budget *bodies,
                struct st_error *err) ST_MUST_CHECK;
void st_net_close(struct st_loop *loop);

static inline struct st_net *st_net_of(struct st_loop *loop)
{
    return loop->net;
}

enum { ST_NET_STATUS_LEN = 17 }; /* of "HTTP/1.1 200 OK\r\n", with which the prefix begins */

void st_net_update_prefix(struct st_net *net, uint64_t wall_ns);

/* "HTTP/1.1 200 OK\r\nServer: stator\r\nDate: <now>\r\n"; valid until the next call. */
static inline struct st_slice st_net_prefix(struct st_net *net)
{
    uint64_t wall = st_loop_wall(net->loop);

    /* Compared without a division: date_second is kept in ns. */
    if (st_unlikely(wall - net->date_second >= ST_SEC))
        st_net_update_prefix(net, wall);
    return (struct st_slice){net->prefix, net->prefix_len};
}

/* Charges n bytes; false: the budget is used up. Any thread. */
bool st_body_budget_take(struct st_body_budget *budget, size_t n) ST_MUST_CHECK;

/* Gives n charged bytes back. Any thread. */
static inline void st_body_budget_give(struct st_body_budget *budget, size_t n)
{
    atomic_fetch_sub_explicit(&budget->used, n, memory_order_relaxed);
}

/* A region of size bytes, one reference, charged to the budget until its last reference is gone;
 * NULL when the budget is used up or memory is out. Any thread. */
struct st_region *st_body_region_try_new(struct st_body_budget *budget, size_t size);

/* The same bytes in a larger region, of which only the growth is charged; the caller has the only
 * reference, and `r` is gone. NULL: `r` is as it was. */
struct st_region *st_body_region_try_grow(struct st_region *r, size_t size);

#endif
