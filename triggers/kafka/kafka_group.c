/* Assignments. librdkafka says what the group gives and takes, and goes on only when it is told
 * that this is done; so nothing here blocks: the loop runs on while handlers end and commits
 * travel.
 *
 * Taking away: nothing new is handed out; what runs may end until maxWaitHandlerDuringRebalance;
 * workers that are processes are ended then, threads run on for nobody; what was done is committed;
 * a new epoch makes everything later void; then the group hears of it. When the assignment was lost
 * (the broker gave it away already), nobody waits and nothing is committed. */
#include <stdio.h>
#include <stdlib.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/pool.h"
#include "processor/runtime.h"
#include "triggers/kafka/kafka_int.h"

enum { ASK_MS = 5000 };

/* ---- partitions ---- */

static struct kafka_partition_list *bucket_of(struct kafka_trigger *kt, const char *topic,
                                              int32_t number)
{
    uint64_t hash = st_lane_hash(st_slice_of(topic)) + (uint32_t)number;

    return &kt->table[hash % ST_ARRAY_LEN(kt->table)];
}

struct kafka_partition *kafka_partition_find(struct kafka_trigger *kt, const char *topic,
                                             int32_t number)
{
    struct kafka_partition *p;

    LIST_FOREACH (p, bucket_of(kt, topic, number), bucket)
        if (p->number == number && strcmp(p->topic, topic) == 0)
            return p;
    return NULL;
}

static struct kafka_partition *partition_new(struct kafka_trigger *kt, const char *topic,
                                             int32_t number)
{
    struct kafka_partition *p = st_calloc(1, sizeof *p);

    p->kt = kt;
    p->topic = st_strdup(topic);
    p->topic_len = strlen(topic);
    p->number = number;
    st_watermark_init(&p->wm, (uint32_t)kafka_attributes_of(kt)->window);
    p->lanes = st_lane_shard_new(&kt->lanes);
    LIST_INSERT_HEAD(bucket_of(kt, topic, number), p, bucket);
    TAILQ_INIT(&p->waiting);
    TAILQ_INIT(&p->dying);
    LIST_INSERT_HEAD(&kt->partitions, p, link);
    kafka_register_partition(p);
    return p;
}

static struct kafka_partition *partition_of(struct kafka_trigger *kt,
                                            const rd_kafka_topic_partition_t *tp)
{
    return kafka_partition_find(kt, tp->topic, tp->partition);
}

/* ---- given ---- */

static bool is_cooperative(rd_kafka_t *rk)
{
    const char *protocol = rd_kafka_rebalance_protocol(rk);

    return protocol != NULL && strcmp(protocol, "COOPERATIVE") == 0;
}

/* Tells librdkafka that it may go on. */
static void answer(rd_kafka_t *rk, bool give, const rd_kafka_topic_partition_list_t *list)
{
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_error_t *error = NULL;

    if (is_cooperative(rk) && list != NULL)
        error =
            give ? rd_kafka_incremental_assign(rk, list) : rd_kafka_incremental_unassign(rk, list);
    else
        code = rd_kafka_assign(rk, give ? list : NULL);
    if (error != NULL || code != RD_KAFKA_RESP_ERR_NO_ERROR)
        ST_LOG(ST_LOG_ERROR, "processor.kafka", "An assignment could not be changed",
               ST_KV_STR("error",
                         error != NULL ? rd_kafka_error_string(error) : rd_kafka_err2str(code)));
    if (error != NULL)
        rd_kafka_error_destroy(error);
}

/* Partitions that come: a thread asks the broker for their positions and what is done beyond them,
 * because librdkafka has no call for that which does not block. */
struct kafka_giving {
    struct st_mail mail;
    struct kafka_trigger *kt;
    bool cancelled; /* they went before they came */
    rd_kafka_topic_partition_list_t *list;
    rd_kafka_topic_partition_list_t *instead; /* what the group has given since, or NULL */
    rd_kafka_resp_err_t code;
    pthread_t thread;
};

static void giving_free(struct kafka_giving *g)
{
    if (g->instead != NULL)
        rd_kafka_topic_partition_list_destroy(g->instead);
    rd_kafka_topic_partition_list_destroy(g->list);
    free(g);
}

static void begin_partition(struct kafka_trigger *kt, rd_kafka_topic_partition_t *tp)
{
    struct kafka_partition *p = partition_of(kt, tp);
    struct st_slice text = {tp->metadata, tp->metadata_size};

    if (p == NULL)
        p = partition_new(kt, tp->topic, tp->partition);
    ST_ASSERT(!p->assigned);
    st_watermark_reset(&p->wm);
    st_done_set_free(&p->before);
    if (tp->err == RD_KAFKA_RESP_ERR_NO_ERROR && tp->offset >= 0)
        st_done_set_read(&p->before, (uint64_t)tp->offset, text);
    kafka_queue_open(p);
    p->assigned = true;
    p->sent_ends = p->wm.ends;
}

