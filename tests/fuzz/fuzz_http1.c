/* HTTP/1 sessions: bytes in, requests and replies out, through a real session on a transport in
 * memory.
 *
 * An input is four control bytes (limits and end; what the replies are; when they are given; how
 * the bytes are split and taken) and then what the client sends. It is run as one read with every
 * request answered at once, byte by byte, and in pieces with answers late and out of order:
 * requests and replies must be the same. A last run adds resets, drains, deadlines and missing
 * memory, and only has to survive. Every exchange must come back once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/net/http1.h"
#include "processor/net/net.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_PENDING = 256, LARGE_BODY = 20000 };

struct text {
    char *at;
    size_t len, room;
};

/* What a request is answered with; depends on the input and the request's number only. */
enum reply {
    REPLY_PLAIN,
    REPLY_EMPTY,
    REPLY_204,
    REPLY_HEADERS,
    REPLY_LARGE,
    REPLY_STREAM,
    REPLY_CLOSE,
    REPLY_CUT
};

struct ex {
    struct st_exchange x;
    struct st_arena arena;
    struct st_header headers[ST_HTTP1_INLINE_HEADERS];
    char space[128];
    struct st_buf body;
    char *said; /* description when it came */
    enum reply reply;
    unsigned stage; /* of its stream */
    unsigned index;
    bool pending;
};

struct run {
    const uint8_t *in;
    size_t len, at;
    size_t last_read;
    unsigned most; /* bytes of a read */
    bool whole, late, eof, chaos;
    bool eof_told, reset;
    uint64_t rng;
    uint64_t replies_seed;
    struct text requests, output;
    bool cut;        /* a stream was cut: the output may end early */
    bool has_closed; /* a reply closes the session: what follows it doesn't count */
    struct ex *pending[MAX_PENDING];
    size_t pending_count;
    unsigned count, begun, ended;
};

static struct st_loop loop;
static struct st_body_budget bodies;
static struct st_http_server server;
static struct run *run; /* the one under way */
static int fd;          /* never ready: the session's reads and writes are called for */

#define MUST(cond)                                                               \
    do {                                                                         \
        if (!(cond)) {                                                           \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond); \
            abort();                                                             \
        }                                                                        \
    } while (0)

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static unsigned pick(unsigned below)
{
    run->rng += 0x9e3779b97f4a7c15u;
    return (unsigned)(mix(run->rng) % below);
}

static void add(struct text *t, const void *bytes, size_t n)
{
    if (t->len + n + 1 > t->room) {
        t->room = 2 * (t->len + n) + 256;
        t->at = st_realloc(t->at, t->room);
    }
    if (n != 0)
        memcpy(t->at + t->len, bytes, n);
    t->len += n;
    t->at[t->len] = '\0';
}

static void add_slice(struct text *t, struct st_slice s, const char *behind)
{
    add(t, s.ptr, s.len);
    add(t, behind, strlen(behind));
}

/* ---- Transport ---- */

static ssize_t fake_read(struct st_conn *c, void *to, size_t n)
{
    size_t left = run->len - run->at;

    /* What an earlier read brought is gone: whoever still looks there sees something else. */
    if (to == c->net->read_base + ST_NET_CARRY_SIZE)
        memset((char *)to - 256, 0xdd, 256 + (run->last_read < n ? run->last_read : n));
    run->last_read = 0;
    if (run->reset) {
        errno = ECONNRESET;
        return -1;
    }
    if (left == 0 && !run->eof) {
        errno = EAGAIN;
        return -1;
    }
    if (!run->whole && left > 1) {
        size_t piece = 1 + pick(run->most);
        left = piece < left ? piece : left;
    }
    n = left < n ? left : n;
    if (n > 0)
        memcpy(to, run->in + run->at, n);
    run->at += n;
    run->last_read = n;
    run->eof_told = n == 0;
    return (ssize_t)n;
}

static ssize_t fake_writev(struct st_conn *c, const struct iovec *iov, int n)
{
    size_t room = run->whole ? SIZE_MAX : 1 + pick(pick(2) == 0 ? 100 : 50000), done = 0;

    (void)c;
    MUST(n > 0 && n <= ST_OUTQ_IOV);
    if (run->chaos && pick(50) == 0) {
        errno = EPIPE;
        return -1;
    }
    if (!run->whole && pick(3) == 0) {
        errno = EAGAIN;
        return -1;
    }
    for (int i = 0; i < n && room > 0; i++) {
        size_t k = iov[i].iov_len < room ? iov[i].iov_len : room;

        MUST(iov[i].iov_len > 0);
        add(&run->output, iov[i].iov_base, k);
        room -= k;
        done += k;
    }
    return (ssize_t)done;
}

static void fake_nothing(struct st_conn *c)
{
    (void)c;
}

