/* Configuration of the kafka trigger: Nuclio's names, what librdkafka is told of them. */
#include <math.h>
#include <stdio.h>

#include "processor/config/config.h"
#include "triggers/kafka/kafka_int.h"

/* Index = the attribute's value. */
static const char *const offsets[] = {"earliest", "latest", NULL};
static const char *const balances[] = {"range", "roundrobin", "sticky", "cooperative-sticky", NULL};
static const char *const allocations[] = {"pool", "static", NULL};
enum { KAFKA_STICKY = 2, KAFKA_COOPERATIVE = 3 };
enum { MESSAGES_MOST = 10000000 };       /* that queued.min.messages can be */
enum { COOPERATIVE_SINCE = 0x020a00ff }; /* earlier ones loop or forget partitions */

#define AT(member) offsetof(struct kafka_attributes, member)
const struct st_option kafka_attribute_table[] = {
    ST_KAFKA_CLIENT_ROWS(AT(client)),
    {.name = "topics",
     .type = ST_OPT_STRING_LIST,
     .offset = AT(topics),
     .flags = ST_OPT_REQUIRED | ST_OPT_EXPAND,
     .help = "Topics to read; one that begins with ^ is a regular expression.",
     .example = "[orders]"},
    {.name = "consumerGroup",
     .type = ST_OPT_STRING,
     .offset = AT(group),
     .value = "",
     .flags = ST_OPT_REQUIRED | ST_OPT_EXPAND,
     .help = "Group whose members share the partitions, and which keeps the positions.",
     .example = "orders-function"},
    {.name = "groupInstanceId",
     .type = ST_OPT_STRING,
     .offset = AT(instance_id),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "Static membership: a name that the member keeps over restarts, such as a "
             "StatefulSet's pod name; within sessionTimeout it gets its partitions back. Empty: a "
             "random one, which leaves at the end.",
     .example = "${HOSTNAME}"},
    {.name = "initialOffset",
     .type = ST_OPT_ENUM,
     .offset = AT(initial_offset),
     .value = "latest",
     .values = offsets,
     .help = "Where the group begins in a partition that it has no position in.",
     .example = "earliest"},
    {.name = "balanceStrategy",
     .type = ST_OPT_ENUM,
     .offset = AT(balance),
     .value = "range",
     .values = balances,
     .help = "How partitions are spread over the members; sticky means range on a librdkafka "
             "older than 2.10.",
     .example = "range"},
    {.name = "workerAllocationMode",
     .type = ST_OPT_ENUM,
     .offset = AT(allocation),
     .value = "pool",
     .values = allocations,
     .help = "pool: any free worker; static: a partition's messages always go to the same worker.",
     .example = "pool"},
    {.name = "sessionTimeout",
     .type = ST_OPT_DURATION,
     .offset = AT(session_ns),
     .value = "10s",
     .min = 1e9,
     .max = 3600e9,
     .help = "Without a heartbeat for that long the group gives a member up.",
     .example = "10s"},
    {.name = "heartbeatInterval",
     .type = ST_OPT_DURATION,
     .offset = AT(heartbeat_ns),
     .value = "1s",
     .min = 1e8,
     .max = 3600e9,
     .help = "Time between heartbeats, and so how soon a change of the group is heard of.",
     .example = "1s"},
    {.name = "maxProcessingTime",
     .type = ST_OPT_DURATION,
     .offset = AT(max_processing_ns),
     .value = "5m",
     .min = 1e9,
     .max = 86400e9,
     .help = "Without a look at its queue for that long a member gives its partitions up.",
     .example = "5m"},
    {.name = "rebalanceTimeout",
     .type = ST_OPT_DURATION,
     .offset = AT(rebalance_ns),
     .value = "60s",
     .min = 1e9,
     .max = 3600e9,
     .help = "Nuclio's; how long members may take to join again is maxProcessingTime.",
     .example = "60s"},
    {.name = "rebalanceRetryMax",
     .type = ST_OPT_ANY,
     .help = "Nuclio's; joining is never given up."},
    {.name = "rebalanceRetryBackoff", .type = ST_OPT_ANY, .help = "Nuclio's; librdkafka's apply."},
    {.name = "retryBackoff", .type = ST_OPT_ANY, .help = "Nuclio's; librdkafka's apply."},
    {.name = "maxWaitTime",
     .type = ST_OPT_DURATION,
     .offset = AT(max_wait_ns),
     .value = "250ms",
     .min = 1e6,
     .max = 300e9,
     .help = "How long a broker may wait for fetchMin bytes.",
     .example = "250ms"},
    {.name = "maxWaitHandlerDuringRebalance",
     .type = ST_OPT_DURATION,
     .offset = AT(drain_ns),
     .value = "5s",
     .max = 3600e9,
     .help = "How long running handlers may go on when their partition is taken away.",
     .example = "5s"},
    {.name = "fetchMin",
     .type = ST_OPT_INT,
     .offset = AT(fetch_min),
     .value = "1",
     .min = 1,
     .max = 1e8,
     .help = "Bytes that a broker collects before it answers.",
     .example = "1"},
    {.name = "fetchDefault",
     .type = ST_OPT_INT,
     .offset = AT(fetch_default),
     .value = "262144",
     .min = 1,
     .max = 1e9,
     .help = "Bytes of one partition in one answer; few, so that partitions take turns.",
     .example = "1048576"},
    {.name = "fetchMax",
     .type = ST_OPT_INT,
     .offset = AT(fetch_max),
     .value = "2097152",
     .min = 0,
     .max = 2147483135,
     .help = "Bytes of one answer, as long as its first message is not larger; 0: librdkafka's "
             "50 MiB.",
     .example = "2097152"},
    {.name = "prefetch",
     .type = ST_OPT_SIZE,
     .offset = AT(prefetch_bytes),
     .value = "1Mi",
     .min = 1024,
     .max = 2097151.0 * 1024,
     .help = "Bytes of one partition that librdkafka fetches ahead.",
     .example = "1Mi"},
    {.name = "window",
     .type = ST_OPT_INT,
     .offset = AT(window),
     .value = "4096",
     .min = 64,
     .max = 1048576,
     .help = "Messages of one partition that may be taken and not done.",
     .example = "4096"},
    {.name = "windowBytes",
     .type = ST_OPT_SIZE,
     .offset = AT(window_bytes),
     .value = "16Mi",
     .min = 65536,
     .max = INFINITY,
     .help = "Their keys, values and headers together; one message may exceed it.",
     .example = "16Mi"},
    {.name = "commitInterval",
     .type = ST_OPT_DURATION,
     .offset = AT(commit_ns),
     .value = "50ms",
     .min = 1e6,
     .max = 60e9,
     .help = "Time between commits of positions: what is done within it is delivered again after "
             "a crash of the processor.",
     .example = "50ms"},
    {.name = "channelBufferSize",
     .type = ST_OPT_ANY,
     .help = "Nuclio's; window and prefetch bound."},
    {.name = "ackWindowSize",
     .type = ST_OPT_ANY,
     .help = "Nuclio's; a position never passes a message that is not done."},
    {.name = "version", .type = ST_OPT_ANY, .help = "Nuclio's; the brokers are asked."},
    {.name = "logLevel", .type = ST_OPT_ANY, .help = "Nuclio's; see librdkafka: {debug: ...}."},
    {.name = NULL},
};
#undef AT

