/* The worker's end of a channel, for tests: in the same process, or in a thread or child of it. */
#ifndef TESTS_SUPPORT_WIRE_WORKER_H
#define TESTS_SUPPORT_WIRE_WORKER_H

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtimes/process/channel.h"
#include "runtimes/process/ring.h"

struct wire_worker {
    struct st_wire_memory *memory;
    size_t size;
    struct st_ring in, out;
    int wake_in, wake_out, sock;
};

/* Before the channel is started. */
static inline void wire_worker_open(struct wire_worker *w, const struct st_channel *ch)
{
    const struct st_channel_far *far = st_channel_far(ch);
    struct st_wire_memory head;

    ST_ASSERT(pread(far->memory, &head, sizeof head, 0) == (ssize_t)sizeof head);
    ST_ASSERT(head.magic == ST_WIRE_MAGIC && head.protocol == ST_WIRE_PROTOCOL);
    w->size = head.size;
    w->memory = mmap(NULL, w->size, PROT_READ | PROT_WRITE, MAP_SHARED, far->memory, 0);
    ST_ASSERT(w->memory != MAP_FAILED);
    st_ring_init(&w->in, &w->memory->index[ST_WIRE_DOWN],
                 (char *)w->memory + head.ring[ST_WIRE_DOWN].offset, head.ring[ST_WIRE_DOWN].size);
    st_ring_init(&w->out, &w->memory->index[ST_WIRE_UP],
                 (char *)w->memory + head.ring[ST_WIRE_UP].offset, head.ring[ST_WIRE_UP].size);
    w->wake_in = dup(far->wake_worker);
    w->wake_out = dup(far->wake_processor);
    w->sock = dup(far->data);
}

static inline void wire_worker_close(struct wire_worker *w)
{
    munmap(w->memory, w->size);
    close(w->wake_in);
    close(w->wake_out);
    close(w->sock);
}

static inline char *wire_worker_pool(struct wire_worker *w, enum st_wire_region region)
{
    return (char *)w->memory + w->memory->pool[region].offset;
}

struct wire_part {
    uint16_t id;
    const void *bytes;
    size_t length;
};

static inline size_t wire_record_size(const struct wire_part *parts, size_t n)
{
    size_t size = sizeof(struct st_wire_record) + n * sizeof(struct st_wire_section);

    for (size_t i = 0; i < n; i++)
        size = (size + 7) / 8 * 8 + parts[i].length;
    return (size + ST_WIRE_ALIGN - 1) / ST_WIRE_ALIGN * ST_WIRE_ALIGN;
}

static inline size_t wire_record_put(char *at, uint8_t kind, uint8_t flags, uint64_t seq,
                                     const struct wire_part *parts, size_t n)
{
    size_t size = wire_record_size(parts, n), end;
    struct st_wire_record record = {
        .size = (uint32_t)size, .kind = kind, .flags = flags, .seq = seq};

    memset(at, 0, size);
    end = sizeof record + n * sizeof(struct st_wire_section);
    record.header_size = (uint16_t)end;
    memcpy(at, &record, sizeof record);
    for (size_t i = 0; i < n; i++) {
        struct st_wire_section section = {.id = parts[i].id, .length = (uint32_t)parts[i].length};

        end = (end + 7) / 8 * 8;
        section.offset = (uint32_t)end;
        memcpy(at + sizeof record + i * sizeof section, &section, sizeof section);
        if (parts[i].length != 0)
            memcpy(at + end, parts[i].bytes, parts[i].length);
        end += parts[i].length;
    }
    return size;
}

static inline void wire_worker_signal(struct wire_worker *w)
{
    const uint64_t one = 1;

    ST_ASSERT(write(w->wake_out, &one, sizeof one) == (ssize_t)sizeof one);
}

/* Into the ring; false: it is full. The processor is woken where it sleeps. */
static inline bool wire_worker_put(struct wire_worker *w, uint8_t kind, uint8_t flags, uint64_t seq,
                                   const struct wire_part *parts, size_t n)
{
    char *at;

    if (st_ring_reserve(&w->out, (uint32_t)wire_record_size(parts, n), &at) != ST_RING_OK)
        return false;
    wire_record_put(at, kind, flags, seq, parts, n);
    st_ring_commit(&w->out);
    if (st_ring_must_wake(&w->out))
        wire_worker_signal(w);
    return true;
}

/* Begins the next record of the ring; false: there is none. */
static inline bool wire_worker_begin(struct wire_worker *w, struct st_wire_record *record,
                                     const char **at)
{
    return st_ring_begin(&w->in, record, at) == ST_RING_OK;
}

/* It is done with everything that it has begun. */
static inline void wire_worker_release(struct wire_worker *w)
{
    if (st_ring_release(&w->in))
        wire_worker_signal(w);
}

/* Waits until there is a record, or there may be room. */
static inline void wire_worker_wait(struct wire_worker *w)
{
    struct pollfd p = {.fd = w->wake_in, .events = POLLIN};
    char bytes[64];

    if (!st_ring_sleep(&w->in))
        return;
    ST_ASSERT(poll(&p, 1, -1) == 1);
    ST_ASSERT(read(w->wake_in, bytes, sizeof bytes) > 0);
}

/* The section of a record; empty: it is not there. */
static inline struct st_slice wire_section(const char *at, uint16_t id)
{
    struct st_wire_record record;

    memcpy(&record, at, sizeof record);
    for (size_t i = sizeof record; i < record.header_size; i += sizeof(struct st_wire_section)) {
        struct st_wire_section section;

        memcpy(&section, at + i, sizeof section);
        if (section.id == id)
            return (struct st_slice){at + section.offset, section.length};
    }
    return (struct st_slice){NULL, 0};
}

#endif
