/* librdkafka, loaded when the first client of Kafka is about to be made: it brings OpenSSL, SASL
 * and three compressors along (5 ms and 2.6 MiB on a start), which a processor without Kafka does
 * without (ADR 17).
 *
 * The functions keep their names and contracts (librdkafka/rdkafka.h): behind a successful
 * st_rdkafka_load code reads as if the library were linked. Files of ours include this header and
 * never the library's own. */
#ifndef TRIGGERS_KAFKA_KAFKA_LIBRARY_H
#define TRIGGERS_KAFKA_KAFKA_LIBRARY_H

#include <librdkafka/rdkafka.h>

#include "processor/core/err.h"

/* The functions in use; each has a line below, too. */
// clang-format off
#define ST_RDKAFKA_FUNCTIONS(F) \
    F(rd_kafka_assign) F(rd_kafka_assignment) F(rd_kafka_assignment_lost) F(rd_kafka_commit_queue) \
    F(rd_kafka_committed) F(rd_kafka_conf_destroy) F(rd_kafka_conf_dup) F(rd_kafka_conf_new) \
    F(rd_kafka_conf_set) F(rd_kafka_conf_set_consume_cb) F(rd_kafka_conf_set_dr_msg_cb) \
    F(rd_kafka_conf_set_error_cb) F(rd_kafka_conf_set_log_cb) \
    F(rd_kafka_conf_set_oauthbearer_token_refresh_cb) F(rd_kafka_conf_set_opaque) \
    F(rd_kafka_conf_set_rebalance_cb) F(rd_kafka_conf_set_stats_cb) \
    F(rd_kafka_consume_callback_queue) F(rd_kafka_consumer_close) F(rd_kafka_consumer_poll) \
    F(rd_kafka_destroy) F(rd_kafka_destroy_flags) F(rd_kafka_err2name) F(rd_kafka_err2str) \
    F(rd_kafka_error_destroy) F(rd_kafka_error_string) F(rd_kafka_event_destroy) \
    F(rd_kafka_event_error) F(rd_kafka_event_error_string) F(rd_kafka_fatal_error) \
    F(rd_kafka_flush) F(rd_kafka_get_watermark_offsets) F(rd_kafka_header_add) \
    F(rd_kafka_header_cnt) F(rd_kafka_header_get_all) F(rd_kafka_headers_destroy) \
    F(rd_kafka_headers_new) F(rd_kafka_incremental_assign) F(rd_kafka_incremental_unassign) \
    F(rd_kafka_last_error) F(rd_kafka_mem_free) F(rd_kafka_memberid) F(rd_kafka_message_destroy) \
    F(rd_kafka_message_errstr) F(rd_kafka_message_headers) F(rd_kafka_message_timestamp) \
    F(rd_kafka_metadata) F(rd_kafka_metadata_destroy) F(rd_kafka_name) F(rd_kafka_new) \
    F(rd_kafka_oauthbearer_set_token) F(rd_kafka_oauthbearer_set_token_failure) \
    F(rd_kafka_outq_len) F(rd_kafka_poll) F(rd_kafka_poll_set_consumer) F(rd_kafka_produce) \
    F(rd_kafka_producev) F(rd_kafka_purge) F(rd_kafka_query_watermark_offsets) \
    F(rd_kafka_queue_destroy) F(rd_kafka_queue_forward) F(rd_kafka_queue_get_consumer) \
    F(rd_kafka_queue_get_main) F(rd_kafka_queue_get_partition) F(rd_kafka_queue_io_event_enable) \
    F(rd_kafka_queue_length) F(rd_kafka_queue_new) F(rd_kafka_queue_poll) \
    F(rd_kafka_queue_poll_callback) F(rd_kafka_rebalance_protocol) F(rd_kafka_seek) \
    F(rd_kafka_set_log_queue) F(rd_kafka_subscribe) F(rd_kafka_topic_destroy) \
    F(rd_kafka_topic_name) F(rd_kafka_topic_new) F(rd_kafka_topic_partition_list_add) \
    F(rd_kafka_topic_partition_list_copy) F(rd_kafka_topic_partition_list_del) \
    F(rd_kafka_topic_partition_list_destroy) F(rd_kafka_topic_partition_list_find) \
    F(rd_kafka_topic_partition_list_new) F(rd_kafka_topic_partition_list_sort) \
    F(rd_kafka_unsubscribe) F(rd_kafka_version) F(rd_kafka_version_str) F(rd_kafka_yield)
// clang-format on

