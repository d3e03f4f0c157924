/* Every metric family, a row each: X(id, name, type, scale, help). A scrape, the docs and the
 * registry read this one table. Nuclio's names and meanings first, Stator's own behind them. Labels
 * are those that the registering code gives; histograms are exposed in seconds.
 *
 * scale: what a shard holds for 1 of the exposed unit, 1 or 1000. With 1000 milliseconds are
 * counted in microseconds and seconds in milliseconds. Values of st_metric_register_fn aren't
 * scaled. process_* have the help of every Prometheus client: a push gateway insists. */
#ifndef PROCESSOR_CORE_METRICS_TABLE_H
#define PROCESSOR_CORE_METRICS_TABLE_H

/* clang-format off */
#define ST_METRIC_TABLE(X) \
    X(HANDLED_EVENTS, "nuclio_processor_handled_events_total", ST_COUNTER, 1, \
      "Events handled, by result") \
    X(HANDLED_DURATION_SUM, "nuclio_processor_handled_events_duration_milliseconds_sum", \
      ST_COUNTER, 1000, "Milliseconds spent handling events, by worker") \
    X(HANDLED_DURATION_COUNT, "nuclio_processor_handled_events_duration_milliseconds_count", \
      ST_COUNTER, 1, "Events whose duration was counted, by worker") \
    X(ALLOCATION_COUNT, "nuclio_processor_worker_allocation_count", ST_COUNTER, 1, \
      "Tries to allocate a worker") \
    X(ALLOCATION, "nuclio_processor_worker_allocation_total", ST_COUNTER, 1, \
      "Tries to allocate a worker, by result") \
    X(ALLOCATION_WAIT, "nuclio_processor_worker_allocation_wait_duration_milliseconds_sum", \
      ST_COUNTER, 1000, "Milliseconds that events waited for a worker") \
    X(ALLOCATION_AVAILABLE, \
      "nuclio_processor_worker_allocation_workers_available_percentage", ST_COUNTER, 1, \
      "Sum of the percentage of free workers at each allocation") \
    X(EVENTS_IN_FLIGHT, "stator_events_in_flight", ST_GAUGE, 1, \
      "Events dispatched and not finished") \
    X(EVENT_DURATION, "stator_event_duration_seconds", ST_HISTOGRAM, 1, \
      "From an event's arrival to its answer") \
    X(QUEUE_EVENTS, "stator_queue_events", ST_GAUGE, 1, "Events that wait for a worker") \
    X(QUEUE_WAIT, "stator_queue_wait_seconds", ST_HISTOGRAM, 1, \
      "How long events that had to wait for a worker did so") \
    X(WORKERS, "stator_workers", ST_GAUGE, 1, "Workers by state") \
    X(WORKER_RESTARTS, "stator_worker_restarts_total", ST_COUNTER, 1, \
      "Workers replaced or started again, by reason") \
    X(WORKER_MEMORY, "stator_forked_worker_memory_bytes", ST_GAUGE, 1, \
      "Resident memory of a worker that was forked from a template, mean of some: shared with " \
      "other processes, and its own; looked at once a minute") \
    X(CONNECTIONS, "stator_connections", ST_GAUGE, 1, "Open client connections") \
    X(REJECTED, "stator_rejected_total", ST_COUNTER, 1, \
      "Requests and events refused before a handler saw them, by reason") \
    X(LATE_RESULTS, "stator_late_results_total", ST_COUNTER, 1, \
      "Results that came after their event was answered, and were dropped") \
    X(CLIENT_GONE, "stator_client_gone_total", ST_COUNTER, 1, \
      "Events whose client left before the answer, by stage") \
    X(BYTES, "stator_bytes_total", ST_COUNTER, 1, "Bytes from and to clients, by direction") \
    X(BODY_BYTES, "stator_body_memory_bytes", ST_GAUGE, 1, "Memory that request bodies hold now") \
    X(LOGS_DROPPED, "stator_logs_dropped_total", ST_COUNTER, 1, "Log records that found a full ring") \
    X(EMITS, "stator_emits_total", ST_COUNTER, 1, \
      "Messages for outputs, by output and result") \
    X(OUTPUT_RENEWALS, "stator_output_renewals_total", ST_COUNTER, 1, \
      "Times that an output's client failed for good and had to be replaced") \
    X(HANDLER_COUNT, "stator_handler_total", ST_COUNTER, 1, \
      "What the handler counts itself, by name") \
    X(HANDLER_GAUGE, "stator_handler_gauge", ST_GAUGE, 1, \
      "What the handler measures itself, by name and worker; the last value it gave") \
    X(HANDLER_DROPPED, "stator_handler_metrics_dropped_total", ST_COUNTER, 1, \
      "Counts and gauges of the handler that were left out, since there are too many names") \
    X(METRIC_PUSHES, "stator_metric_pushes_total", ST_COUNTER, 1, \
      "Pushes of these metrics to a gateway, by sink and result") \
    X(SOURCE_LAG, "stator_source_lag", ST_GAUGE, 1, \
      "Offsets of a partition between the position that may be committed and its end; those of a " \
      "transaction's marker or a compacted message count") \
    X(SOURCE_PENDING, "stator_source_pending", ST_GAUGE, 1, \
      "Messages of a partition that were taken and are not done") \
    X(SOURCE_AGE, "stator_source_stalled_seconds", ST_GAUGE, 1, \
      "How long a partition's position has stood still with messages open") \
    X(COMMIT_SECONDS, "stator_commit_seconds", ST_HISTOGRAM, 1, "How long commits of offsets took") \
    X(REBALANCES, "stator_rebalances_total", ST_COUNTER, 1, "Times that partitions were taken away") \
    X(REBALANCE_SECONDS, "stator_rebalance_seconds", ST_HISTOGRAM, 1, \
      "From the word that partitions go to their release") \
    X(RETRIES, "stator_retries_total", ST_COUNTER, 1, "Deliveries of messages that had failed") \
    X(DEAD_LETTERS, "stator_dead_letters_total", ST_COUNTER, 1, "Messages put aside for good") \
    X(ACKED_FAILED, "stator_acknowledged_failures_total", ST_COUNTER, 1, \
      "Messages that failed and were acknowledged all the same") \
    X(KAFKA_RTT, "stator_kafka_broker_rtt_seconds", ST_GAUGE, 1, \
      "Mean round trip to the slowest broker in the last interval of librdkafka's statistics") \
    X(KAFKA_BYTES, "stator_kafka_bytes_total", ST_COUNTER, 1, \
      "Bytes that a client of Kafka exchanged with brokers, by direction") \
    X(KAFKA_REQUESTS, "stator_kafka_requests_in_flight", ST_GAUGE, 1, \
      "Requests of a client of Kafka that wait to be sent or answered") \
    X(KAFKA_FETCHED, "stator_kafka_prefetched_messages", ST_GAUGE, 1, \
      "Messages that librdkafka has fetched and the trigger has not taken") \
    X(KAFKA_FETCHED_BYTES, "stator_kafka_prefetched_bytes", ST_GAUGE, 1, "Their bytes") \
    X(KAFKA_QUEUED, "stator_kafka_producer_messages", ST_GAUGE, 1, \
      "Messages of an output that are not confirmed") \
    X(KAFKA_QUEUED_BYTES, "stator_kafka_producer_bytes", ST_GAUGE, 1, "Their bytes") \
    X(SLOT_INFO, "stator_slot_info", ST_GAUGE, 1, "1 for each slot, its binding in the labels") \
    X(READY_SECONDS, "stator_ready_seconds", ST_GAUGE, 1000, "From the process's start to readiness") \
    X(PROCESS_CPU, "process_cpu_seconds_total", ST_COUNTER, 1, \
      "Total user and system CPU time spent in seconds.") \
    X(PROCESS_RESIDENT, "process_resident_memory_bytes", ST_GAUGE, 1, "Resident memory size in bytes.") \
    X(PROCESS_VIRTUAL, "process_virtual_memory_bytes", ST_GAUGE, 1, "Virtual memory size in bytes.") \
    X(PROCESS_OPEN_FDS, "process_open_fds", ST_GAUGE, 1, "Number of open file descriptors.") \
    X(PROCESS_MAX_FDS, "process_max_fds", ST_GAUGE, 1, "Maximum number of open file descriptors.") \
    X(PROCESS_START, "process_start_time_seconds", ST_GAUGE, 1, \
      "Start time of the process since unix epoch in seconds.") \
    X(BUILD_INFO, "stator_build_info", ST_GAUGE, 1, "1, the build in the labels")
/* clang-format on */

#endif
