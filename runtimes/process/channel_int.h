/* What the files of the channel share. */
#ifndef RUNTIMES_PROCESS_CHANNEL_INT_H
#define RUNTIMES_PROCESS_CHANNEL_INT_H

#include <pthread.h>

#include "runtimes/process/channel.h"
#include "runtimes/process/extent.h"
#include "runtimes/process/ring.h"

enum {
    ST_CHANNEL_MAX_TAKE = 1024,    /* records taken before others have their turn */
    ST_CHANNEL_IO_SIZE = 64 * 1024 /* socket: bytes of a read, and of output that waits */
};

/* A body of the worker's pool, or its way back: the ACK that is to be written. */
struct st_channel_ack {
    STAILQ_ENTRY(st_channel_ack) link;
    struct st_region region; /* of a borrowed body */
    struct st_channel_memory *memory;
    struct st_wire_ref ref;
};

STAILQ_HEAD(st_channel_acks, st_channel_ack);

/* The mapping. The channel, every borrowed body and a mail under way hold a reference. */
struct st_channel_memory {
    atomic_uint refs;
    char *base;
    size_t size;
    uint64_t pool_bytes;
    char *pool[2];
    struct st_body_budget *bodies;
    pthread_mutex_t lock;
    struct st_channel *ch;       /* NULL: it is closed; under lock */
    struct st_channel_acks acks; /* bodies whose last reference is gone; under lock */
    bool told;                   /* the channel will look at them; under lock */
    struct st_mail mail;
};

/* Bytes of the socket: [at, len) of a region that is charged to the budget. */
struct st_channel_bytes {
    struct st_region *region; /* NULL: none is needed now */
    size_t at, len;
};

enum st_channel_way { ST_CHANNEL_UNDECIDED, ST_CHANNEL_MEMORY, ST_CHANNEL_SOCKET };

struct st_channel {
    struct st_loop *loop;
    const struct st_channel_handler *handler;
    struct st_body_budget *bodies;
    void *user;
    struct st_channel_far far;
    enum st_channel_way way;
    size_t pool_bytes, max_record;
    const char *broken; /* NULL: it works */
    bool broken_told, closed;
    bool wants_room; /* reserve has failed */
    bool wants_pool; /* put_body has failed */
    bool room_due;   /* room() is to be called */
    bool wake_due;   /* records were committed */
    bool acks_due;   /* the memory's list has some */
    struct st_flush flush;
    struct st_garbage garbage;
    struct event event; /* our eventfd, or the socket */
    struct event again; /* more to do after others had their turn */

    /* Memory */
    struct st_channel_memory *memory;
    int wake_worker;    /* pipe, our end: no flag that the worker sets is ours too */
    int wake_processor; /* eventfd, which is one for both; never read */
    struct st_ring down, up;
    struct st_extents extents;   /* of the pool to the worker */
    uint64_t pool_used;          /* bytes in it, charged */
    struct st_channel_acks acks; /* to be written */

    /* Socket */
    int sock, far_sock;       /* the far end is kept to see what the worker has not read */
    struct event write_event; /* armed while output waits */
    struct st_timer starved;  /* there was no body memory: try again */
    uint64_t sent;            /* bytes */
    size_t missing;           /* bytes of a record that has begun to come */
    size_t writing;           /* of the record that was reserved */
    struct st_channel_bytes in, out;
};

/* channel.c */

/* The worker broke the rules; text is static. */
void st_channel_break(struct st_channel *ch, const char *text);

/* Passes on one record of which `record` is a copy; false: stop, it is broken or closed. */
bool st_channel_pass_on(struct st_channel *ch, const struct st_wire_record *record, const char *at);

/* channel_memory.c */
int st_channel_memory_open(struct st_channel *ch, const struct st_channel_options *opt,
                           struct st_error *err) ST_MUST_CHECK;
void st_channel_memory_start(struct st_channel *ch);
void st_channel_memory_read(struct st_channel *ch);
char *st_channel_memory_reserve(struct st_channel *ch, uint32_t size);
void st_channel_memory_flush(struct st_channel *ch);
void st_channel_memory_stop(struct st_channel *ch); /* no callback after it */
void st_channel_memory_close(struct st_channel *ch);

/* channel_socket.c */
int st_channel_socket_open(struct st_channel *ch, struct st_error *err) ST_MUST_CHECK;
void st_channel_socket_start(struct st_channel *ch);
void st_channel_socket_read(struct st_channel *ch);
char *st_channel_socket_reserve(struct st_channel *ch, size_t size);
uint64_t st_channel_socket_commit(struct st_channel *ch);
bool st_channel_socket_has_begun(const struct st_channel *ch, uint64_t place);
void st_channel_socket_flush(struct st_channel *ch);
void st_channel_socket_stop(struct st_channel *ch);
void st_channel_socket_close(struct st_channel *ch);

#endif
