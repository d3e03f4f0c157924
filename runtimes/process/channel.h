/* The data plane to one worker process: records of wire.h, by shared-memory rings or, for workers
 * without an add-on, by a stream socket. Everything runs on the worker's loop.
 *
 * What the worker wrote is never trusted: a record's header and sections are copied out and checked
 * before the callback sees them, and its META too; bytes of other sections lie in memory that the
 * worker may still change, so they are copied first and checked then (record.h). */
#ifndef RUNTIMES_PROCESS_CHANNEL_H
#define RUNTIMES_PROCESS_CHANNEL_H

#include "processor/core/base.h"
#include "processor/core/buf.h"
#include "processor/core/err.h"
#include "processor/core/loop.h"
#include "runtimes/process/wire.h"

struct st_body_budget;
struct st_channel;

/* A record from the worker, checked; valid during the callback. */
struct st_wire_view {
    uint8_t kind, flags; /* RESULT, CHUNK, CREDIT, EMIT, ACK or CALL */
    uint64_t seq;
    union {
        struct st_wire_result result; /* RESULT; CHUNK with ST_WIRE_HEAD */
        struct st_wire_credit credit; /* CREDIT */
    } meta;
    bool has_ref;
    struct st_wire_ref ref; /* lies inside the pool of its region */
    /* Memory that the worker may change; empty where the record has none. */
    struct st_slice body, headers, content_type, key, topic, name, text;
};

struct st_channel_handler {
    void (*record)(struct st_channel *ch, const struct st_wire_view *view);
    /* All records that there were have been passed on; at most once a pass. */
    void (*idle)(struct st_channel *ch);
    /* The worker broke the protocol: text says how. Nothing else comes from this channel. */
    void (*broken)(struct st_channel *ch, const char *text);
    /* There may be room again after st_channel_reserve said that there was none. */
    void (*room)(struct st_channel *ch);
};

struct st_channel_options {
    struct st_loop *loop;
    const struct st_channel_handler *handler; /* borrowed */
    struct st_body_budget *bodies;            /* what lies in the pools is charged to it */
    size_t ring_bytes;                        /* of each ring; rounded up to a power of two */
    size_t pool_bytes;                        /* of each pool: address space, pages come on use */
};

/* The worker's ends, for its start; -1 after st_channel_close_far. */
struct st_channel_far {
    int data, memory, wake_worker, wake_processor;
};

/* Makes sockets, memory and what wakes. NULL with *err. The caller frees by st_channel_close. */
struct st_channel *st_channel_new(const struct st_channel_options *opt, struct st_error *err);
void st_channel_set_user(struct st_channel *ch, void *user);
void *st_channel_user(const struct st_channel *ch);
const struct st_channel_far *st_channel_far(const struct st_channel *ch);

/* The worker has been started: closes what only it needs. */
void st_channel_close_far(struct st_channel *ch);

/* Which way records go from now on (Hello.shared_memory), once. */
void st_channel_start(struct st_channel *ch, bool shared_memory);

/* Room for one record of `size` bytes (a multiple of ST_WIRE_ALIGN) to the worker; it is written
 * and then committed before anything else is called. NULL: no room now, room() will be called. A
 * size over st_channel_max_record must not be asked for. */
char *st_channel_reserve(struct st_channel *ch, size_t size);

/* The record is there. Wakes the worker at the end of the pass, once. Returns its place. */
uint64_t st_channel_commit(struct st_channel *ch);

size_t st_channel_max_record(const struct st_channel *ch);

/* Copies a body, which is not empty, into the pool to the worker and fills *ref. ST_ERR_AGAIN: the
 * pool is full just now, room() will be called when something was freed; ST_ERR_LIMIT: larger than
 * the pool, or there is no pool (socket); ST_ERR_NOMEM: the budget of bodies is used up;
 * ST_ERR_CLOSED: the channel is broken. Frees with st_channel_free_body, or st_channel_close. */
int st_channel_put_body(struct st_channel *ch, struct st_slice body,
                        struct st_wire_ref *ref) ST_MUST_CHECK;
void st_channel_free_body(struct st_channel *ch, const struct st_wire_ref *ref);

/* A body of the worker's pool as a buffer: not copied; ACK goes out when the last reference is gone
 * (on any thread), if the channel still lives. The memory outlives the channel as long as needed.
 * The bytes may change at any time. ST_ERR_INVALID: not of the worker's pool; ST_ERR_NOMEM: the
 * budget of bodies is used up, and ACK goes out at once. */
int st_channel_borrow_body(struct st_channel *ch, const struct st_wire_ref *ref,
                           struct st_buf *out) ST_MUST_CHECK;

/* ACK for a body of the worker's pool that nobody wants. */
void st_channel_return_body(struct st_channel *ch, const struct st_wire_ref *ref);

/* Of st_channel_options. */
struct st_body_budget *st_channel_bodies(const struct st_channel *ch);

/* True when the worker has begun the record at `place` (of st_channel_commit), or may have. After
 * the worker's death the answer is final. */
bool st_channel_has_begun(const struct st_channel *ch, uint64_t place);

/* Takes back all records that the worker has not begun: those whose place is at or behind *from.
 * False: there were none, or this way can't (socket). */
bool st_channel_take_back(struct st_channel *ch, uint64_t *from);

/* Nothing is called back any more; what the worker wrote before may be read first with
 * st_channel_read. Frees at the end of the pass. */
void st_channel_read(struct st_channel *ch);
void st_channel_close(struct st_channel *ch);

#endif
