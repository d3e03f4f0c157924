/* Messages and their events. A record is small and may wait in a lane for long; an event is big and
 * exists only while a worker has it, one for each delivery. */
#include <stdlib.h>

#include "processor/core/alloc.h"
#include "triggers/kafka/kafka_int.h"

static struct kafka_event *event_of(struct st_event *ev)
{
    return ST_CONTAINER_OF(ev, struct kafka_event, ev);
}

/* ---- records ---- */

/* Room for so many in the trigger's scratch. */
static void make_room(struct kafka_trigger *kt, size_t count)
{
    if (st_likely(count <= kt->scratch_room))
        return;
    kt->scratch = st_realloc(kt->scratch, count * sizeof kt->scratch[0]);
    kt->scratch_room = count;
}

/* Borrowed headers, in the trigger's scratch. What events can't have is left out, and told.
 *
 * Not before somebody asks: to find out that a message has none, librdkafka (2.0) allocates and
 * clears a buffer, which takes as long as half of all that is ours of a message. */
static void read_headers(struct kafka_record *r)
{
    struct kafka_trigger *kt = r->partition->kt;
    const rd_kafka_message_t *m = r->message;
    rd_kafka_headers_t *headers;
    size_t count, bytes = 0;

    if (!r->unread)
        return;
    r->unread = false;
    r->headers = kt->scratch; /* of none as yet */
    if (rd_kafka_message_headers(m, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    count = rd_kafka_header_cnt(headers);
    make_room(kt, count < KAFKA_HEADERS_MOST ? count : KAFKA_HEADERS_MOST);
    for (size_t i = 0; i < count && r->header_count < KAFKA_HEADERS_MOST; i++) {
        const char *name;
        const void *value;
        size_t size, len;

        if (rd_kafka_header_get_all(headers, i, &name, &value, &size) != RD_KAFKA_RESP_ERR_NO_ERROR)
            break;
        len = strlen(name);
        if (len == 0 || len > UINT16_MAX || size > UINT32_MAX)
            continue;
        kt->scratch[r->header_count++] = (struct st_header){.name = name,
                                                            .name_len = (uint16_t)len,
                                                            .value = value != NULL ? value : "",
                                                            .value_len = (uint32_t)size,
                                                            .id = st_header_id_of(name, len)};
        bytes += len + size;
    }
    r->headers = kt->scratch;
    st_lane_grow(&r->lane, (uint32_t)(bytes + r->header_count * sizeof kt->scratch[0]));
    if (st_unlikely(r->header_count < count))
        kafka_say(&kt->limits.headers, r,
                  "Headers of a message are left out: more than 1024, or a name that is empty or "
                  "longer than 65535 bytes",
                  "cut");
}

struct kafka_record *kafka_record_new(struct kafka_partition *p, const rd_kafka_message_t *m)
{
    struct kafka_record *r = st_slab_get(&p->kt->records);

    st_zero(r, sizeof *r);
    r->partition = p;
    r->offset = (uint64_t)m->offset;
    r->timestamp_ms = rd_kafka_message_timestamp(m, NULL);
    r->key = (struct st_slice){m->key, m->key_len};
    r->value = (struct st_slice){m->payload, m->len};
    r->tombstone = m->payload == NULL;
    r->epoch = p->wm.epoch;
    r->attempt = 1;
    r->refs = 1;
    r->lane.bytes = (uint32_t)(m->len + m->key_len);
    r->message = m;
    r->unread = true;
    return r;
}

static char *put(char *at, const char **ptr, size_t len)
{
    if (len > 0)
        memcpy(at, *ptr, len);
    if (*ptr != NULL)
        *ptr = at;
    return at + len;
}

void kafka_record_own(struct kafka_record *r)
{
    size_t table, size;
    char *at;

    if (r->bytes != NULL)
        return;
    read_headers(r);
    table = r->header_count * sizeof r->headers[0];
    size = table + r->key.len + r->value.len;
    for (uint32_t i = 0; i < r->header_count; i++)
        size += r->headers[i].name_len + r->headers[i].value_len;
    r->bytes = st_malloc(size + 1);
    if (table > 0)
        memcpy(r->bytes, r->headers, table);
    r->headers = (struct st_header *)(void *)r->bytes;
    at = put(r->bytes + table, &r->key.ptr, r->key.len);
    at = put(at, &r->value.ptr, r->value.len);
    for (uint32_t i = 0; i < r->header_count; i++) {
        at = put(at, &r->headers[i].name, r->headers[i].name_len);
        at = put(at, &r->headers[i].value, r->headers[i].value_len);
    }
}

void kafka_record_unref(struct kafka_record *r)
{
    if (--r->refs > 0)
        return;
    free(r->bytes);
    free(r->failure);
    st_slab_put(&r->partition->kt->records, r);
}

/* ---- events ---- */

static void describe_headers(struct st_event *ev, const struct kafka_record *r)
{
    const struct st_header *type = NULL;
    struct st_headers *h = &ev->headers;

    h->items = r->headers;
    h->count = r->header_count;
    for (uint32_t i = 0; i < h->count && i < UINT8_MAX; i++)
        if (h->items[i].id != ST_HDR_OTHER)
            h->last[h->items[i].id] = (uint8_t)(i + 1);
    if (st_unlikely(h->count > UINT8_MAX))
        type = st_headers_find(h, ST_SLICE("content-type"));
    else if (h->count > 0)
        type = st_headers_known(h, ST_HDR_CONTENT_TYPE);
    if (type != NULL)
        ev->content_type = (struct st_slice){type->value, type->value_len};
}

struct kafka_event *kafka_event_new(struct kafka_record *r)
{
    struct kafka_partition *p = r->partition;
    struct kafka_trigger *kt = p->kt;
    struct kafka_event *ke = st_slab_get(&kt->events);
    struct st_event *ev = &ke->ev;
    const struct st_slice topic = {p->topic, p->topic_len};

    st_event_init(ev, &kt->base, kt->loop, ke->space, sizeof ke->space);
    ke->record = r;
    r->refs++;
    ev->body = r->value;
    ev->key = r->key;
    if (!r->unread)
        describe_headers(ev, r);
    ev->flags = (r->bytes == NULL ? ST_EVENT_BORROWS : 0u) | (r->unread ? ST_EVENT_UNREAD : 0u) |
                (r->tombstone ? ST_EVENT_TOMBSTONE : 0u) | ST_EVENT_PATIENT;
    /* None is read back from where it was just written: that would wait for the stores. */
    ev->target = topic;
    ev->path = topic;
    ev->position = (struct st_position){.topic = topic, .shard = p->number, .hi = r->offset};
    if (r->timestamp_ms >= 0)
        ev->timestamp_ns = (uint64_t)r->timestamp_ms * ST_MSEC;
    ev->attempt = r->attempt;
    if (st_unlikely(kt->is_static))
        ev->bound = (uint32_t)p->number + 1;
    return ke;
}

/* What borrows is the record; its bytes live as long as the event's reference of it. */
int kafka_detach(struct st_event *ev)
{
    struct kafka_record *r = event_of(ev)->record;

    kafka_record_own(r);
    ev->body = r->value;
    ev->key = r->key;
    describe_headers(ev, r);
    return ST_OK;
}

void kafka_read(struct st_event *ev)
{
    struct kafka_record *r = event_of(ev)->record;

    read_headers(r);
    describe_headers(ev, r);
}

void kafka_release(struct st_event *ev)
{
    struct kafka_event *ke = event_of(ev);
    struct kafka_record *r = ke->record;

    st_slab_put(&r->partition->kt->events, ke);
    kafka_record_unref(r);
}
