/*
 * limit_kafka: plain loops around librdkafka. What they reach is what the library allows here.
 *
 * Measured, from FIRST to LAST of COUNT messages; each prints "begin" and "end" there and at last
 * one JSON object:
 *
 * - consume: all partitions from their beginning, by callbacks from one queue; no group, no commits
 * - group: the usual loop of consumer_poll() in a group that commits every 50 ms
 * - produce: an idempotent producer of messages of SIZE bytes, with the settings of our output
 * - copy: consume, and each message to a second topic by that producer, on one thread
 *
 * Not measured:
 *
 * - fill: creates TOPIC with COUNT messages; message i has key i % KEYS, which names the partition
 * - create: creates TOPIC
 * - committed: the sum of the group's committed offsets, a line each 20 ms for ever
 * - ends: the sum of the topic's end offsets, one line
 */
#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { GIVE_UP_SECONDS = 120, REQUEST_MS = 20000, WATCH_US = 20000, KEY_MAX = 24 };
static const double FIRST = 0.1, LAST = 0.9;

static struct {
    const char *brokers, *topic, *target, *group;
    long count, keys;
    size_t size;
    int partitions;
} opt = {.topic = "bench",
         .target = "bench-out",
         .group = "bench",
         .count = 1000000,
         .keys = 10000,
         .size = 100,
         .partitions = 16};

struct moment {
    double wall, cpu;
};

/* What is measured: done goes from 0 to opt.count. */
static struct {
    long done, first, last, errors;
    struct moment begin, end;
} seen;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fputs("limit_kafka: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static double seconds(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static struct moment moment_now(const char *name)
{
    struct moment m = {seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};

    puts(name);
    fflush(stdout);
    return m;
}

static void count_one(void)
{
    seen.done++;
    if (seen.done == seen.first)
        seen.begin = moment_now("begin");
    else if (seen.done == seen.last)
        seen.end = moment_now("end");
}

/* The exit status: of a loop that gave up it is 1. */
static int print_result(void)
{
    double wall = seen.end.wall - seen.begin.wall;

    if (seen.done < opt.count || seen.errors > 0)
        die("%ld of %ld messages, %ld errors", seen.done, opt.count, seen.errors);
    printf("{\"total\": %ld, \"wall\": %.6f, \"req_s\": %.1f, \"server_cpu\": %.6f}\n",
           seen.last - seen.first, wall, (double)(seen.last - seen.first) / wall,
           seen.end.cpu - seen.begin.cpu);
    return 0;
}

static void on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque)
{
    (void)rk, (void)opaque;
    if (m->err != 0)
        seen.errors++;
    else
        count_one();
}

/* settings: name, value pairs and a NULL. */
static rd_kafka_t *client(rd_kafka_type_t type, const char *const *settings)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char err[256];
    rd_kafka_t *rk;

    for (; settings[0] != NULL; settings += 2)
        if (rd_kafka_conf_set(conf, settings[0], settings[1], err, sizeof err) != 0)
            die("%s", err);
    if (rd_kafka_conf_set(conf, "bootstrap.servers", opt.brokers, err, sizeof err) != 0)
        die("%s", err);
    if (type == RD_KAFKA_PRODUCER)
        rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rk = rd_kafka_new(type, conf, err, sizeof err);
    if (rk == NULL)
        die("%s", err);
    return rk;
}

static int partition_count(rd_kafka_t *rk)
{
    const struct rd_kafka_metadata *md;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, opt.topic, NULL);
    rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, topic, &md, REQUEST_MS);
    int n;

    if (err != 0 || md->topic_cnt != 1 || md->topics[0].partition_cnt == 0)
        die("metadata of %s: %s", opt.topic, rd_kafka_err2str(err));
    n = md->topics[0].partition_cnt;
    rd_kafka_metadata_destroy(md);
    rd_kafka_topic_destroy(topic);
    return n;
}

/* ---- producers ---- */

static void create_topic(rd_kafka_t *rk)
{
    char err[256];
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(opt.topic, opt.partitions, 1, err, sizeof err);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    const rd_kafka_topic_result_t **results;
    rd_kafka_event_t *event;
    size_t n;

    if (topic == NULL)
        die("%s", err);
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, REQUEST_MS);
    if (event == NULL || rd_kafka_event_error(event) != 0)
        die("CreateTopics: %s", event != NULL ? rd_kafka_event_error_string(event) : "no answer");
    results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    if (n != 1 || rd_kafka_topic_result_error(results[0]) != 0)
        die("CreateTopics: %s", n == 1 ? rd_kafka_topic_result_error_string(results[0]) : "");
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
}

