#include "processor/cli/client.h"

#include <errno.h>
#include <llhttp.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"

enum { READ_SIZE = 64 * 1024 };

/* Text that grows, with a NUL behind it. */
struct text {
    char *at;
    size_t len, room;
};

static void append(struct text *t, const char *bytes, size_t n)
{
    if (t->at == NULL || t->room < t->len + n + 1) {
        t->room = (t->len + n + 1) * 2;
        t->at = st_realloc(t->at, t->room);
    }
    if (n > 0)
        memcpy(t->at + t->len, bytes, n);
    t->len += n;
    t->at[t->len] = '\0';
}

static void append_text(struct text *t, const char *text)
{
    append(t, text, strlen(text));
}

/* Addresses */

static int bad_address(struct st_error *err, const char *url, const char *why)
{
    return st_error_set(err, ST_ERR_INVALID, "\"%s\" %s", url, why);
}

static int parse_unix(struct st_client_address *out, const char *url, struct st_error *err)
{
    const char *path = url + 5;

    if (path[0] == '\0' || strlen(path) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return bad_address(err, url, "is no path of a socket");
    snprintf(out->host, sizeof out->host, "%s", path);
    out->port[0] = '\0';
    snprintf(out->authority, sizeof out->authority, "localhost");
    return ST_OK;
}

static bool is_port(const char *text, size_t len)
{
    unsigned long value = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9' || len > 5)
            return false;
        value = value * 10 + (unsigned long)(text[i] - '0');
    }
    return len > 0 && value > 0 && value < 65536;
}

/* "host:port", "[v6]:port", ":port" or "host", len bytes. */
static bool parse_authority(struct st_client_address *out, const char *text, size_t len)
{
    bool v6 = len > 0 && text[0] == '[';
    const char *host = text + (v6 ? 1 : 0);
    const char *end = v6 ? memchr(text, ']', len) : memchr(text, ':', len);
    const char *rest;
    size_t host_len, rest_len;

    if (v6 && end == NULL)
        return false;
    end = end != NULL ? end : text + len;
    host_len = (size_t)(end - host);
    rest = end + (v6 ? 1 : 0);
    rest_len = len - (size_t)(rest - text);
    if (host_len >= sizeof out->host || memchr(host, '@', host_len) != NULL)
        return false;
    snprintf(out->host, sizeof out->host, "%.*s", (int)host_len, host);
    snprintf(out->port, sizeof out->port, "80");
    if (rest_len > 0 && (rest[0] != ':' || !is_port(rest + 1, rest_len - 1)))
        return false;
    if (rest_len > 0)
        snprintf(out->port, sizeof out->port, "%.*s", (int)(rest_len - 1), rest + 1);
    /* Where a server listens on all addresses, this machine is one of them. */
    if (host_len == 0 || strcmp(out->host, "0.0.0.0") == 0)
        snprintf(out->host, sizeof out->host, "127.0.0.1");
    else if (strcmp(out->host, "::") == 0)
        snprintf(out->host, sizeof out->host, "::1");
    snprintf(out->authority, sizeof out->authority, v6 ? "[%s]:%s" : "%s:%s", out->host, out->port);
    return len > 0;
}

int st_client_address_parse(struct st_client_address *out, const char **target, const char *url,
                            struct st_error *err)
{
    const char *rest = url;
    size_t len;

    *target = "";
    if (strncasecmp(url, "unix:", 5) == 0)
        return parse_unix(out, url, err);
    if (strncasecmp(url, "https://", 8) == 0)
        return bad_address(err, url, "needs TLS, which this command does not speak: use http://");
    if (strncasecmp(url, "http://", 7) == 0)
        rest = url + 7;
    len = strcspn(rest, "/?#");
    if (!parse_authority(out, rest, len))
        return bad_address(err, url, "is no URL such as http://127.0.0.1:8080/path");
    *target = rest + len;
    for (const char *p = *target; *p != '\0'; p++)
        if (*p <= ' ' || *p >= 0x7f)
            return bad_address(err, url, "has a character that must be escaped as %XX");
    return ST_OK;
}

/* The connection */

struct call {
    int fd;
    uint64_t deadline_ns;
    const struct st_client_request *request;
    struct st_error *err;
};

static int timed_out(const struct call *c)
{
    return st_error_set(c->err, ST_ERR_TIMEOUT, "no answer from %s within %.3g s",
                        c->request->address->authority,
                        (double)c->request->timeout_ns / (double)ST_SEC);
}

