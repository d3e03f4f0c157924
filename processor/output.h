/* Outputs: where handlers publish to (`context.emit`), and where dead letters go. The third plug-in
 * interface, beside trigger.h and runtime.h: a kind is one constant struct, named in registry.c.
 *
 * Life: init (main thread) - open (each loop's thread, before triggers open) - sends - close (each
 * loop's thread, after every trigger has drained: what is under way is confirmed or fails by then)
 * - destroy (main thread).
 *
 * An emit of an event is a hold of it (st_event_hold): its answer, and so the acknowledgement of
 * its source, leaves only after the output has confirmed every one of them. A failed emit makes the
 * event fail. */
#ifndef PROCESSOR_OUTPUT_H
#define PROCESSOR_OUTPUT_H

#include "processor/config/option.h"
#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/metrics.h"
#include "processor/net/http_msg.h"

struct st_event;
struct st_loop;
struct st_output;
struct st_processor;

enum { ST_OUTPUT_MAGIC = 0x6f757470 };

/* One message. Bytes are the caller's and are copied during st_output_send. */
struct st_message {
    struct st_slice value;
    struct st_slice key;   /* ptr NULL: none */
    struct st_slice topic; /* empty: the output's own; kinds without topics refuse others */
    const struct st_header *headers;
    size_t header_count;
    bool is_tombstone; /* no value at all, which Kafka tells from an empty one */
};

/* Part of the sender's object; lives until done is called. */
struct st_send {
    /* On the loop that sent, once, in a later pass: 0, the output has confirmed it; or a negative
     * enum st_err, and text (valid during the call) says why. */
    void (*done)(struct st_send *send, int status, const char *text);
    struct st_output *output;
    void *kind; /* the output's own while it is under way */
};

struct st_output_kind {
    const char *name;                /* of `kind` in spec.stator.outputs */
    const struct st_option *options; /* table of the block's other keys */
    size_t options_size;
    size_t obj_size; /* of the kind's struct, which begins with struct st_output */

    /* Main thread; o->name and o->options are set. Checks what the tables can't; connects to
     * nothing. */
    int (*init)(struct st_output *o, struct st_error *err);
    int (*open)(struct st_output *o, struct st_loop *loop, struct st_error *err);

    /* On a loop that opened it: takes the message over and ends in send->done; or a negative code
     * at once: ST_ERR_LIMIT, too much is under way (or the message is too large), ST_ERR_INVALID,
     * ST_ERR_NOMEM; err says it for people. */
    int (*send)(struct st_output *o, struct st_loop *loop, const struct st_message *m,
                struct st_send *send, struct st_error *err);

    void (*close)(struct st_output *o, struct st_loop *loop);
    void (*destroy)(struct st_output *o);
};

struct st_output {
    uint32_t magic;
    const struct st_output_kind *kind;
    const char *name;
    const void *options; /* filled by the kind's table */
    struct st_processor *processor;
    struct {
        st_metric ok, failed; /* stator_emits_total by result */
    } metrics;
};

/* By name; NULL: there is none. Any thread once the processor has started. */
struct st_output *st_output_find(struct st_processor *p, struct st_slice name);

/* Sends, and counts the outcome. On one of the processor's loops. As the kind's send. */
int st_output_send(struct st_output *o, struct st_loop *loop, const struct st_message *m,
                   struct st_send *send, struct st_error *err) ST_MUST_CHECK;

/* For an event: holds it until the message is confirmed. The event's home loop, before it is
 * answered. A negative code: nothing is held, and the caller fails the event or tells its handler.
 */
int st_output_emit(struct st_output *o, struct st_event *ev, const struct st_message *m,
                   struct st_error *err) ST_MUST_CHECK;

#endif
