#include "tests/support/http1_rig.h"

#include <stdio.h>
#include <stdlib.h>

#include "processor/core/alloc.h"

/* ---- What a request said ---- */

struct text {
    char *at;
    size_t len, room;
};

static void add(struct text *t, struct st_slice s)
{
    if (t->len + s.len + 1 > t->room) {
        t->room = 2 * t->room + s.len + 64;
        t->at = st_realloc(t->at, t->room);
    }
    if (s.len != 0)
        memcpy(t->at + t->len, s.ptr, s.len);
    t->len += s.len;
    t->at[t->len] = '\0';
}

static void add_body(struct text *t, struct st_slice body)
{
    uint64_t hash = 14695981039346656037u;
    char digest[64];

    if (body.len <= 64) {
        add(t, body);
        return;
    }
    for (size_t i = 0; i < body.len; i++)
        hash = (hash ^ (unsigned char)body.ptr[i]) * 1099511628211u;
    snprintf(digest, sizeof digest, "<%zu bytes, %016llx>", body.len, (unsigned long long)hash);
    add(t, st_slice_of(digest));
}

static char *describe(const struct st_exchange *x, struct st_slice body)
{
    struct text t = {0};

    add(&t, x->method);
    add(&t, ST_SLICE(" "));
    add(&t, x->target);
    add(&t, x->version == 11 ? ST_SLICE(" 1.1 ") : ST_SLICE(" 1.0 "));
    for (uint32_t i = 0; i < x->headers.count; i++) {
        const struct st_header *h = &x->headers.items[i];

        ST_ASSERT(h->id == st_header_id_of(h->name, h->name_len));
        ST_ASSERT(h->id == ST_HDR_OTHER || x->headers.last[h->id] > i);
        add(&t, ST_SLICE("{"));
        add(&t, (struct st_slice){h->name, h->name_len});
        add(&t, ST_SLICE("="));
        add(&t, (struct st_slice){h->value, h->value_len});
        add(&t, ST_SLICE("}"));
    }
    add(&t, ST_SLICE(" "));
    add_body(&t, body);
    add(&t, ST_SLICE("\n"));
    return t.at;
}

static void note_request(struct h1_exchange *e)
{
    struct h1_rig *rig = e->rig;
    size_t n;

    e->text = describe(&e->x, e->x.body);
    n = strlen(e->text);
    rig->requests = st_realloc(rig->requests, rig->requests_len + n + 1);
    memcpy(rig->requests + rig->requests_len, e->text, n + 1);
    rig->requests_len += n;
}

/* ---- The server ---- */

static struct h1_exchange *of(struct st_exchange *x)
{
    return ST_CONTAINER_OF(x, struct h1_exchange, x);
}

static struct st_exchange *on_begin(void *arg, struct st_net *net)
{
    struct h1_rig *rig = arg;
    struct h1_exchange *e;

    ST_ASSERT(net == net_rig_net(&rig->net));
    if (rig->refuse)
        return NULL;
    e = st_malloc(sizeof *e);
    memset(e, 0xcc, sizeof *e); /* the session sets what it needs */
    e->rig = rig;
    e->text = NULL;
    e->body = (struct st_buf){0};
    e->is_open = e->is_gone = false;
    e->sent = 0;
    e->then = NULL;
    st_arena_init(&e->arena, e->space, sizeof e->space);
    e->x.arena = &e->arena;
    e->x.headers.items = e->headers;
    e->x.header_cap = ST_HTTP1_INLINE_HEADERS;
    rig->begun++;
    return &e->x;
}

/* The exchange is ours again, for the last time. */
static void end(struct h1_exchange *e)
{
    struct h1_rig *rig = e->rig;

    ST_ASSERT(!e->is_open);
    if (e->text != NULL) {
        ST_ASSERT(rig->all[e->index] == e);
        rig->all[e->index] = NULL;
    }
    rig->ended++;
    free(e->text);
    st_buf_drop(&e->body);
    st_arena_release(&e->arena);
    memset(e, 0xdd, sizeof *e);
    free(e);
}

void h1_keep(struct h1_exchange *e)
{
    struct st_exchange *x = &e->x;

    st_exchange_detach_head(x);
    if (x->body_owner.region == NULL && x->body.len > 0) {
        ST_ASSERT(st_buf_try_copy(&e->body, x->body) == ST_OK);
        x->body = st_buf_slice(&e->body);
    } else {
        e->body = x->body_owner;
        x->body_owner = (struct st_buf){0};
    }
}