static void give(struct kafka_trigger *kt, rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++)
        begin_partition(kt, &list->elems[i]);
    kt->last = NULL;
    kafka_trouble(kt, KAFKA_TROUBLE_BROKER, ""); /* the group works */
    answer(kt->rk, true, list);
    ST_LOG(ST_LOG_INFO, "processor.kafka", "Partitions were assigned",
           ST_KV_STR("trigger", kt->base.name), ST_KV_INT("partitions", list->cnt));
}

static void start_giving(struct kafka_trigger *kt, const rd_kafka_topic_partition_list_t *list);

static void deliver_positions(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct kafka_giving *g = ST_CONTAINER_OF(mail, struct kafka_giving, mail);
    struct kafka_trigger *kt = g->kt;

    pthread_join(g->thread, NULL);
    kt->giving = NULL;
    if (g->cancelled || kt->state != KAFKA_RUNNING) {
        answer(kt->rk, false, NULL);
    } else if (g->instead != NULL) {
        start_giving(kt, g->instead);
    } else {
        if (g->code != RD_KAFKA_RESP_ERR_NO_ERROR)
            ST_LOG(ST_LOG_WARN, "processor.kafka",
                   "The group's positions could not be asked for; messages may be repeated",
                   ST_KV_STR("trigger", kt->base.name),
                   ST_KV_STR("error", rd_kafka_err2str(g->code)));
        give(kt, g->list);
        kafka_poll(kt);
    }
    giving_free(g);
    kafka_pump_later(kt); /* a drain may wait for this */
}

static void *ask_positions(void *arg)
{
    struct kafka_giving *g = arg;

    g->code = rd_kafka_committed(g->kt->rk, g->list, ASK_MS);
    st_loop_post(g->kt->loop, &g->mail, deliver_positions);
    return NULL;
}

static void start_giving(struct kafka_trigger *kt, const rd_kafka_topic_partition_list_t *list)
{
    struct kafka_giving *g = st_calloc(1, sizeof *g);

    ST_ASSERT(kt->giving == NULL);
    g->kt = kt;
    g->list = rd_kafka_topic_partition_list_copy(list);
    kt->giving = g;
    if (pthread_create(&g->thread, NULL, ask_positions, g) == 0)
        return;
    kt->giving = NULL;
    give(kt, g->list);
    giving_free(g);
}

/* The thread that asks for others comes back first. */
static void give_instead(struct kafka_giving *g, const rd_kafka_topic_partition_list_t *list)
{
    if (g->instead != NULL)
        rd_kafka_topic_partition_list_destroy(g->instead);
    g->instead = rd_kafka_topic_partition_list_copy(list);
    g->cancelled = false;
}

/* ---- taken away ---- */

/* Nothing runs any more: explicit acknowledgements have a little time of their own. */
static bool waits_for_acks(struct kafka_trigger *kt)
{
    uint64_t now = st_loop_now(kt->loop), wait = kt->base.config->delivery.ack_wait_ns;

    if (kt->quiet_ns == 0) {
        kt->quiet_ns = now;
        st_loop_timer_arm(kt->loop, &kt->retry_timer, wait); /* looks again */
    }
    return now < kt->quiet_ns + wait;
}

bool kafka_stays(const struct kafka_trigger *kt, const struct kafka_partition *p)
{
    return kt->revoked != NULL &&
           rd_kafka_topic_partition_list_find(kt->revoked, p->topic, p->number) == NULL;
}

/* Workers are done with the partitions that go, and dead letters are out. */
static bool is_quiet(struct kafka_trigger *kt)
{
    struct kafka_partition *p;
    bool acks = false;

    LIST_FOREACH (p, &kt->partitions, link) {
        if (!p->assigned)
            continue;
        if (kafka_stays(kt, p))
            continue;
        if (p->running > 0 || !TAILQ_EMPTY(&p->dying))
            return false;
        acks = acks || !TAILQ_EMPTY(&p->waiting);
    }
    return !acks || !waits_for_acks(kt);
}

static struct kafka_event *first_going(const struct kafka_trigger *kt)
{
    struct kafka_event *ke;

    TAILQ_FOREACH (ke, &kt->running, link)
        if (!kafka_stays(kt, ke->record->partition))
            break;
    return ke;
}

