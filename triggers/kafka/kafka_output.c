/* Any loop produces; librdkafka copies the bytes, which is all there is of a message in flight, and
 * gives the sender's pointer back. Its main queue writes to an eventfd of one loop, the home, which
 * takes the delivery reports. Those of other loops' messages go on to them, all of a pass in one
 * mail. When a producer has failed for good, the same mail brings each sender the next one. */
#include "triggers/kafka/kafka_output.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/core/alloc.h"
#include "processor/core/loop.h"
#include "processor/labels.h"
#include "processor/processor.h"
#include "triggers/kafka/kafka_client.h"
#include "triggers/kafka/kafka_producer.h"
#include "triggers/kafka/kafka_stats.h"

enum { TOPIC_MAX = 249, TOPICS = 16, REPORTS_A_PASS = 2048, TROUBLE_MAX = 256, TEXT_MAX = 512 };

static const char *const compressions[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};
static const char *const partitioners[] = {"murmur2_random", "murmur2", "consistent_random",
                                           "consistent",     "random",  "fnv1a_random",
                                           "fnv1a",          NULL};

/* ---- options ---- */

struct kafka_output_options {
    struct st_kafka_client_options client;
    char *topic;
    int compression, partitioner;
    uint64_t linger_ns, delivery_timeout_ns;
    int64_t max_messages;
    uint64_t max_bytes, max_message_bytes;
};

#define AT(member) offsetof(struct kafka_output_options, member)

/* What the table says, for outputs that it does not fill. */
#define DEFAULT_LINGER_NS (5 * ST_MSEC)
#define DEFAULT_DELIVERY_TIMEOUT_NS (30 * ST_SEC)
enum { DEFAULT_MAX_MESSAGES = 100000, DEFAULT_MAX_BYTES = 64 << 20, DEAD_LETTER_MAX = 1000000000 };

static const struct st_option options_table[] = {
    ST_KAFKA_CLIENT_ROWS(AT(client)),
    {.name = "topic",
     .type = ST_OPT_STRING,
     .offset = AT(topic),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "Where messages go that name no topic themselves.",
     .example = "orders"},
    {.name = "compression",
     .type = ST_OPT_ENUM,
     .offset = AT(compression),
     .values = compressions,
     .flags = ST_OPT_EXPAND,
     .help = "Of batches.",
     .example = "lz4"},
    {.name = "partitioner",
     .type = ST_OPT_ENUM,
     .offset = AT(partitioner),
     .values = partitioners,
     .flags = ST_OPT_EXPAND,
     .help = "How a key chooses a partition; the default is that of Kafka's Java clients.",
     .example = "murmur2_random"},
    {.name = "linger",
     .type = ST_OPT_DURATION,
     .offset = AT(linger_ns),
     .value = "5ms",
     .max = 900e9,
     .flags = ST_OPT_EXPAND,
     .help = "How long a message waits for others of its batch.",
     .example = "5ms"},
    {.name = "deliveryTimeout",
     .type = ST_OPT_DURATION,
     .offset = AT(delivery_timeout_ns),
     .value = "30s",
     .min = 1e6,
     .max = 86400e9,
     .flags = ST_OPT_EXPAND,
     .help = "How long a message is tried; then it has failed.",
     .example = "30s"},
    {.name = "maxMessages",
     .type = ST_OPT_INT,
     .offset = AT(max_messages),
     .value = "100000",
     .min = 1,
     .max = 1e7,
     .flags = ST_OPT_EXPAND,
     .help = "Messages that may be under way; more are refused.",
     .example = "100000"},
    {.name = "maxBytes",
     .type = ST_OPT_SIZE,
     .offset = AT(max_bytes),
     .value = "64Mi",
     .min = 1024,
     .max = 2147483647.0 * 1024,
     .flags = ST_OPT_EXPAND,
     .help = "Bytes of keys and values that may be under way; more are refused.",
     .example = "64Mi"},
    {.name = "maxMessageBytes",
     .type = ST_OPT_SIZE,
     .offset = AT(max_message_bytes),
     .value = "1000000",
     .min = 1000,
     .max = 1e9,
     .flags = ST_OPT_EXPAND,
     .help = "The largest message, before compression; the broker has a bound of its own.",
     .example = "10Mi"},
    {.name = NULL}};

