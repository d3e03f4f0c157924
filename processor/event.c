#include "processor/event.h"

#include <stdlib.h>
#include <string.h>

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/deferred.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/stream.h"
#include "processor/trigger.h"

void st_event_init(struct st_event *ev, struct st_trigger *trigger, struct st_loop *home,
                   void *space, size_t space_size)
{
    st_zero(ev, sizeof *ev);
    ev->magic = ST_EVENT_MAGIC;
    atomic_init(&ev->refs, 1);
    ev->trigger = trigger;
    ev->home = home;
    ev->arrived_ns = st_loop_now(home);
    ev->timestamp_ns = st_loop_wall(home);
    ev->position.shard = -1;
    ev->attempt = 1;
    st_loop_uuid(home, ev->id);
    st_arena_init(&ev->arena, space, space_size);
    STAILQ_INIT(&ev->emits);
}

static void event_release(struct st_event *ev)
{
    struct st_stream *stream = atomic_load_explicit(&ev->stream, memory_order_relaxed);

    ST_ASSERT(ev->answered && !st_timer_armed(&ev->timer) && !ev->in_queue);
    if (st_unlikely(stream != NULL))
        st_stream_free(stream);
    st_buf_drop(&ev->result.body_owner);
    st_buf_drop(&ev->body_owner);
    st_arena_release(&ev->arena);
    ev->magic = 0;
    ev->trigger->kind->release(ev);
}

static void deliver_release(struct st_loop *loop, struct st_mail *mail)
{
    (void)loop;
    event_release(ST_CONTAINER_OF(mail, struct st_event, mail));
}

void st_event_unref(struct st_event *ev)
{
    ST_CHECK(ev, ST_EVENT_MAGIC);
    /* The last holder needs no read-modify-write: nobody else can add a reference. */
    if (atomic_load_explicit(&ev->refs, memory_order_acquire) != 1 &&
        atomic_fetch_sub_explicit(&ev->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (st_likely(st_loop_is_current(ev->home)))
        event_release(ev);
    else
        st_loop_post(ev->home, &ev->mail, deliver_release);
}

int st_event_detach(struct st_event *ev)
{
    int code;

    if ((ev->flags & ST_EVENT_BORROWS) == 0)
        return ST_OK;
    code = ev->trigger->kind->detach(ev);
    if (code == ST_OK)
        ev->flags &= ~(uint32_t)(ST_EVENT_BORROWS | ST_EVENT_UNREAD);
    return code;
}

void st_event_read_unread(struct st_event *ev)
{
    ev->flags &= ~(uint32_t)ST_EVENT_UNREAD;
    ev->trigger->kind->read(ev);
}

void st_uuid_text(const uint8_t id[16], char out[37])
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[id[i] >> 4];
        *p++ = hex[id[i] & 15];
    }
    *p = '\0';
}

struct st_slice st_event_id_text(struct st_event *ev)
{
    char *text = st_arena_alloc(&ev->arena, 37);

    st_uuid_text(ev->id, text);
    return (struct st_slice){text, 36};
}

static bool has_stream(struct st_event *ev)
{
    return atomic_load_explicit(&ev->stream, memory_order_acquire) != NULL;
}

void st_event_hold(struct st_event *ev)
{
    ST_ASSERT(!ev->answered && ev->counted);
    ev->holds++;
    st_event_ref(ev);
}

/* It is answered without its handler: takes it back if that has not begun, which returns true. */
static bool event_leave(struct st_event *ev)
{
    struct st_pool *pool = ev->trigger->pool;
    bool begun;

    if (!ev->pending)
        return false;
    begun = !st_pool_withdraw(pool, ev);
    st_pool_tell_worker(pool, ev);
    if (begun)
        st_pool_watch(pool, ev);
    return !begun;
}

