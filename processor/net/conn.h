/* A byte stream with a peer: non-blocking reads, gathered writes, water marks, one deadline.
 *
 * The owner (HTTP/1 today) embeds struct st_conn and gives it a protocol. Everything runs on the
 * connection's loop. The transport is an ops table: plain sockets now, TLS later. */
#ifndef PROCESSOR_NET_CONN_H
#define PROCESSOR_NET_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/types.h>

#include "processor/core/base.h"
#include "processor/core/loop.h"
#include "processor/core/timer.h"
#include "processor/net/http_msg.h"
#include "processor/net/net.h"
#include "processor/net/outq.h"

struct st_conn;

enum { ST_CONN_MAGIC = 0x636f6e6e, ST_CONN_HIGH = 256 * 1024, ST_CONN_LOW = 64 * 1024 };

/* The transport. Results as of read(2) and writev(2): -1 with errno, EAGAIN included. */
struct st_conn_ops {
    ssize_t (*read)(struct st_conn *c, void *to, size_t n);
    ssize_t (*writev)(struct st_conn *c, const struct iovec *iov, int n);
    void (*shutdown)(struct st_conn *c); /* nothing more will be written */
    void (*close)(struct st_conn *c);
};

extern const struct st_conn_ops st_conn_plain;

/* What the connection tells its owner. After `closed` the owner frees it by st_conn_free_later. */
struct st_conn_proto {
    /* n bytes lie at data, with ST_NET_CARRY_SIZE bytes of room before them; they are gone when the
     * call returns. */
    void (*data)(struct st_conn *c, char *data, size_t n);
    void (*eof)(struct st_conn *c);     /* the peer has sent everything; it may still read */
    void (*sent)(struct st_conn *c);    /* some output has left */
    void (*expired)(struct st_conn *c); /* the deadline passed */
    void (*closed)(struct st_conn *c);  /* broken or closed; no call follows */
};

struct st_conn {
    uint32_t magic;
    int fd;
    struct st_net *net;
    const struct st_conn_ops *ops;
    const struct st_conn_proto *proto;
    struct event read_event, write_event;
    struct st_outq out;
    struct st_timer timer;
    uint64_t deadline_ns;       /* 0: none. The timer may be armed for an earlier time */
    uint64_t timer_ns;          /* what the timer is armed for; UINT64_MAX: it is not */
    uint64_t write_deadline_ns; /* while output waits: no progress until then breaks it */
    uint64_t write_timeout_ns;
    int kernel_held; /* bytes not taken by the peer when the write deadline was set */
    size_t lingered; /* bytes dropped */
    struct st_flush flush;
    struct st_garbage garbage;
    bool reading;   /* read_event is added */
    bool writing;   /* write_event is added */
    bool eof;       /* the peer sent FIN */
    bool end_tells; /* the end says that all was sent: any other end must be a reset */
    bool close_when_sent;
    bool linger; /* then, before closing, read and drop what the peer still sends */
    bool lingering;
    bool closed;
};

enum { ST_CONN_LINGER_BYTES = 1 << 20 };

/* Takes over the non-blocking fd; reading starts. The struct is zeroed by the caller. */
void st_conn_open(struct st_conn *c, struct st_net *net, int fd, const struct st_conn_ops *ops,
                  const struct st_conn_proto *proto, uint64_t write_timeout_ns);

/* Sends what c->out holds as far as the socket takes it; the rest follows by itself. */
void st_conn_send(struct st_conn *c);

/* Sends at the end of this pass, so that all replies of a pass share one write. */
static inline void st_conn_send_later(struct st_conn *c)
{
    st_loop_flush_later(c->net->loop, &c->flush);
}

void st_conn_pause(struct st_conn *c);
void st_conn_resume(struct st_conn *c);

/* Reads what has arrived, without waiting for the loop to tell. */
void st_conn_read_now(struct st_conn *c);

/* The slow half of st_conn_set_deadline. */
void st_conn_arm(struct st_conn *c, uint64_t at_ns);

/* proto->expired will be called at this time unless it is moved; 0: never. Free of timer work while
 * the deadline only moves later. */
static inline void st_conn_set_deadline(struct st_conn *c, uint64_t at_ns)
{
    c->deadline_ns = at_ns;
    if (st_unlikely(at_ns < c->timer_ns && at_ns != 0))
        st_conn_arm(c, at_ns);
}

/* Closes after all output has left, or at once when there is none. proto->data is not called any
 * more. A close with unread bytes would become a reset that destroys the reply; so they are read
 * and dropped, up to 2 s and 1 MiB, where there are any then. linger: also where there are none
 * yet, because the peer is still sending (a refused body). */
void st_conn_close_when_sent(struct st_conn *c, bool linger);

/* Closes now; proto->closed is called before this returns. Where end_tells is set and not all was
 * sent, the peer gets a reset and may lose what is on its way; unix sockets know none. */
void st_conn_close(struct st_conn *c);
#endif