static bool topic_ok(struct st_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return name.len > 0 && name.len <= TOPIC_MAX;
}

static int check(const void *options, const char **member, struct st_error *err)
{
    const struct kafka_output_options *o = options;

    *member = "brokers";
    if (o->client.brokers.count == 0)
        return st_error_set(err, ST_ERR_INVALID,
                            "found none, expected at least one, for example [kafka:9092]");
    *member = "topic";
    if (o->topic[0] != '\0' && !topic_ok(st_slice_of(o->topic)))
        return st_error_set(err, ST_ERR_INVALID,
                            "found \"%.64s\", expected at most %d of a-z, A-Z, 0-9, \".\", \"_\" "
                            "and \"-\"",
                            o->topic, TOPIC_MAX);
    *member = "linger";
    if (o->linger_ns >= o->delivery_timeout_ns)
        return st_error_set(err, ST_ERR_INVALID, "expected less than deliveryTimeout");
    return st_kafka_client_check(&o->client, member, err);
}

void *st_kafka_output_options(const struct st_kafka_client_options *client, const char *topic)
{
    struct kafka_output_options *o = st_calloc(1, sizeof *o);

    o->client = *client;
    o->topic = (char *)(uintptr_t)topic;
    o->linger_ns = DEFAULT_LINGER_NS;
    o->delivery_timeout_ns = DEFAULT_DELIVERY_TIMEOUT_NS;
    o->max_messages = DEFAULT_MAX_MESSAGES;
    o->max_bytes = DEFAULT_MAX_BYTES;
    o->max_message_bytes = DEAD_LETTER_MAX;
    return o;
}

const char *st_kafka_output_topic(const void *options,
                                  const struct st_kafka_client_options **client)
{
    const struct kafka_output_options *o = options;

    *client = &o->client;
    return o->topic;
}

/* ---- the output ---- */

/* A delivery report on its way to its loop. */
struct report {
    struct st_send *send;
    rd_kafka_resp_err_t code;
};

struct reports {
    struct report *items;
    size_t count, room;
};

/* What belongs to one of the loops that send. */
struct kafka_sender {
    struct st_loop *loop;
    bool closed;                        /* on its loop */
    struct st_kafka_producer *producer; /* on its loop, as its topics */
    rd_kafka_topic_t *topics[TOPICS];   /* those that messages named, the last ones */
    unsigned next_topic;
    struct reports collected; /* on the home loop, in this pass */
    struct reports work;      /* on its loop */
    struct st_mail mail;
    pthread_mutex_t lock;
    bool posted; /* under lock, as all below */
    bool open;
    struct st_kafka_producer *next; /* to change to, or NULL */
    struct reports ready;
    char trouble[TROUBLE_MAX];
};

enum state { WELL, DOWN, FAILED }; /* DOWN: no broker was there when one was last needed */

struct kafka_output {
    struct st_output base;
    struct st_kafka_producers producers;
    struct kafka_sender *senders; /* one a loop */
    bool closed;                  /* on the home loop: nobody wants reports any more */
    unsigned served;              /* reports in this pass */
    pthread_mutex_t lock;
    enum state state;          /* written on the home loop under lock, as trouble */
    char trouble[TROUBLE_MAX]; /* what librdkafka said last, "" if all is well */
    struct st_kafka_stats stats;
    st_metric renewals;
};

static struct kafka_output *output_of(struct st_output *o)
{
    return ST_CONTAINER_OF(o, struct kafka_output, base);
}

static struct kafka_output *output_with(struct st_kafka_producers *all)
{
    return ST_CONTAINER_OF(all, struct kafka_output, producers);
}

/* ---- how it is ---- */

/* trouble NULL: as before. Home loop. */
static void set_state(struct kafka_output *ko, enum state state, const char *trouble)
{
    pthread_mutex_lock(&ko->lock);
    ko->state = state;
    if (trouble != NULL)
        snprintf(ko->trouble, sizeof ko->trouble, "%s", trouble);
    pthread_mutex_unlock(&ko->lock);
}

