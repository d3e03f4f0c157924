/* A client for commands: it is asked, and it answers or says in time why not. */
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "triggers/kafka/kafka_command_int.h"

static void on_error(rd_kafka_t *rk ST_UNUSED, int code, const char *text, void *opaque)
{
    struct kafka_session *s = opaque;
    bool refused = code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL;

    /* Why each of them is down was said before, and says more; so does a login that failed. */
    if (s->trouble[0] != '\0' &&
        (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || (s->refused && !refused)))
        return;
    s->refused = refused;
    snprintf(s->trouble, sizeof s->trouble, "%s", text);
}

/* ---- tokens ---- */

static void on_time(struct st_timer *t ST_UNUSED)
{
}

/* Runs the loop until there is a token, or the time is over. */
static void on_token_wanted(rd_kafka_t *rk, const char *config ST_UNUSED, void *opaque)
{
    struct kafka_session *s = opaque;
    uint64_t deadline = st_clock_mono() + s->timeout_ns;
    struct st_timer timer;

    if (s->oauth == NULL)
        return;
    st_timer_init(&timer, on_time);
    st_loop_timer_arm(s->loop, &timer, s->timeout_ns + ST_MSEC);
    st_kafka_oauth_refresh(s->oauth, rk);
    do
        st_loop_pass(s->loop);
    while (!st_kafka_oauth_has_token(s->oauth) && st_clock_mono() < deadline);
    st_loop_timer_cancel(s->loop, &timer);
}

static int open_tokens(struct kafka_session *s, const struct kafka_session_options *o,
                       struct st_error *err)
{
    if (!st_kafka_client_wants_tokens(o->client))
        return ST_OK;
    s->loop = st_calloc(1, sizeof *s->loop);
    if (st_loop_open(s->loop, ST_LOOP_MAIN, "kafka", err) != ST_OK) {
        free(s->loop);
        s->loop = NULL;
        return err->code;
    }
    return st_kafka_oauth_open(&s->oauth, s->loop, o->client, "stator kafka", err);
}

static void close_tokens(struct kafka_session *s)
{
    st_kafka_oauth_close(s->oauth);
    s->oauth = NULL;
    if (s->loop == NULL)
        return;
    st_loop_settle(s->loop);
    st_loop_close(s->loop);
    free(s->loop);
    s->loop = NULL;
}

/* ---- the client ---- */

static void name_brokers(struct kafka_session *s, const struct kafka_session_options *o)
{
    size_t len = 0;

    snprintf(s->brokers, sizeof s->brokers, "%s", o->url);
    for (size_t i = 0; i < o->client->brokers.count && len < sizeof s->brokers; i++)
        len += (size_t)snprintf(s->brokers + len, sizeof s->brokers - len, "%s%s", i > 0 ? "," : "",
                                o->client->brokers.items[i]);
}

static int configure(rd_kafka_conf_t *conf, const struct kafka_session_options *o,
                     struct st_error *err)
{
    /* What commands rest on. */
    static const char *const reserved[] = {"group.id",
                                           "enable.auto.commit",
                                           "enable.auto.offset.store",
                                           "group.instance.id",
                                           "auto.offset.reset",
                                           "delivery.report.only.error",
                                           "enable.partition.eof",
                                           "transactional.id",
                                           NULL};
    int code = ST_OK;

    if (o->group != NULL &&
        ((code = st_kafka_conf_set(conf, err, "group.id", "%s", o->group)) != ST_OK ||
         (code = st_kafka_conf_set(conf, err, "enable.auto.commit", "false")) != ST_OK ||
         (code = st_kafka_conf_set(conf, err, "enable.partition.eof", "true")) != ST_OK ||
         (code = st_kafka_conf_set(conf, err, "isolation.level", "read_committed")) != ST_OK ||
         (code = st_kafka_conf_set(conf, err, "auto.offset.reset", "earliest")) != ST_OK ||
         /* A command that was ended is forgotten soon. */
         (code = st_kafka_conf_set(conf, err, "session.timeout.ms", "6000")) != ST_OK ||
         (code = st_kafka_conf_set(conf, err, "heartbeat.interval.ms", "1000")) != ST_OK))
        return code;
    if (o->group == NULL &&
        ((code = st_kafka_conf_set(conf, err, "enable.idempotence", "true")) != ST_OK ||
         (code = st_kafka_conf_set(conf, err, "message.max.bytes", "1000000000")) != ST_OK ||
         (code = st_kafka_conf_set(conf, err, "message.timeout.ms", "%d",
                                   kafka_millis(o->timeout_ns))) != ST_OK))
        return code;
    return st_kafka_conf_apply(conf, &o->client->librdkafka, reserved, err);
}

bool kafka_session_open(struct kafka_session *s, const struct kafka_session_options *o)
{
    rd_kafka_type_t type = o->group != NULL ? RD_KAFKA_CONSUMER : RD_KAFKA_PRODUCER;
    rd_kafka_conf_t *conf;
    struct st_error err;
    char text[256];

    *s = (struct kafka_session){.timeout_ns = o->timeout_ns};
    name_brokers(s, o);
    conf = st_kafka_client_conf(o->client, o->url, &err);
    if (conf != NULL && configure(conf, o, &err) == ST_OK && open_tokens(s, o, &err) == ST_OK) {
        rd_kafka_conf_set_opaque(conf, s);
        rd_kafka_conf_set_log_cb(conf, NULL); /* what matters of it comes as an error */
        rd_kafka_conf_set_error_cb(conf, on_error);
        rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, on_token_wanted);
        if (o->on_report != NULL)
            rd_kafka_conf_set_dr_msg_cb(conf, o->on_report);
        s->rk = rd_kafka_new(type, conf, text, sizeof text);
        if (s->rk != NULL) {
            if (s->oauth != NULL)
                rd_kafka_poll(s->rk, kafka_millis(s->timeout_ns)); /* it wants its first token */
            if (o->group != NULL)
                rd_kafka_poll_set_consumer(s->rk);
            return true;
        }
        st_error_set(&err, ST_ERR_INVALID, "%s", text);
    }
    if (conf != NULL)
        rd_kafka_conf_destroy(conf);
    close_tokens(s);
    fprintf(stderr, "stator: kafka: %s\n", err.text);
    return false;
}

