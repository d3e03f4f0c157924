/* Listening sockets: TCP on IPv4 and IPv6, one SO_REUSEPORT socket a loop, or one unix socket that
 * all loops share. */
#ifndef PROCESSOR_NET_LISTENER_H
#define PROCESSOR_NET_LISTENER_H

#include <event2/event_struct.h>

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/net/net.h"

struct st_listener;
struct st_peer;

/* A new connection; the callee owns the non-blocking fd. */
typedef void st_accept_fn(struct st_listener *l, int fd, const struct st_peer *peer);

/* Why a listener does not accept; each reason ends by itself. */
enum st_listener_pause {
    ST_PAUSE_OWNER = 1,  /* the owner wants no more for now */
    ST_PAUSE_FULL = 2,   /* it has as many connections as it may */
    ST_PAUSE_STARVED = 4 /* EMFILE: until st_listener_fd_freed, or a try by the timer */
};

struct st_listener {
    struct st_net *net;
    struct event event;
    int fd;
    bool is_unix;
    unsigned paused; /* enum st_listener_pause, or'ed; 0: it accepts */
    struct st_timer retry;
    st_accept_fn *accept;
    void *arg;
};

/* A bound, listening socket for "host:port", ":port", "[::]:port" or "unix:/path". TCP sockets
 * share their port (SO_REUSEPORT) with those of the same process: is_first checks that nobody else
 * has it. With port 0 in `address` the caller reads the port from the first socket. Negative: *err
 * says what and why. */
int st_listen(const char *address, bool is_first, struct st_error *err) ST_MUST_CHECK;

/* Whether st_listen could take such an address, as far as its text tells: 0, or ST_ERR_INVALID with
 * *err filled. */
int st_listen_check(const char *address, struct st_error *err);

/* The port that a socket is bound to; 0 for unix sockets. */
uint16_t st_listen_port(int fd);

/* Accepts on the loop of net; takes over fd. */
void st_listener_open(struct st_listener *l, struct st_net *net, int fd, st_accept_fn *accept,
                      void *arg);

/* Adds a reason not to accept, or takes it away; any number of times. */
void st_listener_pause(struct st_listener *l, enum st_listener_pause why);
void st_listener_resume(struct st_listener *l, enum st_listener_pause why);

/* A descriptor was closed somewhere on this loop: EMFILE is no reason any more. */
void st_listener_fd_freed(struct st_listener *l);

/* Accepts what has arrived until EAGAIN, then closes (drain). */
void st_listener_drain(struct st_listener *l);
void st_listener_close(struct st_listener *l);

#endif
