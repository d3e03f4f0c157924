#include "processor/net/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "processor/core/log.h"
#include "processor/net/http_msg.h"

enum { BACKLOG = 4096, ACCEPT_BATCH = 256, STARVED_RETRY_MS = 500 };

/* "host:port" into its parts; host is "" for all addresses. */
static int split_address(const char *address, char host[256], char port[16], struct st_error *err)
{
    const char *colon = strrchr(address, ':'), *from = address;
    size_t n;
    char *end;
    unsigned long number;

    if (colon == NULL)
        goto bad;
    n = (size_t)(colon - address);
    if (n >= 2 && address[0] == '[' && address[n - 1] == ']') {
        from++;
        n -= 2;
    } else if (memchr(address, ':', n) != NULL) {
        goto bad;
    }
    number = strtoul(colon + 1, &end, 10);
    if (n >= 256 || colon[1] < '0' || colon[1] > '9' || *end != '\0' || number > 65535)
        goto bad;
    memcpy(host, from, n);
    host[n] = '\0';
    snprintf(port, 16, "%lu", number);
    return ST_OK;
bad:
    return st_error_set(err, ST_ERR_INVALID,
                        "found \"%s\", expected an address to listen on, for example \":8080\", "
                        "\"127.0.0.1:8080\", \"[::1]:8080\" or \"unix:/path\"",
                        address);
}

static int bind_tcp(const struct addrinfo *ai, bool reuse_port)
{
    int one = 1, zero = 0, fd;

    fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (reuse_port)
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    if (ai->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

/* With SO_REUSEPORT a bind succeeds beside any other process of the same user that set it too; only
 * a bind without it tells whether the port is free. */
static int bind_first(const struct addrinfo *ai)
{
    int fd = bind_tcp(ai, false);
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    struct addrinfo same = *ai;

    if (fd < 0)
        return -1;
    getsockname(fd, (struct sockaddr *)&bound, &n);
    close(fd);
    same.ai_addr = (struct sockaddr *)&bound;
    same.ai_addrlen = n;
    return bind_tcp(&same, true);
}

static int listen_tcp(const char *address, bool is_first, struct st_error *err)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list, *ai;
    char host[256] = "", port[16];
    int code = split_address(address, host, port, err), fd = -1, saved = EADDRNOTAVAIL;

    if (code != ST_OK)
        return code;
    code = getaddrinfo(host[0] != '\0' ? host : "::", port, &hints, &list);
    if (code != 0 && host[0] == '\0')
        code = getaddrinfo("0.0.0.0", port, &hints, &list);
    if (code != 0)
        return st_error_set(err, ST_ERR_INVALID, "listen on \"%s\": %s", address,
                            gai_strerror(code));
    for (ai = list; ai != NULL && fd < 0; ai = ai->ai_next) {
        fd = is_first ? bind_first(ai) : bind_tcp(ai, true);
        if (fd < 0)
            saved = errno;
    }
    freeaddrinfo(list);
    /* A kernel without IPv6 */
    if (fd < 0 && host[0] == '\0' && (saved == EAFNOSUPPORT || saved == EADDRNOTAVAIL)) {
        char any[32];
        snprintf(any, sizeof any, "0.0.0.0:%s", port);
        return listen_tcp(any, is_first, err);
    }
    if (fd < 0 && saved == EADDRINUSE)
        return st_error_sys(err, saved,
                            "listen on \"%s\" (stop the process that has the port, see `ss -ltnp`, "
                            "or choose another port)",
                            address);
    return fd >= 0 ? fd : st_error_sys(err, saved, "listen on \"%s\"", address);
}

/* A socket file that nobody listens on is left by a crash and may go; connect(2) refuses other
 * files the same way. It doesn't wait where somebody listens and is busy. */
static bool unix_is_stale(const struct sockaddr_un *addr)
{
    struct stat st;
    bool stale;
    int fd;

    if (lstat(addr->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return false;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    stale = connect(fd, (const struct sockaddr *)addr, sizeof *addr) != 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int check_path(const char *path, struct st_error *err)
{
    const struct sockaddr_un *addr;

    if (path[0] != '\0' && strlen(path) < sizeof addr->sun_path)
        return ST_OK;
    return st_error_set(err, ST_ERR_INVALID,
                        "found \"unix:%s\", expected a path of 1 to %zu bytes, for example "
                        "\"unix:/run/f.sock\"",
                        path, sizeof addr->sun_path - 1);
}

static int listen_unix(const char *path, struct st_error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd, bound, saved;

    if (check_path(path, err) != ST_OK)
        return ST_ERR_INVALID;
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return st_error_sys(err, errno, "listen on \"unix:%s\"", path);
    bound = bind(fd, (struct sockaddr *)&addr, sizeof addr);
    saved = errno;
    if (bound != 0 && saved == EADDRINUSE && unix_is_stale(&addr) && unlink(path) == 0) {
        bound = bind(fd, (struct sockaddr *)&addr, sizeof addr);
        saved = errno;
    }
    if (bound == 0 && listen(fd, BACKLOG) == 0)
        return fd;
    st_error_sys(err, bound != 0 ? saved : errno, "listen on \"unix:%s\"", path);
    close(fd);
    return ST_ERR_SYSTEM;
}

int st_listen(const char *address, bool is_first, struct st_error *err)
{
    if (strncmp(address, "unix:", 5) == 0)
        return listen_unix(address + 5, err);
    return listen_tcp(address, is_first, err);
}

int st_listen_check(const char *address, struct st_error *err)
{
    char host[256], port[16];

    if (strncmp(address, "unix:", 5) == 0)
        return check_path(address + 5, err);
    return split_address(address, host, port, err);
}

uint16_t st_listen_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    } a = {.any = {.sa_family = AF_UNSPEC}};
    socklen_t n = sizeof a;

    if (getsockname(fd, &a.any, &n) != 0)
        return 0;
    if (a.any.sa_family == AF_INET)
        return ntohs(a.v4.sin_port);
    return a.any.sa_family == AF_INET6 ? ntohs(a.v6.sin6_port) : 0;
}

static void peer_of(const struct sockaddr *addr, struct st_peer *peer)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)(const void *)addr;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)(const void *)addr;

    peer->address[0] = '\0';
    peer->port = 0;
    if (addr->sa_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, peer->address, sizeof peer->address);
        peer->port = ntohs(v4->sin_port);
    } else if (addr->sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], peer->address, sizeof peer->address);
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, peer->address, sizeof peer->address);
        peer->port = ntohs(v6->sin6_port);
    }
}

