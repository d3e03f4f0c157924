/* Between the files of the kafka trigger: kafka_trigger.c (life), kafka_options.c (configuration),
 * kafka_consumer.c (librdkafka: polling, pausing, committing), kafka_member.c (who it is in the
 * group), kafka_group.c (assignments), kafka_record.c (messages and their events), kafka_flow.c
 * (lanes, outcomes, retries), kafka_show.c (metrics, status).
 *
 * Everything belongs to one loop, which polls librdkafka itself, told by an eventfd: no thread of
 * our own, no hand-over of messages, and nothing here needs a lock (ADR 18). A message that a
 * NONBLOCKING handler takes at once is never copied. */
#ifndef TRIGGERS_KAFKA_KAFKA_INT_H
#define TRIGGERS_KAFKA_KAFKA_INT_H

#include "processor/config/option.h"
#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/core/slab.h"
#include "processor/done_set.h"
#include "processor/event.h"
#include "processor/lane.h"
#include "processor/output.h"
#include "processor/retry.h"
#include "processor/trigger.h"
#include "processor/watermark.h"
#include "triggers/kafka/kafka_client.h"
#include "triggers/kafka/kafka_oauth.h"
#include "triggers/kafka/kafka_stats.h"

enum kafka_allocation { KAFKA_POOL, KAFKA_STATIC };

/* Headers of a message that its event has; text in kafka_record.c. */
enum { KAFKA_HEADERS_MOST = 1024 };

/* Of each message that librdkafka fetches ahead: it takes memory though its value has no bytes. */
enum { KAFKA_BYTES_LEAST = 32 };

/* `attributes` of the trigger. */
struct kafka_attributes {
    struct st_kafka_client_options client;
    struct st_string_list topics;
    char *group;
    char *instance_id;  /* static membership; "": none */
    int initial_offset; /* 0 earliest, 1 latest */
    int balance;        /* index of kafka_balance_names */
    int allocation;     /* enum kafka_allocation */
    uint64_t session_ns, heartbeat_ns, max_processing_ns, rebalance_ns, max_wait_ns, drain_ns;
    uint64_t commit_ns;
    int64_t fetch_min, fetch_default, fetch_max;
    uint64_t prefetch_bytes;
    int64_t window; /* messages of a partition that may be open at once */
    uint64_t window_bytes;
};

enum kafka_state {
    KAFKA_OFF, /* not open */
    KAFKA_RUNNING,
    KAFKA_DRAINING, /* the processor ends: what runs may end and is committed */
    KAFKA_LEAVING,  /* a thread tells the group; librdkafka is that one's */
    KAFKA_LEFT
};

/* What may be wrong, one of each at a time; worst first. */
enum kafka_trouble {
    KAFKA_TROUBLE_STOPPED, /* keys that wait for a person */
    KAFKA_TROUBLE_DEAD_LETTERS,
    KAFKA_TROUBLE_BROKER,
    KAFKA_TROUBLES
};

struct kafka_batch;
struct kafka_giving;
struct kafka_record;
struct kafka_trigger;
TAILQ_HEAD(kafka_event_list, kafka_event);
TAILQ_HEAD(kafka_record_list, kafka_record);
LIST_HEAD(kafka_partition_list, kafka_partition);

/* Lives until the trigger's end, assigned or not: metrics point to it. */
struct kafka_partition {
    LIST_ENTRY(kafka_partition) link;
    LIST_ENTRY(kafka_partition) bucket; /* of the table by topic and number */
    struct kafka_trigger *kt;
    char *topic;
    size_t topic_len;
    int32_t number;
    bool assigned;           /* messages are taken, offsets are committed */
    bool full;               /* its window is: its queue is left alone */
    bool brimming;           /* its queue had about as much as librdkafka fetches ahead */
    uint32_t mean_bytes;     /* of a message in its queue, about; 0: none was taken yet */
    rd_kafka_queue_t *queue; /* NULL until it is assigned, and for a closed consumer */
    struct st_watermark wm;
    struct st_done_set before; /* done in an earlier assignment, beyond its position */
    struct st_lane_shard *lanes;
    uint64_t sent_ends;               /* wm.ends of the last commit */
    uint64_t seen_lo, seen_ns;        /* wm.lo when it was last seen to have moved, and when */
    uint32_t running;                 /* records that workers have, or emits */
    uint32_t stopped;                 /* records that are out of attempts and were not put aside */
    struct kafka_record_list waiting; /* for an explicit acknowledgement, by offset */
    struct kafka_record_list dying;   /* for the delivery of their dead letters */
    struct {
        _Atomic int64_t lag, pending, oldest_ns; /* for the scraping thread */
    } shown;
};

