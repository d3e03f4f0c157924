/* librdkafka's statistics as metrics: a handful of values a client, whatever the number of brokers,
 * topics and partitions. */
#ifndef TRIGGERS_KAFKA_KAFKA_STATS_H
#define TRIGGERS_KAFKA_KAFKA_STATS_H

#include <stdatomic.h>

#include "processor/core/metrics.h"

/* Written by the loop that serves the client, read by the scraping thread. */
struct st_kafka_stats {
    _Atomic int64_t rtt_us, received, sent, waiting, fetched, fetched_bytes, queued, queued_bytes;
};

/* Registers the series of a consumer, or of a producer. labels: whose they are. The struct outlives
 * the metrics' last reader. Main thread. */
void st_kafka_stats_register(struct st_kafka_stats *s, const struct st_label *labels,
                             bool is_producer);

/* Takes what librdkafka's callback brings; a text that is none changes nothing. */
void st_kafka_stats_read(struct st_kafka_stats *s, const char *text, size_t len);

#endif