struct st_rdkafka {
#define ST_RDKAFKA_MEMBER(name) __typeof__(name) *name; /* NOLINT(bugprone-macro-parentheses) */
    ST_RDKAFKA_FUNCTIONS(ST_RDKAFKA_MEMBER)
#undef ST_RDKAFKA_MEMBER
};

/* Constant once st_rdkafka_load has returned 0. */
extern struct st_rdkafka st_rdkafka;

/* Loads the library once; it stays until the process ends. 0, or ST_ERR_NOTFOUND with *err filled:
 * the machine has none that fits. Any thread. */
int st_rdkafka_load(struct st_error *err) ST_MUST_CHECK;

/* A macro is not expanded within itself: the member keeps the name. */
#define rd_kafka_assign (*st_rdkafka.rd_kafka_assign)
#define rd_kafka_assignment (*st_rdkafka.rd_kafka_assignment)
#define rd_kafka_assignment_lost (*st_rdkafka.rd_kafka_assignment_lost)
#define rd_kafka_commit_queue (*st_rdkafka.rd_kafka_commit_queue)
#define rd_kafka_committed (*st_rdkafka.rd_kafka_committed)
#define rd_kafka_conf_destroy (*st_rdkafka.rd_kafka_conf_destroy)
#define rd_kafka_conf_dup (*st_rdkafka.rd_kafka_conf_dup)
#define rd_kafka_conf_new (*st_rdkafka.rd_kafka_conf_new)
#define rd_kafka_conf_set (*st_rdkafka.rd_kafka_conf_set)
#define rd_kafka_conf_set_consume_cb (*st_rdkafka.rd_kafka_conf_set_consume_cb)
#define rd_kafka_conf_set_dr_msg_cb (*st_rdkafka.rd_kafka_conf_set_dr_msg_cb)
#define rd_kafka_conf_set_error_cb (*st_rdkafka.rd_kafka_conf_set_error_cb)
#define rd_kafka_conf_set_log_cb (*st_rdkafka.rd_kafka_conf_set_log_cb)
#define rd_kafka_conf_set_oauthbearer_token_refresh_cb \
    (*st_rdkafka.rd_kafka_conf_set_oauthbearer_token_refresh_cb)