/* A message that is open: taken and not done. Freed when it is done and none of its events is left.
 */
struct kafka_record {
    struct st_lane_entry lane; /* first */
    struct kafka_partition *partition;
    uint64_t seq;
    char *bytes; /* key, value and headers once they are its own, or NULL */
    uint32_t epoch;
    uint32_t attempt; /* from 1 */
    uint16_t refs;    /* itself until done, its events and its emits */
    bool tombstone;
    bool dying;                     /* its handler has had its attempts */
    bool acknowledged;              /* its handler said so before it had ended */
    bool is_held;                   /* its emits are under way */
    bool wants_ack;                 /* an explicit one, once they are not */
    bool unread;                    /* nobody has asked for its headers yet */
    TAILQ_ENTRY(kafka_record) held; /* in held of the trigger, waiting or dying of the partition */
    struct st_keep keep;            /* its emits; in use beyond is_held when they are given up */
    struct kafka_failure *failure;  /* of the last attempt, or NULL */
    uint64_t offset;
    int64_t timestamp_ms; /* -1: none */
    uint64_t taken_ns;
    struct st_slice key, value;
    union {
        const rd_kafka_message_t *message; /* while it is unread */
        struct st_header *headers;         /* in bytes, or while borrowed the trigger's scratch */
    };
    uint32_t header_count;
};

/* What a record needs only once it has failed. */
struct kafka_failure {
    struct st_send send; /* its dead letter */
    struct kafka_record *record;
    char reason[160];
};

/* One delivery of a record. */
struct kafka_event {
    struct st_event ev; /* first */
    struct kafka_record *record;
    TAILQ_ENTRY(kafka_event) link; /* in running, until answered */
    _Alignas(16) char space[256];
};

struct kafka_trigger {
    struct st_trigger base;
    struct st_retry_policy retry;
    int ack_mode;                   /* enum st_ack_mode */
    bool is_static;                 /* a partition's messages go to one worker */
    struct st_output *dead_letters; /* or NULL */
    struct st_slice dead_letter_topic;
    void *own_options; /* of dead_letters, where it is the trigger's own */

    struct st_loop *loop;             /* NULL: not open; below: its thread's */
    _Atomic(struct st_loop *) opened; /* the same for other threads */
    enum kafka_state state;
    char own_id[40]; /* as a static member of the group, while the processor runs; "": the user's */
    rd_kafka_t *rk;
    rd_kafka_queue_t *queue;
    int fd; /* librdkafka writes to it when its queue has something */
    struct event fd_event;
    struct st_timer tick, commit_timer, drain_timer, retry_timer, renewal;
    struct st_flush pump_flush;
    struct st_lane_group lanes;
    struct kafka_partition_list partitions, table[64];
    struct kafka_partition *last; /* the partition of the last message */
    rd_kafka_topic_t *last_topic; /* and its librdkafka topic */
    struct st_slab records, events;
    struct kafka_event_list running;
    struct kafka_record_list held; /* records whose events are over, for their emits */
    struct kafka_batch *batch;     /* that is being made; NULL: the pool takes no batches */
    uint32_t dispatched, max_dispatched;
    uint32_t enough; /* messages in lanes, while workers are busy */
    uint32_t held_count;
    struct kafka_partition *next; /* whose turn it is to be served, or NULL: the first */
    uint32_t served, served_here; /* messages in this turn, and of this partition */
    uint64_t poll_until_ns;
    bool over;    /* this turn is */
    bool sated;   /* enough wait in lanes: queues were left alone */
    bool yielded; /* more may wait in a queue that tells nothing any more */
    bool commit_under_way, broker_trouble;
    uint64_t commit_began_ns;
    rd_kafka_topic_partition_list_t *revoked; /* what the group takes away, until it may; or NULL */
    bool lost;    /* it has been taken away already: nobody waits for a commit */
    bool expired; /* what still runs had its time */
    uint64_t revoke_began_ns;
    uint64_t quiet_ns; /* since when only explicit acknowledgements are waited for; 0: not yet */
    struct kafka_giving *giving; /* partitions that come, their positions under way; or NULL */
    pthread_t leaver, retirer;   /* retirer: while is_retiring */
    bool is_retiring;
    struct st_mail left_mail;
    struct st_header *scratch; /* headers of the message that is being taken */
    size_t scratch_room;
    char trouble[KAFKA_TROUBLES][256]; /* under trouble_lock; "": none of this kind */
    pthread_mutex_t trouble_lock;
    struct {
        struct st_log_limit acknowledged, retried, dead, not_written, headers;
    } limits;
    struct st_kafka_stats stats;
    struct st_kafka_oauth *oauth; /* or NULL */
    struct {
        st_metric commit, retries, dead_letters, rebalances, rebalance_seconds, acked_failed;
        st_metric duplicates;
    } metrics;
};