static const struct st_conn_ops fake_ops = {fake_read, fake_writev, fake_nothing, fake_nothing};

/* ---- Server ---- */

static struct ex *of(struct st_exchange *x)
{
    return ST_CONTAINER_OF(x, struct ex, x);
}

static char *describe(const struct st_exchange *x)
{
    struct text t = {0};

    add_slice(&t, x->method, " ");
    add_slice(&t, x->target, x->version == 11 ? " 1.1\n" : " 1.0\n");
    for (uint32_t i = 0; i < x->headers.count; i++) {
        const struct st_header *h = &x->headers.items[i];

        MUST(h->name_len > 0 && h->id == st_header_id_of(h->name, h->name_len));
        MUST(h->id == ST_HDR_OTHER || x->headers.last[h->id] > i);
        add_slice(&t, (struct st_slice){h->name, h->name_len}, ": ");
        add_slice(&t, (struct st_slice){h->value, h->value_len}, "\n");
    }
    add(&t, "\n", 1);
    add_slice(&t, x->body, "\n");
    return t.at;
}

static struct st_exchange *on_begin(void *arg, struct st_net *net)
{
    struct ex *e;

    (void)arg;
    (void)net;
    if (run->chaos && pick(40) == 0)
        return NULL;
    e = st_malloc(sizeof *e);
    memset(e, 0xcc, sizeof *e);
    st_arena_init(&e->arena, e->space, sizeof e->space);
    e->x.arena = &e->arena;
    e->x.headers.items = e->headers;
    e->x.header_cap = ST_HTTP1_INLINE_HEADERS;
    e->body = (struct st_buf){0};
    e->said = NULL;
    e->stage = 0;
    e->pending = false;
    run->begun++;
    return &e->x;
}

static void end(struct ex *e)
{
    MUST(!e->pending);
    run->ended++;
    free(e->said);
    st_buf_drop(&e->body);
    st_arena_release(&e->arena);
    free(e);
}

static enum reply choose_reply(unsigned index)
{
    uint64_t h = mix(run->replies_seed * 1000003 + index);

    switch (h % 12) {
    case 0:
        return REPLY_204;
    case 1:
    case 2:
        return REPLY_STREAM;
    case 3:
        return REPLY_LARGE;
    case 4:
        return REPLY_HEADERS;
    case 5:
        return REPLY_EMPTY;
    case 6:
        return (h >> 8) % 8 == 0 ? REPLY_CLOSE : REPLY_PLAIN;
    case 7:
        return (h >> 8) % 16 == 0 ? REPLY_CUT : REPLY_PLAIN;
    default:
        return REPLY_PLAIN;
    }
}

static void respond(struct ex *e)
{
    static const struct st_header headers[] = {
        {.name = "X-A", .value = "1", .value_len = 1, .name_len = 3},
        {.name = "x-b", .value = "", .value_len = 0, .name_len = 3}};
    struct st_http_response r = {.status = e->reply == REPLY_204 ? 204 : 200,
                                 .body = ST_SLICE("hello")};
    struct st_buf large = {0};

    if (e->reply == REPLY_EMPTY)
        r.body.len = 0;
    if (e->reply == REPLY_HEADERS) {
        r.content_type = ST_SLICE("text/plain");
        r.headers = headers;
        r.header_count = 2;
    }
    if (e->reply == REPLY_LARGE) {
        large = (struct st_buf){st_region_try_new(LARGE_BODY), 0, LARGE_BODY};
        memset(large.region->base, 'a' + (int)(e->index % 26), LARGE_BODY);
        r.body = st_buf_slice(&large);
        r.body_owner = &large;
    }
    r.close = e->reply == REPLY_CLOSE;
    e->pending = false;
    if (e->x.ops->respond(&e->x, &r))
        end(e);
    st_buf_drop(&large);
}

/* The next step of a stream; true when it was the last. */
static bool stream(struct ex *e)
{
    static const struct st_http_response head = {.status = 200, .content_type = {"a/b", 3}};
    unsigned writes = e->index % 4, stage = e->stage++;
    struct st_buf b;

    if (stage == 0) {
        e->x.ops->stream_head(&e->x, &head);
        return false;
    }
    if (stage <= writes) {
        MUST(st_buf_try_copy(&b, ST_SLICE("some bytes of a stream")) == ST_OK);
        b.length -= (stage * 7 + e->index) % 22;
        e->x.ops->stream_write(&e->x, b);
        return false;
    }
    e->pending = false;
    if (e->x.ops->stream_end(&e->x, e->reply != REPLY_CUT))
        end(e);
    return true;
}

