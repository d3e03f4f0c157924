/* A loop that is run by hand, with a clock that stands still, and the far ends of its sockets. For
 * tests of processor/net: nothing sleeps, and every system call on a connection is counted. */
#ifndef TESTS_SUPPORT_NET_RIG_H
#define TESTS_SUPPORT_NET_RIG_H

#include "processor/core/clock.h"
#include "processor/core/loop.h"
#include "processor/net/conn.h"
#include "processor/net/net.h"

struct net_rig {
    struct st_loop loop;
    struct st_body_budget bodies;
    /* What net_rig_ops do and see */
    unsigned reads, writes, iovs, shutdowns,
        closes;                 /* calls that did something; iovs: pieces of the last write */
    size_t read_max, write_max; /* most bytes of one call; 0: any number */
    bool write_blocked;         /* writes get EAGAIN */
    bool write_sink;            /* writes take everything, nobody gets it */
    int write_errno;            /* writes fail with it; 0: they don't */
};

/* Plain sockets, counted and limited by the rig whose loop the connection is on. */
extern const struct st_conn_ops net_rig_ops;

/* Body memory is 16 MiB. */
void net_rig_open(struct net_rig *rig);

/* Asserts that everything was given back. */
void net_rig_close(struct net_rig *rig);

static inline struct st_net *net_rig_net(struct net_rig *rig)
{
    return st_net_of(&rig->loop);
}

/* One pass that doesn't wait. */
void net_rig_pass(struct net_rig *rig);

/* Passes until one goes by without a call of net_rig_ops. */
void net_rig_run(struct net_rig *rig);

/* As net_rig_run, again until the condition holds: whatever crosses TCP arrives when the kernel
 * gets to it, on a busy machine later than the call that sent it. Asserts that it comes within 30
 * s. */
#define NET_RIG_UNTIL(rig, condition)                      \
    do {                                                   \
        uint64_t rig_end_ = st_clock_mono() + 30 * ST_SEC; \
                                                           \
        net_rig_run(rig);                                  \
        while (!(condition)) {                             \
            ST_ASSERT(st_clock_mono() < rig_end_);         \
            net_rig_nap();                                 \
            net_rig_run(rig);                              \
        }                                                  \
    } while (0)

/* Lets others run for a moment. */
void net_rig_nap(void);

/* The clock goes on, timers run, then net_rig_run. */
void net_rig_advance(struct net_rig *rig, uint64_t ms);

/* The far end of a connection. */
struct net_client {
    int fd;
    char *in; /* what came, a NUL behind it; never NULL */
    size_t len, room;
    bool eof;  /* FIN came */
    int error; /* of the last read but EAGAIN; 0: none */
};

/* A pair of connected unix sockets, or of TCP sockets on 127.0.0.1; returns the server's end. */
int net_client_pair(struct net_client *client);
int net_client_pair_tcp(struct net_client *client);

/* Writes as much as the socket takes; returns how many. */
size_t net_client_write(struct net_client *client, const void *bytes, size_t n);

/* Reads what is there, at most max bytes; returns how many. */
size_t net_client_read(struct net_client *client, size_t max);

/* Closes the socket; reset: the server sees an RST instead of FIN (TCP). */
void net_client_close(struct net_client *client, bool reset);

/* Closes what is open, frees. */
void net_client_free(struct net_client *client);

#endif