static inline struct kafka_trigger *kafka_of(struct st_trigger *t)
{
    return ST_CONTAINER_OF(t, struct kafka_trigger, base);
}

static inline const struct kafka_attributes *kafka_attributes_of(const struct kafka_trigger *kt)
{
    return kt->base.attributes;
}

/* kafka_annotations.c */
extern const struct st_annotation kafka_annotations[];
extern const char kafka_annotation_prefix[];

/* kafka_options.c */
extern const struct st_option kafka_attribute_table[];
int kafka_check(const struct st_trigger_config *config, char member[ST_TRIGGER_MEMBER_MAX],
                struct st_error *err);
/* The consumer's configuration; the caller owns it. NULL with *err. */
rd_kafka_conf_t *kafka_consumer_conf(const struct kafka_trigger *kt, struct st_error *err);

/* kafka_consumer.c */
int kafka_consumer_open(struct kafka_trigger *kt, struct st_error *err);
/* Serves what librdkafka has: the group's matters, and messages where windows are not full. */
void kafka_poll(struct kafka_trigger *kt);
/* Looks at the window after its partition has moved. */
void kafka_window_moved(struct kafka_partition *p);
/* A message was taken from its queue: false, it was the last one in this turn. */
bool kafka_queue_goes_on(struct kafka_partition *p);
/* Before its assignment, and before the consumer's end; closing again is allowed. */
void kafka_queue_open(struct kafka_partition *p);
/* Throws away what was fetched before its assignment or is after that: librdkafka keeps it. */
void kafka_queue_empty(struct kafka_partition *p);
void kafka_queue_close(struct kafka_partition *p);
/* Sends what the watermarks have gained; false: there is nothing to send, or it is under way. */
bool kafka_commit(struct kafka_trigger *kt);
void kafka_consumer_close(struct kafka_trigger *kt);

/* kafka_member.c */
/* Before the consumer's configuration is made. */
void kafka_member_choose_id(struct kafka_trigger *kt);
/* librdkafka's consumer can't go on: another one takes its place, unless the user has named it. */
void kafka_member_failed(struct kafka_trigger *kt);
void kafka_member_renew(struct st_timer *t);
/* In a thread of its own, before the consumer is closed: the group shall not wait for it. */
void kafka_member_leave(struct kafka_trigger *kt);
/* No loop runs any more. */
void kafka_member_free(struct kafka_trigger *kt);

/* kafka_group.c */
void kafka_on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                        rd_kafka_topic_partition_list_t *list, void *opaque);
struct kafka_partition *kafka_partition_find(struct kafka_trigger *kt, const char *topic,
                                             int32_t number);