/* Answers, or takes a step of an answer. True when it is complete. */
static bool answer(struct ex *e)
{
    char *now = describe(&e->x);

    MUST(strcmp(now, e->said) == 0);
    free(now);
    if (e->reply == REPLY_STREAM || e->reply == REPLY_CUT)
        return stream(e);
    respond(e);
    return true;
}

static void on_request(struct st_exchange *x)
{
    struct ex *e = of(x);
    bool is_stream;

    e->index = run->count++;
    e->reply = choose_reply(e->index);
    e->said = describe(x);
    e->pending = true;
    is_stream = e->reply == REPLY_STREAM || e->reply == REPLY_CUT;
    if (!run->has_closed)
        add(&run->requests, e->said, strlen(e->said));
    run->has_closed |=
        e->reply == REPLY_CLOSE || e->reply == REPLY_CUT || (is_stream && x->version == 10);
    run->cut |= e->reply == REPLY_CUT;
    if (!run->late || pick(3) == 0) {
        e->body = x->body_owner;
        x->body_owner = (struct st_buf){0};
        while (!answer(e))
            ;
        return;
    }
    st_exchange_detach_head(x);
    if (x->body_owner.region == NULL && x->body.len > 0) {
        MUST(st_buf_try_copy(&e->body, x->body) == ST_OK);
        x->body = st_buf_slice(&e->body);
    } else {
        e->body = x->body_owner;
        x->body_owner = (struct st_buf){0};
    }
    MUST(run->pending_count < MAX_PENDING);
    run->pending[run->pending_count++] = e;
}

static void on_detach(struct st_exchange *x)
{
    st_exchange_detach_head(x);
}

static void on_drop(struct st_exchange *x)
{
    st_buf_drop(&x->body_owner);
    end(of(x));
}

static void on_gone(struct st_exchange *x)
{
    MUST(of(x)->pending && x->session == NULL);
}

static void on_done(struct st_exchange *x)
{
    end(of(x));
}

static void on_sent(struct st_exchange *x, size_t n)
{
    (void)n;
    MUST(x->streaming);
}

static const struct st_exchange_handler handler = {on_begin, on_request, on_detach, on_drop,
                                                   on_gone,  on_done,    on_sent};

/* ---- One run ---- */

static void answer_some(void)
{
    unsigned n = pick(4);

    while (n-- > 0 && run->pending_count > 0) {
        size_t i = pick((unsigned)run->pending_count);
        struct ex *e = run->pending[i];

        if (answer(e))
            run->pending[i] = run->pending[--run->pending_count];
    }
}

static void disturb(void)
{
    switch (pick(60)) {
    case 0:
        st_http_server_drain(&server, false);
        break;
    case 1:
        st_http_server_drain(&server, true);
        break;
    case 2:
        run->reset = true;
        break;
    case 3:
        st_http_server_close(&server);
        break;
    case 4:
        bodies.limit = pick(2) == 0 ? 0 : 1 << 30;
        break;
    default:
        loop.now_ns += pick(3) == 0 ? pick(20000) * ST_MSEC : 10 * ST_MSEC;
        st_wheel_run(&loop.wheel, loop.now_ns);
    }
    st_loop_settle(&loop);
}

static struct st_http1 *session(void)
{
    return TAILQ_FIRST(&server.sessions);
}

/* One thing that could happen next; false: nothing more will. */
static bool step(void)
{
    struct st_http1 *h = session();
    bool input = run->at < run->len || (run->eof && !run->eof_told) || run->reset;
    bool busy = false;

    if (h != NULL && h->conn.reading && input) {
        st_conn_read_now(&h->conn);
        busy = true;
    }
    st_loop_settle(&loop);
    if (run->chaos)
        disturb();
    h = session();
    if (h != NULL && h->conn.writing) {
        st_conn_send(&h->conn);
        st_loop_settle(&loop);
        busy = true;
    }
    if (run->pending_count > 0) {
        answer_some();
        st_loop_settle(&loop);
        busy = true;
    }
    h = session();
    /* Everything is answered and sent: whoever still has bytes for us can't be kept waiting. */
    if (!busy && h != NULL && input && !run->chaos)
        MUST(h->conn.reading);
    return busy || (h != NULL && h->conn.reading && input) || (h != NULL && h->conn.writing);
}

static void start(struct run *r, const uint8_t *data, size_t size)
{
    static const struct st_peer peer = {"192.0.2.7", 4711};

    run = r;
    r->in = data + 4;
    r->len = size - 4;
    r->eof = (data[0] & 1) != 0;
    r->replies_seed = data[1];
    server.max_head = (data[0] & 2) != 0 ? 200 : 65536;
    server.max_body = (data[0] & 4) != 0 ? 50 : 1 << 20;
    server.closing = server.close_idle = false;
    bodies.limit = 1 << 30;
    loop.now_ns = 1000 * ST_SEC;
    loop.wall_offset = 784111777 * ST_SEC;
    loop.clock_valid = true;
    st_wheel_init(&loop.wheel, loop.now_ns);
    st_http1_accept(&server, fd, &peer);
    session()->conn.ops = &fake_ops;
}

