/* The plug-in interface of triggers: sources of events.
 *
 * A kind is one constant struct, named in registry.c and nowhere else. Life of a trigger: init
 * (main thread, once) - open (each loop's thread, once; HTTP listens here) - events - pause/resume
 * (backpressure, the only verbs) - drain - close (each loop's thread) - destroy (main thread). */
#ifndef PROCESSOR_TRIGGER_H
#define PROCESSOR_TRIGGER_H

#include "processor/config/option.h"
#include "processor/core/base.h"
#include "processor/core/buf.h"
#include "processor/core/err.h"
#include "processor/core/loop.h"
#include "processor/core/metrics.h"

struct st_event;
struct st_pool;
struct st_position;
struct st_processor;
struct st_result;
struct st_trigger;
struct st_trigger_config;

enum { ST_TRIGGER_MEMBER_MAX = 128 };

/* An annotation of the function (metadata.annotations) that sets an option of each trigger of the
 * kind. */
struct st_annotation {
    const char *name;   /* NULL ends a table */
    const char *option; /* "attributes.sasl.user", "explicitAckMode"; NULL: accepted in silence */
    bool wins;          /* over the trigger's own option; otherwise that one does */
};

struct st_trigger_kind {
    const char *name;           /* as events report it: "http", "cron", "kafka-cluster" */
    const char *const *aliases; /* other values of `kind`, NULL-terminated; may be NULL */
    const char *event_class;    /* Nuclio's class: "sync" or "async" */
    bool acknowledges; /* its source keeps messages until they are acknowledged: it delivers them
                        * again, in order, as struct st_delivery_config says */
    const struct st_option *attributes; /* table of `attributes`, fills attributes_size bytes */
    size_t attributes_size;
    const struct st_annotation *annotations; /* or NULL */
    const char *annotation_prefix; /* of them all: who writes another one is warned; or NULL */
    size_t obj_size;               /* of the kind's struct, which begins with struct st_trigger */

    /* Main thread, while configuration is read: what the tables can't say of url and attributes,
     * and `stator check` should tell. On a fault err has what is wrong, and member where: "url",
     * "attributes.event.headers", "attributes.cors.allowOrigins[1]". May be NULL. */
    int (*check)(const struct st_trigger_config *config, char member[ST_TRIGGER_MEMBER_MAX],
                 struct st_error *err);

    /* Main thread; t->config and t->pool are set. Checks what the tables can't. */
    int (*init)(struct st_trigger *t, struct st_error *err);

    /* On each loop before readiness; a failure ends the start. May be NULL. */
    int (*open)(struct st_trigger *t, struct st_loop *loop, struct st_error *err);

    /* Each loop: stop producing events / go on. May be called twice in a row. */
    void (*pause)(struct st_trigger *t, struct st_loop *loop);
    void (*resume)(struct st_trigger *t, struct st_loop *loop);

    /* Home loop, exactly once an event: write the reply or acknowledge. result is valid during
     * the call. */
    void (*complete)(struct st_event *ev, const struct st_result *result);

    /* Home loop: the handler is done with it, its result is in ev->result, and only holds delay
     * complete(). What needs nothing of the event any more may let go of it (st_outputs_keep). May
     * be NULL. */
    void (*held)(struct st_event *ev);

    /* Home loop: copy borrowed bytes into memory of the event (st_event_detach), and what is unread
     * with them. 0 or ST_ERR_NOMEM when body memory is used up. NULL: never borrows. */
    int (*detach)(struct st_event *ev);

    /* Home loop: make headers and content_type of an event that is ST_EVENT_UNREAD, which it is no
     * more. NULL: none ever is. */
    void (*read)(struct st_event *ev);

    /* Home loop: the last reference is gone, the memory is the trigger's again. */
    void (*release)(struct st_event *ev);

    /* Any loop: a handler acknowledges the message at this position, and all earlier ones of its
     * shard that wait for that (explicitAckMode); a position that is not waited for is ignored. The
     * topic is borrowed. NULL: the source knows no such thing. */
    void (*acknowledge)(struct st_trigger *t, const struct st_position *at);

    /* Streamed answers; all three or none. Home loop. Head: status, type and headers of result;
     * body bytes in result->body belong to the stream too. write() takes over the buffer's
     * reference and calls st_stream_sent as bytes leave. The end is complete() with
     * result->streamed. */
    void (*stream_head)(struct st_event *ev, const struct st_result *head);
    void (*stream_write)(struct st_event *ev, struct st_buf bytes);

    /* Any thread: why the source can't be used as it should, one line of at most n - 1 bytes;
     * false: all is well. Nothing of it counts for readiness. May be NULL. */
    bool (*trouble)(struct st_trigger *t, char *out, size_t n);

    /* Each loop: readiness is gone; for linger_ns go on accepting (HTTP replies carry Connection:
     * close), then take what has already arrived, finish it, and call st_trigger_drained once. */
    void (*drain)(struct st_trigger *t, struct st_loop *loop, uint64_t linger_ns);

    /* Each loop: let go of everything; events still out are cancelled first. */
    void (*close)(struct st_trigger *t, struct st_loop *loop);

    /* Main thread, after all loops closed it. */
    void (*destroy)(struct st_trigger *t);
};

/* What dispatch counts on one loop for one trigger; flushed once a pass. */
struct st_trigger_loop {
    struct st_flush flush;
    struct st_trigger *trigger;
    struct st_loop *loop;
    uint64_t inline_started_ns; /* clock of the pass in which inline events ran */
    uint32_t inline_ok, inline_failed;
};

struct st_trigger {
    uint32_t magic;
    const struct st_trigger_kind *kind;
    const struct st_trigger_config *config;
    const void *attributes; /* filled by the kind's table */
    const char *name;
    struct st_processor *processor;
    struct st_pool *pool;
    struct st_trigger_loop *loops; /* one a loop, by index */
    struct {
        st_metric ok, failed; /* nuclio handled_events_total by result */
        st_metric in_flight, duration, late, gone_queued, gone_running;
        st_metric no_worker, no_memory; /* rejected, by reason */
    } metrics;
};

enum { ST_TRIGGER_MAGIC = 0x74726967 };

static inline struct st_trigger_loop *st_trigger_loop_of(struct st_trigger *t, struct st_loop *loop)
{
    return &t->loops[loop->index];
}

/* The series of stator_rejected_total for requests that the trigger refuses itself. Main thread, in
 * init. */
st_metric st_trigger_rejected_metric(struct st_trigger *t, const char *reason);

/* The trigger's work on this loop is done (see drain). On the loop. */
void st_trigger_drained(struct st_trigger *t, struct st_loop *loop);

#endif
