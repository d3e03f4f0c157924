/* What the connections of one loop share: the read buffer, free lists, cached header lines. */
#ifndef PROCESSOR_NET_NET_H
#define PROCESSOR_NET_NET_H

#include <stdatomic.h>

#include "processor/core/base.h"
#include "processor/core/loop.h"
#include "processor/core/metrics.h"
#include "processor/core/slab.h"

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
    char *read_base; /* ST_NET_CARRY_SIZE + ST_NET_READ_SIZE bytes */
    struct st_slab chunks;
    struct st_slab conns;
    struct st_body_budget *bodies;
    int spare_fd; /* given up at EMFILE, to answer and close one connection */
    uint64_t date_second;
    char prefix[96]; /* "Server: stator\r\nDate: ...\r\n" of date_second */
    size_t prefix_len;
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

/* "Server: stator\r\nDate: <now>\r\n"; valid until the next pass. */
struct st_slice st_net_prefix(struct st_net *net);

/* Takes n bytes of the budget; false: it is used up. Any thread. */
bool st_body_budget_take(struct st_body_budget *b, uint64_t n);
void st_body_budget_give(struct st_body_budget *b, uint64_t n);

#endif
