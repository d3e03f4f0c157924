#include "runtimes/native_process/host/link.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtimes/native_process/host/host.h"
#include "runtimes/process/extent.h"
#include "runtimes/process/ring.h"

enum {
    READY_CONTROL = 1,
    READY_WAKE = 2,
    MIN_RING = 4096,
    ROOM_POLL_NS = 200000 /* how long a thread waits for room before it looks again */
};

/* As long as a result may wait for others, so that one wake-up serves them all. */
static const uint64_t batch_ns = 50000;

/* Of silent_ns: since the last look at the clock. */
static const uint64_t just_now = 1;

static struct {
    struct st_ring down, up;
    struct st_ring look; /* the ring to the worker, as far as it was looked through */
    char *pool[2];
    uint64_t pool_size[2];
    uint64_t released;  /* head, as it was stored */
    uint64_t silent_ns; /* since when a record waits to be announced; 0: none does */
    struct st_extents extents;
    int epoll_fd, poke_fd;
    atomic_uint unread; /* wake-ups that may lie in the pipe, at most */
    pthread_t main;
    atomic_bool asleep; /* from before the main thread's last look */
    atomic_bool poked;
} l;

static bool area_fits(const struct st_wire_area *area, uint64_t size)
{
    return area->offset <= size && area->size <= size - area->offset;
}

static bool ring_ok(const struct st_wire_area *ring)
{
    return ring->size >= MIN_RING && (ring->size & (ring->size - 1)) == 0;
}

static const char *check_memory(const struct st_wire_memory *memory, uint64_t size)
{
    if (memory->magic != ST_WIRE_MAGIC || memory->protocol != ST_WIRE_PROTOCOL)
        return "the shared memory is not that of this processor's version";
    for (int i = 0; i < 2; i++)
        if (!area_fits(&memory->ring[i], size) || !area_fits(&memory->pool[i], size) ||
            !ring_ok(&memory->ring[i]))
            return "the shared memory has areas outside itself";
    return NULL;
}