/* True while messages are taken and handed out. */
static inline bool kafka_is_flowing(const struct kafka_trigger *kt)
{
    return kt->state == KAFKA_RUNNING && kt->revoked == NULL;
}
/* Workers have room for n more events, and outputs for what they emit; what ends looks again. */
static inline bool kafka_has_room(const struct kafka_trigger *kt, uint32_t n)
{
    return kt->dispatched + n <= kt->max_dispatched &&
           (kt->dispatched + kt->held_count == 0 || !st_outputs_are_busy(kt->base.processor));
}
/* Lanes could hand out something, so workers are busy, and have enough for them. */
static inline bool kafka_is_sated(const struct kafka_trigger *kt)
{
    return kt->lanes.waiting >= kt->enough && !TAILQ_EMPTY(&kt->lanes.line);
}
/* Others are being taken away, and it is not (cooperative-sticky). */
bool kafka_stays(const struct kafka_trigger *kt, const struct kafka_partition *p);
/* Something ended or was committed: goes on with a revocation or the drain. */
void kafka_group_step(struct kafka_trigger *kt);
/* Waits for threads that ask the broker something; no loop runs any more. */
void kafka_group_free(struct kafka_trigger *kt);
/* What is assigned is somebody else's already. */
void kafka_group_forget(struct kafka_trigger *kt);
/* Ends what runs, commits, leaves the group, calls st_trigger_drained. */
void kafka_group_drain(struct kafka_trigger *kt);
/* The time of what runs is over. */
void kafka_group_expire(struct st_timer *t);

/* kafka_record.c */
struct kafka_record *kafka_record_new(struct kafka_partition *p, const rd_kafka_message_t *m);
/* Makes it independent of librdkafka's message. */
void kafka_record_own(struct kafka_record *r);
void kafka_record_unref(struct kafka_record *r);
struct kafka_event *kafka_event_new(struct kafka_record *r);
int kafka_detach(struct st_event *ev);
void kafka_read(struct st_event *ev);
void kafka_release(struct st_event *ev);

/* kafka_dead_letter.c: finds or makes the output of dead letters. */
int kafka_dead_letters_init(struct kafka_trigger *kt, struct st_error *err);

/* kafka_batch.c: where the pool takes batches. */
void kafka_batch_open(struct kafka_trigger *kt);
void kafka_batch_close(struct kafka_trigger *kt);
void kafka_batch_pump(struct kafka_trigger *kt);
/* Gives the messages of an unfinished batch back to their lanes. */
void kafka_batch_drop(struct kafka_trigger *kt);

/* kafka_flow.c */
void kafka_on_message(rd_kafka_message_t *m, void *opaque);
void kafka_complete(struct st_event *ev, const struct st_result *result);
void kafka_held(struct st_event *ev);
/* Waits for the emits of a held record no more: as if its event had been cancelled. */
void kafka_cancel_held(struct kafka_record *r);
/* Dispatches what lanes and workers allow, at the end of this pass. */
void kafka_pump_later(struct kafka_trigger *kt);
/* A new event of a running record, not dispatched yet. */
struct st_event *kafka_event_start(struct kafka_record *r);
/* A running record goes to the dead letters. */
void kafka_send_dead_letter(struct kafka_record *r);
/* Hands it out again later. */
void kafka_retry(struct kafka_record *r, uint64_t delay_ns);
/* A log record about a message: a warning, at most one a second by its limit; without one an error.
 */
void kafka_say(struct st_log_limit *limit, const struct kafka_record *r, const char *text,
               const char *outcome);
/* The record is done: its position may be passed. */
void kafka_record_done(struct kafka_record *r);
/* Explicitly: the message at offset and all earlier ones that wait for it. */
void kafka_acknowledge(struct kafka_partition *p, uint64_t offset);
/* Forgets what waits in the partition; what runs ends for nobody. */
void kafka_partition_drop(struct kafka_partition *p);

/* kafka_show.c */
void kafka_register_metrics(struct kafka_trigger *kt);
int kafka_on_stats(rd_kafka_t *rk, char *text, size_t len, void *opaque);
void kafka_register_partition(struct kafka_partition *p);
/* Publishes lag and so on for the scraping thread. */
void kafka_publish(struct kafka_partition *p);
/* Says what is wrong, or with "" that it is over. */
void kafka_trouble(struct kafka_trigger *kt, enum kafka_trouble which, const char *text);
bool kafka_show_trouble(struct st_trigger *t, char *out, size_t n);

#endif
