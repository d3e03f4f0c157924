#include "processor/core/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "processor/core/clock.h"
#include "processor/core/log_int.h"

enum {
    RING_DEFAULT = 256 * 1024,
    RING_MIN = 2 * ST_LOG_RECORD_MAX,
    CLOSE_STALL_MS = 2000, /* a sink that takes nothing for so long is given up at close */
    CLOSE_SECONDS = 5,     /* and a write that blocks is left behind after these */
};

/* Bytes of whole lines from one thread to the writer: positions only grow, offsets are modulo size.
 * No length prefix: a record is a line, and the writer writes what is there as it is. */
struct log_ring {
    struct log_ring *next;           /* changed by the writer alone once the ring is in the list */
    size_t size;                     /* a power of two */
    atomic_bool ended;               /* the thread has: free the ring when it is empty */
    _Alignas(64) atomic_size_t head; /* the thread's */
    _Alignas(64) atomic_size_t tail; /* the writer's */
    _Alignas(64) char bytes[];
};

static struct {
    atomic_uint generation; /* of st_log_open; 0: closed */
    unsigned generations;
    struct st_log_style system, functions;
    bool colour;
    int fd, wake_fd;
    size_t ring_bytes;
    pthread_t writer;
    pthread_mutex_t lock; /* of rings, the list's head */
    struct log_ring *rings;
    atomic_bool sleeping; /* the writer is, or is about to: it must be woken */
    atomic_bool closing;
    bool given_up; /* writer only: the sink stalled at close */
    atomic_ullong dropped;
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER};

static pthread_once_t key_once = PTHREAD_ONCE_INIT;
static pthread_key_t key; /* only for its destructor */

static _Thread_local struct {
    struct log_ring *ring;
    unsigned generation; /* ring is of this; else it is stale */
} mine;

_Atomic enum st_log_level st_log_threshold = ST_LOG_INFO, st_log_function_threshold = ST_LOG_INFO;

