#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "runtimes/python/ext/link.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* As long as a result may wait for others, so that one wake-up serves them all. */
static const uint64_t batch_ns = 50000;

uint64_t py_clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool area_fits(const struct st_wire_area *area, uint64_t size)
{
    return area->offset <= size && area->size <= size - area->offset;
}

static bool is_power_of_two(uint64_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

/* What is wrong with the memory, or NULL. */
static const char *check_memory(const struct st_wire_memory *memory, uint64_t size)
{
    if (memory->magic != ST_WIRE_MAGIC) {
        return "the shared memory is not the processor's";
    }
    if (memory->protocol != ST_WIRE_PROTOCOL) {
        return "the processor speaks another protocol";
    }
    for (int i = 0; i < 2; i++) {
        if (!area_fits(&memory->ring[i], size) || !area_fits(&memory->pool[i], size) ||
            !is_power_of_two(memory->ring[i].size) || memory->ring[i].size < 4096) {
            return "the shared memory has areas outside itself";
        }
    }
    return NULL;
}

static void set_areas(struct py_link *link)
{
    struct st_wire_memory *memory = (struct st_wire_memory *)link->map;

    link->down = &memory->index[ST_WIRE_DOWN];
    link->up = &memory->index[ST_WIRE_UP];
    link->down_base = link->map + memory->ring[ST_WIRE_DOWN].offset;
    link->up_base = link->map + memory->ring[ST_WIRE_UP].offset;
    link->down_size = memory->ring[ST_WIRE_DOWN].size;
    link->up_size = memory->ring[ST_WIRE_UP].size;
    for (int i = 0; i < 2; i++) {
        link->pool[i] = link->map + memory->pool[i].offset;
        link->pool_size[i] = memory->pool[i].size;
    }
    link->next = __atomic_load_n(&link->down->taken, __ATOMIC_ACQUIRE);
    link->seen = link->next;
    link->released = __atomic_load_n(&link->down->head, __ATOMIC_ACQUIRE);
    link->tail = __atomic_load_n(&link->up->tail, __ATOMIC_ACQUIRE);
}

static int watch(struct py_link *link)
{
    struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.u32 = PY_READY_WAKE};
    struct epoll_event control = {.events = EPOLLIN, .data.u32 = PY_READY_CONTROL};

    link->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (link->epoll_fd < 0 || epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, link->wake_fd, &wake) < 0 ||
        epoll_ctl(link->epoll_fd, EPOLL_CTL_ADD, link->control_fd, &control) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return 0;
}

