/* Events as records, and results out of records. */
#ifndef RUNTIMES_PROCESS_RECORD_H
#define RUNTIMES_PROCESS_RECORD_H

#include "processor/event.h"
#include "runtimes/process/channel.h"

/* What an EVENT record of it takes, in bytes; a multiple of ST_WIRE_ALIGN. ref: its body travels by
 * reference (NULL: in the record). */
size_t st_record_event_size(const struct st_event *ev, const struct st_wire_ref *ref);

/* Writes it; `at` is 16-aligned and has that many bytes. */
void st_record_event_put(char *at, size_t size, const struct st_event *ev, uint64_t seq,
                         uint16_t trigger, const struct st_wire_ref *ref);

/* Fills ev->result (status, outcome, type, headers, body) from a RESULT or the head in a CHUNK with
 * ST_WIRE_HEAD; the worker's owner of the event calls it. Everything is copied into the event's
 * arena, but for a body by reference, which is borrowed, and a large one in the record, which gets
 * a buffer. 0, or ST_ERR_INVALID: the worker's fault, or ST_ERR_NOMEM: no memory, or the budget of
 * bodies is used up; then *why is static text, ev->result is as it was, and the body was returned.
 */
int st_record_result(struct st_channel *ch, const struct st_wire_view *view, struct st_event *ev,
                     const char **why) ST_MUST_CHECK;

#endif
