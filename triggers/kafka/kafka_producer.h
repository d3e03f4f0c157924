/* The producers of a kafka output, one after the other. After a fatal error (librdkafka's word: of
 * an idempotent producer that can't tell any more what the broker has) a producer takes nothing
 * for ever; another one takes its place, with growing delays between them. The failed one is kept
 * until everything under way in it has its report. */
#ifndef TRIGGERS_KAFKA_KAFKA_PRODUCER_H
#define TRIGGERS_KAFKA_KAFKA_PRODUCER_H

#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "processor/core/loop.h"
#include "triggers/kafka/kafka_client.h"

struct st_kafka_oauth;
struct st_kafka_producers;

struct st_kafka_producer {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic; /* the output's own, or NULL */
    struct st_kafka_producers *all;
    bool failed; /* on the home loop, as all below but users and ended */

    /* kafka_producer.c only */
    LIST_ENTRY(st_kafka_producer) link;
    _Atomic unsigned users; /* senders that have it, or are about to */
    rd_kafka_queue_t *queue;
    int fd; /* the queue has something */
    struct event event;
    bool watched; /* the event is added */
    struct st_kafka_oauth *oauth;
    struct st_timer sweep;
    pthread_t thread; /* ends rk, which may block */
    bool ending;
    _Atomic bool ended;
};

LIST_HEAD(st_kafka_producer_list, st_kafka_producer);

/* Part of the output. */
struct st_kafka_producers {
    /* What each is made of. The opaque of librdkafka's callbacks is the struct st_kafka_producer.
     * conf is this struct's to destroy; the rest outlives it. */
    rd_kafka_conf_t *conf;
    const struct st_kafka_client_options *client;
    const char *topic, *name; /* topic: may be empty */

    /* Home loop: its queue has something, rk is to be polled. True: there may be more. */
    bool (*poll)(struct st_kafka_producer *p);
    /* Home loop: senders shall change to this one (st_kafka_producer_ref, _unref). */
    void (*renewed)(struct st_kafka_producer *p);

    /* kafka_producer.c only */
    struct st_loop *home;
    pthread_mutex_t lock;
    struct st_kafka_producer *current;     /* written on the home loop under lock */
    struct st_kafka_producer_list retired; /* on the home loop */
    struct st_timer renewal;
    uint64_t delay_ns, tried_ns;
};

/* Before anything else; main thread. */
void st_kafka_producers_init(struct st_kafka_producers *all);

/* Makes the first one. The loop is the home. 0 or a negative code with *err filled. */
int st_kafka_producers_open(struct st_kafka_producers *all, struct st_loop *home,
                            struct st_error *err) ST_MUST_CHECK;

/* The one in use, for a sender, who gives it back by st_kafka_producer_unref. Any thread, once
 * open. */
struct st_kafka_producer *st_kafka_producers_take(struct st_kafka_producers *all);

/* Messages that the one in use has not confirmed, about. Any thread. */
int st_kafka_producers_waiting(struct st_kafka_producers *all);

static inline void st_kafka_producer_ref(struct st_kafka_producer *p)
{
    atomic_fetch_add_explicit(&p->users, 1, memory_order_relaxed);
}

/* The sender has let go of its topics. Any thread. */
static inline void st_kafka_producer_unref(struct st_kafka_producer *p)
{
    atomic_fetch_sub_explicit(&p->users, 1, memory_order_release);
}

/* From librdkafka's callback of errors: it had a fatal one. Another one follows. */
void st_kafka_producer_failed(struct st_kafka_producer *p, const char *reason);

/* On the home loop: none is polled any more. */
void st_kafka_producers_close(struct st_kafka_producers *all);

/* After that, and after all senders; main thread. Blocks until librdkafka has ended. */
void st_kafka_producers_free(struct st_kafka_producers *all);

#endif
