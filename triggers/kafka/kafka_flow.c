/* The way of a message: window, lane, worker, outcome. */
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/dispatch.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "triggers/kafka/kafka_int.h"

/* HELD_MOST: about 500 bytes each; of more, most have left the CPU's caches when they end. */
enum { HELD_MOST = 32768 };

static struct kafka_record *record_of(struct st_lane_entry *e)
{
    return ST_CONTAINER_OF(e, struct kafka_record, lane);
}

/* ---- in ---- */

struct st_event *kafka_event_start(struct kafka_record *r)
{
    struct kafka_trigger *kt = r->partition->kt;
    struct kafka_event *ke = kafka_event_new(r);

    kt->dispatched++;
    r->partition->running++;
    TAILQ_INSERT_TAIL(&kt->running, ke, link);
    return &ke->ev;
}

static void deliver(struct kafka_record *r)
{
    if (st_unlikely(r->dying))
        kafka_send_dead_letter(r);
    else
        st_dispatch(kafka_event_start(r));
}

static struct kafka_partition *partition_of(struct kafka_trigger *kt, const rd_kafka_message_t *m)
{
    if (st_likely(kt->last != NULL && kt->last_topic == m->rkt && kt->last->number == m->partition))
        return kt->last;
    kt->last = kafka_partition_find(kt, rd_kafka_topic_name(m->rkt), m->partition);
    kt->last_topic = m->rkt;
    return kt->last;
}

/* It was done in an earlier assignment, and only its position could not be committed. */
static void pass_over(struct kafka_record *r)
{
    if (st_watermark_done(&r->partition->wm, r->seq, r->epoch))
        kafka_window_moved(r->partition);
    kafka_record_unref(r);
}

static void take(struct kafka_partition *p, const rd_kafka_message_t *m)
{
    struct kafka_trigger *kt = p->kt;
    struct kafka_record *r = kafka_record_new(p, m);
    uint32_t bytes = m->len > KAFKA_BYTES_LEAST ? (uint32_t)m->len : KAFKA_BYTES_LEAST;

    r->seq = st_watermark_take(&p->wm, r->offset);
    r->taken_ns = st_loop_now(kt->loop);
    p->mean_bytes = p->mean_bytes - p->mean_bytes / 4 + bytes / 4;
    if (st_unlikely(st_done_set_has(&p->before, r->offset))) {
        pass_over(r);
        return;
    }
    if (st_likely(kafka_has_room(kt, 1) && kt->batch == NULL && kt->revoked == NULL) &&
        st_lane_try(p->lanes, &r->lane, r->key)) {
        deliver(r);
    } else {
        kafka_record_own(r);
        st_lane_put(p->lanes, &r->lane, r->key);
        kafka_pump_later(kt);
    }
}

void kafka_on_message(rd_kafka_message_t *m, void *opaque)
{
    struct kafka_trigger *kt = opaque;
    struct kafka_partition *p = partition_of(kt, m);

    if (st_unlikely(m->err != RD_KAFKA_RESP_ERR_NO_ERROR || p == NULL || !p->assigned ||
                    !kafka_is_flowing(kt))) {
        return; /* what is not taken is fetched again by whoever has the partition next */
    }
    if (st_unlikely(st_watermark_has_taken(&p->wm, (uint64_t)m->offset))) {
        st_metric_add(kt->loop->metrics, kt->metrics.duplicates, 1);
        return;
    }
    take(p, m);
    if (!st_likely(kafka_queue_goes_on(p)))
        rd_kafka_yield(kt->rk);
}

/* ---- between ---- */

static void arm_retry(struct kafka_trigger *kt, uint64_t now, uint64_t due)
{
    if (due != UINT64_MAX)
        st_loop_timer_arm(kt->loop, &kt->retry_timer, due > now ? due - now : 0);
}

static void pump(struct kafka_trigger *kt)
{
    struct st_lane_entry *e;
    uint64_t now = st_loop_now(kt->loop);

    if (!kafka_is_flowing(kt))
        return;
    if (st_unlikely(kt->lanes.delayed > 0))
        arm_retry(kt, now, st_lane_due(&kt->lanes, now));
    if (kt->batch != NULL)
        kafka_batch_pump(kt);
    while (kt->batch == NULL && kafka_has_room(kt, 1) && (e = st_lane_take(&kt->lanes)) != NULL)
        deliver(record_of(e));
}

