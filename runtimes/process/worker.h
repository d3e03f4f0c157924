/* One life of a worker process, from its start to its end; the next one is another object. What the
 * files of the process runtime share. */
#ifndef RUNTIMES_PROCESS_WORKER_H
#define RUNTIMES_PROCESS_WORKER_H

#include <sys/queue.h>

#include "processor/core/log.h"
#include "processor/event.h"
#include "processor/worker.h"
#include "runtimes/process/channel.h"
#include "runtimes/process/control.h"
#include "runtimes/process/pipe.h"
#include "runtimes/process/process.h"

/* An event that the worker has. Begun: it runs, as far as we know; the others wait behind those. */
struct st_flight {
    TAILQ_ENTRY(st_flight) link; /* begun, or waiting, oldest first; or unused */
    struct st_event *ev;         /* NULL: unused */
    uint64_t seq;                /* count << 16 | slot */
    uint64_t place;              /* of its record */
    uint32_t assignment;
    bool begun, sent;
    bool owns;      /* begun: its home loop had not taken it back before */
    bool has_ref;   /* of its body */
    bool cancelled; /* CANCEL was sent */
    bool waits;     /* stream: for its client to read */
    bool returns;   /* a CALL waits for its RETURN */
    uint64_t owed;  /* stream: bytes that the worker may send again */
    struct st_wire_ref ref;
};

TAILQ_HEAD(st_flight_list, st_flight);

enum st_process_stage {
    ST_PROCESS_SPAWNING, /* the main thread starts it */
    ST_PROCESS_STARTING, /* it loads its handler */
    ST_PROCESS_RUNNING,
    ST_PROCESS_ENDING,  /* told to exit */
    ST_PROCESS_KILLING, /* SIGTERM was sent, SIGKILL follows */
    ST_PROCESS_GONE
};

struct st_process_worker {
    struct st_worker *w;
    struct st_process_runtime *rt;
    struct st_loop *loop;
    enum st_process_stage stage;
    bool said_hello, was_ready, stopping;
    bool killed;   /* by SIGKILL, and not by us */
    bool hung_up;  /* it closed its control socket */
    bool in_turn;  /* one of record and control message is read because of the other */
    bool retiring; /* takes nothing new, and ends when it has nothing any more */
    enum st_worker_loss loss;
    char reason[256];  /* why it is being ended; "": it ends by itself */
    char failure[900]; /* Failed.text */

    struct st_spawn spawn;
    struct st_spawn_options options;
    struct st_process process;
    struct event exit_event;
    struct st_timer timer; /* start, stop, grace */
    struct st_control control;
    struct st_channel *channel;
    struct st_pipe out, err;
    struct st_garbage garbage;
    unsigned grants;            /* stream credits on their way, and cancel_mail */
    struct st_mail cancel_mail; /* it is not wanted any more: to the template, and back */

    /* Events */
    struct st_flight *slots;
    uint32_t slot_count;
    struct st_flight_list begun, waiting, unused;
    uint32_t begun_count, waiting_count;
    uint32_t unsent;          /* of both lists: there was no room */
    uint32_t concurrency;     /* events that run at once */
    uint32_t max_concurrency; /* what it may have */
    bool can_take_back;       /* records that it has not begun: then some may wait with it */
    uint64_t watched_seq;     /* first of begun when `slow` was armed */
    uint32_t held;            /* events inside, and credits granted and not used */
    uint64_t next_count;      /* for seq */
    uint64_t mean_ns;         /* of recent durations */
    uint64_t handled, max_requests;
    uint64_t memory_checked_ns;
    struct st_timer slow; /* looks after events that wait behind a slow one */
    const struct st_trigger *last_trigger;
    uint16_t last_trigger_index;
};

/* flight.c */
void st_flight_init(struct st_process_worker *pw);
void st_flight_free(struct st_process_worker *pw);

/* The worker is ready for `credits` events at once. */
void st_flight_open(struct st_process_worker *pw, uint32_t credits);

/* Sends an event, or lets it wait for room; it was assigned to the worker. */
void st_flight_add(struct st_process_worker *pw, struct st_event *ev, uint32_t assignment);