/* Out of descriptors: the spare one is spent to tell one client so, then accepting stops until a
 * descriptor is free. Other loops don't tell of theirs: the timer tries again. */
static void out_of_descriptors(struct st_listener *l)
{
    static const char busy[] = "HTTP/1.1 503 Service Unavailable\r\nServer: stator\r\n"
                               "Content-Length: 0\r\nConnection: close\r\n\r\n";
    int fd;

    ST_LOG_LIMITED(ST_LOG_WARN, "processor.net",
                   "Out of file descriptors: accepting stops until a connection closes; raise the "
                   "limit (ulimit -n) or lower maxConnections");
    close(l->net->spare_fd);
    fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
        if (write(fd, busy, sizeof busy - 1) < 0)
            errno = 0; /* the client sees the close */
        close(fd);
    }
    l->net->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    st_listener_pause(l, ST_PAUSE_STARVED);
    st_loop_timer_arm(l->net->loop, &l->retry, STARVED_RETRY_MS * ST_MSEC);
}

static void retry_accept(struct st_timer *t)
{
    st_listener_fd_freed(ST_CONTAINER_OF(t, struct st_listener, retry));
}

/* Returns false when nothing more is there. */
static bool accept_one(struct st_listener *l)
{
    struct sockaddr_storage addr = {.ss_family = AF_UNSPEC};
    socklen_t n = sizeof addr;
    struct st_peer peer;
    int one = 1, fd = accept4(l->fd, (struct sockaddr *)&addr, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE) {
            out_of_descriptors(l);
            return false;
        }
        return errno == EINTR || errno == ECONNABORTED;
    }
    if (!l->is_unix)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    peer_of((struct sockaddr *)&addr, &peer);
    l->accept(l, fd, &peer);
    return true;
}

static void listener_readable(evutil_socket_t fd, short what, void *arg)
{
    struct st_listener *l = arg;

    (void)fd;
    (void)what;
    for (int i = 0; i < ACCEPT_BATCH && l->paused == 0 && l->fd >= 0; i++)
        if (!accept_one(l))
            break;
}

void st_listener_open(struct st_listener *l, struct st_net *net, int fd, st_accept_fn *accept,
                      void *arg)
{
    memset(l, 0, sizeof *l);
    l->net = net;
    l->fd = fd;
    l->is_unix = st_listen_port(fd) == 0;
    l->accept = accept;
    l->arg = arg;
    st_timer_init(&l->retry, retry_accept);
    event_assign(&l->event, net->loop->base, fd, EV_READ | EV_PERSIST, listener_readable, l);
    ST_ASSERT(event_add(&l->event, NULL) == 0);
}

void st_listener_pause(struct st_listener *l, enum st_listener_pause why)
{
    if (l->paused == 0)
        event_del(&l->event);
    l->paused |= why;
}

void st_listener_resume(struct st_listener *l, enum st_listener_pause why)
{
    if ((l->paused & why) == 0 || l->fd < 0)
        return;
    l->paused &= ~(unsigned)why;
    if (l->paused == 0)
        ST_ASSERT(event_add(&l->event, NULL) == 0);
}

void st_listener_fd_freed(struct st_listener *l)
{
    if (st_unlikely((l->paused & ST_PAUSE_STARVED) != 0)) {
        if (l->net->spare_fd < 0)
            l->net->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        st_listener_resume(l, ST_PAUSE_STARVED);
    }
}

void st_listener_drain(struct st_listener *l)
{
    while (l->fd >= 0 && accept_one(l))
        ;
    st_listener_close(l);
}

void st_listener_close(struct st_listener *l)
{
    if (l->fd < 0)
        return;
    st_listener_pause(l, ST_PAUSE_OWNER);
    st_loop_timer_cancel(l->net->loop, &l->retry);
    close(l->fd);
    l->fd = -1;
}