static void flush_pump(struct st_flush *f)
{
    struct kafka_trigger *kt = ST_CONTAINER_OF(f, struct kafka_trigger, pump_flush);

    pump(kt);
    if (kt->yielded || (kt->sated && !kafka_is_sated(kt)))
        event_active(&kt->fd_event, EV_READ, 0); /* after the others of the next pass */
    if (!kafka_is_flowing(kt))
        kafka_group_step(kt);
}

void kafka_pump_later(struct kafka_trigger *kt)
{
    kt->pump_flush.fn = flush_pump;
    st_loop_flush_later(kt->loop, &kt->pump_flush);
}

/* ---- out ---- */

void kafka_record_done(struct kafka_record *r)
{
    struct kafka_partition *p = r->partition;

    st_lane_done(&r->lane);
    if (st_watermark_done(&p->wm, r->seq, r->epoch))
        kafka_window_moved(p);
    kafka_record_unref(r);
}

void kafka_say(struct st_log_limit *limit, const struct kafka_record *r, const char *text,
               const char *outcome)
{
    uint64_t suppressed = 0;

    if (limit != NULL && !st_log_limit_pass(limit, &suppressed))
        return;
    ST_LOG(limit != NULL ? ST_LOG_WARN : ST_LOG_ERROR, "processor.kafka", text,
           ST_KV_STR("trigger", r->partition->kt->base.name),
           ST_KV_STR("topic", r->partition->topic), ST_KV_INT("partition", r->partition->number),
           ST_KV_UINT("offset", r->offset), ST_KV_UINT("attempt", r->attempt),
           ST_KV_STR("outcome", outcome),
           ST_KV_STR("reason", r->failure != NULL ? r->failure->reason : ""),
           ST_KV_UINT("suppressed", suppressed));
}

/* Kept, and its key with it, until a person acts: the position does not pass it. */
static void stop_at(struct kafka_record *r, const char *outcome)
{
    char text[200];

    st_lane_halt(&r->lane);
    r->partition->stopped++;
    kafka_say(NULL, r,
              "A message is out of attempts and stops its key; it is tried again when "
              "the processor starts again",
              outcome);
    snprintf(text, sizeof text, "%.100s [%d] stops at offset %llu: %.60s", r->partition->topic,
             r->partition->number, (unsigned long long)r->offset, outcome);
    kafka_trouble(r->partition->kt, KAFKA_TROUBLE_STOPPED, text);
}

void kafka_retry(struct kafka_record *r, uint64_t delay_ns)
{
    struct kafka_trigger *kt = r->partition->kt;
    uint64_t now = st_loop_now(kt->loop);

    kafka_record_own(r);
    st_lane_retry(&r->lane, now + delay_ns);
    arm_retry(kt, now, st_lane_due(&kt->lanes, now));
}

/* ---- outcomes ---- */

static const char *name_of(enum st_outcome outcome)
{
    static const char *const names[] = {
        [ST_OUTCOME_OK] = "ok",
        [ST_OUTCOME_ERROR] = "error",
        [ST_OUTCOME_RETRY] = "retry",
        [ST_OUTCOME_REJECT] = "reject",
        [ST_OUTCOME_DEFER] = "defer",
        [ST_OUTCOME_TIMEOUT] = "timeout",
        [ST_OUTCOME_NO_WORKER] = "no worker",
        [ST_OUTCOME_NO_MEMORY] = "no memory",
        [ST_OUTCOME_CRASH] = "crash",
        [ST_OUTCOME_CANCELLED] = "cancelled",
    };

    return names[outcome];
}

static void keep_reason(struct kafka_record *r, const struct st_result *result)
{
    struct kafka_failure *f = r->failure != NULL ? r->failure : st_calloc(1, sizeof *f);

    f->record = r;
    r->failure = f;
    snprintf(f->reason, sizeof f->reason, "%s%s%.*s", name_of(result->outcome),
             result->body.len > 0 ? ": " : "",
             (int)(result->body.len < 120 ? result->body.len : 120),
             result->body.len > 0 ? result->body.ptr : "");
    for (char *c = f->reason; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20)
            *c = ' ';
}

