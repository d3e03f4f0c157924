#include "triggers/kafka/kafka_trigger.h"

#include <stdlib.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "triggers/kafka/kafka_int.h"

enum { RECORDS_KEPT = 4096, EVENTS_KEPT = 512, DISPATCHED_MIN = 256 };

/* Events that workers are given at once: enough to keep them busy, few enough that the rest waits
 * as records, which are small and can be dropped. */
static uint32_t most_dispatched(const struct st_pool *pool)
{
    const struct st_processor *p = pool->processor;
    uint64_t n = 4ull * pool->worker_count * pool->max_concurrency, least;

    if (pool->batch_size != 0)
        n = 2ull * pool->worker_count * pool->batch_size;
    n = n < DISPATCHED_MIN ? DISPATCHED_MIN : n;
    if (n > pool->max_queue / 2)
        n = pool->max_queue / 2;
    for (unsigned i = 0; i < p->output_count; i++) /* one emit each finds room */
        if (p->outputs[i]->most_messages != 0 && n > p->outputs[i]->most_messages / 2)
            n = p->outputs[i]->most_messages / 2;
    /* At least one batch; what the queue has no room for comes back. */
    least = pool->batch_size > 1 ? pool->batch_size : 1;
    return (uint32_t)(n > least ? n : least);
}

static void read_policy(struct kafka_trigger *kt)
{
    const struct st_delivery_config *d = &kt->base.config->delivery;

    kt->ack_mode = d->ack_mode;
    kt->retry = (struct st_retry_policy){
        .enabled = d->retry.given || d->dead_letter.given,
        .relaxed = d->retry.relaxed != 0,
        .has_dead_letter = d->dead_letter.given,
        .on_exhausted = d->retry.on_exhausted,
        .max_attempts = (uint32_t)d->retry.max_attempts,
        .base_ns = d->retry.base_ns,
        .cap_ns = d->retry.cap_ns,
    };
    if (!d->dead_letter.given && d->retry.on_exhausted == ST_EXHAUSTED_DEAD_LETTER)
        kt->retry.on_exhausted = ST_EXHAUSTED_STOP;
}

static int kafka_init(struct st_trigger *t, struct st_error *err)
{
    struct kafka_trigger *kt = kafka_of(t);
    const struct st_delivery_config *d = &t->config->delivery;
    rd_kafka_conf_t *conf;

    kt->fd = -1;
    LIST_INIT(&kt->partitions);
    TAILQ_INIT(&kt->running);
    TAILQ_INIT(&kt->held);
    pthread_mutex_init(&kt->trouble_lock, NULL);
    read_policy(kt);
    kt->is_static = kafka_attributes_of(kt)->allocation == KAFKA_STATIC;
    st_lane_group_init(&kt->lanes, (enum st_ordering)d->ordering, (uint32_t)d->lanes,
                       kt->retry.relaxed);
    st_slab_init(&kt->records, "kafka records", sizeof(struct kafka_record), RECORDS_KEPT);
    st_slab_init(&kt->events, "kafka events", sizeof(struct kafka_event), EVENTS_KEPT);
    kafka_register_metrics(kt);
    conf = kafka_consumer_conf(kt, err); /* what librdkafka itself refuses */
    if (conf == NULL)
        return ST_ERR_INVALID;
    rd_kafka_conf_destroy(conf);
    return kafka_dead_letters_init(kt, err);
}

/* One loop polls; where workers are inline it is one that has a worker. */
static bool is_home(struct kafka_trigger *kt, const struct st_loop *loop)
{
    struct st_processor *p = kt->base.processor;
    unsigned loops = p->loop_count, mine = 0;

    if (kt->base.pool->inline_workers != NULL && kt->base.pool->worker_count < loops)
        loops = kt->base.pool->worker_count;
    while (p->triggers[mine] != &kt->base)
        mine++;
    return loop->index == mine % loops;
}

static int kafka_open(struct st_trigger *t, struct st_loop *loop, struct st_error *err)
{
    struct kafka_trigger *kt = kafka_of(t);

    if (!is_home(kt, loop))
        return ST_OK;
    kt->loop = loop;
    kt->max_dispatched = most_dispatched(t->pool);
    kt->enough = 2 * (kt->max_dispatched > DISPATCHED_MIN ? kt->max_dispatched : DISPATCHED_MIN);
    kt->state = KAFKA_RUNNING;
    kafka_batch_open(kt);
    atomic_store_explicit(&kt->opened, loop, memory_order_release);
    return kafka_consumer_open(kt, err);
}

/* Nothing to do: what is not taken stays at the broker, and windows bound what is. */
static void kafka_pause(struct st_trigger *t ST_UNUSED, struct st_loop *loop ST_UNUSED)
{
}

