/* Outputs: where handlers publish to (`context.emit`), and where dead letters go. The third plug-in
 * interface, beside trigger.h and runtime.h: a kind is one constant struct, named in registry.c.
 *
 * Life: init (main thread) - open (each loop's thread, before triggers open) - sends - close (each
 * loop's thread, after every trigger has drained: what events wait for is confirmed or has failed
 * by then, or the time for draining is over) - destroy (main thread).
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
struct st_keep;
struct st_loop;
struct st_output;
struct st_output_config;
struct st_processor;

enum { ST_OUTPUT_MAGIC = 0x6f757470 };

/* Bounds of what events emit; a dead letter may have more headers. */
enum {
    ST_MESSAGE_HEADERS = 256,
    ST_MESSAGE_HEADER_BYTES = 64 * 1024,
    ST_MESSAGE_KEY_BYTES = 64 * 1024
};

/* One message. Bytes are the caller's and are copied during st_output_send. */
struct st_message {
    struct st_slice value;
    struct st_slice key;   /* ptr NULL: none */
    struct st_slice topic; /* empty: the output's own; kinds without topics refuse others */
    const struct st_header *headers;
    size_t header_count;
    bool is_tombstone; /* no value at all, which Kafka tells from an empty one */
};

/* Part of the sender's object; lives until done is called, or its loop has closed the output. */
struct st_send {
    /* On the loop that sent, once, in a later pass: 0, the output has confirmed it; or a negative
     * enum st_err, and text (valid during the call) says why. Never after the loop has closed the
     * output, which triggers do earlier in the same pass: what is under way then is given up. */
    void (*done)(struct st_send *send, int status, const char *text);
    struct st_output *output;
    void *kind; /* the output's own while it is under way */
};

struct st_output_kind {
    const char *name;                /* of `kind` in spec.stator.outputs */
    const struct st_option *options; /* table of the block's other keys */
    size_t options_size;
    size_t obj_size; /* of the kind's struct, which begins with struct st_output */

    /* Main thread, while configuration is read: what the tables can't say, and `stator check`
     * should tell. On a fault err has what is wrong, *member where ("sasl.user"; static text). May
     * be NULL. */
    int (*check)(const void *options, const char **member, struct st_error *err);

    /* Main thread; o->name and o->options are set. Checks what the tables can't; connects to
     * nothing. */
    int (*init)(struct st_output *o, struct st_error *err);
    int (*open)(struct st_output *o, struct st_loop *loop, struct st_error *err);

    /* On a loop that opened it: takes the message over and ends in st_send_done; or a negative code
     * at once: ST_ERR_LIMIT, too much is under way (or the message is too large), ST_ERR_INVALID,
     * ST_ERR_NOMEM; err says it for people. */
    int (*send)(struct st_output *o, struct st_loop *loop, const struct st_message *m,
                struct st_send *send, struct st_error *err);

    /* Any thread, while the processor serves: why it can't be used as it should, one line of at
     * most n - 1 bytes; false: all is well. Nothing of it counts for readiness. May be NULL. */
    bool (*trouble)(struct st_output *o, char *out, size_t n);

    /* Forgets what this loop has sent. */
    void (*close)(struct st_output *o, struct st_loop *loop);
    /* Main thread, after all loops closed it, or without that when the start failed. */
    void (*destroy)(struct st_output *o);
};

struct st_output {
    uint32_t magic;
    const struct st_output_kind *kind;
    const char *name;
    const void *options; /* filled by the kind's table */
    void *owned;         /* freed with it */
    struct st_processor *processor;
    struct st_output_loop *loops; /* one a loop, by index; processor/output.c only */
    _Atomic uint64_t copied;      /* bytes that travel to the loops of their events */
    /* What it takes at most, from all loops together; the kind's init sets them. 0: no bound. */
    uint64_t most_messages, most_bytes;
    struct {
        st_metric ok, failed; /* stator_emits_total by result */
    } metrics;
};

/* Makes one for each configured output, into p->outputs, and unmakes them. Main thread. */
int st_outputs_make(struct st_processor *p, struct st_error *err) ST_MUST_CHECK;
void st_outputs_free(struct st_processor *p);

/* One more, that configuration does not name: of a trigger, for its dead letters. Main thread, in a
 * trigger's init. `owned` is freed with the output: it may hold the name and the options. NULL with
 * *err. */
struct st_output *st_output_add(struct st_processor *p, const struct st_output_config *config,
                                void *owned, struct st_error *err);

/* All of them, on the loop. */
int st_outputs_open(struct st_processor *p, struct st_loop *loop,
                    struct st_error *err) ST_MUST_CHECK;
void st_outputs_close(struct st_processor *p, struct st_loop *loop);

/* One of them has half of what it takes in messages of events: whoever can wait with more emits
 * does, so that none is refused. Any loop. */
bool st_outputs_are_busy(const struct st_processor *p);

/* By name; NULL: there is none. Any thread once the processor has started. */
struct st_output *st_output_find(struct st_processor *p, struct st_slice name);

/* Sends, and counts the outcome. On one of the processor's loops. As the kind's send. */
int st_output_send(struct st_output *o, struct st_loop *loop, const struct st_message *m,
                   struct st_send *send, struct st_error *err) ST_MUST_CHECK;

/* For a trigger's held(): nothing but emits holds the event, and it can be let go of. */
bool st_outputs_may_keep(const struct st_event *ev);

/* Lets go of such an event: kind->release() gets it before this returns, complete() never. When the
 * outputs have confirmed its emits, or one has failed, keep->done() is called, which the caller has
 * set; until then the keep stays where it is. */
void st_outputs_keep(struct st_event *ev, struct st_keep *keep);

/* How a kind ends a send; on the loop that sent. */
void st_send_done(struct st_send *send, struct st_loop *loop, int status, const char *text);

/* For an event, of its handler: holds it until the message is confirmed. From the home loop, or
 * from any thread while the handler runs: then the message is copied and travels before the result
 * that the same thread sends later. A negative code: nothing is held, and the caller fails the
 * event or tells its handler; what goes wrong on the way fails the event. ST_ERR_CLOSED: the event
 * was answered already; ST_ERR_LIMIT also when too much is on its way. */
int st_output_emit(struct st_output *o, struct st_event *ev, const struct st_message *m,
                   struct st_error *err) ST_MUST_CHECK;

/* The same for those who can tell no handler: what can't be sent fails the event. */
void st_output_publish(struct st_output *o, struct st_event *ev, const struct st_message *m);

/* Fails an event because of a message that can't even be published; from where st_output_emit may
 * be called. */
void st_output_fail(struct st_event *ev, enum st_err status, const char *fmt, ...) ST_PRINTF(3, 4);

#endif
