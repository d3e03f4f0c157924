/* Between the files of `stator kafka`: kafka_command.c (words, configuration), kafka_session.c
 * (clients, topics, errors), kafka_command_lag.c, kafka_command_peek.c, kafka_command_replay.c.
 *
 * One thread; every wait ends by a deadline. Errors go to stderr as one line. */
#ifndef TRIGGERS_KAFKA_KAFKA_COMMAND_INT_H
#define TRIGGERS_KAFKA_KAFKA_COMMAND_INT_H

#include "processor/config/config.h"
#include "triggers/kafka/kafka_int.h"

/* Exit statuses beside EXIT_SUCCESS and EXIT_FAILURE. */
enum { KAFKA_EXIT_NO_BROKER = 3 };

/* What the command line says. */
struct kafka_words {
    struct st_config_args config;
    const char *trigger; /* NULL: the only one */
    const char *topic;   /* NULL: the trigger's */
    const char *from;
    uint64_t timeout_ns;
    int64_t count;     /* messages to show */
    int64_t max;       /* dead letters to replay; -1: all */
    int64_t max_lag;   /* -1: any */
    int64_t partition; /* -1: all */
    int64_t bytes;     /* of a value that are shown; 0: all */
    bool json, dry_run;
};

/* A client that is asked synchronously. */
struct kafka_session {
    rd_kafka_t *rk;
    uint64_t timeout_ns;
    struct st_loop *loop;         /* of oauth */
    struct st_kafka_oauth *oauth; /* or NULL */
    char brokers[256];
    char trouble[256]; /* what librdkafka said last; "" */
    bool refused;      /* it is about a login or a certificate */
};

struct kafka_session_options {
    const struct st_kafka_client_options *client;
    const char *url;   /* where the client has no brokers */
    const char *group; /* NULL: a producer */
    uint64_t timeout_ns;
    void (*on_report)(rd_kafka_t *rk, const rd_kafka_message_t *m, void *opaque); /* or NULL;
                                                                  opaque: the session */
};

/* Opens a client: a consumer of the group that begins at the beginning and commits when told, or
 * without a group an idempotent producer. False: it was told to stderr. */
bool kafka_session_open(struct kafka_session *s, const struct kafka_session_options *o);
void kafka_session_close(struct kafka_session *s);

/* Tells why the servers could not be asked: what they answered, a login or a certificate that was
 * refused, or what is known of why they do not answer. Returns KAFKA_EXIT_NO_BROKER. */
int kafka_session_away(struct kafka_session *s, const char *what, rd_kafka_resp_err_t code);

/* All partitions of topics: names, or regular expressions that begin with "^". NULL with *code: the
 * servers do not answer. A topic that is not there has none. The caller destroys the list. */
rd_kafka_topic_partition_list_t *kafka_session_partitions(struct kafka_session *s,
                                                          const struct st_string_list *topics,
                                                          rd_kafka_resp_err_t *code);

/* First offset of a partition, and the one behind its last. */
rd_kafka_resp_err_t kafka_session_ends(struct kafka_session *s,
                                       const rd_kafka_topic_partition_t *tp, int64_t *low,
                                       int64_t *high);

static inline int kafka_millis(uint64_t ns)
{
    return (int)(ns / ST_MSEC);
}

/* How many bytes of a text to show: at most `most` (0: all), and no part of a character. */
size_t kafka_shown_bytes(const void *text, size_t len, size_t most);

/* The text in quotes, on one line, at most `most` bytes of it (0: all), and how long it is where
 * that is more. NULL is `null`. */
void kafka_print_text(const void *text, size_t len, size_t most);

int kafka_command_lag(const struct kafka_words *w, const struct st_trigger_config *t);
/* Whether --from understands it. */
bool kafka_peek_is_place(const char *from);
int kafka_command_peek(const struct kafka_words *w, const struct st_trigger_config *t);
int kafka_command_replay(const struct kafka_words *w, const struct st_config *config,
                         const struct st_trigger_config *t);

#endif