static void watch(int fd, uint32_t events, uint32_t bit)
{
    struct epoll_event event = {.events = events, .data.u32 = bit};

    if (epoll_ctl(l.epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
        st_host_die("can't wait for the processor");
}

void st_link_open(void)
{
    struct st_wire_memory *memory;
    const char *wrong;
    struct stat st;

    if (fstat(ST_WIRE_FD_MEMORY, &st) != 0 || (size_t)st.st_size < sizeof *memory)
        st_host_die("there is no shared memory: only the processor starts this program");
    memory =
        mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, ST_WIRE_FD_MEMORY, 0);
    if (memory == MAP_FAILED)
        st_host_die("can't map the shared memory");
    close(ST_WIRE_FD_MEMORY);
    wrong = check_memory(memory, (uint64_t)st.st_size);
    if (wrong != NULL)
        st_host_die(wrong);
    st_ring_init(&l.down, &memory->index[ST_WIRE_DOWN],
                 (char *)memory + memory->ring[ST_WIRE_DOWN].offset,
                 memory->ring[ST_WIRE_DOWN].size);
    l.look = l.down;
    st_ring_init(&l.up, &memory->index[ST_WIRE_UP],
                 (char *)memory + memory->ring[ST_WIRE_UP].offset, memory->ring[ST_WIRE_UP].size);
    for (int i = 0; i < 2; i++) {
        l.pool[i] = (char *)memory + memory->pool[i].offset;
        l.pool_size[i] = memory->pool[i].size;
    }
    l.main = pthread_self();
    l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l.poke_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (l.epoll_fd < 0 || l.poke_fd < 0 || !st_extents_init(&l.extents, l.pool_size[ST_WIRE_UP]))
        st_host_die("out of memory");
    watch(ST_WIRE_FD_CONTROL, EPOLLIN, READY_CONTROL);
    watch(ST_WIRE_FD_WAKE_WORKER, EPOLLIN | EPOLLET, READY_WAKE);
    watch(l.poke_fd, EPOLLIN | EPOLLET, READY_WAKE);
}

/* Taking */

static bool is_event(const struct st_wire_record *record)
{
    return record->kind == ST_WIRE_EVENT || record->kind == ST_WIRE_BATCH;
}

static ST_NORETURN void broken(void)
{
    st_host_die("the processor's ring makes no sense");
}

/* Looks at records up to the place `end`. */
static void look_to(uint64_t end)
{
    struct st_wire_record record;
    enum st_ring_result rc;
    const char *at;

    while (l.look.head < end) {
        rc = st_ring_peek(&l.look, &record, &at);
        if (rc == ST_RING_BROKEN)
            broken();
        if (rc == ST_RING_NONE || l.look.head >= end)
            return;
        st_ring_skip(&l.look, record.size);
        if (!is_event(&record))
            st_host_other((const struct st_wire_record *)(const void *)at);
    }
}

void st_link_scan(void)
{
    uint64_t taken = __atomic_load_n(&l.down.index->taken, __ATOMIC_ACQUIRE);

    look_to(UINT64_MAX);
    /* What the processor took back is done with. */
    if (l.down.head < taken)
        l.down.head = taken;
}

const struct st_wire_record *st_link_begin(void)
{
    struct st_wire_record record;
    const char *at;

    for (;;) {
        enum st_ring_result rc = st_ring_begin(&l.down, &record, &at);
        uint64_t place = l.down.head - (rc == ST_RING_OK ? record.size : 0);

        if (rc == ST_RING_BROKEN)
            broken();
        /* Records of other kinds among events that the processor took back still count. */
        if (st_unlikely(l.look.head < place))
            look_to(place);
        if (rc == ST_RING_NONE)
            return NULL;
        if (st_likely(is_event(&record))) {
            if (l.look.head < l.down.head)
                l.look.head = l.down.head;
            return (const struct st_wire_record *)(const void *)at;
        }
        look_to(l.down.head);
    }
}

static void wake_processor(void)
{
    uint64_t one = 1;
    ssize_t n = write(ST_WIRE_FD_WAKE_PROCESSOR, &one, sizeof one);

    (void)n; /* EAGAIN: it is readable anyway */
}

void st_link_release(bool lazy)
{
    uint64_t n = l.down.head - l.released;

    if (n == 0 || (lazy && n < l.down.size / 8))
        return;
    l.released = l.down.head;
    if (st_ring_release(&l.down))
        wake_processor();
}

/* Sending */

void st_link_announce(void)
{
    if (l.silent_ns == 0)
        return;
    l.silent_ns = 0;
    if (st_ring_must_wake(&l.up))
        wake_processor();
}

void st_link_announce_late(uint64_t now_ns)
{
    if (l.silent_ns == just_now)
        l.silent_ns = now_ns;
    else if (l.silent_ns != 0 && now_ns - l.silent_ns >= batch_ns)
        st_link_announce();
}

/* The processor is gone when its end of the control socket is. */
static void leave_alone(void)
{
    struct pollfd fd = {.fd = ST_WIRE_FD_CONTROL, .events = POLLRDHUP};

    if (poll(&fd, 1, 0) > 0 && (fd.revents & (POLLHUP | POLLRDHUP | POLLERR)) != 0)
        _exit(0);
}

/* The main thread's. What is read was about a record, or room, that it has yet to look at. */
static void read_wakes(void)
{
    char bytes[2 * ST_WIRE_MAX_UNREAD];
    ssize_t n;

    atomic_store(&l.unread, 0);
    n = read(ST_WIRE_FD_WAKE_WORKER, bytes, sizeof bytes);
    (void)n; /* EAGAIN: there is none */
}

/* The ring to the processor is full. The main thread waits for the pipe; others, which must not
 * take its wake-up away, look again. */
static void wait_for_room(void)
{
    struct timespec ts = {.tv_nsec = ROOM_POLL_NS};
    struct pollfd fd = {.fd = ST_WIRE_FD_WAKE_WORKER, .events = POLLIN};

    l.silent_ns = just_now;
    st_link_announce();
    if (!pthread_equal(pthread_self(), l.main)) {
        atomic_store(&l.unread, ST_WIRE_MAX_UNREAD); /* the main thread reads what comes of it */
        nanosleep(&ts, NULL);
    } else if (poll(&fd, 1, 100) > 0) {
        read_wakes();
    }
    leave_alone();
}

static char *reserve(uint32_t size)
{
    enum st_ring_result rc;
    char *at = NULL;

    while ((rc = st_ring_reserve(&l.up, size, &at)) == ST_RING_NONE)
        wait_for_room();
    if (rc == ST_RING_BROKEN)
        broken();
    return at;
}

static size_t round_up(size_t n)
{
    return (n + ST_WIRE_ALIGN - 1) & ~(size_t)(ST_WIRE_ALIGN - 1);
}

enum { MAX_PARTS = 6 };

size_t st_link_max_bytes(void)
{
    return st_ring_max_record(&l.up) - MAX_PARTS * sizeof(struct st_wire_section) -
           (size_t)2 * ST_WIRE_ALIGN;
}

static bool is_sent(const struct st_link_part *part)
{
    return part->bytes.len != 0 || (part->id == ST_WIRE_KEY && part->bytes.ptr != NULL);
}

void st_link_send(enum st_wire_kind kind, uint8_t flags, uint64_t seq,
                  const struct st_link_part *parts, size_t count)
{
    size_t sections = 0, bytes = 0, header, size;
    struct st_wire_record *record;
    struct st_wire_section *s;
    char *at;
    uint32_t offset;

    for (size_t i = 0; i < count; i++) {
        sections += is_sent(&parts[i]);
        bytes += parts[i].bytes.len;
    }
    header = sizeof *record + sections * sizeof *s;
    offset = (uint32_t)round_up(header);
    size = round_up(offset + bytes);
    at = reserve((uint32_t)size);
    record = (struct st_wire_record *)(void *)at;
    *record = (struct st_wire_record){.size = (uint32_t)size,
                                      .header_size = (uint16_t)header,
                                      .kind = (uint8_t)kind,
                                      .flags = flags,
                                      .seq = seq};
    s = (struct st_wire_section *)(record + 1);
    for (size_t i = 0; i < count; i++) {
        if (!is_sent(&parts[i]))
            continue;
        *s++ = (struct st_wire_section){
            .id = (uint16_t)parts[i].id, .offset = offset, .length = (uint32_t)parts[i].bytes.len};
        if (parts[i].bytes.len != 0)
            memcpy(at + offset, parts[i].bytes.ptr, parts[i].bytes.len);
        offset += (uint32_t)parts[i].bytes.len;
    }
    st_ring_commit(&l.up);
    if (l.silent_ns == 0)
        l.silent_ns = just_now;
}

/* Pools */

struct st_slice st_link_down_body(const struct st_wire_ref *ref)
{
    uint64_t size = l.pool_size[ST_WIRE_DOWN];

    if (ref->region != ST_WIRE_DOWN || ref->offset > size || ref->length > size - ref->offset)
        broken();
    return (struct st_slice){l.pool[ST_WIRE_DOWN] + ref->offset, ref->length};
}

bool st_link_put_body(struct st_slice body, struct st_wire_ref *ref)
{
    *ref = (struct st_wire_ref){.region = ST_WIRE_UP, .length = body.len};
    if (!st_extents_take(&l.extents, body.len, &ref->offset))
        return false;
    memcpy(l.pool[ST_WIRE_UP] + ref->offset, body.ptr, body.len);
    return true;
}

void st_link_free_body(const struct st_wire_ref *ref)
{
    if (!st_extents_give(&l.extents, ref->offset, ref->length))
        broken();
}

/* Sleeping */

void st_link_poke(void)
{
    uint64_t one = 1;

    atomic_store(&l.poked, true);
    if (atomic_exchange(&l.asleep, false) &&
        write(l.poke_fd, &one, sizeof one) != (ssize_t)sizeof one)
        return; /* it is readable anyway */
}

static void wait_ready(int timeout_ms)
{
    struct epoll_event events[2];
    int n = epoll_wait(l.epoll_fd, events, ST_ARRAY_LEN(events), timeout_ms);

    for (int i = 0; i < n; i++)
        if (events[i].data.u32 == READY_CONTROL)
            st_host_control_read();
}

void st_link_poll(void)
{
    wait_ready(0);
}

/* The exchange orders the last look behind it; st_link_poke either sees that the main thread is
 * asleep, or is seen. */
void st_link_sleep(bool events_wait)
{
    struct st_ring look = l.down;

    if (events_wait && l.look.head > l.down.head)
        look.head = l.look.head;
    if (atomic_fetch_add(&l.unread, 1) >= ST_WIRE_MAX_UNREAD - 1)
        read_wakes();
    atomic_store(&l.asleep, true);
    if (st_ring_sleep(&look) && !atomic_load(&l.poked)) {
        wait_ready(-1);
        st_host.now_ns = 0;
    }
    __atomic_store_n(&l.down.index->sleeping, 0, __ATOMIC_RELAXED);
    atomic_store(&l.asleep, false);
    atomic_store(&l.poked, false);
}
