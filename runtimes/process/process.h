/* The process runtime: one worker is one process. Runtimes of languages build on it: they say which
 * command runs a worker and what goes into its environment; the rest is here. */
#ifndef RUNTIMES_PROCESS_PROCESS_H
#define RUNTIMES_PROCESS_PROCESS_H

#include <stdatomic.h>

#include "processor/runtime.h"
#include "runtimes/process/orphans.h"
#include "runtimes/process/spawn.h"

enum {
    ST_PROCESS_MAX_ARGS = 16,
    ST_PROCESS_START_S = 120, /* from its start until Ready, as Nuclio's */
    ST_PROCESS_GRACE_S = 2,   /* between SIGTERM and SIGKILL */
    ST_PROCESS_STOP_S = 10    /* between Terminate and SIGTERM */
};

/* Begins the struct of a language's runtime. */
struct st_process_runtime {
    struct st_runtime base;
    const char *argv[ST_PROCESS_MAX_ARGS]; /* filled by the language's load; owned by it */
    const char **envp;                     /* made by st_process_load, owned */
    char *attributes;                      /* runtimeAttributes as JSON, for the worker; owned */
    int64_t uid, gid;
    struct st_orphans orphans;
    const char *template_argument; /* more for argv where it is to fork workers; NULL: it can't */
    const char *version_remedy;    /* what to do for workers of another version; NULL: nothing */
    atomic_bool met;               /* a worker has said hello */
    struct st_handler_metrics *metrics; /* of its own; owned */
    struct st_template *template;       /* NULL: workers are started one by one; owned */
};

/* By a language's load, after argv is set. `more` are variables ("NAME=value", NULL-terminated) on
 * top of what all workers get: the usual ones of the processor's environment, NUCLIO_FUNCTION_*,
 * those that spec.stator.workerEnv names, and spec.env. */
int st_process_load(struct st_process_runtime *rt, const char *const *more,
                    struct st_error *err) ST_MUST_CHECK;

/* By a language's unload. */
void st_process_unload(struct st_process_runtime *rt);

/* Members of struct st_runtime_kind. */
bool st_process_is_inline(struct st_runtime *rt);
void st_process_worker_spawn(struct st_worker *w);
void st_process_worker_invoke(struct st_worker *w, struct st_event *ev, uint32_t assignment);
void st_process_worker_invoke_batch(struct st_worker *w, struct st_event *const *events,
                                    const uint32_t *assignments, unsigned n);
void st_process_worker_cancel(struct st_worker *w, struct st_event *ev);
void st_process_worker_restart(struct st_worker *w);
void st_process_worker_stop(struct st_worker *w);
void st_process_code_changed(struct st_runtime *rt);

#endif
