/* Who the trigger is in its group: a static member (KIP-345) of a name that no other process ever
 * has, unless the user has named it.
 *
 * A broker that was away for longer than a session still knows its members when it comes back, and
 * waits for each to expire before it gives partitions away. librdkafka forgets its member id by
 * then and comes back as somebody else; a static member is known by its name, and at once gets what
 * it had.
 *
 * A static member can be fenced: the broker has heard of the same name once more. librdkafka takes
 * that for fatal. With a name of our own it was ourselves, by a request that a bad network brought
 * late; another consumer with another name goes on then. */
#include <stdio.h>
#include <string.h>

#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "triggers/kafka/kafka_int.h"

#define LEAVE_NS (2 * ST_SEC)
#define RENEW_NS ST_SEC
#define LOOK_AGAIN_NS (100 * ST_MSEC)

void kafka_member_choose_id(struct kafka_trigger *kt)
{
    const struct kafka_attributes *a = kafka_attributes_of(kt);
    const struct st_string_map *more = &a->client.librdkafka;

    if (a->instance_id[0] != '\0')
        return;
    for (size_t i = 0; i < more->count; i++)
        if (strcmp(more->items[i].name, "group.instance.id") == 0)
            return;
    snprintf(kt->own_id, sizeof kt->own_id, "stator-%016llx%016llx",
             (unsigned long long)st_rand_next(&kt->loop->rand),
             (unsigned long long)st_rand_next(&kt->loop->rand));
}

/* Static members stay when they are closed, for a restart. Nobody can follow this one: it takes
 * back its subscription, and has no member id any more once the broker was told. */
void kafka_member_leave(struct kafka_trigger *kt)
{
    uint64_t end = st_clock_mono() + LEAVE_NS;
    bool is_member = true;

    if (kt->own_id[0] == '\0' || rd_kafka_unsubscribe(kt->rk) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    while (is_member && st_clock_mono() < end) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(kt->rk, 10);
        char *id = rd_kafka_memberid(kt->rk);

        is_member = id != NULL && id[0] != '\0';
        if (id != NULL)
            rd_kafka_mem_free(kt->rk, id);
        if (m != NULL)
            rd_kafka_message_destroy(m);
    }
}

/* ---- after a fatal error ---- */

/* Blocks until librdkafka's threads have ended. */
static void *retire(void *rk)
{
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    return NULL;
}

void kafka_member_failed(struct kafka_trigger *kt)
{
    if (kt->own_id[0] != '\0' && kt->state == KAFKA_RUNNING && !st_timer_armed(&kt->renewal))
        st_loop_timer_arm(kt->loop, &kt->renewal,
                          RENEW_NS / 2 + st_rand_below(&kt->loop->rand, RENEW_NS));
}

void kafka_member_free(struct kafka_trigger *kt)
{
    if (kt->is_retiring)
        pthread_join(kt->retirer, NULL);
    kt->is_retiring = false;
}

void kafka_member_renew(struct st_timer *t)
{
    struct kafka_trigger *kt = ST_CONTAINER_OF(t, struct kafka_trigger, renewal);
    struct st_error err;

    if (kt->state != KAFKA_RUNNING)
        return;
    if (kt->revoked != NULL || kt->giving != NULL) { /* they still ask the old one */
        st_loop_timer_arm(kt->loop, &kt->renewal, LOOK_AGAIN_NS);
        return;
    }
    kafka_group_forget(kt);
    kafka_consumer_close(kt);
    kafka_member_free(kt); /* the one before: it is long over */
    kt->is_retiring = kt->rk != NULL && pthread_create(&kt->retirer, NULL, retire, kt->rk) == 0;
    if (kt->rk != NULL && !kt->is_retiring)
        retire(kt->rk);
    kt->rk = NULL;
    kt->commit_under_way = false;
    if (kafka_consumer_open(kt, &err) == ST_OK) {
        ST_LOG(ST_LOG_WARN, "processor.kafka",
               "The consumer was fatally wrong; another one goes on",
               ST_KV_STR("trigger", kt->base.name), ST_KV_STR("member", kt->own_id));
        return;
    }
    ST_LOG(ST_LOG_ERROR, "processor.kafka", "No other consumer could be made; tried again",
           ST_KV_STR("trigger", kt->base.name), ST_KV_STR("error", err.text));
    kafka_member_failed(kt);
}
