#include "processor/admin/admin.h"

#include <stdio.h>
#include <stdlib.h>

#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/core/slab.h"
#include "processor/net/http1.h"
#include "processor/net/listener.h"
#include "processor/pool.h"
#include "processor/processor.h"

enum { LIVE_WAIT_S = 2, ADMIN_CONNECTIONS = 256, KEEP_EXCHANGES = 16 };

struct endpoint {
    struct st_admin *admin;
    struct st_listener listener;
    struct st_http_server server;
    bool is_health, opened;
};

/* A sign of life from one loop, at most one under way. */
struct sign {
    struct st_mail mail;
    struct st_admin *admin;
    struct st_loop *loop;
    bool awaited;
};

struct st_admin {
    struct st_processor *p;
    struct endpoint health, metrics;
    struct sign *signs;                        /* one a loop */
    TAILQ_HEAD(, admin_exchange) live_waiters; /* /live requests, oldest first */
    struct st_slab exchanges;
};

struct admin_exchange {
    struct st_exchange x;
    struct st_admin *admin;
    struct endpoint *endpoint;
    TAILQ_ENTRY(admin_exchange) link;
    struct st_timer timer;
    bool waits;
    struct st_arena arena;
    struct st_header headers[ST_HTTP1_INLINE_HEADERS];
};

static struct admin_exchange *of_exchange(struct st_exchange *x)
{
    return ST_CONTAINER_OF(x, struct admin_exchange, x);
}

static struct st_exchange *on_begin(void *arg, struct st_net *net)
{
    struct endpoint *e = arg;
    struct admin_exchange *ax = st_slab_try(&e->admin->exchanges);

    (void)net;
    if (ax == NULL)
        return NULL;
    ax->admin = e->admin;
    ax->endpoint = e;
    ax->waits = false;
    st_arena_init(&ax->arena, NULL, 0);
    ax->x.arena = &ax->arena;
    ax->x.headers.items = ax->headers;
    ax->x.header_cap = ST_HTTP1_INLINE_HEADERS;
    return &ax->x;
}

static void on_drop(struct st_exchange *x)
{
    struct admin_exchange *ax = of_exchange(x);

    st_buf_drop(&x->body_owner);
    st_arena_release(&ax->arena);
    st_slab_put(&ax->admin->exchanges, ax);
}

static void answer(struct admin_exchange *ax, unsigned status, struct st_slice type,
                   struct st_slice body)
{
    struct st_http_response r = {.status = status, .content_type = type, .body = body};

    if (st_exchange_respond(&ax->x, &r))
        on_drop(&ax->x);
}

static void answer_check(struct admin_exchange *ax, bool ok, const char *name, const char *text)
{
    char body[512];
    int n = ok ? snprintf(body, sizeof body, "{}")
               : snprintf(body, sizeof body, "{\"%s\": \"%s\"}", name, text);

    answer(ax, ok ? 200 : 503, ST_SLICE("application/json; charset=utf-8"),
           (struct st_slice){body, (size_t)n});
}

/* /live */

static void waiter_answer(struct admin_exchange *ax, const char *fault)
{
    struct st_admin *a = ax->admin;

    TAILQ_REMOVE(&a->live_waiters, ax, link);
    ax->waits = false;
    st_loop_timer_cancel(&a->p->main_loop, &ax->timer);
    answer_check(ax, fault == NULL, "processor_liveness", fault != NULL ? fault : "");
}

static const char *pools_fault(struct st_admin *a)
{
    for (unsigned i = 0; i < a->p->pool_count; i++)
        if (!st_pool_is_live(a->p->pools[i]))
            return "more workers are stuck than may be replaced";
    return NULL;
}

