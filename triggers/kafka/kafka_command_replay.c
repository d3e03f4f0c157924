/* `stator kafka replay-dlq`: what was put aside goes back to the partition it came from.
 *
 * Dead letters are taken in batches. Each of a batch is published by an idempotent producer; when
 * all of it is confirmed, the positions behind it are committed in a group of its own. What is
 * there when the command starts is all that it takes: a message that fails again would go round for
 * ever.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "triggers/kafka/kafka_command_int.h"
#include "triggers/kafka/kafka_output.h"

enum { BATCH = 500, NAME_MAX_LEN = 249 };
#define BATCH_NS ST_SEC
#define PROGRESS_NS (2 * ST_SEC)

/* A dead letter of the batch. */
struct letter {
    int32_t partition;
    int64_t offset;
    bool ended; /* confirmed, failed or passed over */
    rd_kafka_resp_err_t code;
};

/* One partition of the topic of dead letters. */
struct part {
    int64_t end;  /* behind the last one to take */
    int64_t next; /* to commit; -1: nothing new */
    bool failed;  /* in this batch: nothing behind it counts */
    bool done;
};

struct replay {
    const struct kafka_words *words;
    struct kafka_session in, out;
    const char *topic; /* of the dead letters */
    struct part *parts;
    int32_t part_count;
    struct letter letters[BATCH];
    size_t count, open;
    uint64_t batch_ns; /* since when */
    uint64_t heard_ns; /* when something moved last */
    uint64_t told_ns;
    int64_t taken, replayed, skipped;
    rd_kafka_resp_err_t failure;
};

/* Where a dead letter came from, and what it said besides that. */
struct source {
    char topic[NAME_MAX_LEN + 1];
    int32_t partition;
    char error[160];
    size_t headers; /* its own, before ours */
};

/* ---- dead letters ---- */

static bool is_named(const char *name, const char *const *names, unsigned *seen)
{
    for (unsigned i = 0; names[i] != NULL; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        if (*seen & 1u << i)
            return false;
        *seen |= 1u << i;
        return true;
    }
    return false;
}

static void copy_text(char *out, size_t n, const void *value, size_t len)
{
    len = len < n - 1 ? len : n - 1;
    memcpy(out, value, len);
    out[len] = '\0';
}

/* Reads the headers that stand last, once each: a message may have had such ones before. */
static bool read_source(const rd_kafka_headers_t *headers, struct source *out)
{
    static const char *const names[] = {"st-src-topic",
                                        "st-src-partition",
                                        "st-src-offset",
                                        "st-attempts",
                                        "st-error",
                                        "st-first-seen",
                                        NULL};
    size_t count = rd_kafka_header_cnt(headers), len;
    unsigned seen = 0;
    const char *name;
    const void *value;
    char number[16];

    *out = (struct source){.partition = -1, .headers = count};
    while (out->headers > 0 &&
           rd_kafka_header_get_all(headers, out->headers - 1, &name, &value, &len) ==
               RD_KAFKA_RESP_ERR_NO_ERROR &&
           is_named(name, names, &seen)) {
        out->headers--;
        if (strcmp(name, "st-src-topic") == 0 && len <= NAME_MAX_LEN)
            copy_text(out->topic, sizeof out->topic, value, len);
        if (strcmp(name, "st-src-partition") == 0) {
            copy_text(number, sizeof number, value, len);
            out->partition = (int32_t)strtol(number, NULL, 10);
        }
        if (strcmp(name, "st-error") == 0)
            copy_text(out->error, sizeof out->error, value, len);
    }
    return out->topic[0] != '\0' && out->partition >= 0;
}