static void judge(struct kafka_record *r, const struct st_result *result)
{
    struct kafka_trigger *kt = r->partition->kt;
    struct st_decision d = st_retry_decide(&kt->retry, result->outcome, r->attempt,
                                           result->retry_after_ms, &kt->loop->rand);
    const char *outcome = name_of(result->outcome);

    keep_reason(r, result);
    switch (d.verdict) {
    case ST_VERDICT_ACK_FAILED:
        st_metric_add(kt->loop->metrics, kt->metrics.acked_failed, 1);
        kafka_say(&kt->limits.acknowledged, r,
                  "A message failed and is acknowledged: the trigger has no retry block", outcome);
        kafka_record_done(r);
        return;
    case ST_VERDICT_ACK:
        kafka_record_done(r);
        return;
    case ST_VERDICT_RETRY:
        kafka_say(&kt->limits.retried, r, "A message failed and is tried again", outcome);
        st_metric_add(kt->loop->metrics, kt->metrics.retries, 1);
        r->acknowledged = false;
        r->attempt++;
        kafka_retry(r, d.delay_ns);
        return;
    case ST_VERDICT_AGAIN:
        kafka_retry(r, d.delay_ns);
        return;
    case ST_VERDICT_DEAD_LETTER:
        kafka_say(&kt->limits.dead, r, "A message goes to the dead letters", outcome);
        kafka_send_dead_letter(r);
        return;
    case ST_VERDICT_STOP:
        stop_at(r, outcome);
        return;
    }
}

/* The handler says that it will acknowledge later, or the trigger always waits for that. */
static bool waits_for_ack(const struct kafka_trigger *kt, const struct st_result *result)
{
    static const char name[] = "x-nuclio-stream-no-ack";

    if (kt->ack_mode == ST_ACK_EXPLICIT_ONLY)
        return true;
    for (size_t i = 0; i < result->header_count; i++) {
        const struct st_header *h = &result->headers[i];

        if (h->name_len == sizeof name - 1 && strncasecmp(h->name, name, sizeof name - 1) == 0)
            return h->value_len == 4 && strncasecmp(h->value, "true", 4) == 0;
    }
    return false;
}

static void wait_for_ack(struct kafka_record *r)
{
    struct kafka_partition *p = r->partition;
    struct kafka_record *before;

    if (r->acknowledged) {
        kafka_record_done(r);
        return;
    }
    kafka_record_own(r);
    st_lane_detach(&r->lane, false);
    before = TAILQ_LAST(&p->waiting, kafka_record_list);
    while (before != NULL && before->offset > r->offset) /* most end in order, or nearly */
        before = TAILQ_PREV(before, kafka_record_list, held);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&p->waiting, before, r, held);
    else
        TAILQ_INSERT_HEAD(&p->waiting, r, held);
}

/* An attempt has ended. */
static void conclude(struct kafka_record *r, const struct st_result *result, bool wants_ack)
{
    struct kafka_partition *p = r->partition;
    struct kafka_trigger *kt = p->kt;
    bool late = r->epoch != p->wm.epoch; /* the partition is somebody else's */

    p->running--;
    if (st_unlikely(result->outcome != ST_OUTCOME_OK) && !late)
        judge(r, result);
    else if (st_unlikely(wants_ack) && !late)
        wait_for_ack(r);
    else
        kafka_record_done(r);
    if (st_unlikely(kt->lanes.waiting > 0 || kt->batch != NULL || !kafka_is_flowing(kt)))
        kafka_pump_later(kt);
}

void kafka_complete(struct st_event *ev, const struct st_result *result)
{
    struct kafka_event *ke = ST_CONTAINER_OF(ev, struct kafka_event, ev);
    struct kafka_trigger *kt = kafka_of(ev->trigger);

    TAILQ_REMOVE(&kt->running, ke, link);
    kt->dispatched--;
    conclude(ke->record, result,
             st_unlikely(kt->ack_mode != ST_ACK_IMPLICIT) && waits_for_ack(kt, result));
}

/* ---- emits under way ---- */

static void end_held(struct kafka_record *r, const struct st_result *result)
{
    struct kafka_trigger *kt = r->partition->kt;

    TAILQ_REMOVE(&kt->held, r, held);
    r->is_held = false;
    kt->held_count--;
    conclude(r, result, r->wants_ack);
}