/* Waits for what; its revents, 0 when the deadline has passed. */
static short wait_for(const struct call *c, short what)
{
    struct pollfd p = {.fd = c->fd, .events = what};
    uint64_t now = st_clock_mono();
    int rc;

    do {
        uint64_t left = c->deadline_ns > now ? c->deadline_ns - now : 0;
        rc = poll(&p, 1, left / ST_MSEC < 3600000 ? (int)(left / ST_MSEC) + (left > 0) : 3600000);
        now = st_clock_mono();
    } while ((rc < 0 && errno == EINTR) || (rc == 0 && now < c->deadline_ns));
    return rc > 0 ? p.revents : 0;
}

static int connect_to(struct call *c, const struct sockaddr *to, socklen_t len)
{
    const char *where = c->request->address->port[0] != '\0' ? c->request->address->authority
                                                             : c->request->address->host;
    int problem = 0;
    socklen_t size = sizeof problem;

    c->fd = socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd >= 0 && connect(c->fd, to, len) == 0)
        return ST_OK;
    problem = errno;
    if (c->fd >= 0 && problem == EINPROGRESS) {
        if (wait_for(c, POLLOUT) == 0)
            problem = ETIMEDOUT;
        else
            getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
    }
    if (problem == 0)
        return ST_OK;
    st_error_sys(c->err, problem, "no connection to %s", where);
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    return ST_ERR_CLOSED;
}

static int open_call(struct call *c)
{
    const struct st_client_address *a = c->request->address;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *list;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int rc;

    if (a->port[0] == '\0') {
        memcpy(un.sun_path, a->host, strlen(a->host) + 1);
        return connect_to(c, (const struct sockaddr *)&un, sizeof un);
    }
    rc = getaddrinfo(a->host, a->port, &hints, &list);
    if (rc != 0)
        return st_error_set(c->err, ST_ERR_CLOSED, "no connection to %s: %s", a->authority,
                            gai_strerror(rc));
    rc = ST_ERR_CLOSED;
    for (struct addrinfo *ai = list; ai != NULL && rc != ST_OK; ai = ai->ai_next)
        rc = connect_to(c, ai->ai_addr, ai->ai_addrlen);
    freeaddrinfo(list);
    return rc;
}

/* The answer */

struct parse {
    llhttp_t parser;
    struct st_client_response *out;
    struct text name, value, body;
    bool in_value, to_head, whole;
};

static void end_header(struct parse *p)
{
    struct st_client_response *out = p->out;

    if (p->name.len == 0)
        return;
    append(&p->value, "", 0);
    out->headers = st_realloc(out->headers, (out->header_count + 1) * sizeof out->headers[0]);
    out->headers[out->header_count++] = (struct st_client_header){p->name.at, p->value.at};
    p->name = p->value = (struct text){0};
}

static int on_name(llhttp_t *h, const char *at, size_t n)
{
    struct parse *p = h->data;

    if (p->in_value)
        end_header(p);
    p->in_value = false;
    append(&p->name, at, n);
    return 0;
}

static int on_value(llhttp_t *h, const char *at, size_t n)
{
    struct parse *p = h->data;

    p->in_value = true;
    append(&p->value, at, n);
    return 0;
}

static int on_head(llhttp_t *h)
{
    struct parse *p = h->data;

    end_header(p);
    p->in_value = false;
    p->out->status = h->status_code;
    return p->to_head ? 1 : 0; /* 1: whatever the headers say, no body comes */
}

static int on_body(llhttp_t *h, const char *at, size_t n)
{
    struct parse *p = h->data;

    append(&p->body, at, n);
    return 0;
}

static void free_headers(struct st_client_response *r)
{
    for (size_t i = 0; i < r->header_count; i++) {
        free(r->headers[i].name);
        free(r->headers[i].value);
    }
    free(r->headers);
    r->headers = NULL;
    r->header_count = 0;
}

static int on_end(llhttp_t *h)
{
    struct parse *p = h->data;

    end_header(p); /* of a trailer */
    p->in_value = false;
    if (p->out->status < 200) { /* 100 Continue and the like: the answer follows */
        free_headers(p->out);
        return 0;
    }
    p->whole = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_header_field = on_name,
    .on_header_value = on_value,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_end,
};

static struct text encode(const struct st_client_request *r)
{
    struct text t = {0};
    char number[64];
    bool has_host = false;

