/* What the files of the native runtime share. */
#ifndef RUNTIMES_NATIVE_NATIVE_INT_H
#define RUNTIMES_NATIVE_NATIVE_INT_H

#include <pthread.h>
#include <signal.h>
#include <stator/handler.h>

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/deferred.h"
#include "processor/event.h"
#include "processor/runtime.h"
#include "runtimes/native/load.h"

struct st_worker;

struct st_native {
    struct st_runtime base;
    struct st_native_handler handler;
};

/* What an inline worker and a worker thread have in common. */
struct st_native_worker {
    int (*handle)(const struct stator_host_v1 *, void *, stator_event *);
    void *user;
    struct st_worker *w;
    const struct st_native_handler *handler;
    struct st_loop *loop; /* w->loop */
    unsigned index;       /* w->index */
    const char *pool_name;
    uint64_t timeout_ns; /* eventTimeout; 0: none */
    bool on_thread;      /* may block */
    bool ended;          /* inline: fini() was called */
    unsigned waiters;    /* inline: callbacks of on_writable() on their way */
    struct stator_worker_v1 info;
    stack_t stack, old_stack; /* for the crash report */
    bool batches;             /* the pool makes batches, and the handler takes them */
};

/* What this thread is doing, for host functions and the crash report. */
struct st_native_context {
    struct st_event *ev;
    struct st_native_worker *worker;
};

extern _Thread_local struct st_native_context st_native_context;

/* Events of the call of handle_batch() that this thread is in, whose first one is in the context;
 * 0: it is in none. */
extern _Thread_local size_t st_native_batch_count;

/* host.c */
extern const struct stator_host_v1 st_native_host;

/* Names the table of tokens for resolve(), which has no other way to it; NULL: none any more. Waits
 * for those who use it. */
void st_native_set_deferred(struct st_deferred_table *table);

/* Keeps loops and events alive for a call from a thread that nobody joins. False: the processor is
 * ending, touch nothing. Every enter that returned true is followed by a leave. */
bool st_native_enter(void);
void st_native_leave(void);

static inline stator_event *st_native_event(struct st_event *ev)
{
    return (stator_event *)ev;
}

static inline struct st_event *st_native_from(stator_event *event)
{
    struct st_event *ev = (struct st_event *)event;

    ST_CHECK(ev, ST_EVENT_MAGIC);
    return ev;
}

/* reply.c */
int st_native_reply(stator_event *ev, const struct stator_reply *reply);
int st_native_reply_text(stator_event *ev, int status, const char *text);
void st_native_fail(stator_event *ev, int status, const char *text);
void st_native_retry_after(stator_event *ev, uint32_t ms);
void st_native_reject(stator_event *ev, const char *reason);

/* stream.c */
int st_native_stream_open(stator_event *ev, const struct stator_reply *head);
int st_native_write(stator_event *ev, const void *bytes, size_t len);
int st_native_on_writable(stator_event *ev, void (*fn)(stator_event *ev, void *arg), void *arg);

/* emit.c */
int st_native_emit(stator_event *ev, const char *output, const struct stator_message *message);

/* deferred.c: the event goes on after the call that runs it; on a loop it may still lie in its
 * trigger's buffers. False: no memory for a copy. */
bool st_native_outlive(struct st_event *ev);
stator_token st_native_defer(stator_event *ev);
int st_native_resolve(stator_token token, int result, const struct stator_reply *reply);
extern struct st_deferred_table *st_native_tokens;

/* What follows from handle()'s return value, for cases that st_native_settle leaves over. True: the
 * result is final; false: the event was deferred, somebody else completes it. */
bool st_native_settle_slow(struct st_event *ev, int rc);

/* Turns handle()'s return value and what it said before into ev->result, see above. */
static inline bool st_native_settle(struct st_event *ev, int rc)
{
    if (st_likely(rc == STATOR_OK && ev->result.outcome == ST_OUTCOME_OK &&
                  atomic_load_explicit(&ev->token, memory_order_relaxed) == 0))
        return true;
    return st_native_settle_slow(ev, rc);
}

/* Runs the handler; as st_native_settle. */
static inline bool st_native_run(struct st_native_worker *nw, struct st_event *ev)
{
    struct st_native_context *context = &st_native_context, outer = *context;
    int rc;

    context->ev = ev;
    context->worker = nw;
    rc = nw->handle(&st_native_host, nw->user, st_native_event(ev));
    *context = outer;
    return st_native_settle(ev, rc);
}

/* batch.c: a call of handle_batch(). */
struct st_native_batch {
    size_t count;
    int *results;
    stator_event *events[];
};

/* With room for n events; aborts when memory is out. The caller frees it. */
struct st_native_batch *st_native_batch_new(size_t n);

/* Claims the event for the call. False: somebody took it back, drop the reference. */
bool st_native_batch_add(struct st_native_batch *b, struct st_event *ev, uint32_t assignment,
                         uint64_t now_ns);

/* Calls the handler, unless nothing was added. The events are to be settled by b->results. */
void st_native_batch_run(struct st_native_worker *nw, struct st_native_batch *b);

/* worker.c: fills the common part; calls init(), fini(). */
void st_native_worker_init(struct st_native_worker *nw, struct st_worker *w);
int st_native_worker_begin(struct st_native_worker *nw);
void st_native_worker_end(struct st_native_worker *nw);

/* native.c: frees an inline worker that has ended when its last callback is over. */
void st_native_worker_release(struct st_native_worker *nw);

/* thread.c: a worker on a thread of its own; see st_runtime_kind. */
void st_native_thread_spawn(struct st_worker *w);
void st_native_thread_invoke(struct st_native_worker *nw, struct st_event *ev, uint32_t assignment);
void st_native_thread_invoke_batch(struct st_native_worker *nw, struct st_event *const *events,
                                   const uint32_t *assignments, unsigned n);
void st_native_thread_abandon(struct st_native_worker *nw);
void st_native_thread_stop(struct st_native_worker *nw);

/* crash.c: reports of fatal signals. Installs once; the previous actions run afterwards. */
void st_native_crash_install(const char *handler_file);

/* Gives the calling thread a signal stack, unless it has one; and takes it away again. */
void st_native_crash_stack(struct st_native_worker *nw);
void st_native_crash_stack_end(struct st_native_worker *nw);

#endif