static bool source_of(const rd_kafka_message_t *m, struct source *out)
{
    rd_kafka_headers_t *headers;

    return rd_kafka_message_headers(m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           read_source(headers, out);
}

/* ---- publishing ---- */

static void on_report(rd_kafka_t *rk ST_UNUSED, const rd_kafka_message_t *m, void *opaque)
{
    struct replay *r = ST_CONTAINER_OF(opaque, struct replay, out);
    struct letter *l = m->_private;

    l->ended = true;
    l->code = m->err;
    r->open--;
    r->heard_ns = st_clock_mono();
}

static rd_kafka_headers_t *own_headers(const rd_kafka_message_t *m, const struct source *from)
{
    rd_kafka_headers_t *all, *headers = rd_kafka_headers_new(from->headers);
    const char *name;
    const void *value;
    size_t len;

    if (rd_kafka_message_headers(m, &all) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return headers;
    for (size_t i = 0; i < from->headers; i++)
        if (rd_kafka_header_get_all(all, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_header_add(headers, name, -1, value, (ssize_t)len);
    return headers;
}

static rd_kafka_resp_err_t publish(struct replay *r, const rd_kafka_message_t *m,
                                   const struct source *to, struct letter *l)
{
    rd_kafka_headers_t *headers = own_headers(m, to);
    rd_kafka_resp_err_t code = rd_kafka_producev(
        r->out.rk, RD_KAFKA_V_TOPIC(to->topic), RD_KAFKA_V_PARTITION(to->partition),
        RD_KAFKA_V_VALUE(m->payload, m->len), RD_KAFKA_V_KEY(m->key, m->key_len),
        RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_OPAQUE(l),
        RD_KAFKA_V_END);

    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_headers_destroy(headers);
    return code;
}

static void show(const struct replay *r, const rd_kafka_message_t *m, const struct source *to)
{
    printf("%s[%d]@%" PRId64 " -> %s[%d] key=", r->topic, m->partition, m->offset, to->topic,
           to->partition);
    kafka_print_text(m->key, m->key_len, 64);
    fputs(" error=", stdout);
    kafka_print_text(to->error, strlen(to->error), 0);
    putchar('\n');
}

static void take(struct replay *r, const rd_kafka_message_t *m)
{
    struct letter *l = &r->letters[r->count++];
    struct source from;

    *l = (struct letter){.partition = m->partition, .offset = m->offset};
    r->taken++;
    if (r->count == 1)
        r->batch_ns = st_clock_mono();
    if (!source_of(m, &from)) {
        fprintf(stderr,
                "stator: kafka: %s[%d]@%" PRId64 " is no dead letter of Stator's: passed over\n",
                r->topic, m->partition, m->offset);
        r->skipped++;
        l->ended = true;
    } else if (r->words->dry_run) {
        show(r, m, &from);
        r->replayed++;
        l->ended = true;
    } else if ((l->code = publish(r, m, &from, l)) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        r->open++;
    } else {
        l->ended = true;
    }
}

/* ---- committing ---- */

/* What of the batch may be passed. */
static void advance(struct replay *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const struct letter *l = &r->letters[i];
        struct part *p = &r->parts[l->partition];

        if (l->ended && l->code == RD_KAFKA_RESP_ERR_NO_ERROR && !p->failed) {
            p->next = l->offset + 1;
            continue;
        }
        p->failed = true;
        if (r->failure == RD_KAFKA_RESP_ERR_NO_ERROR)
            r->failure = l->ended ? l->code : RD_KAFKA_RESP_ERR__MSG_TIMED_OUT;
    }
}

static rd_kafka_resp_err_t commit(struct replay *r)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(r->part_count);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(r->in.rk);
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_event_t *answer;

    for (int32_t i = 0; i < r->part_count; i++) {
        if (r->parts[i].next >= 0)
            rd_kafka_topic_partition_list_add(list, r->topic, i)->offset = r->parts[i].next;
        r->parts[i].next = -1;
    }
    if (list->cnt > 0)
        code = rd_kafka_commit_queue(r->in.rk, list, queue, NULL, NULL);
    if (list->cnt > 0 && code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        answer = rd_kafka_queue_poll(queue, kafka_millis(r->in.timeout_ns));
        code = answer != NULL ? rd_kafka_event_error(answer) : RD_KAFKA_RESP_ERR__TIMED_OUT;
        if (answer != NULL)
            rd_kafka_event_destroy(answer);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

/* Ends the batch. False: it can't go on, and the reason was told. */
static bool settle(struct replay *r)
{
    uint64_t deadline = st_clock_mono() + 2 * r->out.timeout_ns; /* reports come in time */
    rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

    while (r->open > 0 && st_clock_mono() < deadline)
        rd_kafka_poll(r->out.rk, 100);
    if (!r->words->dry_run) {
        advance(r);
        code = commit(r);
        for (size_t i = 0; i < r->count; i++)
            r->replayed += r->letters[i].ended && r->letters[i].code == RD_KAFKA_RESP_ERR_NO_ERROR;
    }
    r->count = 0;
    if (r->failure != RD_KAFKA_RESP_ERR_NO_ERROR)
        fprintf(stderr, "stator: kafka: replay-dlq: not all could be published: %s%s%s\n",
                rd_kafka_err2str(r->failure), r->out.trouble[0] != '\0' ? "; " : "",
                r->out.trouble);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        fprintf(stderr,
                "stator: kafka: replay-dlq: positions can't be committed, so that the last ones "
                "come again: %s\n",
                rd_kafka_err2str(code));
    return r->failure == RD_KAFKA_RESP_ERR_NO_ERROR && code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* ---- reading ---- */

/* Everything that this member of the group has was taken. */
static bool is_done(struct replay *r)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    bool done = true;

    if (r->words->max >= 0 && r->taken >= r->words->max)
        return true;
    for (int32_t i = 0; i < r->part_count; i++)
        done &= r->parts[i].done;
    if (done || rd_kafka_assignment(r->in.rk, &list) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return done;
    done = list->cnt > 0;
    for (int i = 0; i < list->cnt; i++)
        if (list->elems[i].partition < r->part_count) /* others were added meanwhile */
            done &= r->parts[list->elems[i].partition].done;
    rd_kafka_topic_partition_list_destroy(list);
    return done;
}

/* False: the consumer can't go on. */
static bool take_next(struct replay *r)
{
    rd_kafka_message_t *m = rd_kafka_consumer_poll(r->in.rk, 100);
    struct part *p;
    bool fine = true;

    if (m == NULL)
        return true;
    p = m->partition >= 0 && m->partition < r->part_count ? &r->parts[m->partition] : NULL;
    if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR || m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        r->heard_ns = st_clock_mono();
    if (m->err == RD_KAFKA_RESP_ERR__PARTITION_EOF && p != NULL) {
        p->done = true;
    } else if (m->err == RD_KAFKA_RESP_ERR_NO_ERROR && p != NULL) {
        p->done |= m->offset >= p->end - 1;
        if (m->offset < p->end)
            take(r, m);
    } else if (m->err != RD_KAFKA_RESP_ERR_NO_ERROR && m->rkt == NULL) {
        fprintf(stderr, "stator: kafka: replay-dlq: %s\n", rd_kafka_message_errstr(m));
        fine = false;
    }
    rd_kafka_message_destroy(m);
    return fine;
}

static void tell_progress(struct replay *r)
{
    uint64_t now = st_clock_mono();

    if (now - r->told_ns < PROGRESS_NS)
        return;
    r->told_ns = now;
    fprintf(stderr, "stator: kafka: replay-dlq: %" PRId64 " so far\n", r->replayed);
}

static int run(struct replay *r)
{
    r->heard_ns = r->told_ns = st_clock_mono();
    while (!is_done(r)) {
        if (!take_next(r))
            return EXIT_FAILURE;
        rd_kafka_poll(r->out.rk, 0);
        tell_progress(r);
        if (st_clock_mono() - r->heard_ns > r->in.timeout_ns && r->count == 0)
            return kafka_session_away(&r->in, "replay-dlq (or another one holds the partitions)",
                                      RD_KAFKA_RESP_ERR__TIMED_OUT);
        if ((r->count == BATCH || (r->count > 0 && st_clock_mono() - r->batch_ns > BATCH_NS)) &&
            !settle(r))
            return EXIT_FAILURE;
    }
    return settle(r) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- beginning ---- */

/* Where they end now, and how many there are at most. */
static rd_kafka_resp_err_t look(struct replay *r, rd_kafka_topic_partition_list_t *list,
                                int64_t *waiting)
{
    rd_kafka_resp_err_t code = rd_kafka_committed(r->in.rk, list, kafka_millis(r->in.timeout_ns));

    *waiting = 0;
    r->parts = st_calloc((size_t)list->cnt, sizeof r->parts[0]);
    r->part_count = list->cnt;
    for (int i = 0; i < list->cnt && code == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
        const rd_kafka_topic_partition_t *tp = &list->elems[i];
        struct part *p = &r->parts[i]; /* they are sorted, and numbered without gaps */
        int64_t low;

        code = kafka_session_ends(&r->in, tp, &low, &p->end);
        low = tp->offset > low ? tp->offset : low;
        p->next = -1;
        p->done = low >= p->end;
        *waiting += p->end - low > 0 ? p->end - low : 0;
    }
    return code;
}

static int replay(struct replay *r)
{
    char *topic = (char *)(uintptr_t)r->topic;
    struct st_string_list one = {&topic, 1};
    int64_t waiting = 0;
    int status = EXIT_SUCCESS;
    rd_kafka_resp_err_t code;
    rd_kafka_topic_partition_list_t *list = kafka_session_partitions(&r->in, &one, &code);

    if (list != NULL && list->cnt > 0)
        code = look(r, list, &waiting);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && waiting > 0) {
        fprintf(stderr, "stator: kafka: replay-dlq: %" PRId64 " dead letters or fewer in %s\n",
                waiting, r->topic);
        rd_kafka_topic_partition_list_destroy(list);
        list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(list, r->topic, RD_KAFKA_PARTITION_UA);
        code = rd_kafka_subscribe(r->in.rk, list);
    }
    if (list != NULL)
        rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_session_away(&r->in, "replay-dlq", code);
    if (waiting > 0) {
        status = run(r);
        if (status == EXIT_SUCCESS)
            rd_kafka_consumer_close(r->in.rk);
    }
    printf("%" PRId64 " %s, %" PRId64 " passed over\n",
           r->replayed - (r->words->dry_run ? 0 : r->skipped),
           r->words->dry_run ? "would be replayed" : "replayed", r->skipped);
    return status;
}

/* The servers and the topic of the dead letters: the trigger's own, or an output's. */
static bool find_letters(const struct st_config *config, const struct st_trigger_config *t,
                         struct kafka_session_options *in, const char **topic)
{
    const struct kafka_attributes *a = t->attributes;
    const struct st_delivery_config *d = &t->delivery;
    const struct st_output_config *output = NULL;

    in->client = &a->client;
    in->url = t->url;
    *topic = d->dead_letter.topic;
    for (size_t i = 0; i < config->function.output_count; i++)
        if (d->dead_letter.given &&
            strcmp(config->function.outputs[i].name, d->dead_letter.output) == 0)
            output = &config->function.outputs[i];
    if (output != NULL && output->kind == &st_output_kafka_kind) {
        const char *own = st_kafka_output_topic(output->options, &in->client);

        in->url = "";
        if ((*topic)[0] == '\0')
            *topic = own;
    }
    if (d->dead_letter.given && (*topic)[0] != '\0' &&
        (output == NULL || output->kind == &st_output_kafka_kind))
        return true;
    fprintf(stderr,
            "stator: kafka: trigger %s has no deadLetter with a topic of Kafka: there is nothing "
            "to replay\n",
            t->name);
    return false;
}

int kafka_command_replay(const struct kafka_words *w, const struct st_config *config,
                         const struct st_trigger_config *t)
{
    const struct kafka_attributes *a = t->attributes;
    struct kafka_session_options in = {.timeout_ns = w->timeout_ns},
                                 out = {.client = &a->client,
                                        .url = t->url,
                                        .timeout_ns = w->timeout_ns,
                                        .on_report = on_report};
    struct replay *r = st_calloc(1, sizeof *r);
    char *group = st_calloc(1, strlen(a->group) + sizeof "-replay");
    int status = EXIT_FAILURE;

    sprintf(group, "%s-replay", a->group);
    in.group = group;
    r->words = w;
    if (find_letters(config, t, &in, &r->topic) && kafka_session_open(&r->in, &in) &&
        kafka_session_open(&r->out, &out))
        status = replay(r);
    kafka_session_close(&r->in);
    kafka_session_close(&r->out);
    free(r->parts);
    free(group);
    free(r);
    return status;
}
