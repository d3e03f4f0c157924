#include "tests/support/net_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "processor/core/metrics.h"

/* ---- Transport ---- */

static struct net_rig *rig_of(struct st_conn *c)
{
    return ST_CONTAINER_OF(c->net->loop, struct net_rig, loop);
}

static ssize_t rig_read(struct st_conn *c, void *to, size_t n)
{
    struct net_rig *rig = rig_of(c);

    rig->reads++;
    if (rig->read_max != 0 && n > rig->read_max)
        n = rig->read_max;
    return st_conn_plain.read(c, to, n);
}

static ssize_t rig_writev(struct st_conn *c, const struct iovec *iov, int n)
{
    struct net_rig *rig = rig_of(c);
    struct iovec part[ST_OUTQ_IOV];
    size_t left = rig->write_max;
    int k = 0;

    ST_ASSERT(n > 0 && n <= ST_OUTQ_IOV);
    if (rig->write_errno != 0 || rig->write_blocked) {
        errno = rig->write_errno != 0 ? rig->write_errno : EAGAIN;
        return -1;
    }
    rig->writes++;
    rig->iovs = (unsigned)n;
    if (rig->write_sink) {
        for (; k < n; k++)
            left += iov[k].iov_len;
        return (ssize_t)left;
    }
    if (rig->write_max == 0)
        return st_conn_plain.writev(c, iov, n);
    for (; k < n && left > 0; k++) {
        part[k] = iov[k];
        if (part[k].iov_len > left)
            part[k].iov_len = left;
        left -= part[k].iov_len;
    }
    return st_conn_plain.writev(c, part, k);
}

static void rig_shutdown(struct st_conn *c)
{
    rig_of(c)->shutdowns++;
    st_conn_plain.shutdown(c);
}

static void rig_close(struct st_conn *c)
{
    rig_of(c)->closes++;
    st_conn_plain.close(c);
}

const struct st_conn_ops net_rig_ops = {rig_read, rig_writev, rig_shutdown, rig_close};

/* ---- Loop ---- */

void net_rig_open(struct net_rig *rig)
{
    struct st_error err;

    memset(rig, 0, sizeof *rig);
    signal(SIGPIPE, SIG_IGN);
    rig->bodies.limit = 16 << 20;
    ST_ASSERT(st_loop_open(&rig->loop, 0, "test", &err) == ST_OK);
    ST_ASSERT(st_net_open(&rig->loop, &rig->bodies, &err) == ST_OK);
    st_loop_update_clock(&rig->loop); /* once: from here on it stands still */
    rig->loop.now_ns -= rig->loop.now_ns % ST_MSEC;
}

void net_rig_close(struct net_rig *rig)
{
    struct st_net *net = net_rig_net(rig);

    st_loop_settle(&rig->loop);
    ST_ASSERT(net->chunks.in_use == 0 && net->refs.in_use == 0 && net->conns.in_use == 0);
    ST_ASSERT(atomic_load(&rig->bodies.used) == 0);
    ST_ASSERT(TAILQ_EMPTY(&net->starved));
    st_net_close(&rig->loop);
    ST_ASSERT(rig->loop.wheel.armed == 0);
    st_loop_close(&rig->loop);
    st_metrics_reset();
}

void net_rig_pass(struct net_rig *rig)
{
    rig->loop.clock_valid = true;
    event_base_loop(rig->loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    st_loop_settle(&rig->loop);
}

void net_rig_run(struct net_rig *rig)
{
    unsigned before;

    do {
        before = rig->reads + rig->writes + rig->closes;
        net_rig_pass(rig);
    } while (rig->reads + rig->writes + rig->closes != before);
}

void net_rig_nap(void)
{
    struct timespec ts = {0, 200000};

    nanosleep(&ts, NULL);
}

void net_rig_advance(struct net_rig *rig, uint64_t ms)
{
    rig->loop.clock_valid = true;
    rig->loop.now_ns += ms * ST_MSEC;
    st_wheel_run(&rig->loop.wheel, rig->loop.now_ns);
    st_loop_settle(&rig->loop);
    net_rig_run(rig);
}

/* ---- Clients ---- */

static void client_init(struct net_client *client)
{
    memset(client, 0, sizeof *client);
    client->room = 8192;
    client->in = calloc(1, client->room);
    ST_ASSERT(client->in != NULL);
}

int net_client_pair(struct net_client *client)
{
    int fds[2];

    client_init(client);
    ST_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    client->fd = fds[1];
    return fds[0];
}

int net_client_pair_tcp(struct net_client *client)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd, one = 1;
    socklen_t n = sizeof addr;
    int room = 128 << 10;

    client_init(client);
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ST_ASSERT(listener >= 0 && client->fd >= 0);
    /* Else the kernel makes room as it sees fit, on some machines for more than a test sends. */
    ST_ASSERT(setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    ST_ASSERT(bind(listener, (struct sockaddr *)&addr, sizeof addr) == 0);
    ST_ASSERT(listen(listener, 1) == 0);
    ST_ASSERT(getsockname(listener, (struct sockaddr *)&addr, &n) == 0);
    ST_ASSERT(connect(client->fd, (struct sockaddr *)&addr, n) == 0);
    fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    ST_ASSERT(fd >= 0 && fcntl(client->fd, F_SETFL, O_NONBLOCK) == 0);
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    close(listener);
    return fd;
}

size_t net_client_write(struct net_client *client, const void *bytes, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t k = write(client->fd, (const char *)bytes + done, n - done);

        if (k < 0)
            break;
        done += (size_t)k;
    }
    return done;
}

size_t net_client_read(struct net_client *client, size_t max)
{
    size_t done = 0;

    while (done < max && !client->eof && client->error == 0) {
        ssize_t k;

        if (client->room - client->len < 4096) {
            client->room *= 2;
            client->in = realloc(client->in, client->room);
            ST_ASSERT(client->in != NULL);
        }
        k = client->room - client->len - 1 < max - done ? (ssize_t)(client->room - client->len - 1)
                                                        : (ssize_t)(max - done);
        k = read(client->fd, client->in + client->len, (size_t)k);
        if (k < 0 && errno == EAGAIN)
            break;
        if (k < 0)
            client->error = errno;
        client->eof = k == 0;
        if (k > 0)
            client->len += (size_t)k;
        done += k > 0 ? (size_t)k : 0;
        client->in[client->len] = '\0';
    }
    return done;
}

void net_client_close(struct net_client *client, bool reset)
{
    struct linger now = {1, 0};

    if (client->fd < 0)
        return;
    if (reset)
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(client->fd);
    client->fd = -1;
}

void net_client_free(struct net_client *client)
{
    net_client_close(client, false);
    free(client->in);
    client->in = NULL;
}
