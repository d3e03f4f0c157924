/* The loop under the limit servers: one thread, epoll, a loopback listener. */
#ifndef BENCH_LIMIT_LOOP_H
#define BENCH_LIMIT_LOOP_H

#include <stdbool.h>
#include <stddef.h>

struct peer {
    int fd;
    void *state;             /* the server's own, set by opened() */
    size_t out_off, out_len; /* bytes the socket did not take yet; reading stops meanwhile */
    char *out;
};

struct limit_server {
    void (*opened)(struct peer *p);
    bool (*readable)(struct peer *p); /* false: close the connection */
    bool (*drained)(struct peer *p);  /* out is empty again; same result */
    void (*closed)(struct peer *p);
};

/* Sends n bytes in one call; keeps what the socket does not take. False: connection broken. */
bool peer_send(struct peer *p, const void *bytes, size_t n);

/* Serves 127.0.0.1 at the port that argv[1] names, until a signal ends the process. */
int limit_main(int argc, char **argv, const struct limit_server *server);

#endif