#define rd_kafka_conf_set_opaque (*st_rdkafka.rd_kafka_conf_set_opaque)
#define rd_kafka_conf_set_rebalance_cb (*st_rdkafka.rd_kafka_conf_set_rebalance_cb)
#define rd_kafka_conf_set_stats_cb (*st_rdkafka.rd_kafka_conf_set_stats_cb)
#define rd_kafka_consume_callback_queue (*st_rdkafka.rd_kafka_consume_callback_queue)
#define rd_kafka_consumer_close (*st_rdkafka.rd_kafka_consumer_close)
#define rd_kafka_consumer_poll (*st_rdkafka.rd_kafka_consumer_poll)
#define rd_kafka_destroy (*st_rdkafka.rd_kafka_destroy)
#define rd_kafka_destroy_flags (*st_rdkafka.rd_kafka_destroy_flags)
#define rd_kafka_err2name (*st_rdkafka.rd_kafka_err2name)
#define rd_kafka_err2str (*st_rdkafka.rd_kafka_err2str)
#define rd_kafka_error_destroy (*st_rdkafka.rd_kafka_error_destroy)
#define rd_kafka_error_string (*st_rdkafka.rd_kafka_error_string)
#define rd_kafka_event_destroy (*st_rdkafka.rd_kafka_event_destroy)
#define rd_kafka_event_error (*st_rdkafka.rd_kafka_event_error)
#define rd_kafka_event_error_string (*st_rdkafka.rd_kafka_event_error_string)
#define rd_kafka_fatal_error (*st_rdkafka.rd_kafka_fatal_error)
#define rd_kafka_flush (*st_rdkafka.rd_kafka_flush)
#define rd_kafka_get_watermark_offsets (*st_rdkafka.rd_kafka_get_watermark_offsets)
#define rd_kafka_header_add (*st_rdkafka.rd_kafka_header_add)
#define rd_kafka_header_cnt (*st_rdkafka.rd_kafka_header_cnt)
#define rd_kafka_header_get_all (*st_rdkafka.rd_kafka_header_get_all)
#define rd_kafka_headers_destroy (*st_rdkafka.rd_kafka_headers_destroy)
#define rd_kafka_headers_new (*st_rdkafka.rd_kafka_headers_new)
#define rd_kafka_incremental_assign (*st_rdkafka.rd_kafka_incremental_assign)
#define rd_kafka_incremental_unassign (*st_rdkafka.rd_kafka_incremental_unassign)
#define rd_kafka_last_error (*st_rdkafka.rd_kafka_last_error)
#define rd_kafka_message_destroy (*st_rdkafka.rd_kafka_message_destroy)
#define rd_kafka_message_errstr (*st_rdkafka.rd_kafka_message_errstr)
#define rd_kafka_message_headers (*st_rdkafka.rd_kafka_message_headers)
#define rd_kafka_message_timestamp (*st_rdkafka.rd_kafka_message_timestamp)
#define rd_kafka_mem_free (*st_rdkafka.rd_kafka_mem_free)
#define rd_kafka_memberid (*st_rdkafka.rd_kafka_memberid)
#define rd_kafka_metadata (*st_rdkafka.rd_kafka_metadata)
#define rd_kafka_metadata_destroy (*st_rdkafka.rd_kafka_metadata_destroy)
#define rd_kafka_name (*st_rdkafka.rd_kafka_name)
#define rd_kafka_new (*st_rdkafka.rd_kafka_new)
#define rd_kafka_oauthbearer_set_token (*st_rdkafka.rd_kafka_oauthbearer_set_token)
#define rd_kafka_oauthbearer_set_token_failure (*st_rdkafka.rd_kafka_oauthbearer_set_token_failure)
#define rd_kafka_outq_len (*st_rdkafka.rd_kafka_outq_len)
#define rd_kafka_poll (*st_rdkafka.rd_kafka_poll)
#define rd_kafka_poll_set_consumer (*st_rdkafka.rd_kafka_poll_set_consumer)
#define rd_kafka_produce (*st_rdkafka.rd_kafka_produce)
#define rd_kafka_producev (*st_rdkafka.rd_kafka_producev)
#define rd_kafka_purge (*st_rdkafka.rd_kafka_purge)
#define rd_kafka_query_watermark_offsets (*st_rdkafka.rd_kafka_query_watermark_offsets)
#define rd_kafka_queue_destroy (*st_rdkafka.rd_kafka_queue_destroy)
#define rd_kafka_queue_forward (*st_rdkafka.rd_kafka_queue_forward)
#define rd_kafka_queue_get_consumer (*st_rdkafka.rd_kafka_queue_get_consumer)
#define rd_kafka_queue_get_main (*st_rdkafka.rd_kafka_queue_get_main)
#define rd_kafka_queue_get_partition (*st_rdkafka.rd_kafka_queue_get_partition)
#define rd_kafka_queue_io_event_enable (*st_rdkafka.rd_kafka_queue_io_event_enable)
#define rd_kafka_queue_length (*st_rdkafka.rd_kafka_queue_length)
#define rd_kafka_queue_new (*st_rdkafka.rd_kafka_queue_new)
#define rd_kafka_queue_poll (*st_rdkafka.rd_kafka_queue_poll)
#define rd_kafka_queue_poll_callback (*st_rdkafka.rd_kafka_queue_poll_callback)
#define rd_kafka_rebalance_protocol (*st_rdkafka.rd_kafka_rebalance_protocol)
#define rd_kafka_seek (*st_rdkafka.rd_kafka_seek)
#define rd_kafka_set_log_queue (*st_rdkafka.rd_kafka_set_log_queue)
#define rd_kafka_subscribe (*st_rdkafka.rd_kafka_subscribe)
#define rd_kafka_topic_destroy (*st_rdkafka.rd_kafka_topic_destroy)
#define rd_kafka_topic_name (*st_rdkafka.rd_kafka_topic_name)
#define rd_kafka_topic_new (*st_rdkafka.rd_kafka_topic_new)
#define rd_kafka_topic_partition_list_add (*st_rdkafka.rd_kafka_topic_partition_list_add)
#define rd_kafka_topic_partition_list_copy (*st_rdkafka.rd_kafka_topic_partition_list_copy)
#define rd_kafka_topic_partition_list_del (*st_rdkafka.rd_kafka_topic_partition_list_del)
#define rd_kafka_topic_partition_list_destroy (*st_rdkafka.rd_kafka_topic_partition_list_destroy)
#define rd_kafka_topic_partition_list_find (*st_rdkafka.rd_kafka_topic_partition_list_find)
#define rd_kafka_topic_partition_list_new (*st_rdkafka.rd_kafka_topic_partition_list_new)
#define rd_kafka_topic_partition_list_sort (*st_rdkafka.rd_kafka_topic_partition_list_sort)
#define rd_kafka_unsubscribe (*st_rdkafka.rd_kafka_unsubscribe)
#define rd_kafka_version (*st_rdkafka.rd_kafka_version)
#define rd_kafka_version_str (*st_rdkafka.rd_kafka_version_str)
#define rd_kafka_yield (*st_rdkafka.rd_kafka_yield)

#endif
