/* The log of one event: what its handler logs is kept and goes to the client that asked for it
 * (Nuclio's X-Nuclio-Log-Level and X-Nuclio-Logs). Only events that asked have one. */
#ifndef PROCESSOR_EVENT_LOG_H
#define PROCESSOR_EVENT_LOG_H

#include "processor/core/base.h"
#include "processor/core/log.h"

struct st_event;

enum { ST_EVENT_LOG_MAX = 4096 }; /* the array's text is shorter, or it is dropped */

/* From now on records of `level` and above are kept, whatever the levels of the log's sinks are. In
 * the event's arena; home loop, once, before st_dispatch. */
void st_event_log_start(struct st_event *ev, enum st_log_level level);

/* A record of the event's handler; vars may be NULL. Any thread that may use the event; nothing
 * happens when the event has no log (ev->log), or after the close. */
void st_event_log_add(struct st_event *ev, enum st_log_level level, const char *text,
                      const struct st_log_var *vars);

/* The least level that is kept; ev->log is not NULL. Any thread that may use the event. */
enum st_log_level st_event_log_level(const struct st_event *ev);

/* Ends it; returns a JSON array of the records, which lives as long as the event, or nothing (len
 * 0) where that has too many bytes. Again: the same. Home loop; a handler may still run. */
struct st_slice st_event_log_close(struct st_event *ev);

#endif
