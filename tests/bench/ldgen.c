/*
 * ldgen: closed-loop HTTP/1.1 load generator; one thread, epoll, loopback targets only.
 *
 * Keeps DEPTH requests in flight on each of CONNS keep-alive connections. Every response is framed
 * (status line, Content-Length or chunked) in any segmentation, and its length or its echoed bytes
 * are checked. A response that breaks the rules counts as bad and costs its connection. One JSON
 * object on stdout; always sent == done + drained + lost. Options: usage() below.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "request.h"
#include "response.h"

enum { RECV_SIZE = 256 * 1024, CARRY_SIZE = 16 * 1024, MAX_EVENTS = 512 };

struct conn {
    int fd;
    bool want_write;
    struct response rsp;
    size_t carry_len; /* bytes of an unfinished head or chunk line, kept in carry */
    char *carry;
    char *out;               /* DEPTH copies of the request, back to back */
    size_t out_off, out_end; /* the part of out still to be sent */
    unsigned credit;         /* requests that may start now */
    unsigned in_flight;
    unsigned oldest;   /* index in sent_at of the oldest request in flight */
    uint64_t *sent_at; /* ring of DEPTH send times, ns */
    uint64_t seq_out, seq_in;
};

static struct {
    struct sockaddr_in addr;
    char path[1024], headers[4096];
    unsigned conns, depth;
    long body;   /* -1: GET, otherwise the size of the POST body */
    long expect; /* -1: any body length */
    bool echo;
    enum numbered numbered;
    double seconds;
    uint64_t count; /* 0: no limit */
} opt = {.conns = 64, .depth = 1, .body = -1, .expect = -1, .seconds = 2, .path = "/"};

static struct {
    uint64_t sent, done, drained, lost, bad, non_2xx, reconnects, bytes_in;
    char why[128]; /* the first bad response's fault */
} sum;

static struct histogram hist;
static int epoll_fd;
static bool stopping;
static struct request req;
static char recv_buf[CARRY_SIZE + RECV_SIZE];

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("ldgen: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

static void *must_alloc(size_t size)
{
    void *p = calloc(1, size);

    if (p == NULL)
        die("out of memory");
    return p;
}

static void conn_watch(struct conn *c, bool want_write, int op)
{
    struct epoll_event ev = {.events = EPOLLIN | (want_write ? (uint32_t)EPOLLOUT : 0u)};

    ev.data.ptr = c;
    c->want_write = want_write;
    if (epoll_ctl(epoll_fd, op, c->fd, &ev) != 0)
        die("epoll_ctl: %s", strerror(errno));
}

static void conn_open(struct conn *c)
{
    int one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&opt.addr, sizeof opt.addr) != 0)
        die("connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    memset(&c->rsp, 0, sizeof c->rsp);
    c->carry_len = c->out_off = c->out_end = 0;
    c->in_flight = c->oldest = 0;
    c->seq_in = c->seq_out = 0;
    c->credit = opt.depth;
    conn_watch(c, false, EPOLL_CTL_ADD);
}

/* Starts what the window allows and sends what is pending. False: the connection is broken. */
static bool conn_send(struct conn *c, uint64_t now)
{
    if (c->out_off == c->out_end && c->credit > 0 && !stopping) {
        unsigned n = c->credit;
        if (opt.count != 0 && n > opt.count - sum.sent)
            n = (unsigned)(opt.count - sum.sent);
        for (unsigned i = 0; i < n; i++) {
            if (opt.echo || opt.numbered != NUMBER_NONE)
                request_stamp(&req, c->out + i * req.len, c->seq_out++);
            c->sent_at[(c->oldest + c->in_flight++) % opt.depth] = now;
        }
        c->credit -= n;
        sum.sent += n;
        c->out_off = 0;
        c->out_end = n * req.len;
    }
    if (c->out_off < c->out_end) {
        ssize_t n = send(c->fd, c->out + c->out_off, c->out_end - c->out_off, MSG_NOSIGNAL);
        if (n > 0) {
            c->out_off += (size_t)n;
        } else if (errno != EAGAIN) {
            return false;
        }
    }
    if ((c->out_off < c->out_end) != c->want_write)
        conn_watch(c, !c->want_write, EPOLL_CTL_MOD);
    return true;
}

static void response_done(struct conn *c, uint64_t now)
{
    if (c->rsp.status < 200 || c->rsp.status > 299)
        sum.non_2xx++;
    if (stopping) {
        sum.drained++;
    } else {
        sum.done++;
        hist_add(&hist, now - c->sent_at[c->oldest]);
    }
    c->oldest = (c->oldest + 1) % opt.depth;
    c->in_flight--;
    c->credit++;
    c->seq_in++;
}