/* Nothing holds the event any more; text is of the first hold that failed. */
static void event_unheld(struct st_event *ev, const char *text)
{
    struct st_result error = {.outcome = ST_OUTCOME_ERROR};

    /* ev->result may still be the worker's. */
    if (ev->hold_error != ST_OK) {
        error.body = st_slice_of(text);
        event_leave(ev);
        st_event_finish(ev, &error);
        return;
    }
    if (has_stream(ev))
        st_stream_settle(ev);
    if (ev->has_result && !ev->answered && !(has_stream(ev) && st_stream_has_in_flight(ev)))
        st_event_finish(ev, &ev->result);
}

void st_event_unhold_as(struct st_event *ev, int status, const char *text)
{
    char *kept = NULL;

    ST_ASSERT(ev->holds > 0);
    ev->holds--;
    if (ev->hold_error == ST_OK && status != ST_OK) {
        ev->hold_error = status;
        if (ev->holds > 0) {
            ev->hold_text = strdup(text);
            ST_ASSERT(ev->hold_text != NULL);
        }
    }
    if (ev->holds == 0) {
        kept = ev->hold_text;
        ev->hold_text = NULL;
        if (!ev->answered)
            event_unheld(ev, kept != NULL ? kept : text);
        free(kept);
    }
    st_event_unref(ev);
}

void st_event_unhold(struct st_event *ev, int status)
{
    st_event_unhold_as(ev, status, st_err_name(status));
}

void st_event_complete(struct st_event *ev)
{
    ST_CHECK(ev, ST_EVENT_MAGIC);
    if (st_unlikely(ev->answered)) {
        st_metric_add(ev->home->metrics, ev->trigger->metrics.late, 1);
        if (ev->watched)
            st_pool_unwatch(ev);
        st_event_unref(ev);
        return;
    }
    ST_ASSERT(!ev->has_result);
    ev->has_result = true;
    /* The home loop's reference keeps it alive. Two references are the caller's and ours, both
     * this thread's: then no read-modify-write is needed. */
    if (st_likely(atomic_load_explicit(&ev->refs, memory_order_acquire) == 2))
        atomic_store_explicit(&ev->refs, 1, memory_order_relaxed);
    else
        st_event_unref(ev);
    if (st_likely(ev->holds == 0) && !(st_unlikely(has_stream(ev)) && st_stream_has_in_flight(ev)))
        st_event_finish(ev, &ev->result);
    else if (ev->holds > 0 && ev->trigger->kind->held != NULL)
        ev->trigger->kind->held(ev);
}

static void deliver_complete(struct st_loop *loop, struct st_mail *mail)
{
    (void)loop;
    st_event_complete(ST_CONTAINER_OF(mail, struct st_event, mail));
}

void st_event_complete_from(struct st_event *ev)
{
    st_event_claim_done(ev);
    st_loop_post(ev->home, &ev->mail, deliver_complete);
}

/* An event that was counted as in flight has ended. */
static void count_end(struct st_trigger *t, struct st_loop *home, uint64_t arrived_ns, bool ok)
{
    struct st_metrics_shard *shard = home->metrics;

    st_metric_add(shard, ok ? t->metrics.ok : t->metrics.failed, 1);
    st_metric_add(shard, t->metrics.in_flight, -1);
    st_metric_observe(shard, t->metrics.duration, st_loop_now(home) - arrived_ns, 1);
}

/* Inline, and more than a pass long: the pass does not know of it. */
static void count_worker(const struct st_event *ev)
{
    const struct st_pool *pool = ev->trigger->pool;
    struct st_metrics_shard *shard = ev->home->metrics;

    if (ev->pending)
        return;
    st_metric_add(shard, pool->metrics.count, 1);
    st_metric_add(shard, pool->metrics.immediate, 1);
    st_metric_add(shard, pool->metrics.available, 100);
}

