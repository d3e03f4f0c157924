#include "tests/support/http_stub.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "processor/core/base.h"

enum { REQUEST_MAX = 1 << 20 };

struct http_stub {
    pthread_t thread;
    int fd;
    unsigned short port;
    atomic_bool stopping;
    atomic_uint requests;
    char request[REQUEST_MAX];
};

static bool readable(struct http_stub *s, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    while (!atomic_load(&s->stopping))
        if (poll(&p, 1, 20) > 0)
            return true;
    return false;
}

/* One whole request, a NUL behind it; its length, or 0. */
static size_t read_request(struct http_stub *s, int fd)
{
    size_t len = 0, want = REQUEST_MAX - 1;
    char *end, *field;
    ssize_t n;

    while (len < want && readable(s, fd)) {
        n = read(fd, s->request + len, REQUEST_MAX - 1 - len);
        if (n <= 0)
            return 0;
        len += (size_t)n;
        s->request[len] = '\0';
        end = strstr(s->request, "\r\n\r\n");
        if (end == NULL || want != REQUEST_MAX - 1)
            continue;
        field = strcasestr(s->request, "\r\nContent-Length:");
        want = (size_t)(end + 4 - s->request);
        if (field != NULL && field < end)
            want += strtoul(field + 17, NULL, 10);
    }
    return len >= want ? len : 0;
}

static void send_all(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, bytes, n, MSG_NOSIGNAL);
        if (k <= 0)
            return;
        bytes += k;
        n -= (size_t)k;
    }
}

/* As much of the body as `sent` says. */
static void answer(int fd, unsigned status, const char *body, size_t len, size_t sent)
{
    char head[128];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %u Stub\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", status,
                     len);

    send_all(fd, head, (size_t)n);
    send_all(fd, body, sent);
}

static void answer_many(int fd, const char *before, size_t n, const char *after)
{
    char *bytes = malloc(n);

    ST_ASSERT(bytes != NULL);
    memset(bytes, 'x', n);
    send_all(fd, before, strlen(before));
    send_all(fd, bytes, n);
    send_all(fd, after, strlen(after));
    free(bytes);
}

static void serve(struct http_stub *s, int fd)
{
    size_t len = read_request(s, fd);
    const char *path = len > 0 ? strchr(s->request, ' ') : NULL;
    unsigned served, n = 0;
    char head[64];

    if (path == NULL)
        return;
    path++;
    served = atomic_fetch_add(&s->requests, 1);
    if (sscanf(path, "/status/%u", &n) == 1) {
        answer(fd, n, "status", 6, 6);
    } else if (sscanf(path, "/flaky/%u", &n) == 1) {
        answer(fd, served < n ? 503 : 200, "flaky", 5, 5);
    } else if (strncmp(path, "/echo", 5) == 0) {
        answer(fd, 200, s->request, len, len);
    } else if (sscanf(path, "/big/%u", &n) == 1) {
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", n);
        answer_many(fd, head, n, "");
    } else if (sscanf(path, "/head/%u", &n) == 1) {
        answer_many(fd, "HTTP/1.1 200 OK\r\nX: ", n, "\r\nContent-Length: 0\r\n\r\n");
    } else if (strncmp(path, "/half", 5) == 0) {
        answer(fd, 200, "0123456789", 10, 5);
    } else if (strncmp(path, "/hang", 5) == 0 && readable(s, fd)) {
        len = (size_t)read(fd, s->request, 1);
    }
}

static void *run(void *arg)
{
    struct http_stub *s = arg;

    while (readable(s, s->fd)) {
        int fd = accept(s->fd, NULL, NULL);
        if (fd < 0)
            continue;
        serve(s, fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
    return NULL;
}

struct http_stub *http_stub_start(void)
{
    struct http_stub *s = calloc(1, sizeof *s);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof address;

    ST_ASSERT(s != NULL);
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ST_ASSERT(s->fd >= 0 && bind(s->fd, (struct sockaddr *)&address, sizeof address) == 0 &&
              listen(s->fd, 64) == 0 && getsockname(s->fd, (struct sockaddr *)&address, &n) == 0);
    s->port = ntohs(address.sin_port);
    ST_ASSERT(pthread_create(&s->thread, NULL, run, s) == 0);
    return s;
}

void http_stub_stop(struct http_stub *stub)
{
    atomic_store(&stub->stopping, true);
    pthread_join(stub->thread, NULL);
    close(stub->fd);
    free(stub);
}

unsigned short http_stub_port(const struct http_stub *stub)
{
    return stub->port;
}

unsigned http_stub_requests(struct http_stub *stub)
{
    return atomic_load(&stub->requests);
}
