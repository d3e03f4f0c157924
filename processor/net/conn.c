#include "processor/net/conn.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By syscall(2): read(2) and write(2) are cancellation points, which costs two atomic operations
 * each, and no thread here is ever cancelled. */
static ssize_t plain_read(struct st_conn *c, void *to, size_t n)
{
    return syscall(SYS_read, c->fd, to, n);
}

static ssize_t plain_writev(struct st_conn *c, const struct iovec *iov, int n)
{
    return n == 1 ? syscall(SYS_write, c->fd, iov[0].iov_base, iov[0].iov_len)
                  : syscall(SYS_writev, c->fd, iov, n);
}

static void plain_shutdown(struct st_conn *c)
{
    shutdown(c->fd, SHUT_WR);
}

static void plain_close(struct st_conn *c)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    if (st_unlikely(c->end_tells && !(c->close_when_sent && c->out.bytes == 0)))
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(c->fd);
}

const struct st_conn_ops st_conn_plain = {plain_read, plain_writev, plain_shutdown, plain_close};

enum { NO_DEADLINE_CHECK_S = 10, LINGER_S = 2 };

void st_conn_arm(struct st_conn *c, uint64_t at_ns)
{
    uint64_t now = st_loop_now(c->net->loop);

    c->timer_ns = at_ns;
    st_loop_timer_arm(c->net->loop, &c->timer, at_ns > now ? at_ns - now : 0);
}

/* Bytes that the kernel holds for the peer; SIOCOUTQ, see tcp(7). */
static int conn_kernel_holds(const struct st_conn *c)
{
    int n;

    return ioctl(c->fd, SIOCOUTQ, &n) == 0 ? n : INT_MAX;
}

/* Writability is told only when a good part of the kernel's buffer is free: a slow reader may have
 * taken bytes long before. */
static bool conn_peer_reads(struct st_conn *c)
{
    int holds = conn_kernel_holds(c);
    bool reads = holds < c->kernel_held;

    c->kernel_held = holds;
    return reads;
}

static void conn_timer(struct st_timer *t)
{
    struct st_conn *c = ST_CONTAINER_OF(t, struct st_conn, timer);
    uint64_t now = st_loop_now(c->net->loop), next = UINT64_MAX;

    c->timer_ns = UINT64_MAX;
    if (c->write_deadline_ns != 0) {
        if (c->write_deadline_ns <= now) {
            if (!conn_peer_reads(c)) {
                st_conn_close(c);
                return;
            }
            c->write_deadline_ns = now + c->write_timeout_ns;
        }
        next = c->write_deadline_ns;
    }
    if (c->deadline_ns != 0) {
        if (c->deadline_ns <= now) {
            c->deadline_ns = 0;
            if (c->lingering)
                st_conn_close(c);
            else
                c->proto->expired(c);
            if (c->closed)
                return;
        }
        if (c->deadline_ns != 0 && c->deadline_ns < next)
            next = c->deadline_ns;
    }
    /* Without a deadline now (a handler runs) the timer still comes back, so that setting one
     * stays free. */
    if (next == UINT64_MAX)
        next = now + NO_DEADLINE_CHECK_S * ST_SEC;
    st_conn_arm(c, next);
}

static void conn_drop_input(struct st_conn *c)
{
    ssize_t n = c->ops->read(c, c->net->read_base, ST_NET_READ_SIZE);

    if (n > 0)
        c->lingered += (size_t)n;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) ||
        c->lingered > ST_CONN_LINGER_BYTES)
        st_conn_close(c);
}

static void conn_readable(evutil_socket_t fd, short what, void *arg)
{
    struct st_conn *c = arg;
    char *to = c->net->read_base + ST_NET_CARRY_SIZE;
    ssize_t n;

    (void)fd;
    (void)what;
    if (st_unlikely(c->closed))
        return;
    if (st_unlikely(c->lingering)) {
        conn_drop_input(c);
        return;
    }
    n = c->ops->read(c, to, ST_NET_READ_SIZE);
    if (st_likely(n > 0)) {
        st_metric_add(c->net->loop->metrics, c->net->bytes_in, n);
        c->proto->data(c, to, (size_t)n);
    } else if (n == 0) {
        c->eof = true;
        st_conn_pause(c);
        c->proto->eof(c);
    } else if (errno != EAGAIN && errno != EINTR) {
        st_conn_close(c);
    }
}

void st_conn_read_now(struct st_conn *c)
{
    if (c->reading)
        conn_readable(c->fd, EV_READ, c);
}

