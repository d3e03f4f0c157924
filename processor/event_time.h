/* The clock of an event: how long it may wait for a worker, when nobody cares any more, how long
 * its handler may take. One timer serves them all, one after the other. */
#ifndef PROCESSOR_EVENT_TIME_H
#define PROCESSOR_EVENT_TIME_H

#include "processor/core/base.h"

struct st_event;

/* As st_event_outlive, for an event that has not begun. */
int st_event_time_submitted(struct st_event *ev) ST_MUST_CHECK;

/* It waits for a worker since ev->queued_ns: arms the timer. Home loop. */
void st_event_time_wait(struct st_event *ev);

#endif