/* Reads once and consumes it. NULL: fine; "": the peer closed; otherwise what was wrong. */
static const char *conn_receive(struct conn *c, uint64_t *now)
{
    char *p = recv_buf, *end;
    ssize_t n;

    memcpy(p, c->carry, c->carry_len);
    n = recv(c->fd, p + c->carry_len, RECV_SIZE, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN ? NULL : "";
    *now = now_ns();
    sum.bytes_in += (uint64_t)n;
    end = p + c->carry_len + n;
    while (p < end) {
        struct piece piece;
        if (c->in_flight == 0)
            return "bytes that no request asked for";
        if (!response_next(&c->rsp, p, (size_t)(end - p), &piece))
            return piece.fault;
        if (piece.used == 0)
            break;
        bool is_2xx = c->rsp.status >= 200 && c->rsp.status < 300;
        if (piece.body != NULL && opt.echo && is_2xx &&
            !request_echoes(&req, c->seq_in, piece.body, c->rsp.body_seen - piece.body_len,
                            piece.body_len))
            return "body differs from the request's";
        p += piece.used;
        if (piece.complete) {
            if (opt.expect >= 0 && is_2xx && c->rsp.body_seen != (uint64_t)opt.expect)
                return "unexpected body length";
            response_done(c, *now);
        }
    }
    c->carry_len = (size_t)(end - p);
    if (c->carry_len > CARRY_SIZE)
        return "head too large";
    memcpy(c->carry, p, c->carry_len);
    return NULL;
}

static void conn_fail(struct conn *c, const char *why)
{
    if (why[0] != '\0') {
        if (sum.bad++ == 0)
            snprintf(sum.why, sizeof sum.why, "%s", why);
    }
    sum.lost += c->in_flight;
    close(c->fd);
    if (++sum.reconnects / 100 > opt.conns)
        die("too many reconnects (%lu bad: %s)", (unsigned long)sum.bad, sum.why);
    conn_open(c);
}

static unsigned in_flight_total(const struct conn *conns)
{
    unsigned n = 0;

    for (unsigned i = 0; i < opt.conns; i++)
        n += conns[i].in_flight;
    return n;
}

/* Returns the length of the measured window in seconds. */
static double run(struct conn *conns)
{
    struct epoll_event ev[MAX_EVENTS];
    uint64_t start = now_ns(), deadline = start + (uint64_t)(opt.seconds * 1e9), now = start;
    uint64_t drain_end = 0, closed_at = 0;

    for (unsigned i = 0; i < opt.conns; i++) {
        if (!conn_send(&conns[i], now))
            conn_fail(&conns[i], "");
    }
    for (;;) {
        bool quota_met = opt.count != 0 && sum.sent == opt.count && in_flight_total(conns) == 0;
        if (!stopping && (now >= deadline || quota_met)) {
            stopping = true;
            closed_at = now;
            drain_end = now + 1000000000u;
        }
        if (stopping && (now >= drain_end || in_flight_total(conns) == 0))
            break;
        int n = epoll_wait(epoll_fd, ev, MAX_EVENTS, 10);
        now = now_ns();
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            const char *why = NULL;
            uint64_t at = now;
            if (ev[i].events & ~(uint32_t)EPOLLOUT)
                why = conn_receive(c, &at);
            if (why == NULL && !conn_send(c, at))
                why = "";
            if (why != NULL) {
                conn_fail(c, why);
                (void)conn_send(c, at);
            }
        }
    }
    sum.lost += in_flight_total(conns);
    return (double)(closed_at - start) / 1e9;
}

static void print_result(double seconds)
{
    static const double levels[] = {0.5, 0.9, 0.99, 0.999, 1.0};
    static const char *const names[] = {"p50_us", "p90_us", "p99_us", "p999_us", "max_us"};

    printf("{\"req_s\": %.1f, \"seconds\": %.4f, \"cpu_s\": %.4f, ", (double)sum.done / seconds,
           seconds, (double)clock() / CLOCKS_PER_SEC);
    for (int i = 0; i < 5; i++)
        printf("\"%s\": %.1f, ", names[i], (double)hist_quantile(&hist, levels[i]) / 1e3);
    printf("\"sent\": %lu, \"done\": %lu, \"drained\": %lu, \"lost\": %lu, \"bad\": %lu, "
           "\"non_2xx\": %lu, \"reconnects\": %lu, \"bytes_in\": %lu, \"why\": \"%s\"}\n",
           sum.sent, sum.done, sum.drained, sum.lost, sum.bad, sum.non_2xx, sum.reconnects,
           sum.bytes_in, sum.why);
}