void kafka_session_close(struct kafka_session *s)
{
    if (s->rk != NULL)
        rd_kafka_destroy_flags(s->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    s->rk = NULL;
    close_tokens(s);
}

int kafka_session_away(struct kafka_session *s, const char *what, rd_kafka_resp_err_t code)
{
    rd_kafka_poll(s->rk, 0);               /* the reason may still wait */
    if (code > RD_KAFKA_RESP_ERR_NO_ERROR) /* those of librdkafka itself are negative */
        fprintf(stderr, "stator: kafka: %s: %s answered: %s\n", what, s->brokers,
                rd_kafka_err2str(code));
    else if (s->refused)
        fprintf(stderr, "stator: kafka: %s: no connection to %s: %s\n", what, s->brokers,
                s->trouble);
    else
        fprintf(stderr, "stator: kafka: %s: no answer of %s within %.3gs: %s\n", what, s->brokers,
                (double)s->timeout_ns / (double)ST_SEC,
                s->trouble[0] != '\0' ? s->trouble : rd_kafka_err2str(code));
    return KAFKA_EXIT_NO_BROKER;
}

static bool is_wanted(const char *topic, const struct st_string_list *topics, regex_t *const *how)
{
    for (size_t i = 0; i < topics->count; i++) {
        if (how[i] != NULL ? regexec(how[i], topic, 0, NULL, 0) == 0
                           : strcmp(topics->items[i], topic) == 0)
            return true;
    }
    return false;
}

/* As librdkafka compiles them; NULL for a plain name. */
static regex_t *pattern_of(const char *topic)
{
    regex_t *how;

    if (topic[0] != '^')
        return NULL;
    how = st_calloc(1, sizeof *how);
    if (regcomp(how, topic, REG_EXTENDED | REG_NOSUB) == 0)
        return how;
    free(how);
    return NULL;
}

rd_kafka_topic_partition_list_t *kafka_session_partitions(struct kafka_session *s,
                                                          const struct st_string_list *topics,
                                                          rd_kafka_resp_err_t *code)
{
    regex_t **how = st_calloc(topics->count + 1, sizeof(regex_t *));
    rd_kafka_topic_partition_list_t *list = NULL;
    const rd_kafka_metadata_t *md;

    /* Of all topics: asking for one by name may create it. */
    *code = rd_kafka_metadata(s->rk, 1, NULL, &md, kafka_millis(s->timeout_ns));
    if (*code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (size_t i = 0; i < topics->count; i++)
            how[i] = pattern_of(topics->items[i]);
        list = rd_kafka_topic_partition_list_new(16);
        for (int i = 0; i < md->topic_cnt; i++) {
            const rd_kafka_metadata_topic_t *t = &md->topics[i];

            for (int j = 0; is_wanted(t->topic, topics, how) && j < t->partition_cnt; j++)
                rd_kafka_topic_partition_list_add(list, t->topic, t->partitions[j].id);
        }
        rd_kafka_topic_partition_list_sort(list, NULL, NULL);
        rd_kafka_metadata_destroy(md);
    }
    for (size_t i = 0; i < topics->count; i++) {
        if (how[i] != NULL)
            regfree(how[i]);
        free(how[i]);
    }
    free(how);
    return list;
}

rd_kafka_resp_err_t kafka_session_ends(struct kafka_session *s,
                                       const rd_kafka_topic_partition_t *tp, int64_t *low,
                                       int64_t *high)
{
    return rd_kafka_query_watermark_offsets(s->rk, tp->topic, tp->partition, low, high,
                                            kafka_millis(s->timeout_ns));
}

size_t kafka_shown_bytes(const void *text, size_t len, size_t most)
{
    const unsigned char *bytes = text;
    size_t shown = most == 0 || len < most ? len : most, least = shown < 3 ? 0 : shown - 3;

    while (shown > least && shown < len && (bytes[shown] & 0xc0) == 0x80)
        shown--;
    return shown;
}

void kafka_print_text(const void *text, size_t len, size_t most)
{
    const unsigned char *bytes = text;
    size_t shown = kafka_shown_bytes(text, len, most);
    json_t *probe;
    bool utf8;

    if (text == NULL) {
        fputs("null", stdout);
        return;
    }
    probe = json_stringn(text, shown);
    utf8 = probe != NULL;
    json_decref(probe);
    putchar('"');
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = bytes[i];

        if (c == '\n')
            fputs("\\n", stdout);
        else if (c < 0x20 || c == 0x7f || (c >= 0x80 && !utf8))
            printf("\\x%02x", c);
        else if (c == '"' || c == '\\')
            printf("\\%c", c);
        else
            putchar(c);
    }
    printf(shown < len ? "\"... (%zu bytes)" : "\"", len);
}