/* Where workers can be ended from outside they are: a handler of a partition that is somebody
 * else's must not go on. */
static void end_late(struct kafka_trigger *kt)
{
    struct st_pool *pool = kt->base.pool;
    struct kafka_event *ke;
    struct kafka_record *r, *next;

    for (r = TAILQ_FIRST(&kt->held); r != NULL; r = next) {
        next = TAILQ_NEXT(r, held);
        if (!kafka_stays(kt, r->partition))
            kafka_cancel_held(r);
    }
    while ((ke = first_going(kt)) != NULL) {
        struct st_event *ev = &ke->ev;
        struct st_worker *w;
        bool runs =
            atomic_load_explicit(&ev->started_ns, memory_order_relaxed) != 0 && !ev->has_result;

        pthread_mutex_lock(&pool->lock);
        w = ev->worker;
        pthread_mutex_unlock(&pool->lock);
        st_event_ref(ev);
        st_event_cancel(ev); /* leaves the list */
        if (w != NULL && runs && pool->runtime->kind->restart != NULL)
            st_pool_worker_stuck(pool, w);
        st_event_unref(ev);
    }
}

static void start_drain(struct kafka_trigger *kt)
{
    kt->expired = kt->lost = false;
    kt->quiet_ns = 0;
    st_loop_timer_arm(kt->loop, &kt->drain_timer, kafka_attributes_of(kt)->drain_ns);
}

/* They are somebody else's now. The caller frees the list. */
static rd_kafka_topic_partition_list_t *drop_revoked(struct kafka_trigger *kt)
{
    rd_kafka_topic_partition_list_t *list = kt->revoked;
    uint64_t took = st_loop_now(kt->loop) - kt->revoke_began_ns;

    for (int i = 0; i < list->cnt; i++) {
        struct kafka_partition *p = partition_of(kt, &list->elems[i]);

        if (p == NULL || !p->assigned)
            continue;
        kafka_partition_drop(p);
        p->assigned = false;
        kafka_publish(p);
    }
    kt->revoked = NULL;
    kt->last = NULL;
    st_loop_timer_cancel(kt->loop, &kt->drain_timer);
    st_metric_add(kt->loop->metrics, kt->metrics.rebalances, 1);
    st_metric_observe(kt->loop->metrics, kt->metrics.rebalance_seconds, took, 1);
    ST_LOG(ST_LOG_INFO, "processor.kafka", "Partitions were taken away",
           ST_KV_STR("trigger", kt->base.name), ST_KV_INT("partitions", list->cnt),
           ST_KV_BOOL("lost", kt->lost), ST_KV_UINT("milliseconds", took / ST_MSEC));
    if (kt->state == KAFKA_DRAINING) /* what stays is drained from now on */
        start_drain(kt);
    return list;
}

static void finish_revoke(struct kafka_trigger *kt)
{
    rd_kafka_topic_partition_list_t *list = drop_revoked(kt);

    answer(kt->rk, false, list);
    rd_kafka_topic_partition_list_destroy(list);
    kafka_poll(kt);
}

/* When topics change while librdkafka waits for an answer, it joins the group again without one,
 * and gives anew. What was being taken away, or had just been given, is lost then. */
static void forget_assigned(struct kafka_trigger *kt)
{
    struct kafka_partition *p;

    if (kt->revoked == NULL) {
        kt->revoked = rd_kafka_topic_partition_list_new(8);
        kt->revoke_began_ns = st_loop_now(kt->loop);
        LIST_FOREACH (p, &kt->partitions, link)
            if (p->assigned)
                rd_kafka_topic_partition_list_add(kt->revoked, p->topic, p->number);
    }
    kt->lost = true;
    kt->commit_under_way = false;
    kafka_batch_drop(kt);
    end_late(kt);
    rd_kafka_topic_partition_list_destroy(drop_revoked(kt));
}

static bool has_assigned(const struct kafka_trigger *kt)
{
    const struct kafka_partition *p;

    LIST_FOREACH (p, &kt->partitions, link)
        if (p->assigned)
            return true;
    return false;
}

void kafka_group_forget(struct kafka_trigger *kt)
{
    if (has_assigned(kt))
        forget_assigned(kt);
}

static void revoke(struct kafka_trigger *kt, const rd_kafka_topic_partition_list_t *list)
{
    ST_ASSERT(kt->revoked == NULL);
    kt->revoked = rd_kafka_topic_partition_list_copy(list);
    kt->lost = rd_kafka_assignment_lost(kt->rk) != 0;
    kt->expired = false;
    kt->quiet_ns = 0;
    kt->revoke_began_ns = st_loop_now(kt->loop);
    st_loop_timer_arm(kt->loop, &kt->drain_timer, kafka_attributes_of(kt)->drain_ns);
    kafka_batch_drop(kt);
    if (kt->lost)
        end_late(kt);
    kafka_pump_later(kt); /* not within librdkafka's callback */
}