int py_link_open(struct py_link *link, int memory_fd, int wake_fd, int peer_fd, int control_fd)
{
    struct stat st;
    const char *why;

    *link = (struct py_link){
        .wake_fd = wake_fd, .peer_fd = peer_fd, .control_fd = control_fd, .epoll_fd = -1};
    if (fstat(memory_fd, &st) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if ((size_t)st.st_size < sizeof(struct st_wire_memory)) {
        PyErr_SetString(PyExc_ValueError, "the shared memory is too small");
        return -1;
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
    if (map == MAP_FAILED) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    link->map = map;
    link->map_size = (size_t)st.st_size;
    why = check_memory(map, link->map_size);
    if (why != NULL) {
        PyErr_SetString(PyExc_ValueError, why);
        goto fail;
    }
    set_areas(link);
    if (watch(link) < 0) {
        goto fail;
    }
    return 0;
fail:
    py_link_close(link);
    return -1;
}

void py_link_close(struct py_link *link)
{
    if (link->map != NULL) {
        munmap(link->map, link->map_size);
        link->map = NULL;
        link->pool_size[ST_WIRE_DOWN] = 0; /* bodies of events that somebody still holds */
    }
    if (link->epoll_fd >= 0) {
        close(link->epoll_fd);
        link->epoll_fd = -1;
    }
}

uint64_t py_link_tail(const struct py_link *link)
{
    return __atomic_load_n(&link->down->tail, __ATOMIC_ACQUIRE);
}

static const struct st_wire_record *record_at(const struct py_link *link, uint64_t place)
{
    return (const struct st_wire_record *)(link->down_base + (place & (link->down_size - 1)));
}

static bool is_event(const struct st_wire_record *record)
{
    return record->kind == ST_WIRE_EVENT || record->kind == ST_WIRE_BATCH;
}

static bool is_sane(const struct py_link *link, uint64_t place)
{
    uint64_t size = record_at(link, place)->size;
    return size >= sizeof(struct st_wire_record) && size % ST_WIRE_ALIGN == 0 &&
           size <= link->down_size - (place & (link->down_size - 1));
}

/* Passes on what lies before `end` and is no event. */
static void scan_to(struct py_link *link, uint64_t end)
{
    if (link->seen < link->next) {
        link->seen = link->next;
    }
    while (link->seen < end && is_sane(link, link->seen)) {
        const struct st_wire_record *record = record_at(link, link->seen);
        link->seen += record->size;
        if (!is_event(record) && record->kind != ST_WIRE_FILL) {
            link->other(link->arg, record);
        }
    }
}

void py_link_scan(struct py_link *link)
{
    scan_to(link, py_link_tail(link));
}

const struct st_wire_record *py_link_take(struct py_link *link)
{
    while (py_link_tail(link) != link->next) {
        uint64_t place = link->next, taken = place;
        if (!is_sane(link, place)) {
            PyErr_SetString(PyExc_RuntimeError, "the processor's ring makes no sense");
            return NULL;
        }
        const struct st_wire_record *record = record_at(link, place);
        if (!__atomic_compare_exchange_n(&link->down->taken, &taken, place + record->size, false,
                                         __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            /* The processor took events back; other records among them still count. */
            scan_to(link, taken);
            link->next = taken;
            continue;
        }
        link->next = place + record->size;
        if (is_event(record)) {
            return record;
        }
        if (place >= link->seen) {
            link->seen = link->next;
            if (record->kind != ST_WIRE_FILL) {
                link->other(link->arg, record);
            }
        }
    }
    return NULL;
}

static void wake_peer(struct py_link *link)
{
    uint64_t one = 1;
    /* EAGAIN, the only error of an eventfd that is open, means that it is readable anyway. */
    if (write(link->peer_fd, &one, sizeof one) < 0) {
        return;
    }
}

void py_link_release(struct py_link *link, bool lazy)
{
    uint64_t begun = link->next - link->released;

    if (begun == 0 || (lazy && begun < link->down_size / 8)) {
        return;
    }
    link->released = link->next;
    __atomic_store_n(&link->down->head, link->next, __ATOMIC_RELEASE);
    if (__atomic_exchange_n(&link->down->full, 0, __ATOMIC_SEQ_CST) == 1) {
        wake_peer(link);
    }
}

size_t py_link_max_record(const struct py_link *link)
{
    return (size_t)(link->up_size / 4);
}

static bool has_room(const struct py_link *link, uint64_t size)
{
    uint64_t head = __atomic_load_n(&link->up->head, __ATOMIC_ACQUIRE);
    return link->up_size - (link->tail - head) >= size;
}

/* What is read was about a record, or room, that is looked for after this. */
static void read_wakes(struct py_link *link)
{
    char bytes[2 * ST_WIRE_MAX_UNREAD];
    ssize_t n = read(link->wake_fd, bytes, sizeof bytes);
    (void)n; /* EAGAIN: there is none */
    link->unread = 0;
}

/* Waits for the wake-up that says that there may be room. 0, or -1 with an exception. */
static int wait_room(struct py_link *link, uint64_t size)
{
    struct pollfd fds[2] = {{.fd = link->wake_fd, .events = POLLIN}, {.fd = link->control_fd}};
    int n;

    py_link_announce(link);
    /* Read here, where the state of the pipe is waited for and not its edge. */
    read_wakes(link);
    __atomic_exchange_n(&link->up->full, 1, __ATOMIC_SEQ_CST);
    if (has_room(link, size)) {
        return 0;
    }
    Py_BEGIN_ALLOW_THREADS n = poll(fds, 2, -1);
    Py_END_ALLOW_THREADS if (n < 0 && errno == EINTR)
    {
        return PyErr_CheckSignals();
    }
    if (fds[1].revents != 0) {
        PyErr_SetString(PyExc_ConnectionError, "the processor is gone");
        return -1;
    }
    return 0;
}

char *py_link_reserve(struct py_link *link, size_t size)
{
    uint64_t place = link->tail & (link->up_size - 1);
    uint64_t left = link->up_size - place;
    uint64_t fill = left < size ? left : 0;

    while (!has_room(link, fill + size)) {
        if (wait_room(link, fill + size) < 0) {
            return NULL;
        }
    }
    if (fill != 0) {
        struct st_wire_record *record = (struct st_wire_record *)(link->up_base + place);
        *record = (struct st_wire_record){
            .size = (uint32_t)fill, .header_size = sizeof *record, .kind = ST_WIRE_FILL};
        link->tail += fill;
        place = 0;
    }
    return link->up_base + place;
}

void py_link_commit(struct py_link *link, size_t size, uint64_t now_ns)
{
    link->tail += size;
    __atomic_store_n(&link->up->tail, link->tail, __ATOMIC_RELEASE);
    if (link->silent_ns == 0) {
        link->silent_ns = now_ns != 0 ? now_ns : py_clock_ns();
    }
}

bool py_link_is_late(const struct py_link *link, uint64_t now_ns)
{
    return link->silent_ns != 0 && now_ns - link->silent_ns >= batch_ns;
}

void py_link_announce(struct py_link *link)
{
    if (link->silent_ns == 0) {
        return;
    }
    link->silent_ns = 0;
    if (__atomic_exchange_n(&link->up->sleeping, 0, __ATOMIC_SEQ_CST) == 1) {
        wake_peer(link);
    }
}

bool py_link_doze(struct py_link *link, uint64_t looked)
{
    if (++link->unread >= ST_WIRE_MAX_UNREAD) {
        read_wakes(link);
    }
    __atomic_exchange_n(&link->down->sleeping, 1, __ATOMIC_SEQ_CST);
    if (py_link_tail(link) != looked) {
        py_link_awake(link);
        return false;
    }
    return true;
}

void py_link_awake(struct py_link *link)
{
    __atomic_store_n(&link->down->sleeping, 0, __ATOMIC_RELAXED);
}

static int ready_bits(const struct epoll_event *events, int n)
{
    int bits = 0;
    for (int i = 0; i < n; i++) {
        bits |= (int)events[i].data.u32;
    }
    return bits;
}

int py_link_sleep(struct py_link *link, uint64_t looked, int timeout_ms)
{
    struct epoll_event events[2];
    int n;

    if (!py_link_doze(link, looked)) {
        return PY_READY_WAKE;
    }
    Py_BEGIN_ALLOW_THREADS n = epoll_wait(link->epoll_fd, events, 2, timeout_ms);
    Py_END_ALLOW_THREADS py_link_awake(link);
    if (n < 0 && errno != EINTR) {
        PyErr_SetFromErrno(PyExc_OSError); /* the handler has closed it */
        return -1;
    }
    return n < 0 ? PyErr_CheckSignals() : ready_bits(events, n);
}

int py_link_poll(struct py_link *link)
{
    struct epoll_event events[2];
    return ready_bits(events, epoll_wait(link->epoll_fd, events, 2, 0));
}
