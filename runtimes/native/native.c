/* The native runtime's kind, and workers that run on the loops. */
#include "runtimes/native/native.h"

#include <stdio.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/worker.h"
#include "runtimes/native/native_int.h"

static int native_load(struct st_runtime *rt, struct st_error *err)
{
    struct st_native *native = ST_CONTAINER_OF(rt, struct st_native, base);
    char path[PATH_MAX];
    int rc;

    ST_ASSERT(rt->processor->deferred != NULL);
    rc = st_native_find(path, rt->config->handler, rt->code_dir, err);
    if (rc == 0)
        rc = st_native_open(&native->handler, path, err);
    if (rc != 0)
        return rc;
    if ((native->handler.flags & ~(uint32_t)STATOR_NONBLOCKING) != 0)
        ST_LOG(ST_LOG_WARN, "processor.native", "The handler has flags that this version ignores",
               ST_KV_UINT("flags", native->handler.flags));
    st_native_set_deferred(rt->processor->deferred);
    st_native_crash_install(native->handler.file);
    return 0;
}

static bool native_is_inline(struct st_runtime *rt)
{
    return (ST_CONTAINER_OF(rt, struct st_native, base)->handler.flags & STATOR_NONBLOCKING) != 0;
}

static void inline_spawn(struct st_worker *w)
{
    struct st_native_worker *nw = st_calloc(1, sizeof *nw);
    char text[256];
    int rc;

    st_native_worker_init(nw, w);
    rc = st_native_worker_begin(nw);
    if (rc != 0) {
        snprintf(text, sizeof text, "init() of handler %s returned %d", nw->handler->file, rc);
        free(nw);
        st_worker_failed(w, text);
        return;
    }
    w->impl = nw;
    st_worker_ready(w, w->pool->batch_size != 0 ? w->pool->batch_size : 1);
}

static void native_spawn(struct st_worker *w)
{
    if (w->is_inline)
        inline_spawn(w);
    else
        st_native_thread_spawn(w);
}

static void inline_answer(struct st_worker *w, struct st_event *ev, bool final)
{
    if (!final)
        st_event_unref(ev); /* the token has a reference of its own */
    else if (st_likely(ev->home == w->loop))
        st_event_complete(ev);
    else
        st_event_complete_from(ev);
}

static void native_invoke(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    struct st_native_worker *nw = w->impl;

    if (!w->is_inline) {
        st_native_thread_invoke(nw, ev, assignment);
        return;
    }
    inline_answer(w, ev, st_native_run(nw, ev));
}

static void inline_run_together(struct st_worker *w, struct st_event *const *events,
                                const uint32_t *assignments, unsigned n)
{
    struct st_native_batch *b = st_native_batch_new(n);
    uint64_t now = st_clock_mono();

    for (unsigned i = 0; i < n; i++)
        if (!st_native_batch_add(b, events[i], assignments[i], now))
            st_event_unref(events[i]);
    st_native_batch_run(w->impl, b);
    for (size_t i = 0; i < b->count; i++) {
        struct st_event *ev = st_native_from(b->events[i]);

        inline_answer(w, ev, st_native_settle(ev, b->results[i]));
    }
    free(b);
}

static void inline_run_each(struct st_worker *w, struct st_event *const *events,
                            const uint32_t *assignments, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (!st_event_claim_start(events[i], assignments[i])) {
            st_event_unref(events[i]);
            continue;
        }
        atomic_store_explicit(&events[i]->started_ns, st_clock_mono(), memory_order_relaxed);
        inline_answer(w, events[i], st_native_run(w->impl, events[i]));
    }
}

static void native_invoke_batch(struct st_worker *w, struct st_event *const *events,
                                const uint32_t *assignments, unsigned n)
{
    struct st_native_worker *nw = w->impl;
    uint64_t start;

    if (!w->is_inline) {
        st_native_thread_invoke_batch(nw, events, assignments, n);
        return;
    }
    start = st_clock_mono();
    if (nw->batches)
        inline_run_together(w, events, assignments, n);
    else
        inline_run_each(w, events, assignments, n);
    st_worker_batch_done(w, n, st_clock_mono() - start);
}

static void native_abandon(struct st_worker *w)
{
    struct st_native_worker *nw = w->impl;

    ST_ASSERT(!w->is_inline);
    w->impl = NULL;
    st_native_thread_abandon(nw);
}

static void native_stop(struct st_worker *w)
{
    struct st_native_worker *nw = w->impl;

    if (!w->is_inline) {
        st_native_thread_stop(nw);
        return;
    }
    st_native_worker_end(nw);
    nw->ended = true;
    w->impl = NULL;
    if (nw->waiters == 0)
        free(nw);
    st_worker_stopped(w);
}

void st_native_worker_release(struct st_native_worker *nw)
{
    if (--nw->waiters == 0 && nw->ended)
        free(nw);
}

/* The shared object stays mapped: threads of the handler, thread-local destructors and replies that
 * are still being sent may use it, and the process ends now anyway. */
static void native_unload(struct st_runtime *rt)
{
    struct st_native *native = ST_CONTAINER_OF(rt, struct st_native, base);

    st_native_set_deferred(NULL);
    free((char *)native->handler.file);
    memset(&native->handler, 0, sizeof native->handler);
}

static const char *const suffixes[] = {".so", NULL};

const struct st_runtime_kind st_runtime_native_kind = {
    .name = "native",
    .suffixes = suffixes,
    .code_dir_env = "NUCLIO_GOLANG_HANDLER_PLUGIN_PATH", /* Nuclio's runtime of shared objects */
    .default_content_type = "text/plain; charset=utf-8",
    .obj_size = sizeof(struct st_native),
    .load = native_load,
    .is_inline = native_is_inline,
    .spawn = native_spawn,
    .invoke = native_invoke,
    .invoke_batch = native_invoke_batch,
    .abandon = native_abandon,
    .stop = native_stop,
    .unload = native_unload,
};