static void sign_back(struct st_loop *loop, struct st_mail *mail)
{
    struct sign *s = ST_CONTAINER_OF(mail, struct sign, mail);
    struct st_admin *a = s->admin;
    struct admin_exchange *ax;

    (void)loop;
    s->awaited = false;
    for (unsigned i = 0; i < a->p->loop_count; i++)
        if (a->signs[i].awaited)
            return;
    while ((ax = TAILQ_FIRST(&a->live_waiters)) != NULL)
        waiter_answer(ax, pools_fault(a));
}

static void sign_on_loop(struct st_loop *loop, struct st_mail *mail)
{
    struct sign *s = ST_CONTAINER_OF(mail, struct sign, mail);

    (void)loop;
    st_loop_post(&s->admin->p->main_loop, mail, sign_back);
}

static void live_timeout(struct st_timer *t)
{
    struct admin_exchange *ax = ST_CONTAINER_OF(t, struct admin_exchange, timer);
    struct st_admin *a = ax->admin;

    for (unsigned i = 0; i < a->p->loop_count; i++)
        if (a->signs[i].awaited)
            ST_LOG(ST_LOG_ERROR, "processor.admin",
                   "A loop gives no sign of life: does a NONBLOCKING handler block it?",
                   ST_KV_UINT("loop", i), ST_KV_UINT("seconds", LIVE_WAIT_S));
    waiter_answer(ax, "a loop is blocked");
}

static void live_begin(struct admin_exchange *ax)
{
    struct st_admin *a = ax->admin;

    ax->waits = true;
    TAILQ_INSERT_TAIL(&a->live_waiters, ax, link);
    st_timer_init(&ax->timer, live_timeout);
    st_loop_timer_arm(&a->p->main_loop, &ax->timer, LIVE_WAIT_S * ST_SEC);
    for (unsigned i = 0; i < a->p->loop_count; i++) {
        struct sign *s = &a->signs[i];
        if (!s->awaited) {
            s->awaited = true;
            st_loop_post(s->loop, &s->mail, sign_on_loop);
        }
    }
}

/* Requests */

static void answer_metrics(struct admin_exchange *ax)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);

    ST_ASSERT(out != NULL);
    st_metrics_write(out);
    fclose(out);
    answer(ax, 200, ST_SLICE("text/plain; version=0.0.4; charset=utf-8"),
           (struct st_slice){text, n});
    free(text);
}

static void on_request(struct st_exchange *x)
{
    struct admin_exchange *ax = of_exchange(x);
    struct st_slice scheme, authority, path, query, none = {NULL, 0};
    bool health = ax->endpoint->is_health;
    char reason[256];
    bool ok;

    st_buf_drop(&x->body_owner);
    if (!st_http_split_target(x->target, &scheme, &authority, &path, &query)) {
        answer(ax, 400, none, none);
    } else if (health
                   ? !st_slice_eq(path, ST_SLICE("/live")) && !st_slice_eq(path, ST_SLICE("/ready"))
                   : !st_slice_eq(path, ST_SLICE("/metrics"))) {
        answer(ax, 404, none, none);
    } else if (!st_slice_eq(x->method, ST_SLICE("GET"))) {
        answer(ax, 405, none, none);
    } else if (!health) {
        answer_metrics(ax);
    } else if (st_slice_eq(path, ST_SLICE("/live"))) {
        live_begin(ax);
    } else {
        ok = st_processor_is_ready(ax->admin->p, reason, sizeof reason);
        answer_check(ax, ok, "processor_readiness", reason);
    }
}

static void on_detach(struct st_exchange *x)
{
    st_exchange_detach_head(x);
}

static void on_gone(struct st_exchange *x)
{
    struct admin_exchange *ax = of_exchange(x);

    if (ax->waits) {
        TAILQ_REMOVE(&ax->admin->live_waiters, ax, link);
        st_loop_timer_cancel(&ax->admin->p->main_loop, &ax->timer);
    }
    on_drop(x);
}

static const struct st_exchange_handler handler = {on_begin, on_request, on_detach, on_drop,
                                                   on_gone,  on_drop,    NULL};

/* Listening */

