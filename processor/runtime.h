/* The plug-in interface of runtimes: how a handler is run.
 *
 * One runtime object a processor (one function), many workers. Life: load (once, main thread:
 * find the handler, refuse what can't run) - spawn a worker, bound to its slot - ready - invoke ...
 * - drain - stop - free. Availability is credits: a worker takes events only against credits that
 * the runtime granted with st_worker_credit, and a finished event frees nothing by itself. */
#ifndef PROCESSOR_RUNTIME_H
#define PROCESSOR_RUNTIME_H

#include "processor/config/option.h"
#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_event;
struct st_function_config;
struct st_loop;
struct st_processor;
struct st_runtime;
struct st_worker;

struct st_runtime_kind {
    const char *name;            /* spec.runtime, the part before ":" */
    const char *const *aliases;  /* NULL-terminated; may be NULL */
    const char *const *suffixes; /* of files it runs without configuration: ".so" */
    const char *comment;      /* begins a line comment in such files: "#"; NULL: they are no text */
    const char *code_dir_env; /* Nuclio's variable that names the code folder, or a file in it; used
                               * where no argument says it; may be NULL */
    const char *default_content_type;   /* of replies that name none */
    const struct st_option *attributes; /* table of runtimeAttributes, or NULL */
    size_t attributes_size;
    size_t obj_size; /* of the kind's struct, which begins with struct st_runtime */
    bool isolates;   /* its workers are processes */
    bool preforks;   /* it takes notice of spec.stator.prefork */

    /* Main thread, before any worker: rt->config and rt->code_dir are set. */
    int (*load)(struct st_runtime *rt, struct st_error *err);

    /* True when the handler never blocks: its workers run on the loops, without threads. After
     * load. */
    bool (*is_inline)(struct st_runtime *rt);

    /* On w->loop's thread: start the worker on w->slot. Ends in st_worker_ready(w) or
     * st_worker_failed(w, text) later or during the call, on w->loop. */
    void (*spawn)(struct st_worker *w);

    /* On w->loop's thread: run the event, which takes one credit and one reference of it.
     * Ends in st_event_complete or st_event_complete_from, or never (stuck). `assignment` is what
     * ev->claim must hold for the worker to start it (st_event_claim_start). */
    void (*invoke)(struct st_worker *w, struct st_event *ev, uint32_t assignment);

    /* The same for n events of one batch, together, in the order of their arrival; w has nothing
     * else. Where the pool makes batches invoke is not called, and a worker that is inline takes
     * them against credits too: as many as a full batch has (st_worker_batch_done). NULL: the
     * runtime knows no batches. */
    void (*invoke_batch)(struct st_worker *w, struct st_event *const *events,
                         const uint32_t *assignments, unsigned n);

    /* On w->loop's thread: the event was answered without you (timeout, client gone) while w had
     * it, begun or not; on another loop that may just be going on. A hint, from a mail of its own:
     * the event may be over or back in the pool by now, so look whether w still has it. It is valid
     * during the call and still ends as any other. Not called once w was abandoned or has nothing
     * running, nor for inline or deferred events. A timeout that gives up on w calls abandon or
     * restart too, right after it. May be NULL. */
    void (*cancel)(struct st_worker *w, struct st_event *ev);

    /* On w->loop's thread: this worker is stuck; give up on it without waiting for it, and give
     * back the events that it has not started, by st_pool_resubmit. NULL where restart is there. */
    void (*abandon)(struct st_worker *w);

    /* On w->loop's thread: one of its events runs past eventTimeout. End it by force and give back
     * what it has; ends in st_worker_lost, which starts it again. NULL: workers can't be ended from
     * outside (threads); they are abandoned and replaced. */
    void (*restart)(struct st_worker *w);

    /* On w->loop's thread, no event is running on it: end it (fini). Ends in st_worker_stopped(w),
     * during the call or later. */
    void (*stop)(struct st_worker *w);

    /* Main thread: the handler's code is another one. Workers that start from now on must have it;
     * those that run are the caller's to replace. NULL: nothing is kept of it between starts. */
    void (*code_changed)(struct st_runtime *rt);

    /* Main thread, after the last worker stopped (stuck ones excepted). */
    void (*unload)(struct st_runtime *rt);
};

struct st_runtime {
    uint32_t magic;
    const struct st_runtime_kind *kind;
    struct st_processor *processor;
    const struct st_function_config *config;
    const char *code_dir;   /* where handlers are looked for */
    const void *attributes; /* filled by the kind's table */
};

enum { ST_RUNTIME_MAGIC = 0x72756e74 };

#endif