static void kafka_drain(struct st_trigger *t, struct st_loop *loop, uint64_t linger_ns ST_UNUSED)
{
    struct kafka_trigger *kt = kafka_of(t);

    if (loop != kt->loop || kt->state != KAFKA_RUNNING)
        st_trigger_drained(t, loop);
    else
        kafka_group_drain(kt);
}

static void kafka_close(struct st_trigger *t, struct st_loop *loop)
{
    struct kafka_trigger *kt = kafka_of(t);
    struct kafka_event *ke;
    struct kafka_record *r;

    if (loop != kt->loop)
        return;
    if (kt->state == KAFKA_RUNNING || kt->state == KAFKA_DRAINING) {
        kafka_consumer_close(kt);
        kt->state = KAFKA_LEFT;
    }
    while ((ke = TAILQ_FIRST(&kt->running)) != NULL)
        st_event_cancel(&ke->ev); /* answers it: it leaves the list */
    while ((r = TAILQ_FIRST(&kt->held)) != NULL)
        kafka_cancel_held(r);
}

/* On its way to the trigger's loop. */
struct acknowledgement {
    struct st_mail mail;
    struct kafka_trigger *kt;
    uint64_t offset;
    int32_t number;
    char topic[];
};

static void deliver_acknowledgement(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct acknowledgement *a = ST_CONTAINER_OF(mail, struct acknowledgement, mail);
    struct kafka_partition *p = kafka_partition_find(a->kt, a->topic, a->number);

    if (p != NULL && p->assigned)
        kafka_acknowledge(p, a->offset);
    free(a);
}

static void kafka_acknowledge_at(struct st_trigger *t, const struct st_position *at)
{
    struct kafka_trigger *kt = kafka_of(t);
    struct st_loop *loop = atomic_load_explicit(&kt->opened, memory_order_acquire);
    struct acknowledgement *a;

    if (loop == NULL)
        return; /* nothing was taken, so nothing waits */
    a = st_malloc(sizeof *a + at->topic.len + 1);
    a->kt = kt;
    a->offset = at->hi;
    a->number = at->shard;
    memcpy(a->topic, at->topic.ptr, at->topic.len);
    a->topic[at->topic.len] = '\0';
    st_loop_post(loop, &a->mail, deliver_acknowledgement);
}

static void partition_free(struct kafka_partition *p)
{
    struct kafka_record *r;

    kafka_partition_drop(p);
    while ((r = TAILQ_FIRST(&p->dying)) != NULL) { /* the output has forgotten them */
        TAILQ_REMOVE(&p->dying, r, held);
        kafka_record_done(r);
    }
    st_lane_shard_free(p->lanes);
    st_done_set_free(&p->before);
    st_watermark_free(&p->wm);
    free(p->topic);
    free(p);
}

static void kafka_destroy(struct st_trigger *t)
{
    struct kafka_trigger *kt = kafka_of(t);
    struct kafka_partition *p, *next;

    kafka_group_free(kt);
    if (kt->rk != NULL)
        rd_kafka_destroy_flags(kt->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    if (kt->fd >= 0)
        close(kt->fd);
    if (kt->revoked != NULL)
        rd_kafka_topic_partition_list_destroy(kt->revoked);
    for (p = LIST_FIRST(&kt->partitions); p != NULL; p = next) {
        next = LIST_NEXT(p, link);
        partition_free(p);
    }
    kafka_batch_close(kt);
    st_lane_group_free(&kt->lanes);
    free(kt->own_options);
    free(kt->scratch);
    st_slab_close(&kt->events);
    st_slab_close(&kt->records);
    pthread_mutex_destroy(&kt->trouble_lock);
}

const struct st_trigger_kind st_trigger_kafka_kind = {
    .name = "kafka-cluster",
    .aliases = (const char *const[]){"kafka", NULL},
    .event_class = "async",
    .acknowledges = true,
    .attributes = kafka_attribute_table,
    .attributes_size = sizeof(struct kafka_attributes),
    .annotations = kafka_annotations,
    .annotation_prefix = kafka_annotation_prefix,
    .obj_size = sizeof(struct kafka_trigger),
    .check = kafka_check,
    .init = kafka_init,
    .open = kafka_open,
    .pause = kafka_pause,
    .resume = kafka_pause,
    .complete = kafka_complete,
    .held = kafka_held,
    .detach = kafka_detach,
    .read = kafka_read,
    .release = kafka_release,
    .acknowledge = kafka_acknowledge_at,
    .trouble = kafka_show_trouble,
    .drain = kafka_drain,
    .close = kafka_close,
    .destroy = kafka_destroy,
};