static void accepted(struct st_listener *l, int fd, const struct st_peer *peer)
{
    struct endpoint *e = l->arg;

    st_http1_accept(&e->server, fd, peer);
    if (e->server.conns.open >= e->server.conns.max)
        st_listener_pause(l);
}

static void connection_closed(struct st_http_server *server)
{
    struct endpoint *e = ST_CONTAINER_OF(server, struct endpoint, server);

    st_listener_fd_freed(&e->listener);
    if (server->conns.open < server->conns.max && !e->listener.starved)
        st_listener_resume(&e->listener);
}

/* The socket, on another port when a default one is taken. */
static int listen_on(const struct st_endpoint_config *c, const char *what, struct st_error *err)
{
    int fd = st_listen(c->listen_address, true, err);
    const char *colon = strrchr(c->listen_address, ':');
    char other[300];

    if (fd >= 0 || c->configured || err->sys_errno == 0 || colon == NULL)
        return fd;
    snprintf(other, sizeof other, "%.*s:0", (int)(colon - c->listen_address), c->listen_address);
    fd = st_listen(other, true, err);
    if (fd >= 0)
        ST_LOG(ST_LOG_INFO, "processor.admin", "The default port is taken, another one is used",
               ST_KV_STR("for", what), ST_KV_STR("default", c->listen_address),
               ST_KV_UINT("port", st_listen_port(fd)));
    return fd;
}

static int endpoint_open(struct st_admin *a, struct endpoint *e, const struct st_endpoint_config *c,
                         const char *what, struct st_error *err)
{
    int fd;

    if (!c->enabled)
        return ST_OK;
    fd = listen_on(c, what, err);
    if (fd < 0)
        return fd;
    e->admin = a;
    e->server = (struct st_http_server){
        .net = st_net_of(&a->p->main_loop),
        .handler = &handler,
        .arg = e,
        .max_head = 16384,
        .max_body = 65536,
        .header_timeout_ns = 10 * ST_SEC,
        .body_timeout_ns = 10 * ST_SEC,
        .idle_timeout_ns = 75 * ST_SEC,
        .write_timeout_ns = 10 * ST_SEC,
        .conns = {.max = ADMIN_CONNECTIONS},
        .on_closed = connection_closed,
    };
    TAILQ_INIT(&e->server.sessions);
    st_listener_open(&e->listener, e->server.net, fd, accepted, e);
    e->opened = true;
    return ST_OK;
}

int st_admin_open(struct st_admin **out, struct st_processor *p, struct st_error *err)
{
    struct st_admin *a = calloc(1, sizeof *a);
    const struct st_platform_config *c = &p->config->platform;
    int code;

    ST_ASSERT(a != NULL);
    a->p = p;
    a->health.is_health = true;
    TAILQ_INIT(&a->live_waiters);
    st_slab_init(&a->exchanges, "admin exchanges", sizeof(struct admin_exchange), KEEP_EXCHANGES);
    a->signs = calloc(p->loop_count, sizeof *a->signs);
    ST_ASSERT(a->signs != NULL);
    for (unsigned i = 0; i < p->loop_count; i++)
        a->signs[i] = (struct sign){.admin = a, .loop = &p->loops[i]};
    *out = a;
    code = endpoint_open(a, &a->health, &c->health, "health", err);
    if (code == ST_OK)
        code = endpoint_open(a, &a->metrics, &c->metrics, "metrics", err);
    return code;
}

static void endpoint_close(struct endpoint *e)
{
    if (!e->opened)
        return;
    st_listener_close(&e->listener);
    e->server.on_closed = NULL;
    st_http_server_close(&e->server);
}

void st_admin_close(struct st_admin *a)
{
    if (a == NULL)
        return;
    endpoint_close(&a->health);
    endpoint_close(&a->metrics);
    /* Closed sessions are freed at the end of a pass; the loop makes one more. */
    st_loop_settle(&a->p->main_loop);
    st_slab_close(&a->exchanges);
    free(a->signs);
    free(a);
}
