#include "processor/admin/admin.h"

#include <stdio.h>
#include <stdlib.h>

#include "processor/admin/admin_int.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/processor.h"

enum { ADMIN_CONNECTIONS = 256, KEEP_EXCHANGES = 16 };

struct st_admin_route {
    const char *path;
    void (*get)(struct admin_exchange *ax);
    void (*put)(struct admin_exchange *ax); /* NULL: other methods than GET are refused */
    bool begins;                            /* all paths that begin so */
    bool any_method;                        /* is answered as GET */
};

static struct admin_exchange *of_exchange(struct st_exchange *x)
{
    return ST_CONTAINER_OF(x, struct admin_exchange, x);
}

static struct st_exchange *on_begin(void *arg, struct st_net *net)
{
    struct admin_endpoint *e = arg;
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

/* Answers */

void st_admin_answer(struct admin_exchange *ax, unsigned status, struct st_slice type,
                     struct st_slice body)
{
    struct st_http_response r = {.status = status, .content_type = type, .body = body};

    if (st_exchange_respond(&ax->x, &r))
        on_drop(&ax->x);
}

void st_admin_answer_empty(struct admin_exchange *ax, unsigned status)
{
    st_admin_answer(ax, status, (struct st_slice){NULL, 0}, (struct st_slice){NULL, 0});
}

void st_admin_answer_json(struct admin_exchange *ax, unsigned status, json_t *value_take)
{
    char *text = json_dumps(value_take, JSON_INDENT(2) | JSON_REAL_PRECISION(15));

    ST_ASSERT(text != NULL);
    json_decref(value_take);
    st_admin_answer(ax, status, ST_SLICE("application/json"), st_slice_of(text));
    free(text);
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
    st_admin_answer(ax, 200, ST_SLICE("text/plain; version=0.0.4; charset=utf-8"),
                    (struct st_slice){text, n});
    free(text);
}

static void answer_ok(struct admin_exchange *ax)
{
    st_admin_answer_empty(ax, 200);
}

static const struct st_admin_route health_routes[] = {{.path = "/live", .get = st_admin_live},
                                                      {.path = "/ready", .get = st_admin_ready},
                                                      {.path = NULL}};

static const struct st_admin_route metrics_routes[] = {{.path = "/metrics", .get = answer_metrics},
                                                       {.path = NULL}};

static const struct st_admin_route web_routes[] = {
    {.path = "/triggers", .get = st_admin_triggers},
    {.path = "/triggers/", .get = st_admin_triggers, .begins = true},
    {.path = "/status", .get = st_admin_status},
    {.path = "/logger/level", .get = st_admin_level_get, .put = st_admin_level_put},
    {.path = NULL}};

static const struct st_admin_route bare_http_routes[] = {
    {.path = "/__internal/health", .get = answer_ok, .begins = true, .any_method = true},
    {.path = NULL}};

static bool route_fits(const struct st_admin_route *r, struct st_slice path)
{
    size_t n = strlen(r->path);

    if (r->begins)
        return path.len >= n && memcmp(path.ptr, r->path, n) == 0;
    return st_slice_eq(path, st_slice_of(r->path));
}

/* One of the query's parts is the text. */
static bool query_has(struct st_slice query, struct st_slice text)
{
    for (const char *p = query.ptr, *end = p + query.len, *next; query.len > 0 && p < end;
         p = next + 1) {
        next = memchr(p, '&', (size_t)(end - p));
        if (next == NULL)
            next = end;
        if (st_slice_eq((struct st_slice){p, (size_t)(next - p)}, text))
            return true;
    }
    return false;
}

static void on_request(struct st_exchange *x)
{
    struct admin_exchange *ax = of_exchange(x);
    const struct st_admin_route *r = ax->endpoint->routes;
    struct st_slice scheme, authority, path, query;

    if (!st_http_split_target(x->target, &scheme, &authority, &path, &query)) {
        st_buf_drop(&x->body_owner);
        st_admin_answer_empty(ax, 400);
        return;
    }
    ax->path = st_http_decode_path(&ax->arena, path);
    ax->full = query_has(query, ST_SLICE("full=1"));
    while (r->path != NULL && !route_fits(r, ax->path))
        r++;
    if (r->path == NULL)
        st_admin_answer_empty(ax, 404);
    else if (r->any_method || st_slice_eq(x->method, ST_SLICE("GET")))
        r->get(ax);
    else if (r->put != NULL && st_slice_eq(x->method, ST_SLICE("PUT")))
        r->put(ax);
    else
        st_admin_answer_empty(ax, 405);
}

static void on_detach(struct st_exchange *x)
{
    st_exchange_detach_head(x);
}

static void on_gone(struct st_exchange *x)
{
    struct admin_exchange *ax = of_exchange(x);

    st_admin_live_gone(ax);
    on_drop(x);
}

static const struct st_exchange_handler handler = {on_begin, on_request, on_detach, on_drop,
                                                   on_gone,  on_drop,    NULL};

/* Listening */

static void accepted(struct st_listener *l, int fd, const struct st_peer *peer)
{
    struct admin_endpoint *e = l->arg;

    st_http1_accept(&e->server, fd, peer);
    if (e->server.conns.open >= e->server.conns.max)
        st_listener_pause(l, ST_PAUSE_FULL);
}

static void connection_closed(struct st_http_server *server)
{
    struct admin_endpoint *e = ST_CONTAINER_OF(server, struct admin_endpoint, server);

    st_listener_fd_freed(&e->listener);
    if (server->conns.open < server->conns.max)
        st_listener_resume(&e->listener, ST_PAUSE_FULL);
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

static int endpoint_open(struct st_admin *a, struct admin_endpoint *e,
                         const struct st_endpoint_config *c, const char *what, struct st_error *err)
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
    a->health.routes = health_routes;
    a->metrics.routes = metrics_routes;
    a->web.routes = web_routes;
    a->bare_http.routes = bare_http_routes;
    TAILQ_INIT(&a->live_waiters);
    st_slab_init(&a->exchanges, "admin exchanges", sizeof(struct admin_exchange), KEEP_EXCHANGES);
    a->signs = calloc(p->loop_count, sizeof *a->signs);
    ST_ASSERT(a->signs != NULL);
    for (unsigned i = 0; i < p->loop_count; i++)
        a->signs[i] = (struct admin_sign){.admin = a, .loop = &p->loops[i]};
    *out = a;
    code = endpoint_open(a, &a->health, &c->health, "health", err);
    if (code == ST_OK)
        code = endpoint_open(a, &a->metrics, &c->metrics, "metrics", err);
    if (code == ST_OK)
        code = endpoint_open(a, &a->web, &c->web_admin, "webAdmin", err);
    return code;
}

int st_admin_open_http(struct st_admin *a, struct st_error *err)
{
    const struct st_endpoint_config *c = &a->p->config->platform.bare_http;
    int code = endpoint_open(a, &a->bare_http, c, "http", err);

    if (code == ST_OK && c->enabled)
        ST_LOG(ST_LOG_INFO, "processor.admin",
               "There is no http trigger: its port answers the health path alone",
               ST_KV_UINT("port", st_listen_port(a->bare_http.listener.fd)));
    return code;
}

static void endpoint_close(struct admin_endpoint *e)
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
    endpoint_close(&a->web);
    endpoint_close(&a->bare_http);
    /* Closed sessions are freed at the end of a pass; the loop makes one more. */
    st_loop_settle(&a->p->main_loop);
    st_slab_close(&a->exchanges);
    free(a->signs);
    free(a);
}
