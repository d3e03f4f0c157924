/* What is taken out of librdkafka's statistics. */
#include "tests/unit/test_core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "triggers/kafka/kafka_stats.h"

static struct st_kafka_stats stats;

static void check_metric(const char *line, bool there)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    st_metrics_write(out);
    assert_int_equal(fclose(out), 0);
    if ((strstr(text, line) != NULL) != there)
        fail_msg("%s in %s", line, text);
    free(text);
}

static void read_text(const char *text)
{
    st_kafka_stats_read(&stats, text, strlen(text));
}

static const char sample[] =
    "{\"rx_bytes\": 5000, \"tx_bytes\": 70, \"msg_cnt\": 3, \"msg_size\": 99, \"brokers\": {"
    "\"a\": {\"outbuf_cnt\": 1, \"waitresp_cnt\": 2, \"rtt\": {\"avg\": 1500}},"
    "\"b\": {\"outbuf_cnt\": 0, \"waitresp_cnt\": 4, \"rtt\": {\"avg\": 250}},"
    "\"GroupCoordinator\": {}}, \"topics\": {"
    "\"t\": {\"partitions\": {\"0\": {\"fetchq_cnt\": 10, \"fetchq_size\": 1000},"
    "                         \"-1\": {\"fetchq_cnt\": 0, \"fetchq_size\": 0}}},"
    "\"u\": {\"partitions\": {\"5\": {\"fetchq_cnt\": 7, \"fetchq_size\": 70}}}}}";

static void test_consumer(void **state)
{
    static const struct st_label labels[] = {{"trigger_id", "t"}, {NULL, NULL}};

    (void)state;
    st_kafka_stats_register(&stats, labels, false);
    read_text(sample);
    check_metric("stator_kafka_broker_rtt_seconds{trigger_id=\"t\"} 0.0015\n", true);
    check_metric("stator_kafka_bytes_total{trigger_id=\"t\",direction=\"received\"} 5000\n", true);
    check_metric("stator_kafka_bytes_total{trigger_id=\"t\",direction=\"sent\"} 70\n", true);
    check_metric("stator_kafka_requests_in_flight{trigger_id=\"t\"} 7\n", true);
    check_metric("stator_kafka_prefetched_messages{trigger_id=\"t\"} 17\n", true);
    check_metric("stator_kafka_prefetched_bytes{trigger_id=\"t\"} 1070\n", true);
    check_metric("stator_kafka_producer_messages{", false);
    /* Texts that say nothing. */
    read_text("{");
    read_text("");
    check_metric("stator_kafka_prefetched_messages{trigger_id=\"t\"} 17\n", true);
    read_text("{\"brokers\": 5, \"topics\": {\"t\": []}, \"rx_bytes\": \"many\"}");
    check_metric("stator_kafka_prefetched_messages{trigger_id=\"t\"} 0\n", true);
    st_metrics_reset();
}

static void test_producer(void **state)
{
    static const struct st_label labels[] = {{"output", "o"}, {NULL, NULL}};

    (void)state;
    st_kafka_stats_register(&stats, labels, true);
    read_text(sample);
    check_metric("stator_kafka_producer_messages{output=\"o\"} 3\n", true);
    check_metric("stator_kafka_producer_bytes{output=\"o\"} 99\n", true);
    check_metric("stator_kafka_prefetched_messages{", false);
    st_metrics_reset();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_consumer),
        cmocka_unit_test(test_producer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
