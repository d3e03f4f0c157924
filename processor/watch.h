/* `stator run --watch`: when the handler's code changes, workers are replaced one by one by new
 * ones, which load it; no event is lost. Code that does not start changes nothing. On the main
 * loop. */
#ifndef PROCESSOR_WATCH_H
#define PROCESSOR_WATCH_H

#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_processor;
struct st_watch;

/* Watches the code folder, from now on; *out is NULL where nobody asked for it. An error where the
 * runtime's workers are no processes. After the runtime was loaded. */
int st_watch_open(struct st_watch **out, struct st_processor *p,
                  struct st_error *err) ST_MUST_CHECK;
void st_watch_close(struct st_watch *watch);

/* A worker was ready, or has ended. While the processor serves. */
void st_watch_step(struct st_watch *watch);

#endif