static int fault(char member[ST_TRIGGER_MEMBER_MAX], const char *name)
{
    snprintf(member, ST_TRIGGER_MEMBER_MAX, "attributes.%s", name);
    return ST_ERR_INVALID;
}

int kafka_check(const struct st_trigger_config *config, char member[ST_TRIGGER_MEMBER_MAX],
                struct st_error *err)
{
    const struct kafka_attributes *a = config->attributes;
    const char *name;

    if (a->client.brokers.count == 0 && config->url[0] == '\0') {
        st_error_set(err, ST_ERR_INVALID,
                     "found none, expected at least one host:port, for "
                     "example [kafka:9092]");
        return fault(member, "brokers");
    }
    if (st_kafka_client_check(&a->client, &name, err) != ST_OK)
        return fault(member, name);
    if (a->topics.count == 0) {
        st_error_set(err, ST_ERR_INVALID,
                     "found none, expected at least one, for example "
                     "[orders]");
        return fault(member, "topics");
    }
    if (a->heartbeat_ns >= a->session_ns) {
        st_error_set(err, ST_ERR_INVALID,
                     "found as long as sessionTimeout or longer, expected about a third of it");
        return fault(member, "heartbeatInterval");
    }
    return ST_OK;
}

/* sticky exists only as a cooperative protocol. */
static const char *strategy(const struct kafka_attributes *a)
{
    if (a->balance == KAFKA_STICKY)
        return rd_kafka_version() >= COOPERATIVE_SINCE ? "cooperative-sticky" : "range";
    return balances[a->balance];
}

#define MILLIS(ns) "%llu", (unsigned long long)((ns) / ST_MSEC)
#define NUMBER(n) "%lld", (long long)(n)