static void on_emitted(struct st_keep *keep, int status, const char *text)
{
    struct kafka_record *r = ST_CONTAINER_OF(keep, struct kafka_record, keep);
    struct st_result result = {.outcome = ST_OUTCOME_OK};

    if (st_unlikely(status != ST_OK))
        result = (struct st_result){.outcome = ST_OUTCOME_ERROR, .body = st_slice_of(text)};
    if (st_likely(r->is_held))
        end_held(r, &result);
    kafka_record_unref(r);
}

void kafka_cancel_held(struct kafka_record *r)
{
    const struct st_result result = {.outcome = ST_OUTCOME_CANCELLED};

    end_held(r, &result);
}

/* Its worker, its lane and its event's memory are free while its emits are confirmed; its key
 * waits, so that a failed one is tried again in its place. */
void kafka_held(struct st_event *ev)
{
    struct kafka_event *ke = ST_CONTAINER_OF(ev, struct kafka_event, ev);
    struct kafka_record *r = ke->record;
    struct kafka_trigger *kt = r->partition->kt;

    if (ev->result.outcome != ST_OUTCOME_OK || kt->held_count >= HELD_MOST ||
        r->epoch != r->partition->wm.epoch || r->keep.holds > 0 || !st_outputs_may_keep(ev))
        return;
    TAILQ_REMOVE(&kt->running, ke, link);
    kt->dispatched--;
    TAILQ_INSERT_TAIL(&kt->held, r, held);
    kt->held_count++;
    r->is_held = true;
    r->wants_ack = kt->ack_mode != ST_ACK_IMPLICIT && waits_for_ack(kt, &ev->result);
    r->refs++;
    r->keep.done = on_emitted;
    st_outputs_keep(ev, &r->keep);
    st_lane_detach(&r->lane, true);
    kafka_pump_later(kt);
}

/* ---- explicit acknowledgement ---- */

static void stop_waiting(struct kafka_record *r)
{
    TAILQ_REMOVE(&r->partition->waiting, r, held);
    kafka_record_done(r);
}

static bool is_at(const struct kafka_record *r, const struct kafka_partition *p, uint64_t offset)
{
    return r->partition == p && r->offset == offset && r->epoch == p->wm.epoch;
}

/* The record at offset that a worker has, or whose emits are under way; NULL: neither. Most are
 * acknowledged in the order in which they ended, so that it is among the first. */
static struct kafka_record *find_open(const struct kafka_partition *p, uint64_t offset)
{
    struct kafka_event *ke;
    struct kafka_record *r;

    TAILQ_FOREACH (ke, &p->kt->running, link)
        if (is_at(ke->record, p, offset))
            return ke->record;
    TAILQ_FOREACH (r, &p->kt->held, held)
        if (is_at(r, p, offset))
            return r;
    return NULL;
}

void kafka_acknowledge(struct kafka_partition *p, uint64_t offset)
{
    struct kafka_record *r;
    uint64_t seq;

    /* As Nuclio's mark of an offset: it covers the earlier ones that wait, never those that run;
     * but handlers mostly speak of the very message that they have. */
    while ((r = TAILQ_FIRST(&p->waiting)) != NULL && r->offset <= offset)
        stop_waiting(r);
    kafka_pump_later(p->kt);
    if (p->running == 0 || !st_watermark_find(&p->wm, offset, &seq))
        return;
    r = find_open(p, offset);
    if (r != NULL)
        r->acknowledged = true;
}

/* ---- the end of an assignment ---- */

static void drop_entry(void *arg ST_UNUSED, struct st_lane_entry *e)
{
    kafka_record_unref(record_of(e));
}

void kafka_partition_drop(struct kafka_partition *p)
{
    struct kafka_record *r;

    st_watermark_reset(&p->wm); /* first: what ends from here on moves no position */
    while ((r = TAILQ_FIRST(&p->waiting)) != NULL)
        stop_waiting(r);
    st_lane_shard_drop(p->lanes, drop_entry, NULL);
    if (p->stopped > 0)
        kafka_trouble(p->kt, KAFKA_TROUBLE_STOPPED, "");
    p->stopped = 0;
}
