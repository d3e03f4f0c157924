#include "runtimes/process/control.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "processor/core/alloc.h"

enum { PREFIX = 4, READ_SIZE = 64 * 1024, READS_A_PASS = 4 };

static void broken(struct st_control *c, const char *text)
{
    st_control_close(c);
    c->handler->broken(c->user, text);
}

static uint32_t length_at(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;

    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

/* Delivers whole messages; false: the control is closed. */
static bool deliver(struct st_control *c)
{
    size_t at = 0;

    while (c->in_len - at >= PREFIX) {
        uint32_t len = length_at(c->in + at);
        Stator__Worker__V1__FromWorker *msg;

        if (len > ST_CONTROL_MESSAGE_MAX) {
            broken(c, "a control message is longer than 1 MiB");
            return false;
        }
        if (c->in_len - at - PREFIX < len)
            break;
        msg = stator__worker__v1__from_worker__unpack(NULL, len,
                                                      (const uint8_t *)c->in + at + PREFIX);
        if (msg == NULL) {
            broken(c, "a control message can't be read");
            return false;
        }
        at += PREFIX + len;
        c->handler->message(c->user, msg);
        stator__worker__v1__from_worker__free_unpacked(msg, NULL);
        if (c->fd < 0)
            return false;
    }
    memmove(c->in, c->in + at, c->in_len - at);
    c->in_len -= at;
    return true;
}

void st_control_read(struct st_control *c)
{
    for (int i = 0; i < READS_A_PASS && c->fd >= 0; i++) {
        ssize_t n;

        if (c->in_size - c->in_len < READ_SIZE) {
            c->in_size = c->in_len + 2 * (size_t)READ_SIZE;
            c->in = st_realloc(c->in, c->in_size);
        }
        n = read(c->fd, c->in + c->in_len, READ_SIZE);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0) {
            event_del(&c->in_event);
            c->handler->closed(c->user);
        }
        if (n <= 0)
            return;
        c->in_len += (size_t)n;
        if (!deliver(c))
            return;
    }
}

static void on_readable(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    st_control_read(arg);
}

/* Writes what waits; the rest waits for the socket. */
static void flush(struct st_control *c)
{
    size_t at = 0;
    bool blocked = false;

    while (at < c->out_len && !blocked) {
        ssize_t n = send(c->fd, c->out + at, c->out_len - at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n > 0)
            at += (size_t)n;
        else if (n < 0 && errno != EINTR)
            blocked = errno == EAGAIN;
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            at = c->out_len; /* nobody reads any more */
    }
    memmove(c->out, c->out + at, c->out_len - at);
    c->out_len -= at;
    if (c->out_len > 0 && !c->writing)
        event_add(&c->out_event, NULL);
    else if (c->out_len == 0 && c->writing)
        event_del(&c->out_event);
    c->writing = c->out_len > 0;
}

static void on_writable(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    flush(arg);
}

static void put_length(unsigned char *p, size_t len)
{
    for (int i = 0; i < PREFIX; i++)
        p[i] = (unsigned char)(len >> (8 * i));
}

int st_control_send(struct st_control *c, const Stator__Worker__V1__ToWorker *msg)
{
    size_t len = stator__worker__v1__to_worker__get_packed_size(msg);
    unsigned char *p;

    if (c->fd < 0)
        return ST_ERR_CLOSED;
    if (len > ST_CONTROL_MESSAGE_MAX || c->out_len + PREFIX + len > ST_CONTROL_OUT_MAX)
        return ST_ERR_LIMIT;
    if (c->out_size < c->out_len + PREFIX + len) {
        c->out_size = c->out_len + PREFIX + len;
        c->out = st_realloc(c->out, c->out_size);
    }
    p = (unsigned char *)c->out + c->out_len;
    put_length(p, len);
    stator__worker__v1__to_worker__pack(msg, p + PREFIX);
    c->out_len += PREFIX + len;
    if (!c->writing)
        flush(c);
    return ST_OK;
}

int st_control_send_fds(struct st_control *c, const Stator__Worker__V1__ToWorker *msg,
                        const int *fds, size_t n, struct st_error *err)
{
    size_t len = stator__worker__v1__to_worker__get_packed_size(msg);
    unsigned char bytes[PREFIX + ST_CONTROL_FDS_MESSAGE_MAX];
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * ST_CONTROL_FDS_MAX)];
    } extra = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    struct iovec iov = {bytes, PREFIX + len};
    struct msghdr packet = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = &extra,
                            .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    ssize_t sent;

    ST_ASSERT(n <= ST_CONTROL_FDS_MAX && len <= ST_CONTROL_FDS_MESSAGE_MAX);
    if (c->fd < 0 || c->out_len > 0)
        return st_error_set(err, c->fd < 0 ? ST_ERR_CLOSED : ST_ERR_LIMIT,
                            "the control socket is closed or full");
    put_length(bytes, len);
    stator__worker__v1__to_worker__pack(msg, bytes + PREFIX);
    extra.header.cmsg_len = CMSG_LEN(sizeof(int) * n);
    memcpy(CMSG_DATA(&extra.header), fds, sizeof(int) * n);
    do
        sent = sendmsg(c->fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent == (ssize_t)iov.iov_len)
        return ST_OK;
    return st_error_sys(err, sent < 0 ? errno : EMSGSIZE, "cannot send descriptors");
}

int st_control_open(struct st_control *c, struct st_loop *loop,
                    const struct st_control_handler *handler, void *user, int *far,
                    struct st_error *err)
{
    int fds[2];

    *c = (struct st_control){.loop = loop, .handler = handler, .user = user, .fd = -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return st_error_sys(err, errno, "cannot make the control socket of a worker");
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    c->fd = fds[0];
    *far = fds[1];
    event_assign(&c->in_event, loop->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->out_event, loop->base, c->fd, EV_WRITE | EV_PERSIST, on_writable, c);
    return ST_OK;
}

void st_control_start(struct st_control *c)
{
    ST_ASSERT(event_add(&c->in_event, NULL) == 0);
}

void st_control_close(struct st_control *c)
{
    if (c->fd < 0)
        return;
    event_del(&c->in_event);
    event_del(&c->out_event);
    close(c->fd);
    c->fd = -1;
    free(c->in);
    free(c->out);
    c->in = c->out = NULL;
    c->in_len = c->in_size = c->out_len = c->out_size = 0;
}
