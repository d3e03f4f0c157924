/* Dead letters: where they go, and what they say of their origin. */
#include <stdio.h>
#include <stdlib.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "triggers/kafka/kafka_int.h"
#include "triggers/kafka/kafka_output.h"

#define AGAIN_NS ST_SEC
enum { OWN_HEADERS = 6 };

/* ---- the output ---- */

/* On the trigger's own servers. */
struct own_output {
    struct st_kafka_client_options client;
    char *broker; /* where the trigger has only a url */
    char name[];
};

static struct st_output *make_output(struct kafka_trigger *kt, struct st_error *err)
{
    static const char suffix[] = ".deadLetter";
    const struct st_trigger_config *c = kt->base.config;
    struct own_output *own = st_calloc(1, sizeof *own + strlen(c->name) + sizeof suffix);
    struct st_output_config config = {.name = own->name, .kind = &st_output_kafka_kind};
    struct st_output *o;

    sprintf(own->name, "%s%s", c->name, suffix);
    own->client = kafka_attributes_of(kt)->client;
    if (own->client.brokers.count == 0) {
        own->broker = (char *)(uintptr_t)c->url;
        own->client.brokers = (struct st_string_list){.items = &own->broker, .count = 1};
    }
    kt->own_options = st_kafka_output_options(&own->client, c->delivery.dead_letter.topic);
    config.options = kt->own_options;
    o = st_output_add(kt->base.processor, &config, own, err);
    return o;
}

int kafka_dead_letters_init(struct kafka_trigger *kt, struct st_error *err)
{
    const struct st_delivery_config *d = &kt->base.config->delivery;
    const char *name = d->dead_letter.output;

    if (!d->dead_letter.given)
        return ST_OK;
    kt->dead_letter_topic = st_slice_of(d->dead_letter.topic);
    kt->dead_letters = name[0] != '\0' ? st_output_find(kt->base.processor, st_slice_of(name))
                                       : make_output(kt, err);
    if (kt->dead_letters != NULL)
        return ST_OK;
    if (name[0] == '\0')
        return err->code;
    return st_error_set(err, ST_ERR_NOTFOUND,
                        "trigger %s: deadLetter.output: found \"%s\", expected one of "
                        "spec.stator.outputs",
                        kt->base.name, name);
}

/* ---- sending ---- */

static void dead_letter_failed(struct kafka_record *r, const char *text)
{
    struct kafka_trigger *kt = r->partition->kt;

    kafka_say(&kt->limits.not_written, r,
              "A dead letter could not be written and is tried again; its key waits", text);
    kafka_trouble(kt, KAFKA_TROUBLE_DEAD_LETTERS, "dead letters can't be written");
    kafka_retry(r, AGAIN_NS);
}

static void on_dead_letter(struct st_send *send, int status, const char *text)
{
    struct kafka_record *r = ST_CONTAINER_OF(send, struct kafka_failure, send)->record;
    struct kafka_partition *p = r->partition;
    struct kafka_trigger *kt = p->kt;

    TAILQ_REMOVE(&p->dying, r, held);
    if (status == ST_OK) {
        st_metric_add(kt->loop->metrics, kt->metrics.dead_letters, 1);
        kafka_trouble(kt, KAFKA_TROUBLE_DEAD_LETTERS, "");
        kafka_record_done(r);
    } else if (r->epoch == p->wm.epoch) {
        dead_letter_failed(r, text);
    } else {
        kafka_record_done(r); /* the partition is somebody else's, and so is the message */
    }
    kafka_pump_later(kt);
}

/* What the dead letter says of its origin, behind the message's own headers. */
struct origin {
    char partition[16], offset[24], attempts[16], taken[ST_ISO8601_LEN + 1];
    size_t count;
    struct st_header headers[];
};

static void add(struct origin *o, const char *name, const char *value)
{
    o->headers[o->count++] = (struct st_header){.name = name,
                                                .name_len = (uint16_t)strlen(name),
                                                .value = value,
                                                .value_len = (uint32_t)strlen(value)};
}

static void tell_origin(struct origin *o, const struct kafka_record *r)
{
    struct kafka_trigger *kt = r->partition->kt;
    uint64_t age = st_loop_now(kt->loop) - r->taken_ns;

    if (r->header_count > 0)
        memcpy(o->headers, r->headers, r->header_count * sizeof r->headers[0]);
    o->count = r->header_count;
    snprintf(o->partition, sizeof o->partition, "%d", r->partition->number);
    snprintf(o->offset, sizeof o->offset, "%llu", (unsigned long long)r->offset);
    snprintf(o->attempts, sizeof o->attempts, "%u", r->attempt);
    st_clock_iso8601(st_loop_wall(kt->loop) - age, o->taken);
    add(o, "st-src-topic", r->partition->topic);
    add(o, "st-src-partition", o->partition);
    add(o, "st-src-offset", o->offset);
    add(o, "st-attempts", o->attempts);
    add(o, "st-error", r->failure->reason);
    add(o, "st-first-seen", o->taken);
}

void kafka_send_dead_letter(struct kafka_record *r)
{
    struct kafka_partition *p = r->partition;
    struct kafka_trigger *kt = p->kt;
    struct st_message m = {.topic = kt->dead_letter_topic, .is_tombstone = r->tombstone};
    struct origin *o;
    struct st_error err;

    kafka_record_own(r); /* it may have to be sent again */
    o = st_calloc(1, sizeof *o + (r->header_count + OWN_HEADERS) * sizeof o->headers[0]);
    m.value = r->value;
    m.key = r->key;
    r->dying = true;
    r->lane.alone = true; /* its key waits until the dead letter is confirmed */
    tell_origin(o, r);
    m.headers = o->headers;
    m.header_count = o->count;
    r->failure->send.done = on_dead_letter;
    TAILQ_INSERT_HEAD(&p->dying, r, held);
    st_lane_detach(&r->lane, true);
    if (st_output_send(kt->dead_letters, kt->loop, &m, &r->failure->send, &err) != ST_OK) {
        TAILQ_REMOVE(&p->dying, r, held);
        dead_letter_failed(r, err.text);
    }
    free(o);
}
