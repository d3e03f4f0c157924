/* `stator kafka lag` */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "processor/core/alloc.h"
#include "triggers/kafka/kafka_command_int.h"

/* Of one partition. */
struct row {
    const char *topic;
    int32_t number;
    int64_t committed; /* -1: none */
    int64_t low, high, lag;
};

struct table {
    struct row *rows;
    size_t count;
    int64_t total;
};

/* What a member would get that takes over now. */
static int64_t lag_of(const struct row *r, bool earliest)
{
    if (r->committed < 0)
        return earliest ? r->high - r->low : 0;
    return r->high - (r->committed > r->low ? r->committed : r->low);
}

static rd_kafka_resp_err_t fill(struct kafka_session *s, const struct kafka_attributes *a,
                                rd_kafka_topic_partition_list_t *list, struct table *t)
{
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

    if (list->cnt > 0)
        code = rd_kafka_committed(s->rk, list, kafka_millis(s->timeout_ns));
    t->rows = st_calloc((size_t)list->cnt + 1, sizeof t->rows[0]);
    for (int i = 0; i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        const rd_kafka_topic_partition_t *tp = &list->elems[i];
        struct row *r = &t->rows[t->count++];

        r->topic = tp->topic;
        r->number = tp->partition;
        r->committed = tp->offset >= 0 ? tp->offset : -1;
        code = tp->err != RD_KAFKA_RESP_ERR_NO_ERROR ? tp->err
                                                     : kafka_session_ends(s, tp, &r->low, &r->high);
        r->lag = lag_of(r, a->initial_offset == 0);
        t->total += r->lag;
    }
    return code;
}

static void print_json(const struct table *t, const char *group)
{
    json_t *list = json_array(), *root;
    char *text;

    for (size_t i = 0; i < t->count; i++) {
        const struct row *r = &t->rows[i];

        json_array_append_new(list,
                              json_pack("{s:s, s:i, s:o, s:I, s:I, s:I}", "topic", r->topic,
                                        "partition", (int)r->number, "committed",
                                        r->committed < 0 ? json_null() : json_integer(r->committed),
                                        "low", (json_int_t)r->low, "high", (json_int_t)r->high,
                                        "lag", (json_int_t)r->lag));
    }
    root = json_pack("{s:s, s:I, s:o}", "group", group, "lag", (json_int_t)t->total, "partitions",
                     list);
    text = json_dumps(root, JSON_INDENT(2));
    ST_ASSERT(text != NULL);
    puts(text);
    free(text);
    json_decref(root);
}

static void print_table(const struct table *t, const char *group)
{
    int width = (int)strlen("TOPIC");

    for (size_t i = 0; i < t->count; i++)
        if ((int)strlen(t->rows[i].topic) > width)
            width = (int)strlen(t->rows[i].topic);
    printf("%-*s  PARTITION     COMMITTED           END           LAG\n", width, "TOPIC");
    for (size_t i = 0; i < t->count; i++) {
        const struct row *r = &t->rows[i];
        char committed[24] = "-";

        if (r->committed >= 0)
            snprintf(committed, sizeof committed, "%" PRId64, r->committed);
        printf("%-*s  %9d  %12s  %12" PRId64 "  %12" PRId64 "\n", width, r->topic, r->number,
               committed, r->high, r->lag);
    }
    printf("group %s: %" PRId64 " in %zu partitions\n", group, t->total, t->count);
}

int kafka_command_lag(const struct kafka_words *w, const struct st_trigger_config *t)
{
    const struct kafka_attributes *a = t->attributes;
    struct table table = {.count = 0};
    struct kafka_session s;
    rd_kafka_topic_partition_list_t *list;
    rd_kafka_resp_err_t code;
    int status = EXIT_SUCCESS;

    if (!kafka_session_open(&s, &(struct kafka_session_options){.client = &a->client,
                                                                .url = t->url,
                                                                .group = a->group,
                                                                .timeout_ns = w->timeout_ns}))
        return EXIT_FAILURE;
    list = kafka_session_partitions(&s, &a->topics, &code);
    if (list != NULL)
        code = fill(&s, a, list, &table);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        status = kafka_session_away(&s, "lag", code);
    else if (w->json)
        print_json(&table, a->group);
    else
        print_table(&table, a->group);
    if (status == EXIT_SUCCESS && w->max_lag >= 0 && table.total > w->max_lag)
        status = EXIT_FAILURE;
    free(table.rows);
    if (list != NULL)
        rd_kafka_topic_partition_list_destroy(list);
    kafka_session_close(&s);
    return status;
}
