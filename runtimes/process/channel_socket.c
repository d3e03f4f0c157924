/* Records by a stream socket, for workers without an add-on. */
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "processor/net/net.h"
#include "runtimes/process/channel_int.h"

enum {
    HEADERS_SIZE = 1024 * 1024, /* of a record beside its body */
    READS_AT_END = 4096         /* of what a worker has left behind */
};

static const uint64_t retry_ns = 10 * ST_MSEC;

/* ---- Bytes ---- */

static void bytes_drop(struct st_channel_bytes *b)
{
    if (b->region != NULL)
        st_region_unref(b->region);
    *b = (struct st_channel_bytes){0};
}

/* Room for n bytes behind those that are there. Records keep their alignment. False: no body
 * memory. */
static bool bytes_room(struct st_channel *ch, struct st_channel_bytes *b, size_t n)
{
    size_t used = b->len - b->at, size;
    struct st_region *r;

    if (b->region != NULL && n <= b->region->size - b->len)
        return true;
    if (b->region != NULL && used + n <= b->region->size) {
        if (used != 0)
            memmove(b->region->base, b->region->base + b->at, used);
        b->at = 0;
        b->len = used;
        return true;
    }
    size = used + n > ST_CHANNEL_IO_SIZE ? used + n : ST_CHANNEL_IO_SIZE;
    r = st_body_region_try_new(ch->bodies, size);
    if (r == NULL)
        return false;
    if (b->region != NULL && used != 0)
        memcpy(r->base, b->region->base + b->at, used);
    bytes_drop(b);
    *b = (struct st_channel_bytes){r, 0, used};
    return true;
}

/* The first n bytes are done. A quiet worker keeps no memory. */
static void bytes_consume(struct st_channel_bytes *b, size_t n)
{
    b->at += n;
    if (b->at == b->len)
        bytes_drop(b);
}

static void starve(struct st_channel *ch)
{
    event_del(&ch->event);
    if (!st_timer_armed(&ch->starved))
        st_loop_timer_arm(ch->loop, &ch->starved, retry_ns);
}

/* ---- Records from the worker ---- */

/* Passes on whole records; false: nothing more can be done. */
static bool pass_on_all(struct st_channel *ch)
{
    struct st_channel_bytes *b = &ch->in;

    ch->missing = 0;
    while (b->len - b->at >= sizeof(struct st_wire_record)) {
        const char *at = b->region->base + b->at;
        struct st_wire_record record;

        memcpy(&record, at, sizeof record);
        if (record.size < sizeof record || record.size % ST_WIRE_ALIGN != 0 ||
            record.size > ch->max_record) {
            st_channel_break(ch, "a record's size is wrong");
            return false;
        }
        if (record.size > b->len - b->at) {
            ch->missing = record.size - (b->len - b->at);
            return true;
        }
        if (!st_channel_pass_on(ch, &record, at))
            return false;
        bytes_consume(b, record.size);
    }
    return true;
}

/* One read and what it brings. False: there was nothing, or nothing more can be done. */
static bool read_some(struct st_channel *ch)
{
    struct st_channel_bytes *b = &ch->in;
    size_t room;
    ssize_t n;

    if (!bytes_room(ch, b, ch->missing != 0 ? ch->missing : 1)) {
        starve(ch);
        return false;
    }
    room = b->region->size - b->len;
    if (room > ST_CHANNEL_IO_SIZE && room > ch->missing)
        room = ch->missing > ST_CHANNEL_IO_SIZE ? ch->missing : ST_CHANNEL_IO_SIZE;
    n = recv(ch->sock, b->region->base + b->len, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        bytes_consume(b, 0); /* the room was for nothing */
        return false;
    }
    if (n <= 0) {
        st_channel_break(ch, "it closed the data socket");
        return false;
    }
    b->len += (size_t)n;
    return pass_on_all(ch);
}

static void on_readable(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    struct st_channel *ch = arg;

    if (ch->closed || ch->broken != NULL)
        return;
    read_some(ch);
    if (!ch->closed && ch->broken == NULL)
        ch->handler->idle(ch);
}