/* Brokers that are away are no trouble while nobody needs them. */
static bool kafka_trouble(struct st_output *o, char *out, size_t n)
{
    struct kafka_output *ko = output_of(o);
    bool waiting = st_kafka_producers_waiting(&ko->producers) > 0;
    enum state state;

    pthread_mutex_lock(&ko->lock);
    state = ko->state;
    if (state == FAILED)
        snprintf(out, n, "the producer failed and is being replaced: %s", ko->trouble);
    else if (state == DOWN && waiting)
        snprintf(out, n, "messages wait for brokers: %s", ko->trouble);
    pthread_mutex_unlock(&ko->lock);
    return state == FAILED || (state == DOWN && waiting);
}

/* ---- delivery reports ---- */

static int status_of(rd_kafka_resp_err_t code)
{
    switch (code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return ST_OK;
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
        return ST_ERR_TIMEOUT;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
        return ST_ERR_LIMIT;
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return ST_ERR_NOTFOUND;
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
        return ST_ERR_INVALID;
    default:
        return ST_ERR_CLOSED;
    }
}

static void finish(struct st_send *send, struct st_loop *loop, rd_kafka_resp_err_t code,
                   const char *trouble)
{
    char text[TEXT_MAX];

    if (st_likely(code == RD_KAFKA_RESP_ERR_NO_ERROR)) {
        st_send_done(send, loop, ST_OK, "");
        return;
    }
    snprintf(text, sizeof text, "%s%s%s", rd_kafka_err2str(code), trouble[0] != '\0' ? "; " : "",
             trouble);
    st_send_done(send, loop, status_of(code), text);
}

static void reports_reserve(struct reports *r, size_t more)
{
    if (r->count + more <= r->room)
        return;
    r->room = r->count + more > 2 * r->room ? r->count + more : 2 * r->room;
    r->items = st_realloc(r->items, r->room * sizeof r->items[0]);
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    struct st_kafka_producer *p = opaque;
    struct kafka_output *ko = output_with(p->all);
    struct st_send *send = m->_private;
    struct kafka_sender *sender;

    if (ko->closed)
        return;
    sender = send->kind;
    if (st_unlikely(ko->trouble[0] != '\0') && m->err == RD_KAFKA_RESP_ERR_NO_ERROR && !p->failed)
        set_state(ko, WELL, "");
    if (sender->loop == ko->producers.home) {
        finish(send, sender->loop, m->err, ko->trouble);
    } else {
        reports_reserve(&sender->collected, 1);
        sender->collected.items[sender->collected.count++] = (struct report){send, m->err};
    }
    if (++ko->served >= REPORTS_A_PASS)
        rd_kafka_yield(rk);
}

static void drop_topics(struct kafka_sender *sender)
{
    for (unsigned i = 0; i < TOPICS; i++) {
        if (sender->topics[i] != NULL)
            rd_kafka_topic_destroy(sender->topics[i]);
        sender->topics[i] = NULL;
    }
    sender->next_topic = 0;
}

static void deliver_reports(struct st_loop *loop, struct st_mail *mail)
{
    struct kafka_sender *sender = ST_CONTAINER_OF(mail, struct kafka_sender, mail);
    struct reports work = sender->work;
    struct st_kafka_producer *next;
    char trouble[TROUBLE_MAX];

    pthread_mutex_lock(&sender->lock);
    next = sender->next;
    sender->next = NULL;
    sender->work = sender->ready;
    sender->ready = (struct reports){.items = work.items, .room = work.room};
    sender->posted = false;
    memcpy(trouble, sender->trouble, sizeof trouble);
    pthread_mutex_unlock(&sender->lock);
    if (next != NULL) {
        drop_topics(sender);
        st_kafka_producer_unref(sender->producer);
        sender->producer = next;
    }
    for (size_t i = 0; i < sender->work.count && !sender->closed; i++)
        finish(sender->work.items[i].send, loop, sender->work.items[i].code, trouble);
    sender->work.count = 0;
}

static void send_reports(struct kafka_output *ko, struct kafka_sender *sender)
{
    struct reports *from = &sender->collected, *to = &sender->ready;
    bool post;

    if (from->count == 0)
        return;
    pthread_mutex_lock(&sender->lock);
    reports_reserve(to, from->count);
    memcpy(&to->items[to->count], from->items, from->count * sizeof from->items[0]);
    to->count += from->count;
    memcpy(sender->trouble, ko->trouble, sizeof sender->trouble);
    post = !sender->posted;
    sender->posted = true;
    pthread_mutex_unlock(&sender->lock);
    from->count = 0;
    if (post)
        st_loop_post(sender->loop, &sender->mail, deliver_reports);
}

