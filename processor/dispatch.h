/* From trigger to pool: admission and routing of a new event. */
#ifndef PROCESSOR_DISPATCH_H
#define PROCESSOR_DISPATCH_H

struct st_event;

/* Takes over a complete event; its trigger's complete() is called exactly once, possibly before
 * this returns. Home loop. */
void st_dispatch(struct st_event *ev);

#endif