/* The same for a batch, whose events it handles together. */
void st_flight_add_batch(struct st_process_worker *pw, struct st_event *const *events,
                         const uint32_t *assignments, unsigned n);

/* Back to the pool: assigned to a worker that does not take it any more. */
void st_flight_refuse(struct st_worker *w, struct st_event *ev, uint32_t assignment);

/* Records of the channel. */
extern const struct st_channel_handler st_flight_handler;

/* Takes what the worker has written so far, as if the loop had seen it just now: nothing else may
 * come that would have the credits granted. */
void st_flight_read(struct st_process_worker *pw);

/* No more credits; what it has not begun goes back to the pool. */
void st_flight_withdraw(struct st_process_worker *pw);

/* The process has ended: what it had begun fails with the text, the rest goes back to the pool.
 * *back are those, for st_flight_return once the worker is lost. */
void st_flight_fail(struct st_process_worker *pw, const char *text, struct st_flight_list *back);
void st_flight_return(struct st_process_worker *pw, struct st_flight_list *back);

/* Tells the worker that nobody waits for the event. */
void st_flight_cancel(struct st_process_worker *pw, struct st_event *ev);

/* The event with this number, or NULL. */
struct st_event *st_flight_event(struct st_process_worker *pw, uint64_t seq);

/* Runs from now on; false: its home loop took it back. */
bool st_flight_claim(struct st_process_worker *pw, struct st_flight *f);

/* Takes the flight off the worker; the event's reference becomes the caller's. */
void st_flight_leave(struct st_process_worker *pw, struct st_flight *f);

/* Ends the caller's reference of an event that left: with its result, if it owns the event. */
void st_flight_complete(struct st_process_worker *pw, struct st_event *ev, bool owns);

/* One more duration for the mean. */
void st_flight_measure(struct st_process_worker *pw, uint64_t duration_ns);

struct st_flight *st_flight_find(struct st_process_worker *pw, uint64_t seq);

/* The same for one that the worker writes of: it has begun, whatever we thought. */
struct st_flight *st_flight_of(struct st_process_worker *pw, uint64_t seq);

/* Sends a record with sections of META and text only; false: no room. */
bool st_flight_send_small(struct st_process_worker *pw, enum st_wire_kind kind, uint8_t flags,
                          uint64_t seq, struct st_slice meta, struct st_slice text);

/* answer.c: records about an event. */
void st_answer_result(struct st_process_worker *pw, const struct st_wire_view *view);
void st_answer_chunk(struct st_process_worker *pw, const struct st_wire_view *view);
void st_answer_call(struct st_process_worker *pw, const struct st_wire_view *view);

/* emit.c: a message for an output. */
void st_answer_emit(struct st_process_worker *pw, const struct st_wire_view *view);

/* There is room again for what could not be sent. */
void st_answer_room(struct st_process_worker *pw);

/* Makes the event's result an error with this text, or the end of its stream a cut. */
void st_answer_set(struct st_event *ev, enum st_outcome outcome, const char *text);

/* process.c */

/* Ends the worker by force; loss and text are what st_worker_lost gets. */
void st_process_kill(struct st_process_worker *pw, enum st_worker_loss loss, const char *text);

/* Ends it when its events are done. */
void st_process_retire(struct st_process_worker *pw, enum st_worker_loss loss, const char *text);

/* It closed its control socket: it is ended if it does not end by itself. */
void st_process_hung_up(struct st_process_worker *pw);

/* It takes events. */
void st_process_ready(struct st_process_worker *pw, uint32_t credits);

/* Nothing is left with a worker that retires. */
void st_process_retired(struct st_process_worker *pw);

/* A stream credit that was on its way is back. */
void st_process_grant_done(struct st_process_worker *pw);

/* message.c: what the worker says on its control socket. */
extern const struct st_control_handler st_process_control_handler;
void st_process_configure(struct st_process_worker *pw, bool first);

/* What Configure says about the function; texts are borrowed. */
void st_process_describe(const struct st_process_runtime *rt, Stator__Worker__V1__Configure *c);

/* A line that it printed. */
void st_process_line(struct st_process_worker *pw, enum st_log_level level, const char *stream,
                     struct st_slice line);

#endif