/* The next mail brings the new one; without this the sender would have the failed one for ever. */
static void on_renewed(struct st_kafka_producer *p)
{
    struct kafka_output *ko = output_with(p->all);

    for (unsigned i = 0; i < ko->base.processor->loop_count; i++) {
        struct kafka_sender *sender = &ko->senders[i];
        bool post;

        pthread_mutex_lock(&sender->lock);
        post = sender->open && !sender->posted;
        if (sender->open) {
            if (sender->next != NULL)
                st_kafka_producer_unref(sender->next);
            st_kafka_producer_ref(p);
            sender->next = p;
            sender->posted = true;
        }
        pthread_mutex_unlock(&sender->lock);
        if (post)
            st_loop_post(sender->loop, &sender->mail, deliver_reports);
    }
    set_state(ko, WELL, NULL);
}

static bool on_queue(struct st_kafka_producer *p)
{
    struct kafka_output *ko = output_with(p->all);

    ko->served = 0;
    rd_kafka_poll(p->rk, 0);
    for (unsigned i = 0; i < ko->base.processor->loop_count; i++)
        send_reports(ko, &ko->senders[i]);
    return ko->served >= REPORTS_A_PASS;
}

static void on_error(rd_kafka_t *rk, int code, const char *reason, void *opaque)
{
    struct st_kafka_producer *p = opaque;
    struct kafka_output *ko = output_with(p->all);
    char fatal[TROUBLE_MAX] = "";

    if (p->failed)
        return; /* why it did says more than what follows */
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(rk, fatal, sizeof fatal);
        st_metric_add(p->all->home->metrics, ko->renewals, 1);
        set_state(ko, FAILED, fatal);
        st_kafka_producer_failed(p, fatal);
    } else if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
        /* Why the last one went says more than that none is left. */
        set_state(ko, DOWN, ko->trouble[0] != '\0' ? NULL : reason);
    } else {
        set_state(ko, ko->state, reason); /* librdkafka tells its log of it */
    }
}

static int on_stats(rd_kafka_t *rk ST_UNUSED, char *text, size_t len, void *opaque)
{
    struct st_kafka_producer *p = opaque;

    if (!p->failed)
        st_kafka_stats_read(&output_with(p->all)->stats, text, len);
    return 0; /* librdkafka frees the text */
}

/* ---- sending ---- */

static rd_kafka_topic_t *named_topic(struct kafka_sender *sender, struct st_slice name)
{
    rd_kafka_topic_t **slot;
    char text[TOPIC_MAX + 1];

    for (unsigned i = 0; i < TOPICS && sender->topics[i] != NULL; i++)
        if (st_slice_eq(st_slice_of(rd_kafka_topic_name(sender->topics[i])), name))
            return sender->topics[i];
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    slot = &sender->topics[sender->next_topic++ % TOPICS];
    if (*slot != NULL)
        rd_kafka_topic_destroy(*slot);
    *slot = rd_kafka_topic_new(sender->producer->rk, text, NULL);
    return *slot;
}

static int choose_topic(struct kafka_sender *sender, const struct st_message *m,
                        rd_kafka_topic_t **out, struct st_error *err)
{
    *out = sender->producer->topic;
    if (m->topic.len == 0 && *out == NULL)
        return st_error_set(err, ST_ERR_INVALID,
                            "neither the message nor the output's configuration has a topic");
    if (m->topic.len == 0)
        return ST_OK;
    if (!topic_ok(m->topic))
        return st_error_set(err, ST_ERR_INVALID, "\"%.*s\" is no name of a topic",
                            m->topic.len < 64 ? (int)m->topic.len : 64, m->topic.ptr);
    *out = named_topic(sender, m->topic);
    return *out != NULL ? ST_OK
                        : st_error_set(err, ST_ERR_CLOSED, "the topic can't be used: %s",
                                       rd_kafka_err2str(rd_kafka_last_error()));
}

