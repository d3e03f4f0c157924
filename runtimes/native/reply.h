/* Answers: checks and copies of what a handler says. */
#ifndef RUNTIMES_NATIVE_REPLY_H
#define RUNTIMES_NATIVE_REPLY_H

#include "processor/event.h"
#include "runtimes/native/native_int.h"

/* False: STATOR_INVALID. */
bool st_native_reply_ok(const struct stator_reply *reply);

/* Copies the members that the caller knows; the others are zero. The reply is ok. */
void st_native_reply_read(struct stator_reply *out, const struct stator_reply *reply);

/* Copies a reply that is ok into ev->result, as a good one; on STATOR_NOMEM ev->result is as it
 * was. keep_body: the body's bytes are somebody's who outlives the event. */
int st_native_reply_put(struct st_event *ev, const struct stator_reply *reply, bool keep_body);

/* What a return value of handle() means; STATOR_DEFER and unknown ones are errors. */
enum st_outcome st_native_outcome(int rc);

/* Closes ev->result with an outcome: what was said for another kind of end is dropped. */
void st_native_reply_end(struct st_event *ev, enum st_outcome outcome);

/* Closes ev->result as an error of the handler; text is static. */
void st_native_reply_failed(struct st_event *ev, const char *text);

#endif
