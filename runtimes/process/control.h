/* The control plane to one worker process: length-prefixed messages of worker.proto over a stream
 * socket. Everything runs on the worker's loop. */
#ifndef RUNTIMES_PROCESS_CONTROL_H
#define RUNTIMES_PROCESS_CONTROL_H

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/loop.h"
#include "worker.pb-c.h"

enum {
    ST_CONTROL_MESSAGE_MAX = 1024 * 1024, /* bytes, either way */
    ST_CONTROL_OUT_MAX = 4 * 1024 * 1024, /* bytes that may wait for a worker that does not read */
    ST_CONTROL_FDS_MAX = 8,
    ST_CONTROL_FDS_MESSAGE_MAX = 256 /* bytes of a message with descriptors */
};

struct st_control_handler {
    /* The message is the callee's to read during the call; nothing in it is checked but its form.
     */
    void (*message)(void *user, const Stator__Worker__V1__FromWorker *msg);
    /* The worker broke the protocol. Nothing else comes. */
    void (*broken)(void *user, const char *text);
    /* It closed its end, as a rule because its process ends, which says more. May be repeated. */
    void (*closed)(void *user);
};

struct st_control {
    struct st_loop *loop;
    const struct st_control_handler *handler;
    void *user;
    int fd; /* -1: closed */
    bool writing;
    struct event in_event, out_event;
    char *in, *out; /* grown on demand */
    size_t in_len, in_size, out_len, out_size;
};

/* Makes the socket pair; *far is the worker's end, the caller's to close. Nothing is read before
 * st_control_start. */
int st_control_open(struct st_control *c, struct st_loop *loop,
                    const struct st_control_handler *handler, void *user, int *far,
                    struct st_error *err) ST_MUST_CHECK;

void st_control_start(struct st_control *c);

/* Sends, or queues what the socket does not take. ST_ERR_LIMIT: too much waits; ST_ERR_CLOSED. */
int st_control_send(struct st_control *c, const Stator__Worker__V1__ToWorker *msg) ST_MUST_CHECK;

/* The same with copies of n descriptors (at most ST_CONTROL_FDS_MAX), which stay the caller's; at
 * once, when nothing waits: ST_ERR_LIMIT otherwise. */
int st_control_send_fds(struct st_control *c, const Stator__Worker__V1__ToWorker *msg,
                        const int *fds, size_t n, struct st_error *err) ST_MUST_CHECK;

/* Delivers what has arrived by now. */
void st_control_read(struct st_control *c);

/* May be repeated. */
void st_control_close(struct st_control *c);

#endif