static void publish(rd_kafka_t *rk, rd_kafka_topic_t *topic, int32_t partition, const void *value,
                    size_t len, const void *key, size_t key_len)
{
    while (rd_kafka_produce(topic, partition, RD_KAFKA_MSG_F_COPY, (void *)value, len, key, key_len,
                            NULL) != 0) {
        if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
        rd_kafka_poll(rk, 10);
    }
}

/* opt.count messages; partitions 0: the partitioner chooses. */
static void produce_all(rd_kafka_t *rk, int partitions)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, opt.topic, NULL);
    char *body = malloc(opt.size + 1), key[KEY_MAX];

    if (topic == NULL || body == NULL)
        die("%s", rd_kafka_err2str(rd_kafka_last_error()));
    memset(body, 'x', opt.size);
    for (long i = 0; i < opt.count; i++) {
        long number = i % opt.keys;
        int n = snprintf(key, sizeof key, "key-%06ld", number);

        publish(rk, topic, partitions > 0 ? (int32_t)(number % partitions) : RD_KAFKA_PARTITION_UA,
                body, opt.size, key, (size_t)n);
        if (i % 256 == 0)
            rd_kafka_poll(rk, 0);
    }
    rd_kafka_flush(rk, GIVE_UP_SECONDS * 1000);
    rd_kafka_topic_destroy(topic);
    free(body);
}

static int create(void)
{
    const char *const settings[] = {NULL};
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, settings);

    create_topic(rk);
    rd_kafka_destroy(rk);
    return 0;
}

static int fill(void)
{
    const char *const settings[] = {
        "linger.ms", "50", "queue.buffering.max.messages", "1000000", "batch.num.messages",
        "10000",     NULL};
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, settings);

    create_topic(rk);
    produce_all(rk, opt.partitions);
    rd_kafka_destroy(rk);
    return print_result();
}

/* As docs/configuration.md has the defaults of an output of kind kafka. */
static const char *const output_settings[] = {"enable.idempotence",
                                              "true",
                                              "linger.ms",
                                              "5",
                                              "partitioner",
                                              "murmur2_random",
                                              "queue.buffering.max.messages",
                                              "100000",
                                              "queue.buffering.max.kbytes",
                                              "65536",
                                              "message.timeout.ms",
                                              "30000",
                                              NULL};

static int produce(void)
{
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, output_settings);

    partition_count(rk);
    produce_all(rk, 0);
    rd_kafka_destroy(rk);
    return print_result();
}

/* ---- consumers ---- */

static struct {
    rd_kafka_t *rk;
    rd_kafka_topic_t *topic;
    long sent;
} target;

static void on_message(rd_kafka_message_t *m, void *opaque)
{
    (void)opaque;
    if (m->err != 0)
        seen.errors++;
    else
        count_one();
}

static void on_message_to_copy(rd_kafka_message_t *m, void *opaque)
{
    (void)opaque;
    if (m->err != 0) {
        seen.errors++;
    } else if (target.sent < opt.count) {
        publish(target.rk, target.topic, RD_KAFKA_PARTITION_UA, m->payload, m->len, m->key,
                m->key_len);
        if (++target.sent % 256 == 0)
            rd_kafka_poll(target.rk, 0);
    }
}

/* Until opt.count messages were counted. */
static void consume_all(void (*callback)(rd_kafka_message_t *m, void *opaque))
{
    const char *const settings[] = {"queued.min.messages", "100000", "fetch.wait.max.ms", "10",
                                    NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, settings);
    int partitions = partition_count(rk);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, opt.topic, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    double give_up = seconds(CLOCK_MONOTONIC) + GIVE_UP_SECONDS;

    for (int p = 0; p < partitions; p++)
        if (rd_kafka_consume_start_queue(topic, p, RD_KAFKA_OFFSET_BEGINNING, queue) != 0)
            die("consume_start: %s", rd_kafka_err2str(rd_kafka_last_error()));
    while (seen.done < opt.count && seconds(CLOCK_MONOTONIC) < give_up) {
        rd_kafka_consume_callback_queue(queue, target.rk == NULL ? 100 : 1, callback, NULL);
        if (target.rk != NULL)
            rd_kafka_poll(target.rk, 0);
    }
    for (int p = 0; p < partitions; p++)
        rd_kafka_consume_stop(topic, p);
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
}

static int consume(void)
{
    consume_all(on_message);
    return print_result();
}