    append_text(&t, r->method);
    append_text(&t, r->target[0] == '/' ? " " : " /");
    append(&t, r->target, strcspn(r->target, "#"));
    append_text(&t, " HTTP/1.1\r\nConnection: close\r\n");
    for (size_t i = 0; i < r->header_count; i++) {
        has_host = has_host || strcasecmp(r->headers[i].name, "host") == 0;
        append_text(&t, r->headers[i].name);
        append_text(&t, ": ");
        append_text(&t, r->headers[i].value);
        append_text(&t, "\r\n");
    }
    if (!has_host) {
        append_text(&t, "Host: ");
        append_text(&t, r->address->authority);
        append_text(&t, "\r\n");
    }
    if (r->has_body) {
        snprintf(number, sizeof number, "Content-Length: %zu\r\n", r->body.len);
        append_text(&t, number);
    }
    append_text(&t, "\r\n");
    append(&t, r->body.ptr, r->body.len);
    return t;
}

/* What the peer still says is read even when it takes no more. */
static void send_some(struct call *c, struct text *out, size_t *sent)
{
    ssize_t n = send(c->fd, out->at + *sent, out->len - *sent, MSG_NOSIGNAL);

    if (n >= 0)
        *sent += (size_t)n;
    else if (errno != EAGAIN && errno != EINTR)
        *sent = out->len;
}

/* One read; 1: go on, 0: whole, negative: why not. */
static int read_some(struct call *c, struct parse *p, char *buffer)
{
    ssize_t n = recv(c->fd, buffer, READ_SIZE, 0);
    llhttp_errno_t rc;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 1;
    if (n < 0) {
        st_error_sys(c->err, errno, "the connection to %s broke", c->request->address->authority);
        return ST_ERR_PROTOCOL;
    }
    rc = n > 0 ? llhttp_execute(&p->parser, buffer, (size_t)n) : llhttp_finish(&p->parser);
    if (p->whole)
        return 0;
    if (n == 0)
        return st_error_set(c->err, ST_ERR_PROTOCOL, "%s closed the connection %s",
                            c->request->address->authority,
                            p->out->status != 0 ? "amid its answer" : "without an answer");
    if (rc != HPE_OK)
        return st_error_set(c->err, ST_ERR_PROTOCOL, "the answer of %s is no HTTP: %s",
                            c->request->address->authority, llhttp_errno_name(rc));
    return 1;
}

static int exchange(struct call *c, struct parse *p)
{
    struct text out = encode(c->request);
    char *buffer = st_malloc(READ_SIZE);
    size_t sent = 0;
    int rc = 1;

    while (rc == 1) {
        short what = wait_for(c, (short)(sent < out.len ? POLLIN | POLLOUT : POLLIN));

        if (what == 0) {
            rc = timed_out(c);
            break;
        }
        if ((what & POLLOUT) != 0 && sent < out.len)
            send_some(c, &out, &sent);
        if ((what & (POLLIN | POLLHUP | POLLERR)) != 0)
            rc = read_some(c, p, buffer);
    }
    free(buffer);
    free(out.at);
    return rc;
}

int st_client_ask(struct st_client_response *out, const struct st_client_request *request,
                  struct st_error *err)
{
    struct call c = {.fd = -1,
                     .deadline_ns = st_clock_mono() + request->timeout_ns,
                     .request = request,
                     .err = err};
    struct parse p = {.out = out, .to_head = strcmp(request->method, "HEAD") == 0};
    int rc;

    *out = (struct st_client_response){.headers = NULL};
    rc = open_call(&c);
    if (rc != ST_OK)
        return rc;
    llhttp_init(&p.parser, HTTP_RESPONSE, &settings);
    p.parser.data = &p;
    rc = exchange(&c, &p);
    close(c.fd);
    free(p.name.at);
    free(p.value.at);
    out->body = p.body.at;
    out->body_len = p.body.len;
    if (rc != ST_OK)
        st_client_response_free(out);
    return rc;
}

void st_client_response_free(struct st_client_response *r)
{
    free_headers(r);
    free(r->body);
    *r = (struct st_client_response){.headers = NULL};
}

const char *st_client_header_value(const struct st_client_response *r, const char *name)
{
    for (size_t i = 0; i < r->header_count; i++)
        if (strcasecmp(r->headers[i].name, name) == 0)
            return r->headers[i].value;
    return NULL;
}
