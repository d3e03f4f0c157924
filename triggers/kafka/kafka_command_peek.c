/* `stator kafka peek` */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "processor/core/clock.h"
#include "triggers/kafka/kafka_command_int.h"

/* The text, or where it is no UTF-8 one with \xNN for each byte beyond ASCII. */
static json_t *json_of(const void *text, size_t len)
{
    const unsigned char *bytes = text;
    json_t *value;
    char *escaped;
    size_t size;
    FILE *out;

    if (text == NULL)
        return json_null();
    value = json_stringn(text, len);
    if (value != NULL)
        return value;
    out = open_memstream(&escaped, &size);
    ST_ASSERT(out != NULL);
    for (size_t i = 0; i < len; i++)
        fprintf(out, bytes[i] < 0x80 ? "%c" : "\\x%02x", bytes[i]);
    ST_ASSERT(fclose(out) == 0);
    value = json_stringn(escaped, size);
    free(escaped);
    return value;
}

static void print_json(const rd_kafka_message_t *m, const struct kafka_words *w)
{
    rd_kafka_timestamp_type_t type;
    json_t *headers = json_array(), *root;
    rd_kafka_headers_t *found;
    const char *name;
    const void *value;
    size_t len;
    char *text;

    if (rd_kafka_message_headers(m, &found) == RD_KAFKA_RESP_ERR_NO_ERROR)
        for (size_t i = 0;
             rd_kafka_header_get_all(found, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR;
             i++)
            json_array_append_new(
                headers, json_pack("[o, o]", json_of(name, strlen(name)), json_of(value, len)));
    root =
        json_pack("{s:s, s:i, s:I, s:I, s:o, s:o, s:o, s:I}", "topic", rd_kafka_topic_name(m->rkt),
                  "partition", (int)m->partition, "offset", (json_int_t)m->offset, "timestamp",
                  (json_int_t)rd_kafka_message_timestamp(m, &type), "key",
                  json_of(m->key, m->key_len), "headers", headers, "value",
                  json_of(m->payload, kafka_shown_bytes(m->payload, m->len, (size_t)w->bytes)),
                  "size", (json_int_t)m->len);
    text = json_dumps(root, 0);
    ST_ASSERT(text != NULL);
    puts(text);
    free(text);
    json_decref(root);
}

static void print_text(const rd_kafka_message_t *m, const struct kafka_words *w)
{
    rd_kafka_timestamp_type_t type;
    int64_t ms = rd_kafka_message_timestamp(m, &type);
    char when[ST_ISO8601_LEN + 1] = "-";
    rd_kafka_headers_t *found;
    const char *name;
    const void *value;
    size_t len;

    if (ms >= 0)
        st_clock_iso8601((uint64_t)ms * ST_MSEC, when);
    printf("%s[%d]@%" PRId64 " %s key=", rd_kafka_topic_name(m->rkt), m->partition, m->offset,
           when);
    kafka_print_text(m->key, m->key_len, 0);
    putchar('\n');
    if (rd_kafka_message_headers(m, &found) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (size_t i = 0;
             rd_kafka_header_get_all(found, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR;
             i++) {
            printf("    %s: ", name);
            kafka_print_text(value, len, 0);
            putchar('\n');
        }
    }
    fputs("    ", stdout);
    kafka_print_text(m->payload, m->len, (size_t)w->bytes);
    putchar('\n');
}

/* ---- where to begin ---- */

/* Leaves the partitions that have something from there on. */
static rd_kafka_resp_err_t choose_offsets(struct kafka_session *s, const struct kafka_words *w,
                                          rd_kafka_topic_partition_list_t *list)
{
    char *end;
    int64_t given = strtoll(w->from, &end, 10), low, high;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

    for (int i = list->cnt - 1; i >= 0 && w->partition >= 0; i--)
        if (list->elems[i].partition != w->partition)
            rd_kafka_topic_partition_list_del(list, list->elems[i].topic, list->elems[i].partition);
    if (strcmp(w->from, "committed") == 0 && list->cnt > 0)
        code = rd_kafka_committed(s->rk, list, kafka_millis(s->timeout_ns));
    for (int i = list->cnt - 1; i >= 0 && code == RD_KAFKA_RESP_ERR_NO_ERROR; i--) {
        rd_kafka_topic_partition_t *tp = &list->elems[i];
        int64_t from = tp->offset;

        if ((code = kafka_session_ends(s, tp, &low, &high)) != RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        if (strcmp(w->from, "beginning") == 0)
            from = low;
        else if (strcmp(w->from, "end") == 0)
            from = high - w->count;
        else if (strcmp(w->from, "committed") != 0)
            from = given;
        tp->offset = from > low ? from : low;
        if (tp->offset >= high)
            rd_kafka_topic_partition_list_del(list, tp->topic, tp->partition);
    }
    return code;
}

/* Prints until there are enough, or all partitions are at their ends. */
static int show(struct kafka_session *s, const struct kafka_words *w, int partitions)
{
    uint64_t deadline = st_clock_mono() + s->timeout_ns;
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR__TIMED_OUT;
    int64_t shown = 0;

    while (partitions > 0 && shown < w->count) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(s->rk, 100);

        if (m == NULL && st_clock_mono() > deadline)
            return kafka_session_away(s, "peek", code);
        if (m == NULL)
            continue;
        if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            deadline = st_clock_mono() + s->timeout_ns;
            shown++;
            (w->json ? print_json : print_text)(m, w);
        } else if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            partitions--;
        } else {
            code = m->err;
        }
        rd_kafka_message_destroy(m);
    }
    if (shown == 0)
        fputs("stator: kafka: there are no messages\n", stderr);
    return EXIT_SUCCESS;
}

bool kafka_peek_is_place(const char *from)
{
    char *end;

    if (strcmp(from, "committed") == 0 || strcmp(from, "beginning") == 0 ||
        strcmp(from, "end") == 0)
        return true;
    (void)strtoll(from, &end, 10);
    return *from >= '0' && *from <= '9' && *end == '\0';
}

int kafka_command_peek(const struct kafka_words *w, const struct st_trigger_config *t)
{
    const struct kafka_attributes *a = t->attributes;
    char *topic = (char *)(uintptr_t)w->topic;
    struct st_string_list one = {&topic, 1};
    rd_kafka_topic_partition_list_t *list;
    struct kafka_session s;
    rd_kafka_resp_err_t code;
    int status;

    if (!kafka_session_open(&s, &(struct kafka_session_options){.client = &a->client,
                                                                .url = t->url,
                                                                .group = a->group,
                                                                .timeout_ns = w->timeout_ns}))
        return EXIT_FAILURE;
    list = kafka_session_partitions(&s, w->topic != NULL ? &one : &a->topics, &code);
    if (list != NULL)
        code = choose_offsets(&s, w, list);
    if (list != NULL && code == RD_KAFKA_RESP_ERR_NO_ERROR && list->cnt > 0)
        code = rd_kafka_assign(s.rk, list);
    status = list != NULL && code == RD_KAFKA_RESP_ERR_NO_ERROR
                 ? show(&s, w, list->cnt)
                 : kafka_session_away(&s, "peek", code);
    if (list != NULL)
        rd_kafka_topic_partition_list_destroy(list);
    kafka_session_close(&s);
    return status;
}