static void on_request(struct st_exchange *x)
{
    struct h1_exchange *e = of(x);
    struct h1_rig *rig = e->rig;

    ST_ASSERT(x->ops != NULL && x->session != NULL && x->peer != NULL);
    ST_ASSERT(x->body_owner.region == NULL ||
              (x->body.ptr == st_buf_data(&x->body_owner) && x->body.len == x->body_owner.length));
    note_request(e);
    if (rig->count == rig->room) {
        rig->room = rig->room * 2 + 64;
        rig->all = st_realloc(rig->all, rig->room * sizeof(struct h1_exchange *));
    }
    e->index = rig->count++;
    e->is_open = true;
    rig->all[e->index] = e;
    if (rig->on_request != NULL) {
        rig->on_request(e);
    } else {
        e->body = x->body_owner;
        x->body_owner = (struct st_buf){0};
        h1_respond(rig, e->index,
                   &(struct st_http_response){.status = 200, .body = ST_SLICE("ok")});
    }
}

static void on_detach(struct st_exchange *x)
{
    st_exchange_detach_head(x);
}

static void on_drop(struct st_exchange *x)
{
    struct h1_exchange *e = of(x);

    ST_ASSERT(!e->is_open && x->session == NULL);
    e->rig->dropped++;
    st_buf_drop(&x->body_owner);
    end(e);
}

static void on_gone(struct st_exchange *x)
{
    struct h1_exchange *e = of(x);

    ST_ASSERT(e->is_open && !e->is_gone && x->session == NULL);
    e->is_gone = true;
    e->rig->gone++;
}

static void on_done(struct st_exchange *x)
{
    struct h1_exchange *e = of(x);

    e->rig->done++;
    end(e);
}

static void on_sent(struct st_exchange *x, size_t n)
{
    struct h1_exchange *e = of(x);

    ST_ASSERT(x->streaming);
    e->sent += n;
    if (e->then != NULL && !e->then(e))
        e->then = NULL;
}

static const struct st_exchange_handler handler = {on_begin, on_request, on_detach, on_drop,
                                                   on_gone,  on_done,    on_sent};

static void on_closed(struct st_http_server *server)
{
    ST_CONTAINER_OF(server, struct h1_rig, server)->closed++;
}

/* ---- Answers ---- */

/* The exchange about to be answered: what it said is what it said when it came. */
static struct h1_exchange *take(struct h1_rig *rig, unsigned index)
{
    struct h1_exchange *e = index < rig->count ? rig->all[index] : NULL;
    char *now;

    ST_ASSERT(e != NULL && e->is_open);
    now = describe(&e->x, e->x.body);
    ST_ASSERT(strcmp(now, e->text) == 0);
    free(now);
    return e;
}

static void answered(struct h1_exchange *e, bool over)
{
    if (over)
        end(e);
}

void h1_respond(struct h1_rig *rig, unsigned index, const struct st_http_response *r)
{
    struct h1_exchange *e = take(rig, index);

    e->is_open = false;
    answered(e, e->x.ops->respond(&e->x, r));
}

void h1_ok(struct h1_rig *rig, unsigned index, const char *body)
{
    struct st_http_response r = {.status = 200, .body = st_slice_of(body)};

    h1_respond(rig, index, &r);
    h1_run(rig);
    h1_receive(rig);
}

void h1_stream_head(struct h1_rig *rig, unsigned index, const struct st_http_response *r)
{
    struct h1_exchange *e = take(rig, index);

    e->x.ops->stream_head(&e->x, r);
}

void h1_stream_write(struct h1_rig *rig, unsigned index, const char *bytes, size_t n)
{
    struct h1_exchange *e = take(rig, index);
    struct st_buf b;

    ST_ASSERT(st_buf_try_copy(&b, (struct st_slice){bytes, n}) == ST_OK);
    e->x.ops->stream_write(&e->x, b);
}

void h1_stream_end(struct h1_rig *rig, unsigned index, bool well)
{
    struct h1_exchange *e = take(rig, index);

    e->is_open = false;
    answered(e, e->x.ops->stream_end(&e->x, well));
}

/* ---- Life ---- */