static void conn_writable(evutil_socket_t fd, short what, void *arg)
{
    struct st_conn *c = arg;

    (void)fd;
    (void)what;
    if (!c->closed)
        st_conn_send(c);
}

static void conn_flush(struct st_flush *f)
{
    struct st_conn *c = ST_CONTAINER_OF(f, struct st_conn, flush);

    if (!c->closed)
        st_conn_send(c);
}

void st_conn_open(struct st_conn *c, struct st_net *net, int fd, const struct st_conn_ops *ops,
                  const struct st_conn_proto *proto, uint64_t write_timeout_ns)
{
    c->magic = ST_CONN_MAGIC;
    c->fd = fd;
    c->net = net;
    c->ops = ops;
    c->proto = proto;
    c->write_timeout_ns = write_timeout_ns;
    c->timer_ns = UINT64_MAX;
    c->flush.fn = conn_flush;
    st_outq_init(&c->out);
    st_timer_init(&c->timer, conn_timer);
    event_assign(&c->read_event, net->loop->base, fd, EV_READ | EV_PERSIST, conn_readable, c);
    event_assign(&c->write_event, net->loop->base, fd, EV_WRITE | EV_PERSIST, conn_writable, c);
    st_conn_resume(c);
    st_metric_add(net->loop->metrics, net->connections, 1);
}

void st_conn_pause(struct st_conn *c)
{
    if (c->reading) {
        event_del(&c->read_event);
        c->reading = false;
    }
}

void st_conn_resume(struct st_conn *c)
{
    if (!c->reading && !c->eof && !c->closed && !c->close_when_sent) {
        ST_ASSERT(event_add(&c->read_event, NULL) == 0);
        c->reading = true;
    }
}

static void conn_wait_writable(struct st_conn *c)
{
    c->write_deadline_ns = st_loop_now(c->net->loop) + c->write_timeout_ns;
    c->kernel_held = conn_kernel_holds(c);
    if (c->write_deadline_ns < c->timer_ns)
        st_conn_arm(c, c->write_deadline_ns);
    if (!c->writing) {
        ST_ASSERT(event_add(&c->write_event, NULL) == 0);
        c->writing = true;
    }
}

static void conn_all_sent(struct st_conn *c)
{
    if (st_unlikely(c->writing)) {
        event_del(&c->write_event);
        c->writing = false;
    }
    c->write_deadline_ns = 0;
}

static bool conn_has_unread(const struct st_conn *c)
{
    int n;

    return ioctl(c->fd, FIONREAD, &n) == 0 && n > 0;
}

static void conn_finish(struct st_conn *c)
{
    if (c->eof || (!c->linger && !conn_has_unread(c))) {
        st_conn_close(c);
        return;
    }
    if (c->lingering)
        return;
    c->ops->shutdown(c);
    c->lingering = true;
    st_conn_set_deadline(c, st_loop_now(c->net->loop) + LINGER_S * ST_SEC);
    ST_ASSERT(event_add(&c->read_event, NULL) == 0);
    c->reading = true;
}

void st_conn_send(struct st_conn *c)
{
    struct iovec iov[ST_OUTQ_IOV];
    bool progress = false;

    while (c->out.bytes > 0) {
        ssize_t n = c->ops->writev(c, iov, st_outq_gather(&c->out, iov));
        if (st_unlikely(n < 0)) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN) {
                st_conn_close(c);
                return;
            }
            break;
        }
        progress = true;
        st_metric_add(c->net->loop->metrics, c->net->bytes_out, n);
        st_outq_consume(&c->out, c->net, (size_t)n);
    }
    if (c->out.bytes == 0)
        conn_all_sent(c);
    else if (progress || !c->writing)
        conn_wait_writable(c);
    if (progress)
        c->proto->sent(c);
    if (c->close_when_sent && c->out.bytes == 0 && !c->closed)
        conn_finish(c);
}

void st_conn_close_when_sent(struct st_conn *c, bool linger)
{
    if (c->closed || c->lingering)
        return;
    st_conn_pause(c);
    c->close_when_sent = true;
    c->linger = linger;
    c->deadline_ns = 0;
    if (c->out.bytes > 0)
        st_conn_send_later(c);
    else
        conn_finish(c);
}

void st_conn_close(struct st_conn *c)
{
    if (c->closed)
        return;
    c->closed = true;
    st_conn_pause(c);
    if (c->writing)
        event_del(&c->write_event);
    st_timer_cancel(&c->net->loop->wheel, &c->timer);
    c->ops->close(c);
    c->fd = -1;
    st_outq_clear(&c->out, c->net);
    st_metric_add(c->net->loop->metrics, c->net->connections, -1);
    c->proto->closed(c);
}