static int set_group(rd_kafka_conf_t *conf, const struct kafka_attributes *a, const char *own_id,
                     struct st_error *err)
{
    if (st_kafka_conf_set(conf, err, "group.id", "%s", a->group) != ST_OK ||
        st_kafka_conf_set(conf, err, "group.instance.id", "%s",
                          own_id[0] != '\0' ? own_id : a->instance_id) != ST_OK ||
        st_kafka_conf_set(conf, err, "partition.assignment.strategy", "%s", strategy(a)) != ST_OK ||
        st_kafka_conf_set(conf, err, "session.timeout.ms", MILLIS(a->session_ns)) != ST_OK ||
        st_kafka_conf_set(conf, err, "heartbeat.interval.ms", MILLIS(a->heartbeat_ns)) != ST_OK ||
        st_kafka_conf_set(conf, err, "max.poll.interval.ms",
                          MILLIS(a->max_processing_ns > a->session_ns ? a->max_processing_ns
                                                                      : a->session_ns)) != ST_OK)
        return ST_ERR_INVALID;
    return st_kafka_conf_set(conf, err, "auto.offset.reset", "%s", offsets[a->initial_offset]);
}

static int set_fetch(rd_kafka_conf_t *conf, const struct kafka_attributes *a, struct st_error *err)
{
    int64_t most = a->fetch_max;
    uint64_t ahead = a->prefetch_bytes / KAFKA_BYTES_LEAST; /* messages */

    if (st_kafka_conf_set(conf, err, "enable.auto.commit", "false") != ST_OK ||
        st_kafka_conf_set(conf, err, "enable.auto.offset.store", "false") != ST_OK ||
        st_kafka_conf_set(conf, err, "enable.partition.eof", "false") != ST_OK ||
        st_kafka_conf_set(conf, err, "isolation.level", "read_committed") != ST_OK ||
        st_kafka_conf_set(conf, err, "fetch.wait.max.ms", MILLIS(a->max_wait_ns)) != ST_OK ||
        st_kafka_conf_set(conf, err, "fetch.min.bytes", NUMBER(a->fetch_min)) != ST_OK ||
        st_kafka_conf_set(conf, err, "fetch.error.backoff.ms", "100") != ST_OK ||
        st_kafka_conf_set(conf, err, "reconnect.backoff.max.ms", "1000") != ST_OK ||
        /* New topics and partitions are found soon; 5 minutes otherwise. */
        st_kafka_conf_set(conf, err, "topic.metadata.refresh.interval.ms", "10000") != ST_OK ||
        st_kafka_conf_set(conf, err, "fetch.message.max.bytes", NUMBER(a->fetch_default)) !=
            ST_OK ||
        st_kafka_conf_set(conf, err, "statistics.interval.ms", MILLIS(a->client.statistics_ns)) !=
            ST_OK ||
        (most > 0 && st_kafka_conf_set(conf, err, "fetch.max.bytes", NUMBER(most)) != ST_OK))
        return ST_ERR_INVALID;
    /* Whichever is reached first; bytes are those of values. See serve() in kafka_consumer.c. */
    if (st_kafka_conf_set(conf, err, "queued.min.messages",
                          NUMBER(ahead < MESSAGES_MOST ? ahead : MESSAGES_MOST)) != ST_OK)
        return ST_ERR_INVALID;
    return st_kafka_conf_set(conf, err, "queued.max.messages.kbytes",
                             NUMBER(a->prefetch_bytes / 1024));
}

rd_kafka_conf_t *kafka_consumer_conf(const struct kafka_trigger *kt, struct st_error *err)
{
    /* What the trigger's promises rest on. */
    static const char *const reserved[] = {"enable.auto.commit",
                                           "enable.auto.offset.store",
                                           "group.id",
                                           "enable.partition.eof",
                                           "partition.assignment.strategy",
                                           "log.queue",
                                           NULL};
    const struct kafka_attributes *a = kafka_attributes_of(kt);
    struct st_error inner;
    rd_kafka_conf_t *conf = st_kafka_client_conf(&a->client, kt->base.config->url, &inner);

    if (conf != NULL && a->balance == KAFKA_COOPERATIVE && rd_kafka_version() < COOPERATIVE_SINCE) {
        rd_kafka_conf_destroy(conf);
        st_error_set(err, ST_ERR_INVALID,
                     "trigger %s: attributes.balanceStrategy: cooperative-sticky needs librdkafka "
                     "2.10 (this is %s): use range, roundrobin or sticky",
                     kt->base.name, rd_kafka_version_str());
        return NULL;
    }
    if (conf != NULL && set_group(conf, a, kt->own_id, &inner) == ST_OK &&
        set_fetch(conf, a, &inner) == ST_OK &&
        st_kafka_conf_apply(conf, &a->client.librdkafka, reserved, &inner) == ST_OK)
        return conf;
    if (conf != NULL)
        rd_kafka_conf_destroy(conf);
    st_error_set(err, inner.code, "trigger %s: %s", kt->base.name, inner.text);
    return NULL;
}