static rd_kafka_resp_err_t produce(rd_kafka_t *rk, rd_kafka_topic_t *topic,
                                   const struct st_message *m, struct st_send *send)
{
    /* librdkafka tells nothing (NULL) from an empty text. */
    char *value = m->is_tombstone ? NULL : (char *)(uintptr_t)(m->value.ptr ? m->value.ptr : "");
    size_t len = m->is_tombstone ? 0 : m->value.len;
    rd_kafka_headers_t *headers;
    rd_kafka_resp_err_t code;

    if (m->header_count == 0) {
        if (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value, len,
                             m->key.ptr, m->key.len, send) == 0)
            return RD_KAFKA_RESP_ERR_NO_ERROR;
        return rd_kafka_last_error();
    }
    headers = rd_kafka_headers_new(m->header_count);
    for (size_t i = 0; i < m->header_count; i++) {
        const struct st_header *h = &m->headers[i];
        rd_kafka_header_add(headers, h->name, h->name_len, h->value, h->value_len);
    }
    code = rd_kafka_producev(rk, RD_KAFKA_V_RKT(topic), RD_KAFKA_V_VALUE(value, len),
                             RD_KAFKA_V_KEY(m->key.ptr, m->key.len), RD_KAFKA_V_HEADERS(headers),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(send),
                             RD_KAFKA_V_END);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_headers_destroy(headers);
    return code;
}

static int kafka_send(struct st_output *o, struct st_loop *loop, const struct st_message *m,
                      struct st_send *send, struct st_error *err)
{
    struct kafka_sender *sender = &output_of(o)->senders[loop->index];
    const struct kafka_output_options *options = o->options;
    rd_kafka_resp_err_t why;
    rd_kafka_topic_t *topic;
    char fatal[TROUBLE_MAX];
    int code = choose_topic(sender, m, &topic, err);

    if (code != ST_OK)
        return code;
    send->kind = sender;
    why = produce(sender->producer->rk, topic, m, send);
    switch (why) {
    case RD_KAFKA_RESP_ERR_NO_ERROR:
        return ST_OK;
    case RD_KAFKA_RESP_ERR__QUEUE_FULL:
        return st_error_set(
            err, ST_ERR_LIMIT, "too much is under way (maxMessages %lld, maxBytes %llu)",
            (long long)options->max_messages, (unsigned long long)options->max_bytes);
    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
        return st_error_set(err, ST_ERR_LIMIT, "the message is larger than maxMessageBytes (%llu)",
                            (unsigned long long)options->max_message_bytes);
    case RD_KAFKA_RESP_ERR__FATAL:
        rd_kafka_fatal_error(sender->producer->rk, fatal, sizeof fatal);
        return st_error_set(err, ST_ERR_CLOSED, "%s", fatal);
    default:
        return st_error_set(err, (enum st_err)status_of(why), "%s", rd_kafka_err2str(why));
    }
}

/* ---- life ---- */

static int configure(rd_kafka_conf_t *conf, const struct kafka_output_options *o,
                     struct st_error *err)
{
    /* Without reports of success nothing would ever be confirmed. */
    static const char *const reserved[] = {"delivery.report.only.error", "log.queue",
                                           "transactional.id", NULL};
    int code;

    if ((code = st_kafka_conf_set(conf, err, "enable.idempotence", "true")) != ST_OK ||
        (code = st_kafka_conf_set(conf, err, "compression.codec", "%s",
                                  compressions[o->compression])) != ST_OK ||
        (code = st_kafka_conf_set(conf, err, "partitioner", "%s", partitioners[o->partitioner])) !=
            ST_OK ||
        (code = st_kafka_conf_set(conf, err, "queue.buffering.max.ms", "%.3f",
                                  (double)o->linger_ns / (double)ST_MSEC)) != ST_OK ||
        (code = st_kafka_conf_set(conf, err, "message.timeout.ms", "%llu",
                                  (unsigned long long)(o->delivery_timeout_ns / ST_MSEC))) !=
            ST_OK ||
        (code = st_kafka_conf_set(conf, err, "queue.buffering.max.messages", "%lld",
                                  (long long)o->max_messages)) != ST_OK ||
        (code = st_kafka_conf_set(conf, err, "queue.buffering.max.kbytes", "%llu",
                                  (unsigned long long)(o->max_bytes / 1024))) != ST_OK ||
        (code = st_kafka_conf_set(conf, err, "statistics.interval.ms", "%llu",
                                  (unsigned long long)(o->client.statistics_ns / ST_MSEC))) !=
            ST_OK ||
        /* A broker that is back is used soon. */
        (code = st_kafka_conf_set(conf, err, "reconnect.backoff.max.ms", "1000")) != ST_OK ||
        (code = st_kafka_conf_set(conf, err, "message.max.bytes", "%llu",
                                  (unsigned long long)o->max_message_bytes)) != ST_OK)
        return code;
    return st_kafka_conf_apply(conf, &o->client.librdkafka, reserved, err);
}

