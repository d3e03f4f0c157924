/* The template of a function's workers: a process that has imported the handler, and forks a worker
 * whenever one has to start (docs/wire.md, ADR 16). It is started when the first worker wants to,
 * started again when it was lost and a worker wants to, and done without, after a warning, where it
 * can't fork. Everything runs on the main loop, but st_template_spawn. */
#ifndef RUNTIMES_PROCESS_TEMPLATE_H
#define RUNTIMES_PROCESS_TEMPLATE_H

#include "runtimes/process/spawn.h"

struct st_process_runtime;

/* Starts nothing yet. The runtime outlives it; its argv, envp and template_argument are set. */
struct st_template *st_template_new(struct st_process_runtime *rt);

/* Ends its process, and waits for that. NULL: nothing. No request is under way. */
void st_template_free(struct st_template *t);

/* As st_spawn_start, on any thread: spawn->template forks the process. It has started when its
 * parent is this process, it runs on the CPUs of the options, and it may be configured; its other
 * options are the template's. The error is that of the template where the handler can't be
 * imported. */
void st_template_spawn(struct st_spawn *spawn);

/* Gives a request back at once, with an error, if it waits for the template; otherwise nothing. */
void st_template_cancel(struct st_spawn *spawn);

#endif
