#include "triggers/kafka/kafka_stats.h"

#include <jansson.h>

static double whole(void *arg)
{
    _Atomic int64_t *value = arg;

    return (double)atomic_load_explicit(value, memory_order_relaxed);
}

static double seconds(void *arg)
{
    return whole(arg) / 1e6;
}

/* The series with one more label; labels end behind at most six. */
static void register_way(enum st_metric_family family, const struct st_label *labels,
                         const char *direction, _Atomic int64_t *value)
{
    struct st_label more[8] = {{NULL, NULL}};
    size_t n = 0;

    for (; labels[n].name != NULL && n < ST_ARRAY_LEN(more) - 2; n++)
        more[n] = labels[n];
    more[n] = (struct st_label){"direction", direction};
    st_metric_register_fn(family, more, whole, value);
}

void st_kafka_stats_register(struct st_kafka_stats *s, const struct st_label *labels,
                             bool is_producer)
{
    st_metric_register_fn(ST_METRIC_KAFKA_RTT, labels, seconds, &s->rtt_us);
    register_way(ST_METRIC_KAFKA_BYTES, labels, "received", &s->received);
    register_way(ST_METRIC_KAFKA_BYTES, labels, "sent", &s->sent);
    st_metric_register_fn(ST_METRIC_KAFKA_REQUESTS, labels, whole, &s->waiting);
    if (is_producer) {
        st_metric_register_fn(ST_METRIC_KAFKA_QUEUED, labels, whole, &s->queued);
        st_metric_register_fn(ST_METRIC_KAFKA_QUEUED_BYTES, labels, whole, &s->queued_bytes);
    } else {
        st_metric_register_fn(ST_METRIC_KAFKA_FETCHED, labels, whole, &s->fetched);
        st_metric_register_fn(ST_METRIC_KAFKA_FETCHED_BYTES, labels, whole, &s->fetched_bytes);
    }
}

static int64_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static void publish(_Atomic int64_t *to, int64_t value)
{
    atomic_store_explicit(to, value, memory_order_relaxed);
}

static void read_brokers(struct st_kafka_stats *s, json_t *brokers)
{
    int64_t slowest = 0, waiting = 0;
    const char *name;
    json_t *broker;

    json_object_foreach(brokers, name, broker)
    {
        int64_t rtt = number(json_object_get(broker, "rtt"), "avg");

        slowest = rtt > slowest ? rtt : slowest;
        waiting += number(broker, "outbuf_cnt") + number(broker, "waitresp_cnt");
    }
    publish(&s->rtt_us, slowest);
    publish(&s->waiting, waiting);
}

static void read_topics(struct st_kafka_stats *s, json_t *topics)
{
    int64_t messages = 0, bytes = 0;
    const char *name, *partition_name;
    json_t *topic, *partition;

    json_object_foreach(topics, name, topic)
    {
        json_object_foreach(json_object_get(topic, "partitions"), partition_name, partition)
        {
            messages += number(partition, "fetchq_cnt");
            bytes += number(partition, "fetchq_size");
        }
    }
    publish(&s->fetched, messages);
    publish(&s->fetched_bytes, bytes);
}

void st_kafka_stats_read(struct st_kafka_stats *s, const char *text, size_t len)
{
    json_t *root = json_loadb(text, len, 0, NULL);

    if (root == NULL)
        return;
    read_brokers(s, json_object_get(root, "brokers"));
    read_topics(s, json_object_get(root, "topics"));
    publish(&s->received, number(root, "rx_bytes"));
    publish(&s->sent, number(root, "tx_bytes"));
    publish(&s->queued, number(root, "msg_cnt"));
    publish(&s->queued_bytes, number(root, "msg_size"));
    json_decref(root);
}