static void register_metrics(struct kafka_output *ko, const struct kafka_output_options *options)
{
    struct st_labels labels;

    st_labels_own(&labels, ko->base.processor, NULL);
    st_labels_add(&labels, "output", ko->base.name);
    ko->renewals = st_metric_register(ST_METRIC_OUTPUT_RENEWALS, labels.items);
    if (options->client.statistics_ns > 0)
        st_kafka_stats_register(&ko->stats, labels.items, true);
}

static int init(struct st_output *o, struct st_error *err)
{
    const struct kafka_output_options *options = o->options;
    struct kafka_output *ko = output_of(o);
    rd_kafka_conf_t *conf;
    const char *member;
    int code = check(options, &member, err);

    pthread_mutex_init(&ko->lock, NULL);
    st_kafka_producers_init(&ko->producers);
    o->most_messages = (uint64_t)options->max_messages;
    o->most_bytes = options->max_bytes;
    if (code != ST_OK)
        return code;
    conf = st_kafka_client_conf(&options->client, NULL, err);
    if (conf == NULL)
        return ST_ERR_INVALID;
    ko->senders = st_calloc(o->processor->loop_count, sizeof ko->senders[0]);
    for (unsigned i = 0; i < o->processor->loop_count; i++)
        pthread_mutex_init(&ko->senders[i].lock, NULL);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_stats_cb(conf, on_stats);
    ko->producers.conf = conf;
    ko->producers.client = &options->client;
    ko->producers.topic = options->topic;
    ko->producers.name = o->name;
    ko->producers.poll = on_queue;
    ko->producers.renewed = on_renewed;
    register_metrics(ko, options);
    return configure(conf, options, err);
}

/* The first loop that opens is the home. */
static int kafka_open(struct st_output *o, struct st_loop *loop, struct st_error *err)
{
    struct kafka_output *ko = output_of(o);
    struct kafka_sender *sender = &ko->senders[loop->index];
    int code = ST_OK;

    if (ko->producers.home == NULL)
        code = st_kafka_producers_open(&ko->producers, loop, err);
    if (code != ST_OK)
        return code;
    sender->loop = loop;
    pthread_mutex_lock(&sender->lock);
    sender->producer = st_kafka_producers_take(&ko->producers);
    sender->open = true;
    pthread_mutex_unlock(&sender->lock);
    return ST_OK;
}

static void kafka_close(struct st_output *o, struct st_loop *loop)
{
    struct kafka_output *ko = output_of(o);

    ko->senders[loop->index].closed = true;
    if (loop != ko->producers.home)
        return;
    ko->closed = true;
    st_kafka_producers_close(&ko->producers);
}

static void sender_free(struct kafka_sender *sender)
{
    drop_topics(sender);
    pthread_mutex_destroy(&sender->lock);
    free(sender->collected.items);
    free(sender->ready.items);
    free(sender->work.items);
}

static void destroy(struct st_output *o)
{
    struct kafka_output *ko = output_of(o);

    ko->closed = true;
    for (unsigned i = 0; ko->senders != NULL && i < o->processor->loop_count; i++)
        sender_free(&ko->senders[i]);
    free(ko->senders);
    st_kafka_producers_free(&ko->producers);
    pthread_mutex_destroy(&ko->lock);
}

const struct st_output_kind st_output_kafka_kind = {
    .name = "kafka",
    .options = options_table,
    .options_size = sizeof(struct kafka_output_options),
    .obj_size = sizeof(struct kafka_output),
    .check = check,
    .init = init,
    .open = kafka_open,
    .send = kafka_send,
    .trouble = kafka_trouble,
    .close = kafka_close,
    .destroy = destroy,
};
