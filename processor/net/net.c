#include "processor/net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/net/http1.h"
#include "processor/net/outq.h"

/* After a peak this much stays with the loop: 2 MiB of chunks, connections of a quiet moment. */
enum { KEEP_CHUNKS = 128, KEEP_REFS = 256, KEEP_CONNS = 256 };

struct body_region {
    struct st_region region;
    struct st_body_budget *budget;
};

int st_net_open(struct st_loop *loop, struct st_body_budget *bodies, struct st_error *err)
{
    struct st_net *net = calloc(1, sizeof *net);

    ST_ASSERT(net != NULL);
    net->loop = loop;
    net->bodies = bodies;
    net->read_base = malloc(ST_NET_CARRY_SIZE + ST_NET_READ_SIZE);
    ST_ASSERT(net->read_base != NULL);
    net->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (net->spare_fd < 0) {
        int code = st_error_sys(err, errno, "open /dev/null");
        free(net->read_base);
        free(net);
        return code;
    }
    st_slab_init(&net->chunks, "output chunks", ST_NET_CHUNK_SIZE, KEEP_CHUNKS);
    st_slab_init(&net->refs, "output references", sizeof(struct st_out), KEEP_REFS);
    st_slab_init(&net->conns, "HTTP/1 connections", sizeof(struct st_http1), KEEP_CONNS);
    st_slab_init(&net->memos, "HTTP/1 heads", st_http1_memo_size(), KEEP_CONNS);
    TAILQ_INIT(&net->starved);
    st_timer_init(&net->starve_timer, st_http1_retry_starved);
    loop->net = net;
    return ST_OK;
}

void st_net_close(struct st_loop *loop)
{
    struct st_net *net = loop->net;

    if (net == NULL)
        return;
    st_loop_timer_cancel(loop, &net->starve_timer);
    st_slab_close(&net->chunks);
    st_slab_close(&net->refs);
    st_slab_close(&net->conns);
    st_slab_close(&net->memos);
    close(net->spare_fd);
    free(net->read_base);
    free(net);
    loop->net = NULL;
}

void st_net_update_prefix(struct st_net *net, uint64_t wall_ns)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nServer: stator\r\nDate: ";
    char *p = net->prefix;

    net->date_second = wall_ns - wall_ns % ST_SEC;
    memcpy(p, head, sizeof head - 1);
    p += sizeof head - 1;
    st_clock_http_date(wall_ns, p);
    p += ST_HTTP_DATE_LEN;
    *p++ = '\r';
    *p++ = '\n';
    net->prefix_len = (size_t)(p - net->prefix);
}

static void body_region_release(struct st_region *r)
{
    struct body_region *b = ST_CONTAINER_OF(r, struct body_region, region);

    st_body_budget_give(b->budget, r->size);
    free(b);
}

bool st_body_budget_take(struct st_body_budget *b, size_t n)
{
    uint64_t used = atomic_fetch_add_explicit(&b->used, n, memory_order_relaxed);

    if (used <= b->limit && n <= b->limit - used)
        return true;
    st_body_budget_give(b, n);
    return false;
}

/* b with room for size bytes that are charged already; NULL gives the charge of n back. */
static struct body_region *body_region_alloc(struct body_region *b, struct st_body_budget *budget,
                                             size_t size, size_t n)
{
    struct body_region *next = NULL;

    if (size <= SIZE_MAX - sizeof *b)
        next = st_try_realloc(b, sizeof *b + size);
    if (next == NULL) {
        st_body_budget_give(budget, n);
        return NULL;
    }
    next->region.base = (char *)(next + 1);
    next->region.size = size;
    return next;
}

struct st_region *st_body_region_try_new(struct st_body_budget *budget, size_t size)
{
    struct body_region *b;

    if (!st_body_budget_take(budget, size))
        return NULL;
    b = body_region_alloc(NULL, budget, size, size);
    if (b == NULL)
        return NULL;
    atomic_init(&b->region.refs, 1);
    b->region.release = body_region_release;
    b->budget = budget;
    return &b->region;
}

struct st_region *st_body_region_try_grow(struct st_region *r, size_t size)
{
    struct body_region *b = ST_CONTAINER_OF(r, struct body_region, region);
    size_t more = size - r->size;

    ST_ASSERT(size >= r->size && st_region_is_sole(r));
    if (!st_body_budget_take(b->budget, more))
        return NULL;
    b = body_region_alloc(b, b->budget, size, more);
    return b != NULL ? &b->region : NULL;
}