__attribute__((noreturn)) static void usage(void)
{
    die("usage: ldgen [options] http://127.0.0.1:PORT[/PATH]\n"
        "  -c CONNS   connections (64)        -D DEPTH   requests in flight on each (1)\n"
        "  -d SECS    duration (2, max 120)   -n COUNT   stop after COUNT requests\n"
        "  -s SIZE    POST a body of SIZE     -H LINE    add a header line (repeatable)\n"
        "  -e LENGTH  a 2xx body must be so long\n"
        "  -V WHERE   vary the head: path or header gets another number of 4 digits each time\n"
        "  -E         a 2xx body must equal the request's, which carries a sequence number");
}

/* Digits only, at most 18 of them. */
static long number(const char *text)
{
    size_t digits = strspn(text, "0123456789");

    if (digits == 0 || digits > 18 || text[digits] != '\0')
        usage();
    return strtol(text, NULL, 10);
}

static void add_header(const char *line)
{
    size_t at = strlen(opt.headers);
    int n = snprintf(opt.headers + at, sizeof opt.headers - at, "%s\r\n", line);

    if (n < 0 || (size_t)n >= sizeof opt.headers - at)
        die("headers too long");
}

/* http://HOST:PORT[/PATH], HOST in 127.0.0.0/8. */
static void parse_url(const char *url)
{
    char host[64], port[8];

    if (sscanf(url, "http://%63[^:/]:%7[0-9]%1023s", host, port, opt.path) < 2)
        usage();
    opt.addr.sin_family = AF_INET;
    opt.addr.sin_port = htons((uint16_t)number(port));
    if (inet_pton(AF_INET, host, &opt.addr.sin_addr) != 1 ||
        ntohl(opt.addr.sin_addr.s_addr) >> 24 != 127)
        die("only loopback addresses (127.0.0.0/8) are allowed");
}

static void parse_args(int argc, char **argv)
{
    int o;

    while ((o = getopt(argc, argv, "c:D:d:n:s:H:e:EV:")) != -1) {
        switch (o) {
        case 'c':
            opt.conns = (unsigned)number(optarg);
            break;
        case 'D':
            opt.depth = (unsigned)number(optarg);
            break;
        case 'd':
            opt.seconds = strtod(optarg, NULL);
            break;
        case 'n':
            opt.count = (uint64_t)number(optarg);
            break;
        case 's':
            opt.body = number(optarg);
            break;
        case 'e':
            opt.expect = number(optarg);
            break;
        case 'E':
            opt.echo = true;
            break;
        case 'V':
            opt.numbered = strcmp(optarg, "path") == 0     ? NUMBER_PATH
                           : strcmp(optarg, "header") == 0 ? NUMBER_HEADER
                                                           : (usage(), NUMBER_NONE);
            break;
        case 'H':
            add_header(optarg);
            break;
        default:
            usage();
        }
    }
    if (optind + 1 != argc || opt.conns < 1 || opt.conns > 4096 || opt.depth < 1 ||
        opt.depth > 1024 || !(opt.seconds > 0 && opt.seconds <= 120) ||
        (opt.echo && opt.body < 0) || opt.body > 64 << 20)
        usage();
    parse_url(argv[optind]);
    if (opt.echo)
        opt.expect = opt.body;
}

static void conn_init(struct conn *c)
{
    c->carry = must_alloc(CARRY_SIZE);
    c->sent_at = must_alloc(opt.depth * sizeof(uint64_t));
    c->out = must_alloc(opt.depth * req.len);
    for (unsigned i = 0; i < opt.depth; i++)
        memcpy(c->out + i * req.len, req.bytes, req.len);
    conn_open(c);
}

static void conn_free(struct conn *c)
{
    close(c->fd);
    free(c->carry);
    free(c->sent_at);
    free(c->out);
}

int main(int argc, char **argv)
{
    struct conn *conns;

    parse_args(argc, argv);
    req = request_build(opt.path, opt.numbered, ntohs(opt.addr.sin_port), opt.headers, opt.body);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    conns = must_alloc(opt.conns * sizeof *conns);
    for (unsigned i = 0; i < opt.conns; i++)
        conn_init(&conns[i]);
    print_result(run(conns));
    for (unsigned i = 0; i < opt.conns; i++)
        conn_free(&conns[i]);
    free(conns);
    free(req.bytes);
    return sum.bad != 0 || sum.non_2xx != 0 || sum.lost != 0;
}
