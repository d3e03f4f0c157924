/* Processes that workers left behind. As the first process of a container we inherit them all, and
 * must collect those that have ended; anywhere else some other process does, unless the workers
 * come from a template, which are orphans too at first (template.h). */
#ifndef RUNTIMES_PROCESS_ORPHANS_H
#define RUNTIMES_PROCESS_ORPHANS_H

#include "processor/core/err.h"
#include "processor/core/loop.h"

struct st_orphans {
    struct st_loop *loop;
    struct st_timer timer;
    bool looks;
};

/* From now on looks now and then, if this is process 1. On the main thread, as all of it. */
void st_orphans_watch(struct st_orphans *o, struct st_loop *main_loop);

/* Makes this process inherit them wherever it runs, and looks now and then; after st_orphans_watch.
 * May be repeated. */
int st_orphans_adopt(struct st_orphans *o, struct st_error *err) ST_MUST_CHECK;
void st_orphans_leave(struct st_orphans *o);

/* Collects children that have ended and are no workers; returns how many. A worker leads its own
 * session, and its owner wants to know how it ended: those are left alone. */
unsigned st_orphans_collect(void);

#endif