void st_channel_socket_read(struct st_channel *ch)
{
    for (int i = 0; i < READS_AT_END && read_some(ch); i++)
        ;
}

/* ---- Records to the worker ---- */

/* A record that is alone may be larger than what else may wait. */
char *st_channel_socket_reserve(struct st_channel *ch, size_t size)
{
    struct st_channel_bytes *b = &ch->out;
    size_t used = b->len - b->at;

    if (used != 0 && used + size > ST_CHANNEL_IO_SIZE)
        return NULL;
    if (!bytes_room(ch, b, size)) {
        starve(ch);
        return NULL;
    }
    ch->writing = size;
    return b->region->base + b->len;
}

uint64_t st_channel_socket_commit(struct st_channel *ch)
{
    uint64_t place = ch->sent + (ch->out.len - ch->out.at);

    ch->out.len += ch->writing;
    ch->writing = 0;
    return place;
}

/* What has left but was not read lies in the far end's queue. */
bool st_channel_socket_has_begun(const struct st_channel *ch, uint64_t place)
{
    int unread = 0;

    if (place >= ch->sent)
        return false;
    if (ioctl(ch->far_sock, FIONREAD, &unread) != 0)
        return true;
    return unread < 0 || place < ch->sent - (uint64_t)unread;
}

void st_channel_socket_flush(struct st_channel *ch)
{
    struct st_channel_bytes *b = &ch->out;

    while (b->at != b->len) {
        ssize_t n =
            send(ch->sock, b->region->base + b->at, b->len - b->at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            event_add(&ch->write_event, NULL);
            return;
        }
        if (n < 0) {
            st_channel_break(ch, "it closed the data socket");
            return;
        }
        ch->sent += (uint64_t)n;
        bytes_consume(b, (size_t)n);
    }
    if (ch->wants_room)
        ch->room_due = true;
}

static void on_writable(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    struct st_channel *ch = arg;

    if (!ch->closed)
        st_loop_flush_later(ch->loop, &ch->flush);
}

/* Somebody may have given body memory back. */
static void on_starved(struct st_timer *timer)
{
    struct st_channel *ch = ST_CONTAINER_OF(timer, struct st_channel, starved);

    event_add(&ch->event, NULL);
    st_loop_flush_later(ch->loop, &ch->flush);
}

/* ---- Life ---- */

int st_channel_socket_open(struct st_channel *ch, struct st_error *err)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return st_error_sys(err, errno, "can't make the data socket of a worker");
    ch->sock = pair[0];
    ch->far.data = ch->far_sock = pair[1];
    st_timer_init(&ch->starved, on_starved);
    return ST_OK;
}

void st_channel_socket_start(struct st_channel *ch)
{
    size_t limit = UINT32_MAX - (ST_WIRE_ALIGN - 1);

    if (ch->pool_bytes < limit - HEADERS_SIZE)
        limit = ch->pool_bytes + HEADERS_SIZE;
    ch->max_record = limit & ~(size_t)(ST_WIRE_ALIGN - 1);
    ST_ASSERT(
        event_assign(&ch->event, ch->loop->base, ch->sock, EV_READ | EV_PERSIST, on_readable, ch) ==
            0 &&
        event_assign(&ch->write_event, ch->loop->base, ch->sock, EV_WRITE, on_writable, ch) == 0 &&
        event_add(&ch->event, NULL) == 0);
}

void st_channel_socket_stop(struct st_channel *ch)
{
    if (ch->way != ST_CHANNEL_SOCKET)
        return;
    event_del(&ch->event);
    event_del(&ch->write_event);
    st_loop_timer_cancel(ch->loop, &ch->starved);
}

void st_channel_socket_close(struct st_channel *ch)
{
    if (ch->sock < 0)
        return;
    close(ch->sock);
    close(ch->far_sock);
    ch->sock = ch->far_sock = ch->far.data = -1;
    bytes_drop(&ch->in);
    bytes_drop(&ch->out);
}
