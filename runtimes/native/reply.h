/* Answers: copies of what a handler says. */
#ifndef RUNTIMES_NATIVE_REPLY_H
#define RUNTIMES_NATIVE_REPLY_H

#include "processor/event.h"
#include "runtimes/native/native_int.h"
#include "runtimes/native/reply_check.h"

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