static int copy(void)
{
    target.rk = client(RD_KAFKA_PRODUCER, output_settings);
    target.topic = rd_kafka_topic_new(target.rk, opt.target, NULL);
    if (target.topic == NULL)
        die("%s", rd_kafka_err2str(rd_kafka_last_error()));
    consume_all(on_message_to_copy);
    rd_kafka_topic_destroy(target.topic);
    rd_kafka_destroy(target.rk);
    return print_result();
}

static int group(void)
{
    const char *const settings[] = {"group.id",
                                    opt.group,
                                    "auto.offset.reset",
                                    "earliest",
                                    "queued.min.messages",
                                    "100000",
                                    "fetch.wait.max.ms",
                                    "10",
                                    "auto.commit.interval.ms",
                                    "50",
                                    NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, settings);
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    double give_up = seconds(CLOCK_MONOTONIC) + GIVE_UP_SECONDS;

    rd_kafka_poll_set_consumer(rk);
    rd_kafka_topic_partition_list_add(topics, opt.topic, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(rk, topics) != 0)
        die("no subscription");
    rd_kafka_topic_partition_list_destroy(topics);
    while (seen.done < opt.count && seconds(CLOCK_MONOTONIC) < give_up) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(rk, 100);

        if (m != NULL) {
            on_message(m, NULL);
            rd_kafka_message_destroy(m);
        }
    }
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    return print_result();
}

/* ---- positions ---- */

static long committed_sum(rd_kafka_t *rk, int partitions)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    rd_kafka_resp_err_t err;
    long sum = 0;

    rd_kafka_topic_partition_list_add_range(list, opt.topic, 0, partitions - 1);
    err = rd_kafka_committed(rk, list, REQUEST_MS);
    if (err != 0)
        die("committed: %s", rd_kafka_err2str(err));
    for (int p = 0; p < partitions; p++)
        sum += list->elems[p].offset > 0 ? (long)list->elems[p].offset : 0;
    rd_kafka_topic_partition_list_destroy(list);
    return sum;
}

static int committed(void)
{
    const char *const settings[] = {"group.id", opt.group, NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, settings);
    int partitions = partition_count(rk);

    do {
        printf("%ld\n", committed_sum(rk, partitions));
        usleep(WATCH_US);
    } while (fflush(stdout) == 0);
    rd_kafka_destroy(rk);
    return 0;
}

static int ends(void)
{
    const char *const settings[] = {NULL};
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, settings);
    int partitions = partition_count(rk);
    long sum = 0;

    for (int p = 0; p < partitions; p++) {
        int64_t low, high;
        rd_kafka_resp_err_t err =
            rd_kafka_query_watermark_offsets(rk, opt.topic, p, &low, &high, REQUEST_MS);

        if (err != 0)
            die("end of partition %d: %s", p, rd_kafka_err2str(err));
        sum += (long)high;
    }
    printf("%ld\n", sum);
    rd_kafka_destroy(rk);
    return 0;
}

__attribute__((noreturn)) static void usage(void)
{
    die("usage: limit_kafka -b BROKERS [-t TOPIC] [-n COUNT] [-s SIZE] [-k KEYS] [-p PARTITIONS]\n"
        "       [-g GROUP] [-o TARGET] consume|group|produce|copy|fill|create|committed|ends");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(void);
    } modes[] = {{"consume", consume}, {"group", group},        {"produce", produce},
                 {"copy", copy},       {"fill", fill},          {"create", create},
                 {"ends", ends},       {"committed", committed}};
    int o;

    while ((o = getopt(argc, argv, "b:t:n:s:k:p:g:o:")) != -1) {
        switch (o) {
        case 'b':
            opt.brokers = optarg;
            break;
        case 't':
            opt.topic = optarg;
            break;
        case 'n':
            opt.count = atol(optarg);
            break;
        case 's':
            opt.size = strtoul(optarg, NULL, 10);
            break;
        case 'k':
            opt.keys = atol(optarg);
            break;
        case 'p':
            opt.partitions = atoi(optarg);
            break;
        case 'g':
            opt.group = optarg;
            break;
        case 'o':
            opt.target = optarg;
            break;
        default:
            usage();
        }
    }
    if (optind + 1 != argc || opt.brokers == NULL || opt.count < 10 || opt.keys < 1 ||
        opt.partitions < 1)
        usage();
    seen.first = (long)((double)opt.count * FIRST);
    seen.last = (long)((double)opt.count * LAST);
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(argv[optind], modes[i].name) == 0)
            return modes[i].run();
    usage();
}
