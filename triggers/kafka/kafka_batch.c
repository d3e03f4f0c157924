/* Batches for handlers that take lists: runs of lanes, put together until the batch is full by
 * number or bytes, or its first message has waited long enough. A lane hands out nothing more until
 * all of its run is back, so a key is never in two batches at once. */
#include <stdlib.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/pool.h"
#include "triggers/kafka/kafka_int.h"

/* The batch that is being made. */
struct kafka_batch {
    struct kafka_trigger *kt;
    uint32_t size, count; /* most, and now */
    uint64_t bytes, began_ns;
    struct st_timer timer;
    struct st_event **events; /* room for those of one batch */
    struct st_lane_entry *entries[];
};

static void on_timer(struct st_timer *t)
{
    kafka_pump_later(ST_CONTAINER_OF(t, struct kafka_batch, timer)->kt);
}

void kafka_batch_open(struct kafka_trigger *kt)
{
    uint32_t size = kt->base.pool->batch_size;

    if (size == 0)
        return;
    kt->batch = st_calloc(1, sizeof *kt->batch + size * sizeof(void *));
    kt->batch->kt = kt;
    kt->batch->size = size;
    kt->batch->events = st_calloc(size, sizeof(void *));
    st_timer_init(&kt->batch->timer, on_timer);
}

void kafka_batch_close(struct kafka_trigger *kt)
{
    if (kt->batch == NULL)
        return;
    free(kt->batch->events);
    free(kt->batch);
    kt->batch = NULL;
}

static void send_batch(struct kafka_trigger *kt, struct kafka_batch *b)
{
    uint32_t n = b->count;

    for (uint32_t i = 0; i < n; i++)
        b->events[i] = kafka_event_start(ST_CONTAINER_OF(b->entries[i], struct kafka_record, lane));
    b->count = 0;
    b->bytes = 0;
    st_loop_timer_cancel(kt->loop, &b->timer);
    st_pool_submit_batch(kt->base.pool, b->events, n);
}

static bool is_full(const struct kafka_trigger *kt, const struct kafka_batch *b)
{
    return b->count == b->size || b->bytes >= kt->base.config->batch.bytes;
}

/* Adds a run; false: no lane has any. Dead letters to be leave at once. */
static bool add_run(struct kafka_trigger *kt, struct kafka_batch *b)
{
    struct st_lane_entry **room = b->entries + b->count;
    uint64_t bytes = kt->base.config->batch.bytes - b->bytes;
    unsigned n = st_lane_take_run(&kt->lanes, room, b->size - b->count, bytes), kept = 0;

    for (unsigned i = 0; i < n; i++) {
        struct kafka_record *r = ST_CONTAINER_OF(room[i], struct kafka_record, lane);

        if (r->dying) {
            kafka_send_dead_letter(r);
            continue;
        }
        b->bytes += r->lane.bytes;
        room[kept++] = room[i];
    }
    if (b->count == 0 && kept > 0)
        b->began_ns = st_loop_now(kt->loop);
    b->count += kept;
    return n > 0;
}

void kafka_batch_pump(struct kafka_trigger *kt)
{
    struct kafka_batch *b = kt->batch;
    uint64_t wait = kt->base.config->batch.timeout_ns, now = st_loop_now(kt->loop);

    while (kafka_has_room(kt, b->size)) {
        while (!is_full(kt, b) && add_run(kt, b))
            continue;
        if (b->count == 0)
            return;
        if (!is_full(kt, b) && now < b->began_ns + wait) {
            st_loop_timer_arm(kt->loop, &b->timer, b->began_ns + wait - now);
            return;
        }
        send_batch(kt, b);
    }
}

void kafka_batch_drop(struct kafka_trigger *kt)
{
    struct kafka_batch *b = kt->batch;

    if (b == NULL)
        return;
    for (uint32_t i = b->count; i > 0; i--)
        st_lane_retry(b->entries[i - 1], i); /* all of them due, in their order */
    b->count = 0;
    b->bytes = 0;
    st_loop_timer_cancel(kt->loop, &b->timer);
}
