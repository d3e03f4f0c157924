/* Between processor.c (the state machine) and processor_build.c (what is made and unmade). */
#ifndef PROCESSOR_PROCESSOR_INT_H
#define PROCESSOR_PROCESSOR_INT_H

#include "processor/processor.h"

/* Runs a function on an I/O loop and comes back to the main loop. */
struct st_loop_task {
    struct st_mail mail;
    struct st_processor *p;
    struct st_loop *loop;
    void (*run)(struct st_loop_task *task);  /* on the loop */
    void (*done)(struct st_loop_task *task); /* on the main loop; may be NULL */
    struct st_error error;
    uint64_t linger_ns;
};

/* Makes loops, runtime, pools, triggers and admin; threads run afterwards. On failure what was made
 * is st_processor_dismantle's to undo. */
int st_processor_build(struct st_processor *p, struct st_error *err) ST_MUST_CHECK;

/* Blocks the signals that end the processor and watches them on the main loop. */
int st_processor_watch_signals(struct st_processor *p, struct st_error *err) ST_MUST_CHECK;

/* Ends the process at once with its exit code: some thread can't be ended. */
ST_NORETURN void st_processor_give_up(struct st_processor *p);

/* Ends the threads and frees everything, p too. If a handler still runs that can't be ended, the
 * process exits here. */
void st_processor_dismantle(struct st_processor *p);

#endif