/* What a finished event adds to the metrics. Inline events are counted once a pass. */
static void event_count(struct st_event *ev, enum st_outcome outcome)
{
    struct st_trigger *t = ev->trigger;

    if (st_likely(!ev->counted)) {
        struct st_trigger_loop *tl = st_trigger_loop_of(t, ev->home);
        if (outcome == ST_OUTCOME_OK)
            tl->inline_ok++;
        else if (ev->worker != NULL)
            tl->inline_failed++;
        else /* never had one, and nobody may flush */
            st_metric_add(ev->home->metrics, t->metrics.failed, 1);
        return;
    }
    count_end(t, ev->home, ev->arrived_ns, outcome == ST_OUTCOME_OK);
    count_worker(ev);
}

void st_event_finish(struct st_event *ev, const struct st_result *result)
{
    struct st_result whole;

    ST_ASSERT(!ev->answered && result->outcome != ST_OUTCOME_DEFER);
    ev->answered = true;
    if (st_unlikely(st_timer_armed(&ev->timer)) && !ev->watched)
        st_loop_timer_cancel(ev->home, &ev->timer);
    /* Without a result a handler may still be about to ask for a token. */
    if (st_unlikely(ev->token != 0 || !ev->has_result))
        st_deferred_close(ev->trigger->processor->deferred, ev);
    if (st_unlikely(result->streamed) && has_stream(ev)) {
        whole = *result;
        if (st_stream_collected(ev, &whole))
            result = &whole;
    }
    event_count(ev, result->outcome);
    ev->trigger->kind->complete(ev, result);
    if (st_unlikely(has_stream(ev)))
        st_stream_close(ev);
    st_event_unref(ev);
}

void st_event_finish_as(struct st_event *ev, enum st_outcome outcome)
{
    struct st_result result = {.outcome = outcome};

    if (outcome == ST_OUTCOME_NO_WORKER)
        st_metric_add(ev->home->metrics, ev->trigger->metrics.no_worker, 1);
    else if (outcome == ST_OUTCOME_NO_MEMORY)
        st_metric_add(ev->home->metrics, ev->trigger->metrics.no_memory, 1);
    st_event_finish(ev, &result);
}

void st_event_cancel(struct st_event *ev)
{
    struct st_trigger *t = ev->trigger;
    bool queued;

    if (ev->answered)
        return;
    queued = event_leave(ev);
    st_metric_add(ev->home->metrics, queued ? t->metrics.gone_queued : t->metrics.gone_running, 1);
    st_event_finish_as(ev, ST_OUTCOME_CANCELLED);
}

/* ---- events that end before their holds do ---- */

bool st_event_may_go(const struct st_event *ev, uint32_t holds)
{
    return ev->holds == holds && ev->has_result && !ev->answered &&
           atomic_load_explicit(&ev->refs, memory_order_acquire) == holds + 1 &&
           atomic_load_explicit(&ev->token, memory_order_relaxed) == 0 &&
           atomic_load_explicit(&ev->stream, memory_order_relaxed) == NULL;
}

void st_event_go(struct st_event *ev, struct st_keep *keep)
{
    keep->trigger = ev->trigger;
    keep->home = ev->home;
    keep->arrived_ns = ev->arrived_ns;
    keep->text = ev->hold_text;
    keep->error = ev->hold_error;
    keep->holds = ev->holds;
    ev->hold_text = NULL;
    ev->holds = 0;
    ev->answered = true;
    if (st_unlikely(st_timer_armed(&ev->timer)))
        st_loop_timer_cancel(ev->home, &ev->timer);
    count_worker(ev);
    atomic_store_explicit(&ev->refs, 1, memory_order_relaxed);
}

void st_keep_unhold(struct st_keep *keep, int status, const char *text)
{
    char *kept;

    ST_ASSERT(keep->holds > 0);
    keep->holds--;
    if (st_unlikely(keep->error == ST_OK && status != ST_OK)) {
        keep->error = status;
        if (keep->holds > 0)
            keep->text = st_strdup(text);
    }
    if (keep->holds > 0)
        return;
    kept = keep->text;
    keep->text = NULL;
    count_end(keep->trigger, keep->home, keep->arrived_ns, keep->error == ST_OK);
    keep->done(keep, keep->error, kept != NULL ? kept : text);
    free(kept);
}
