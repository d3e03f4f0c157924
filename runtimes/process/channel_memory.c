/* Records by rings in shared memory, bodies by its pools. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/net/net.h"
#include "runtimes/process/channel_int.h"

enum {
    PAGE = 4096,
    MIN_RING = 64 * 1024,
    MAX_RING = 1024 * 1024 * 1024,
    PUNCH_SIZE = 1024 * 1024 /* a body of the pool from which on its pages are given back */
};

/* ---- Set-up ---- */

static void memory_unref(struct st_channel_memory *m)
{
    if (atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (m->base != NULL)
        munmap(m->base, m->size);
    free(m);
}

static uint64_t ring_size(size_t wanted)
{
    uint64_t size = MIN_RING;

    while (size < wanted && size < MAX_RING)
        size *= 2;
    return size;
}

static struct st_wire_memory layout(uint64_t ring, uint64_t pool)
{
    const uint64_t pools = ST_WIRE_HEADER_PAGE + 2 * ring;

    return (struct st_wire_memory){
        .magic = ST_WIRE_MAGIC,
        .protocol = ST_WIRE_PROTOCOL,
        .size = pools + 2 * pool,
        .ring = {{ST_WIRE_HEADER_PAGE, ring}, {ST_WIRE_HEADER_PAGE + ring, ring}},
        .pool = {{pools, pool}, {pools + pool, pool}},
        .index = {[ST_WIRE_UP] = {.sleeping = 1}},
    };
}

static int map(struct st_channel *ch, size_t size, struct st_error *err)
{
    void *base;

    ch->far.memory = memfd_create("stator-worker", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (ch->far.memory < 0 || ftruncate(ch->far.memory, (off_t)size) != 0 ||
        fcntl(ch->far.memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
        return st_error_sys(err, errno, "can't make %zu bytes of shared memory for a worker", size);
    base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, ch->far.memory, 0);
    if (base == MAP_FAILED)
        return st_error_sys(err, errno, "can't map %zu bytes of shared memory for a worker", size);
    ch->memory->base = base;
    ch->memory->size = size;
    return ST_OK;
}

/* The worker may set its end of a pipe to blocking, and fill the pipe: a write to this end returns
 * at once all the same. An eventfd has one set of flags for all who have it; this one is only
 * watched here. */
static int open_wakes(struct st_channel *ch, struct st_error *err)
{
    int ends[2];

    ch->wake_processor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ch->wake_processor < 0 || pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
        return st_error_sys(err, errno, "can't make the eventfd and the pipe that wake a worker");
    ch->far.wake_worker = ends[0];
    ch->wake_worker = ends[1];
    ch->far.wake_processor = ch->wake_processor;
    return ST_OK;
}

static void open_rings(struct st_channel *ch, const struct st_wire_memory *plan)
{
    struct st_channel_memory *m = ch->memory;
    struct st_wire_memory *head = (struct st_wire_memory *)m->base;

    *head = *plan;
    for (unsigned i = 0; i < 2; i++)
        m->pool[i] = m->base + plan->pool[i].offset;
    st_ring_init(&ch->down, &head->index[ST_WIRE_DOWN], m->base + plan->ring[ST_WIRE_DOWN].offset,
                 plan->ring[ST_WIRE_DOWN].size);
    st_ring_init(&ch->up, &head->index[ST_WIRE_UP], m->base + plan->ring[ST_WIRE_UP].offset,
                 plan->ring[ST_WIRE_UP].size);
}

int st_channel_memory_open(struct st_channel *ch, const struct st_channel_options *opt,
                           struct st_error *err)
{
    struct st_channel_memory *m = st_calloc(1, sizeof *m);
    struct st_wire_memory plan;
    int rc;

    ch->pool_bytes = (opt->pool_bytes + PAGE - 1) & ~(size_t)(PAGE - 1);
    plan = layout(ring_size(opt->ring_bytes), ch->pool_bytes);
    atomic_init(&m->refs, 1);
    pthread_mutex_init(&m->lock, NULL);
    STAILQ_INIT(&m->acks);
    STAILQ_INIT(&ch->acks);
    m->bodies = ch->bodies;
    ch->memory = m;
    ST_ASSERT(st_extents_init(&ch->extents, ch->pool_bytes));
    rc = map(ch, plan.size, err);
    if (rc == ST_OK)
        rc = open_wakes(ch, err);
    if (rc == ST_OK)
        open_rings(ch, &plan);
    return rc;
}

/* ---- Records from the worker ---- */

static void wake(const struct st_channel *ch)
{
    const char byte = 0;

    /* EAGAIN: wake-ups are there that it has not read. EPIPE: it has closed its end. */
    while (write(ch->wake_worker, &byte, sizeof byte) < 0 && errno == EINTR)
        ;
}

static void release(struct st_channel *ch, uint64_t *released)
{
    *released = ch->up.head;
    if (st_ring_release(&ch->up))
        wake(ch);
}

/* Takes at most `limit` records; how many are left of it. Less than none: stop. */
static int take(struct st_channel *ch, int limit)
{
    struct st_ring *r = &ch->up;
    uint64_t released = r->head;
    enum st_ring_result rc = ST_RING_NONE;

    for (; limit > 0; limit--) {
        struct st_wire_record record;
        const char *at;

        rc = st_ring_peek(r, &record, &at);
        if (rc != ST_RING_OK)
            break;
        if (!st_channel_pass_on(ch, &record, at))
            return -1;
        st_ring_skip(r, record.size);
        if (r->head - released >= r->size / 4)
            release(ch, &released);
    }
    if (rc == ST_RING_BROKEN) {
        st_channel_break(ch, "the ring to the processor is wrong");
        return -1;
    }
    if (r->head != released)
        release(ch, &released);
    return limit;
}

/* The worker has written something or made room. */
static void look(struct st_channel *ch)
{
    const struct timeval now = {0, 0};

    if (ch->wants_room)
        ch->room_due = true;
    if (ch->room_due || !STAILQ_EMPTY(&ch->acks))
        st_loop_flush_later(ch->loop, &ch->flush);
    for (int left = ST_CHANNEL_MAX_TAKE; left > 0; left--) {
        left = take(ch, left);
        if (left < 0)
            return;
        if (left > 0 && st_ring_sleep(&ch->up)) {
            ch->handler->idle(ch);
            return;
        }
    }
    /* Not asleep: what comes now wakes nobody. */
    event_add(&ch->again, &now);
}

static void on_wake(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    struct st_channel *ch = arg;

    if (!ch->closed && ch->broken == NULL)
        look(ch);
}

void st_channel_memory_start(struct st_channel *ch)
{
    ch->max_record = st_ring_max_record(&ch->down);
    ch->memory->ch = ch;
    /* Edge-triggered, never read: each write is a new edge. */
    ST_ASSERT(event_assign(&ch->event, ch->loop->base, ch->wake_processor,
                           EV_READ | EV_PERSIST | EV_ET, on_wake, ch) == 0 &&
              event_assign(&ch->again, ch->loop->base, -1, 0, on_wake, ch) == 0 &&
              event_add(&ch->event, NULL) == 0);
}

/* A worker that is dead writes no more; one that is not must not keep us here. */
void st_channel_memory_read(struct st_channel *ch)
{
    (void)take(ch, (int)(ch->up.size / ST_WIRE_ALIGN));
}

/* ---- Records to the worker ---- */

char *st_channel_memory_reserve(struct st_channel *ch, uint32_t size)
{
    char *at = NULL;

    if (st_unlikely(st_ring_reserve(&ch->down, size, &at) == ST_RING_BROKEN))
        st_channel_break(ch, "`head` of the ring to the worker is wrong");
    return at;
}

static bool write_ack(struct st_channel *ch, const struct st_wire_ref *ref)
{
    struct ack {
        struct st_wire_record record;
        struct st_wire_section section;
        uint32_t pad;
        struct st_wire_ref ref;
        uint64_t end;
    } ack = {
        .record = {.size = sizeof ack,
                   .header_size = offsetof(struct ack, pad),
                   .kind = ST_WIRE_ACK},
        .section = {.id = ST_WIRE_BODY_REF,
                    .offset = offsetof(struct ack, ref),
                    .length = sizeof ack.ref},
        .ref = *ref,
    };
    char *at = st_channel_memory_reserve(ch, sizeof ack);

    _Static_assert(sizeof ack % ST_WIRE_ALIGN == 0, "a record's size");
    if (at == NULL)
        return false;
    memcpy(at, &ack, sizeof ack);
    st_ring_commit(&ch->down);
    ch->wake_due = true;
    return true;
}

static void free_ack(struct st_channel_ack *ack)
{
    memory_unref(ack->memory);
    free(ack);
}

static void take_acks(struct st_channel_memory *m, struct st_channel_acks *out)
{
    pthread_mutex_lock(&m->lock);
    STAILQ_CONCAT(out, &m->acks);
    m->told = false;
    pthread_mutex_unlock(&m->lock);
}

static void write_acks(struct st_channel *ch)
{
    struct st_channel_ack *ack;

    while ((ack = STAILQ_FIRST(&ch->acks)) != NULL && write_ack(ch, &ack->ref)) {
        STAILQ_REMOVE_HEAD(&ch->acks, link);
        free_ack(ack);
    }
}

void st_channel_memory_flush(struct st_channel *ch)
{
    if (st_unlikely(ch->acks_due)) {
        ch->acks_due = false;
        take_acks(ch->memory, &ch->acks);
    }
    if (st_unlikely(!STAILQ_EMPTY(&ch->acks)))
        write_acks(ch);
    if (ch->wake_due) {
        ch->wake_due = false;
        if (st_ring_must_wake(&ch->down))
            wake(ch);
    }
}

/* ---- Bodies ---- */

int st_channel_put_body(struct st_channel *ch, struct st_slice body, struct st_wire_ref *ref)
{
    uint64_t offset;

    ST_ASSERT(body.len > 0);
    if (ch->way != ST_CHANNEL_MEMORY || body.len > ch->pool_bytes)
        return ST_ERR_LIMIT;
    if (ch->closed || ch->broken != NULL)
        return ST_ERR_CLOSED;
    if (!st_body_budget_take(ch->bodies, body.len))
        return ST_ERR_NOMEM;
    if (!st_extents_take(&ch->extents, body.len, &offset)) {
        st_body_budget_give(ch->bodies, body.len);
        ch->wants_pool = true;
        return ST_ERR_AGAIN;
    }
    ch->pool_used += body.len;
    memcpy(ch->memory->pool[ST_WIRE_DOWN] + offset, body.ptr, body.len);
    *ref = (struct st_wire_ref){.region = ST_WIRE_DOWN, .offset = offset, .length = body.len};
    return ST_OK;
}

/* The whole pages of a body that is not needed any more go back to the system. */
static void punch(char *pool, uint64_t offset, uint64_t length)
{
    uint64_t begin = (offset + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    uint64_t end = (offset + length) & ~(uint64_t)(PAGE - 1);

    if (length >= PUNCH_SIZE)
        (void)madvise(pool + begin, end - begin, MADV_REMOVE);
}

void st_channel_free_body(struct st_channel *ch, const struct st_wire_ref *ref)
{
    if (ch->closed)
        return;
    ST_ASSERT(ref->region == ST_WIRE_DOWN &&
              st_extents_give(&ch->extents, ref->offset, ref->length));
    st_body_budget_give(ch->bodies, ref->length);
    ch->pool_used -= ref->length;
    punch(ch->memory->pool[ST_WIRE_DOWN], ref->offset, ref->length);
    if (ch->wants_pool) {
        ch->room_due = true;
        st_loop_flush_later(ch->loop, &ch->flush);
    }
}

static struct st_channel_ack *new_ack(struct st_channel *ch, const struct st_wire_ref *ref)
{
    struct st_channel_ack *ack = st_calloc(1, sizeof *ack);

    ack->memory = ch->memory;
    atomic_fetch_add_explicit(&ch->memory->refs, 1, memory_order_relaxed);
    ack->ref = *ref;
    return ack;
}

void st_channel_return_body(struct st_channel *ch, const struct st_wire_ref *ref)
{
    struct st_channel_ack *ack;

    if (ch->closed || ch->broken != NULL || ref->region != ST_WIRE_UP)
        return;
    ack = new_ack(ch, ref);
    STAILQ_INSERT_TAIL(&ch->acks, ack, link);
    st_loop_flush_later(ch->loop, &ch->flush);
}

static void look_at_acks(struct st_channel *ch)
{
    ch->acks_due = true;
    st_loop_flush_later(ch->loop, &ch->flush);
}

static void on_acks(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct st_channel_memory *m = ST_CONTAINER_OF(mail, struct st_channel_memory, mail);
    struct st_channel *ch;

    pthread_mutex_lock(&m->lock);
    ch = m->ch;
    pthread_mutex_unlock(&m->lock);
    if (ch != NULL)
        look_at_acks(ch);
    memory_unref(m);
}

/* The lock is held: the channel, and so its loop, lives. */
static void tell(struct st_channel_memory *m)
{
    if (m->told)
        return;
    m->told = true;
    if (st_loop_is_current(m->ch->loop)) {
        look_at_acks(m->ch);
        return;
    }
    atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    st_loop_post(m->ch->loop, &m->mail, on_acks);
}

/* The last reference to a borrowed body is gone; any thread. */
static void on_release(struct st_region *region)
{
    struct st_channel_ack *ack = ST_CONTAINER_OF(region, struct st_channel_ack, region);
    struct st_channel_memory *m = ack->memory;
    bool lives;

    st_body_budget_give(m->bodies, ack->ref.length);
    pthread_mutex_lock(&m->lock);
    lives = m->ch != NULL;
    if (lives) {
        STAILQ_INSERT_TAIL(&m->acks, ack, link);
        tell(m);
    }
    pthread_mutex_unlock(&m->lock);
    if (!lives)
        free_ack(ack);
}

int st_channel_borrow_body(struct st_channel *ch, const struct st_wire_ref *ref, struct st_buf *out)
{
    struct st_channel_ack *ack;

    if (ref->region != ST_WIRE_UP)
        return ST_ERR_INVALID;
    if (!st_body_budget_take(ch->bodies, ref->length)) {
        st_channel_return_body(ch, ref);
        return ST_ERR_NOMEM;
    }
    ack = new_ack(ch, ref);
    atomic_init(&ack->region.refs, 1);
    ack->region.base = ch->memory->pool[ST_WIRE_UP] + ref->offset;
    ack->region.size = ref->length;
    ack->region.release = on_release;
    *out = (struct st_buf){&ack->region, 0, ref->length};
    return ST_OK;
}

/* ---- End ---- */

void st_channel_memory_stop(struct st_channel *ch)
{
    struct st_channel_ack *ack;

    if (ch->way != ST_CHANNEL_MEMORY)
        return;
    event_del(&ch->event);
    event_del(&ch->again);
    pthread_mutex_lock(&ch->memory->lock);
    ch->memory->ch = NULL;
    pthread_mutex_unlock(&ch->memory->lock);
    take_acks(ch->memory, &ch->acks);
    while ((ack = STAILQ_FIRST(&ch->acks)) != NULL) {
        STAILQ_REMOVE_HEAD(&ch->acks, link);
        free_ack(ack);
    }
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void st_channel_memory_close(struct st_channel *ch)
{
    if (ch->memory == NULL)
        return;
    st_body_budget_give(ch->bodies, ch->pool_used);
    st_extents_end(&ch->extents);
    close_fd(&ch->far.memory);
    close_fd(&ch->far.wake_worker);
    close_fd(&ch->wake_worker);
    close_fd(&ch->wake_processor);
    ch->far.wake_processor = -1;
    memory_unref(ch->memory);
    ch->memory = NULL;
}