void h1_open(struct h1_rig *rig)
{
    memset(rig, 0, sizeof *rig);
    net_rig_open(&rig->net);
    rig->client.fd = -1;
    rig->requests = st_strdup("");
    rig->server = (struct st_http_server){
        .net = net_rig_net(&rig->net),
        .handler = &handler,
        .arg = rig,
        .max_head = 4096,
        .max_body = 10000,
        .header_timeout_ns = 10 * ST_SEC,
        .body_timeout_ns = 30 * ST_SEC,
        .idle_timeout_ns = 75 * ST_SEC,
        .write_timeout_ns = 30 * ST_SEC,
        .conns = {.max = 100},
        .on_closed = on_closed,
    };
    TAILQ_INIT(&rig->server.sessions);
}

void h1_close(struct h1_rig *rig)
{
    st_http_server_close(&rig->server);
    for (unsigned i = 0; i < rig->count; i++)
        if (rig->all[i] != NULL) {
            ST_ASSERT(rig->all[i]->is_gone);
            h1_respond(rig, i, &(struct st_http_response){.status = 200});
        }
    ST_ASSERT(rig->server.conns.open == 0);
    ST_ASSERT(rig->begun == rig->ended);
    net_client_free(&rig->client);
    free(rig->requests);
    free(rig->replies);
    free(rig->all);
    net_rig_close(&rig->net);
}

struct st_http1 *h1_connect_client(struct h1_rig *rig, struct net_client *client)
{
    static const struct st_peer peer = {"192.0.2.7", 4711};
    struct st_http1 *h;

    st_http1_accept(&rig->server, net_client_pair(client), &peer);
    TAILQ_FOREACH (h, &rig->server.sessions, link)
        if (TAILQ_NEXT(h, link) == NULL)
            break;
    ST_ASSERT(h != NULL && h->conn.ops == &st_conn_plain);
    h->conn.ops = &net_rig_ops;
    return h;
}

struct st_http1 *h1_connect(struct h1_rig *rig)
{
    net_client_free(&rig->client);
    return h1_connect_client(rig, &rig->client);
}

void h1_run(struct h1_rig *rig)
{
    struct net_rig *net = &rig->net;
    char *read_at = net_rig_net(net)->read_base + ST_NET_CARRY_SIZE;
    unsigned before;

    do {
        before = net->reads + net->writes + net->closes;
        net_rig_pass(net);
        memset(read_at - 512, 0xdd, 1024);
    } while (net->reads + net->writes + net->closes != before);
}

void h1_receive(struct h1_rig *rig)
{
    if (rig->client.fd < 0)
        return;
    while (net_client_read(&rig->client, SIZE_MAX) > 0)
        h1_run(rig);
}

void h1_send(struct h1_rig *rig, const char *bytes, size_t n)
{
    size_t done = 0, k;

    do {
        k = net_client_write(&rig->client, bytes + done, n - done);
        done += k;
        h1_run(rig);
        h1_receive(rig);
    } while (k > 0 && done < n);
}

void h1_send_text(struct h1_rig *rig, const char *text)
{
    h1_send(rig, text, strlen(text));
}

/* ---- Replies as text ---- */

const char *h1_replies(struct h1_rig *rig, struct net_client *client)
{
    static const char server[] = "\r\nServer: stator\r\nDate: ";
    const size_t skip = sizeof server - 1 + 29; /* the date's length */
    const char *from, *at;
    char *to;

    if (client == NULL)
        client = &rig->client;
    free(rig->replies);
    to = rig->replies = st_malloc(client->len + 1);
    from = client->in;
    while ((at = memmem(from, client->len - (size_t)(from - client->in), server,
                        sizeof server - 1)) != NULL &&
           at + skip <= client->in + client->len) {
        memcpy(to, from, (size_t)(at - from));
        to += at - from;
        from = at + skip;
    }
    memcpy(to, from, (size_t)(client->in + client->len - from));
    to[client->in + client->len - from] = '\0';
    return rig->replies;
}

void h1_strip_continue(char *replies)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char *at;

    while ((at = strstr(replies, text)) != NULL)
        memmove(at, at + sizeof text - 1, strlen(at + sizeof text - 1) + 1);
}

const char *h1_refusal(unsigned status)
{
    static char text[512];
    const char *body = status == 400   ? "Error when parsing request"
                       : status == 408 ? "Request timed out"
                       : status == 413 ? "Too big request body"
                       : status == 414 ? "Too long request target"
                       : status == 431 ? "Too big request header"
                       : status == 501 ? "Not implemented"
                                       : st_http_reason(status).ptr;

    snprintf(text, sizeof text,
             "HTTP/1.1 %u %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
             "Content-Length: %zu\r\nConnection: close\r\n\r\n%s",
             status, st_http_reason(status).ptr, strlen(body), body);
    return text;
}
