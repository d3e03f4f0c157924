/* What both ways have in common; channel_memory.c and channel_socket.c are the ways. */
#include "runtimes/process/channel.h"

#include <errno.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "runtimes/process/channel_int.h"
#include "runtimes/process/view.h"

void st_channel_break(struct st_channel *ch, const char *text)
{
    if (ch->broken != NULL || ch->closed)
        return;
    ch->broken = text;
    st_loop_flush_later(ch->loop, &ch->flush);
}

bool st_channel_pass_on(struct st_channel *ch, const struct st_wire_record *record, const char *at)
{
    struct st_wire_view view;
    const char *why =
        st_wire_view_read(&view, record, at, ch->way == ST_CHANNEL_MEMORY ? ch->pool_bytes : 0);

    if (why == NULL && view.has_ref && ch->way != ST_CHANNEL_MEMORY)
        why = "a BODY_REF without shared memory";
    if (why != NULL) {
        st_channel_break(ch, why);
        return false;
    }
    ch->handler->record(ch, &view);
    return !ch->closed && ch->broken == NULL;
}

/* Once a pass: what was committed is told, what changed meanwhile is passed on. */
static void on_flush(struct st_flush *flush)
{
    struct st_channel *ch = ST_CONTAINER_OF(flush, struct st_channel, flush);

    if (ch->closed)
        return;
    if (ch->broken == NULL) {
        if (ch->way == ST_CHANNEL_MEMORY)
            st_channel_memory_flush(ch);
        else if (ch->way == ST_CHANNEL_SOCKET)
            st_channel_socket_flush(ch);
    }
    if (ch->broken != NULL) {
        if (!ch->broken_told) {
            ch->broken_told = true;
            st_channel_memory_stop(ch);
            st_channel_socket_stop(ch);
            ch->handler->broken(ch, ch->broken);
        }
        return;
    }
    if (ch->room_due) {
        ch->room_due = ch->wants_room = ch->wants_pool = false;
        ch->handler->room(ch);
    }
}

struct st_channel *st_channel_new(const struct st_channel_options *opt, struct st_error *err)
{
    struct st_channel *ch = st_calloc(1, sizeof *ch);

    ch->loop = opt->loop;
    ch->handler = opt->handler;
    ch->bodies = opt->bodies;
    ch->far = (struct st_channel_far){-1, -1, -1, -1};
    ch->sock = ch->far_sock = ch->wake_worker = ch->wake_processor = -1;
    ch->flush.fn = on_flush;
    if (st_channel_memory_open(ch, opt, err) != ST_OK || st_channel_socket_open(ch, err) != ST_OK) {
        ch->closed = true;
        st_channel_memory_close(ch);
        st_channel_socket_close(ch);
        free(ch);
        return NULL;
    }
    return ch;
}

void st_channel_set_user(struct st_channel *ch, void *user)
{
    ch->user = user;
}

void *st_channel_user(const struct st_channel *ch)
{
    return ch->user;
}

struct st_body_budget *st_channel_bodies(const struct st_channel *ch)
{
    return ch->bodies;
}

const struct st_channel_far *st_channel_far(const struct st_channel *ch)
{
    return &ch->far;
}

/* The socket and the eventfd are ours as well. */
void st_channel_close_far(struct st_channel *ch)
{
    if (ch->far.memory >= 0)
        close(ch->far.memory);
    if (ch->far.wake_worker >= 0)
        close(ch->far.wake_worker);
    ch->far = (struct st_channel_far){-1, -1, -1, -1};
}

void st_channel_start(struct st_channel *ch, bool shared_memory)
{
    ST_ASSERT(ch->way == ST_CHANNEL_UNDECIDED && !ch->closed);
    if (shared_memory) {
        ch->way = ST_CHANNEL_MEMORY;
        st_channel_socket_close(ch);
        st_channel_memory_start(ch);
    } else {
        ch->way = ST_CHANNEL_SOCKET;
        st_channel_memory_close(ch);
        st_channel_socket_start(ch);
    }
}

char *st_channel_reserve(struct st_channel *ch, size_t size)
{
    char *at;

    ST_ASSERT(ch->way != ST_CHANNEL_UNDECIDED && size <= ch->max_record &&
              size % ST_WIRE_ALIGN == 0);
    if (st_unlikely(ch->broken != NULL || ch->closed))
        return NULL;
    at = ch->way == ST_CHANNEL_MEMORY ? st_channel_memory_reserve(ch, (uint32_t)size)
                                      : st_channel_socket_reserve(ch, size);
    if (st_unlikely(at == NULL))
        ch->wants_room = true;
    return at;
}

uint64_t st_channel_commit(struct st_channel *ch)
{
    ch->wake_due = true;
    st_loop_flush_later(ch->loop, &ch->flush);
    return ch->way == ST_CHANNEL_MEMORY ? st_ring_commit(&ch->down) : st_channel_socket_commit(ch);
}

size_t st_channel_max_record(const struct st_channel *ch)
{
    return ch->max_record;
}

bool st_channel_has_begun(const struct st_channel *ch, uint64_t place)
{
    return ch->way == ST_CHANNEL_MEMORY ? st_ring_has_begun(&ch->down, place)
                                        : st_channel_socket_has_begun(ch, place);
}

bool st_channel_take_back(struct st_channel *ch, uint64_t *from)
{
    enum st_ring_result rc;

    if (ch->way != ST_CHANNEL_MEMORY || ch->broken != NULL)
        return false;
    rc = st_ring_take_back(&ch->down, from);
    if (rc == ST_RING_BROKEN)
        st_channel_break(ch, "`taken` of the ring to the worker is wrong");
    return rc == ST_RING_OK;
}

void st_channel_read(struct st_channel *ch)
{
    if (ch->closed || ch->broken != NULL)
        return;
    if (ch->way == ST_CHANNEL_MEMORY)
        st_channel_memory_read(ch);
    else if (ch->way == ST_CHANNEL_SOCKET)
        st_channel_socket_read(ch);
}

static void free_channel(struct st_garbage *g)
{
    struct st_channel *ch = ST_CONTAINER_OF(g, struct st_channel, garbage);

    st_channel_memory_close(ch);
    st_channel_socket_close(ch);
    free(ch);
}

void st_channel_close(struct st_channel *ch)
{
    if (ch->closed)
        return;
    ch->closed = true;
    st_channel_memory_stop(ch);
    st_channel_socket_stop(ch);
    st_channel_close_far(ch);
    /* Later: a record may be on its way through a callback, and the flush may be queued. */
    st_loop_free_later(ch->loop, &ch->garbage, free_channel);
}
