#include "processor/dispatch.h"

#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/event.h"
#include "processor/pool.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

/* End of a pass in which events ran inline: one clock read serves them all. Their duration is that
 * of the pass up to here, which is what the client waited for. */
static void flush_inline(struct st_flush *f)
{
    struct st_trigger_loop *tl = ST_CONTAINER_OF(f, struct st_trigger_loop, flush);
    struct st_trigger *t = tl->trigger;
    struct st_metrics_shard *shard = tl->loop->metrics;
    struct st_worker *w = t->pool->inline_workers[tl->loop->index];
    uint64_t ns = st_clock_mono() - tl->inline_started_ns;
    int64_t n = (int64_t)tl->inline_ok + tl->inline_failed;

    st_metric_add(shard, t->metrics.ok, tl->inline_ok);
    st_metric_add(shard, t->metrics.failed, tl->inline_failed);
    st_metric_observe(shard, t->metrics.duration, ns, n);
    st_metric_add(shard, t->pool->metrics.count, n);
    st_metric_add(shard, t->pool->metrics.immediate, n);
    st_metric_add(shard, t->pool->metrics.available, 100 * n);
    if (st_likely(w != NULL)) { /* not stopped in this pass */
        st_metric_add(shard, w->metrics.duration_sum, (int64_t)(ns / 1000));
        st_metric_add(shard, w->metrics.duration_count, n);
    }
    tl->inline_ok = tl->inline_failed = 0;
    if (st_unlikely(t->pool->event_timeout_ns != 0 && ns > t->pool->event_timeout_ns))
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.dispatch",
                       "A NONBLOCKING handler held its loop longer than eventTimeout; no 408 can "
                       "be given: make it faster, or leave the flag out to run it on a thread",
                       ST_KV_STR("trigger", t->name), ST_KV_UINT("milliseconds", ns / ST_MSEC));
}

static void run_inline(struct st_worker *w, struct st_event *ev)
{
    struct st_trigger_loop *tl = st_trigger_loop_of(ev->trigger, ev->home);

    if (!tl->flush.queued) {
        tl->flush.fn = flush_inline;
        tl->inline_started_ns = st_loop_now(ev->home);
        st_loop_flush_later(ev->home, &tl->flush);
    }
    st_pool_run_inline(w, ev);
}

void st_dispatch(struct st_event *ev)
{
    struct st_pool *pool = ev->trigger->pool;
    struct st_worker *w;

    if (st_unlikely(ev->deadline_ns != 0 && ev->deadline_ns <= st_loop_now(ev->home))) {
        st_event_finish_as(ev, ST_OUTCOME_TIMEOUT);
        return;
    }
    w = pool->inline_workers != NULL ? pool->inline_workers[ev->home->index] : NULL;
    if (st_likely(w != NULL))
        run_inline(w, ev);
    else
        st_pool_submit(pool, ev);
}