static void finish(void)
{
    struct st_net *net = st_net_of(&loop);

    st_http_server_close(&server);
    while (run->pending_count > 0)
        if (answer(run->pending[run->pending_count - 1]))
            run->pending_count--;
    st_loop_settle(&loop);
    st_loop_timer_cancel(&loop, &net->starve_timer);
    MUST(run->begun == run->ended && server.conns.open == 0);
    MUST(net->conns.in_use + net->chunks.in_use + net->refs.in_use + net->memos.in_use == 0);
    MUST(atomic_load(&bodies.used) == 0);
    MUST(loop.wheel.armed == 0);
}

static void execute(struct run *r, const uint8_t *data, size_t size)
{
    unsigned steps = 0;

    start(r, data, size);
    while (step())
        MUST(++steps < 1000000);
    finish();
}

/* ---- Comparison ---- */

/* Interim replies depend on whether the body was there already; with small limits, so does what is
 * said about a head that is both too long and wrong. */
static void normalize(struct text *t, bool mask_refusals)
{
    static const char interim[] = "HTTP/1.1 100 Continue\r\n\r\n";
    char *at;

    add(t, "", 0);
    while ((at = memmem(t->at, t->len, interim, sizeof interim - 1)) != NULL) {
        memmove(at, at + sizeof interim - 1, (size_t)(t->at + t->len - at) - (sizeof interim - 1));
        t->len -= sizeof interim - 1;
    }
    at = memmem(t->at, t->len, "HTTP/1.1 4", 10);
    if (at != NULL && mask_refusals)
        t->len = (size_t)(at + 10 - t->at);
}

static void show(const char *name, const struct text *t)
{
    fprintf(stderr, "--- %s, %zu bytes\n%.*s\n", name, t->len, t->len < 5000 ? (int)t->len : 5000,
            t->at != NULL ? t->at : "");
}

static void compare(const struct text *want, const struct text *got, bool prefix, const char *what)
{
    size_t n = want->len < got->len ? want->len : got->len;

    if ((want->len == got->len || prefix) && (n == 0 || memcmp(want->at, got->at, n) == 0))
        return;
    fprintf(stderr, "%s differ\n", what);
    show("in one read", want);
    show("in pieces", got);
    abort();
}

static void set_up(void)
{
    struct st_error err;

    MUST(st_loop_open(&loop, 0, "fuzz", &err) == ST_OK);
    MUST(st_net_open(&loop, &bodies, &err) == ST_OK);
    fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    MUST(fd >= 0);
    st_log_threshold = ST_LOG_OFF;
    server = (struct st_http_server){.net = st_net_of(&loop),
                                     .handler = &handler,
                                     .header_timeout_ns = 10 * ST_SEC,
                                     .body_timeout_ns = 30 * ST_SEC,
                                     .idle_timeout_ns = 75 * ST_SEC,
                                     .write_timeout_ns = 30 * ST_SEC,
                                     .conns = {.max = 10}};
    TAILQ_INIT(&server.sessions);
}

static void free_run(struct run *r)
{
    free(r->requests.at);
    free(r->output.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned most[] = {2, 7, 30, 200};
    static struct run whole, bytes, pieces, chaos;

    if (size < 4)
        return 0;
    if (server.handler == NULL)
        set_up();
    whole = (struct run){.whole = true};
    bytes = (struct run){.most = 1, .rng = data[2]};
    pieces = (struct run){.most = most[data[3] & 3],
                          .late = (data[0] & 8) != 0,
                          .rng = (uint64_t)data[2] << 8 | data[3]};
    chaos = (struct run){.most = most[data[2] & 3],
                         .late = true,
                         .chaos = true,
                         .rng = data[2] ^ (uint64_t)data[3] << 17};
    execute(&whole, data, size);
    execute(&bytes, data, size);
    execute(&pieces, data, size);
    normalize(&whole.output, (data[0] & 2) != 0);
    normalize(&bytes.output, (data[0] & 2) != 0);
    normalize(&pieces.output, (data[0] & 2) != 0);
    compare(&whole.requests, &bytes.requests, false, "requests");
    compare(&whole.output, &bytes.output, whole.cut, "replies");
    compare(&whole.requests, &pieces.requests, false, "requests");
    compare(&whole.output, &pieces.output, whole.cut, "replies");
    execute(&chaos, data, size);
    free_run(&whole);
    free_run(&bytes);
    free_run(&pieces);
    free_run(&chaos);
    return 0;
}