/* The second time around the commit had its chance, too. */
void kafka_group_expire(struct st_timer *t)
{
    struct kafka_trigger *kt = ST_CONTAINER_OF(t, struct kafka_trigger, drain_timer);

    if (kt->expired) {
        kt->commit_under_way = false;
        kt->lost = true;
    } else {
        ST_LOG(ST_LOG_WARN, "processor.kafka",
               "Handlers took longer than maxWaitHandlerDuringRebalance; their messages will be "
               "delivered again",
               ST_KV_STR("trigger", kt->base.name), ST_KV_UINT("running", kt->dispatched));
        kt->expired = true;
        end_late(kt);
        st_loop_timer_arm(kt->loop, &kt->drain_timer, ST_SEC);
    }
    kafka_group_step(kt);
}

static void on_assign(struct kafka_trigger *kt, const rd_kafka_topic_partition_list_t *list)
{
    if (!is_cooperative(kt->rk))
        kafka_group_forget(kt);
    if (kt->giving != NULL)
        give_instead(kt->giving, list);
    else if (kt->state == KAFKA_RUNNING)
        start_giving(kt, list);
    else
        answer(kt->rk, false, NULL);
}

void kafka_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                        rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct kafka_trigger *kt = opaque;

    if (kt->state >= KAFKA_LEAVING) {
        answer(rk, false, NULL);
    } else if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        on_assign(kt, list);
    } else if (code == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS && kt->giving != NULL) {
        kt->giving->cancelled = true;
    } else if (code == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
        revoke(kt, list);
    } else {
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.kafka", "The group could not be joined",
                       ST_KV_STR("trigger", kt->base.name),
                       ST_KV_STR("error", rd_kafka_err2str(code)));
        answer(rk, false, NULL);
    }
}

/* ---- the end ---- */

void kafka_group_free(struct kafka_trigger *kt)
{
    if (kt->state == KAFKA_LEAVING)
        pthread_join(kt->leaver, NULL);
    kafka_member_free(kt);
    if (kt->giving == NULL)
        return;
    pthread_join(kt->giving->thread, NULL);
    giving_free(kt->giving);
    kt->giving = NULL;
}

static void deliver_left(struct st_loop *loop, struct st_mail *mail)
{
    struct kafka_trigger *kt = ST_CONTAINER_OF(mail, struct kafka_trigger, left_mail);

    pthread_join(kt->leaver, NULL);
    kt->state = KAFKA_LEFT;
    st_trigger_drained(&kt->base, loop);
}

/* Saying good-bye blocks until the broker has heard of it. */
static void *leave(void *arg)
{
    struct kafka_trigger *kt = arg;

    kafka_member_leave(kt);
    rd_kafka_consumer_close(kt->rk);
    st_loop_post(kt->loop, &kt->left_mail, deliver_left);
    return NULL;
}

static void start_leaving(struct kafka_trigger *kt)
{
    struct kafka_partition *p;

    st_loop_timer_cancel(kt->loop, &kt->drain_timer);
    LIST_FOREACH (p, &kt->partitions, link) {
        if (!p->assigned)
            continue;
        kafka_partition_drop(p);
        p->assigned = false;
        kafka_publish(p);
    }
    kafka_consumer_close(kt);
    kt->state = KAFKA_LEAVING;
    if (kt->rk == NULL || pthread_create(&kt->leaver, NULL, leave, kt) != 0) {
        kt->state = KAFKA_LEFT;
        st_trigger_drained(&kt->base, kt->loop);
    }
}

void kafka_group_step(struct kafka_trigger *kt)
{
    bool wait;

    if (kt->state >= KAFKA_LEAVING || kafka_is_flowing(kt) || kt->giving != NULL)
        return;
    wait =
        !kt->lost && ((!kt->expired && !is_quiet(kt)) || kt->commit_under_way || kafka_commit(kt));
    if (wait)
        return;
    if (kt->revoked != NULL)
        finish_revoke(kt);
    else
        start_leaving(kt);
}

void kafka_group_drain(struct kafka_trigger *kt)
{
    kt->state = KAFKA_DRAINING;
    kafka_batch_drop(kt);
    if (kt->revoked == NULL)
        start_drain(kt);
    kafka_pump_later(kt);
}