static void wake_write(void)
{
    uint64_t one = 1;

    while (write(logger.wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void wake_read(void)
{
    uint64_t count;

    while (read(logger.wake_fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

/* After a change that the writer must see. The change and this load are sequentially consistent,
 * and so are the writer's store to `sleeping` and its last look at the rings: one of the two sees
 * the other. */
static void wake_if_sleeping(void)
{
    if (atomic_load(&logger.sleeping) && atomic_exchange(&logger.sleeping, false))
        wake_write();
}

static void on_thread_end(void *arg)
{
    struct log_ring *ring = arg;

    if (mine.ring != ring || mine.generation != atomic_load(&logger.generation))
        return;
    mine.generation = 0;
    atomic_store(&ring->ended, true);
    wake_if_sleeping();
}

static void make_key(void)
{
    ST_ASSERT(pthread_key_create(&key, on_thread_end) == 0);
}

static struct log_ring *ring_new(unsigned generation)
{
    struct log_ring *ring =
        aligned_alloc(_Alignof(struct log_ring), sizeof(*ring) + logger.ring_bytes);

    ST_ASSERT(ring != NULL);
    ring->size = logger.ring_bytes;
    atomic_init(&ring->ended, false);
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    pthread_mutex_lock(&logger.lock);
    ring->next = logger.rings;
    logger.rings = ring;
    pthread_mutex_unlock(&logger.lock);
    mine.ring = ring;
    mine.generation = generation;
    pthread_setspecific(key, ring);
    return ring;
}

static void count_dropped(unsigned long long n)
{
    atomic_fetch_add_explicit(&logger.dropped, n, memory_order_relaxed);
}

static void ring_put(struct log_ring *ring, const char *line, size_t len)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    size_t offset = head & (ring->size - 1), first = ring->size - offset;

    if (len > ring->size - (head - tail)) {
        count_dropped(1);
        return;
    }
    if (first > len)
        first = len;
    memcpy(ring->bytes + offset, line, first);
    memcpy(ring->bytes, line + first, len - first);
    atomic_store(&ring->head, head + len);
    wake_if_sleeping();
}

static void write_record(const struct st_log_record *rec, const struct st_log_style *style)
{
    static const struct st_log_style plain = {.encoding = ST_LOG_CONSOLE};
    unsigned generation = atomic_load_explicit(&logger.generation, memory_order_acquire);
    char line[ST_LOG_RECORD_MAX];
    size_t len;

    if (generation != 0) {
        len = st_log_format(line, rec, style, logger.colour);
        ring_put(mine.generation == generation ? mine.ring : ring_new(generation), line, len);
        return;
    }
    len = st_log_format(line, rec, &plain, false);
    if (write(STDERR_FILENO, line, len) != (ssize_t)len)
        count_dropped(1);
}

void st_log_write(enum st_log_level level, const char *name, const char *text,
                  const struct st_log_var *vars)
{
    const struct st_log_record rec = {level, st_clock_wall(), name, text, vars};

    write_record(&rec, &logger.system);
}

void st_log_write_function(enum st_log_level level, const char *name, const char *text,
                           const struct st_log_var *vars)
{
    const struct st_log_record rec = {level, st_clock_wall(), name, text, vars};

    write_record(&rec, &logger.functions);
}

size_t st_log_json(char out[ST_LOG_RECORD_MAX], enum st_log_level level, const char *name,
                   const char *text, const struct st_log_var *vars)
{
    static const struct st_log_style style = {.encoding = ST_LOG_JSON};
    const struct st_log_record rec = {level, st_clock_wall(), name, text, vars};

    return st_log_format(out, &rec, &style, false) - 1;
}

/* ---- the writer thread ---- */

/* False: the log is closing and the sink takes nothing. */
static bool wait_writable(void)
{
    while (!logger.given_up) {
        bool closing = atomic_load(&logger.closing);
        struct pollfd fds[2] = {{.fd = logger.fd, .events = POLLOUT},
                                {.fd = closing ? -1 : logger.wake_fd, .events = POLLIN}};
        int n = poll(fds, 2, closing ? CLOSE_STALL_MS : -1);

        if (n > 0 && fds[0].revents != 0)
            return true; /* or an error, which the write will tell */
        if (n == 0)
            logger.given_up = true;
        else if (n > 0)
            wake_read();
    }
    return false;
}

/* Gives up what is between the positions. */
static void ring_drop(struct log_ring *ring, size_t tail, size_t head)
{
    unsigned long long lines = 0;

    for (; tail != head; tail++)
        lines += ring->bytes[tail & (ring->size - 1)] == '\n';
    count_dropped(lines);
    atomic_store_explicit(&ring->tail, head, memory_order_release);
}

/* Writes what is there now; false: nothing was. */
static bool ring_drain(struct log_ring *ring)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t head = atomic_load(&ring->head);

    if (tail == head)
        return false;
    while (tail != head) {
        size_t offset = tail & (ring->size - 1), len = head - tail, first = ring->size - offset;
        struct iovec iov[2] = {{ring->bytes + offset, first < len ? first : len},
                               {ring->bytes, first < len ? len - first : 0}};
        ssize_t n = writev(logger.fd, iov, first < len ? 2 : 1);

        if (n >= 0) {
            tail += (size_t)n;
            atomic_store_explicit(&ring->tail, tail, memory_order_release);
        } else if (errno != EINTR && (errno != EAGAIN || !wait_writable())) {
            ring_drop(ring, tail, head);
            break;
        }
    }
    return true;
}

static struct log_ring *first_ring(void)
{
    struct log_ring *ring;

    pthread_mutex_lock(&logger.lock);
    ring = logger.rings;
    pthread_mutex_unlock(&logger.lock);
    return ring;
}

static void ring_free(struct log_ring *ring)
{
    struct log_ring **at = &logger.rings;

    pthread_mutex_lock(&logger.lock);
    while (*at != ring)
        at = &(*at)->next;
    *at = ring->next;
    pthread_mutex_unlock(&logger.lock);
    free(ring);
}

/* One round over all rings; false: there was nothing to do. */
static bool drain_all(void)
{
    struct log_ring *ring = first_ring(), *next;
    bool worked = false;

    for (; ring != NULL; ring = next) {
        bool ended = atomic_load(&ring->ended); /* before its last bytes are read */

        next = ring->next;
        worked |= ring_drain(ring);
        if (ended) {
            ring_free(ring);
            worked = true;
        }
    }
    return worked;
}

static bool anything_to_do(void)
{
    for (struct log_ring *ring = first_ring(); ring != NULL; ring = ring->next)
        if (atomic_load(&ring->ended) || atomic_load(&ring->head) != atomic_load(&ring->tail))
            return true;
    return false;
}

static void *writer_main(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "log");
    for (;;) {
        bool closing = atomic_load(&logger.closing); /* before the last round */

        if (drain_all())
            continue;
        if (closing)
            return NULL;
        atomic_store(&logger.sleeping, true);
        if (!anything_to_do())
            wake_read();
        atomic_store(&logger.sleeping, false);
    }
}

/* ---- open and close ---- */

static int start_writer(struct st_error *err)
{
    sigset_t all, old;
    int rc;

    /* SIGPIPE of a sink that is gone stays pending on the writer, which sees EPIPE. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&logger.writer, NULL, writer_main, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc == 0 ? ST_OK : st_error_sys(err, rc, "can't start the log's thread");
}

int st_log_open(const struct st_log_options *opt, struct st_error *err)
{
    size_t want = opt->ring_bytes != 0 ? opt->ring_bytes : RING_DEFAULT;
    int rc;

    ST_ASSERT(atomic_load(&logger.generation) == 0);
    pthread_once(&key_once, make_key);
    st_log_threshold = opt->system.level;
    st_log_function_threshold = opt->functions.level;
    logger.system = opt->system.style;
    logger.functions = opt->functions.style;
    logger.fd = opt->fd;
    logger.colour = isatty(opt->fd) == 1;
    for (logger.ring_bytes = RING_MIN; logger.ring_bytes < want;)
        logger.ring_bytes *= 2;
    logger.given_up = false;
    atomic_store(&logger.sleeping, false);
    atomic_store(&logger.closing, false);
    logger.wake_fd = eventfd(0, EFD_CLOEXEC);
    if (logger.wake_fd < 0)
        return st_error_sys(err, errno, "can't create the log's eventfd");
    rc = start_writer(err);
    if (rc != ST_OK) {
        close(logger.wake_fd);
        return rc;
    }
    atomic_store(&logger.generation, ++logger.generations);
    return ST_OK;
}

/* False: the log was not open, or its writer is left behind with all that it uses. */
static bool end_writer(void)
{
    struct timespec until;

    if (atomic_exchange(&logger.generation, 0) == 0)
        return false;
    atomic_store(&logger.closing, true);
    wake_write();
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CLOSE_SECONDS;
    return pthread_timedjoin_np(logger.writer, NULL, &until) == 0;
}

void st_log_close(void)
{
    struct log_ring *ring, *next;

    if (!end_writer())
        return;
    for (ring = logger.rings; ring != NULL; ring = next) {
        next = ring->next;
        free(ring);
    }
    logger.rings = NULL;
    close(logger.wake_fd);
}

void st_log_abandon(void)
{
    end_writer();
}

uint64_t st_log_dropped(void)
{
    return atomic_load_explicit(&logger.dropped, memory_order_relaxed);
}

bool st_log_limit_pass(struct st_log_limit *l, uint64_t *suppressed)
{
    uint64_t now = st_clock_mono();

    if (l->last_ns != 0 && now - l->last_ns < ST_SEC) {
        l->suppressed++;
        return false;
    }
    *suppressed = l->suppressed;
    l->suppressed = 0;
    l->last_ns = now;
    return true;
}
