/* A streamed answer: pieces of a body on their way from a handler to the trigger.
 *
 * The handler's side may be another thread: pieces travel by mailbox to the home loop, and the
 * bytes that the trigger has not sent yet are counted, so that the writer can wait at the
 * high-water mark until the low-water mark. The head starts only when nothing holds the event. A
 * trigger without streaming (no stream_* in its kind) gets the pieces collected into one body, up
 * to a limit. */
#ifndef PROCESSOR_STREAM_H
#define PROCESSOR_STREAM_H

#include "processor/event.h"

enum { ST_STREAM_HIGH = 256 * 1024, ST_STREAM_LOW = 64 * 1024 };

struct st_stream;

/* Starts the stream with ev->result's status, type and headers. Worker's thread (or home loop).
 * 0, ST_ERR_CLOSED when the event was answered (another thread learns it from a later write),
 * ST_ERR_INVALID when it streams already. */
int st_stream_open(struct st_event *ev) ST_MUST_CHECK;

/* Takes a copy of the bytes. 0; ST_ERR_AGAIN: taken, but over the high-water mark;
 * ST_ERR_CLOSED: the event was answered or the client left; ST_ERR_NOMEM. */
int st_stream_write(struct st_event *ev, struct st_slice bytes) ST_MUST_CHECK;

/* Blocks until below the low-water mark; 0, ST_ERR_CLOSED or ST_ERR_TIMEOUT (after wait_ns). Not on
 * a loop thread. */
int st_stream_wait(struct st_event *ev, uint64_t wait_ns) ST_MUST_CHECK;

/* fn(ev, arg) runs once on the home loop when the stream is below the low-water mark or closed: at
 * once when it is already. Replaces an earlier fn, which will not run; returns its arg, or NULL.
 * Home loop. */
void *st_stream_on_writable(struct st_event *ev, void (*fn)(struct st_event *ev, void *arg),
                            void *arg);

/* Home loop, by the trigger: n bytes have left (or were dropped). */
void st_stream_sent(struct st_event *ev, size_t n);

/* Home loop, by st_event_finish and by triggers whose client left: writers get ST_ERR_CLOSED. */
void st_stream_close(struct st_event *ev);

/* Home loop, when the last hold is gone: passes on what waited. */
void st_stream_settle(struct st_event *ev);

/* Pieces are still on their way to the home loop: the result must wait for them. */
bool st_stream_has_in_flight(struct st_event *ev);

/* For triggers that can't stream: true, and the end of the stream in *result becomes the whole
 * answer, valid while the event lives, or an error when that is over the limit. */
bool st_stream_collected(struct st_event *ev, struct st_result *result);

/* Frees; by the last st_event_unref. */
void st_stream_free(struct st_stream *s);

#endif
