/* The control socket: messages of worker.proto with their length in front. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtimes/native_process/host/host.h"

enum { PREFIX = 4, MAX_MESSAGE = 1024 * 1024, MAX_LOG = 256 * 1024 };

static pthread_mutex_t writing = PTHREAD_MUTEX_INITIALIZER;

/* What came and is no whole message yet. */
static struct {
    uint8_t *bytes;
    size_t len, room;
} in;

static void write_all(const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(ST_WIRE_FD_CONTROL, bytes, n, MSG_NOSIGNAL);

        if (sent < 0 && errno == EAGAIN) {
            struct pollfd fd = {.fd = ST_WIRE_FD_CONTROL, .events = POLLOUT};

            (void)poll(&fd, 1, -1);
        } else if (sent < 0 && errno != EINTR) {
            _exit(0); /* the processor is gone */
        } else if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
        }
    }
}

static void say(const Stator__Worker__V1__FromWorker *msg)
{
    size_t n = stator__worker__v1__from_worker__get_packed_size(msg);
    uint8_t *bytes = malloc(PREFIX + n);

    if (bytes == NULL)
        st_host_die("out of memory");
    for (unsigned i = 0; i < PREFIX; i++)
        bytes[i] = (uint8_t)(n >> 8 * i);
    stator__worker__v1__from_worker__pack(msg, bytes + PREFIX);
    pthread_mutex_lock(&writing);
    write_all(bytes, PREFIX + n);
    pthread_mutex_unlock(&writing);
    free(bytes);
}

/* Reads once; false: there is nothing just now. */
static bool read_more(int flags)
{
    ssize_t n;

    if (in.room - in.len < PREFIX) {
        in.room = in.room != 0 ? 2 * in.room : 4096;
        in.bytes = realloc(in.bytes, in.room);
        if (in.bytes == NULL)
            st_host_die("out of memory");
    }
    do
        n = recv(ST_WIRE_FD_CONTROL, in.bytes + in.len, in.room - in.len, flags);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0)
        _exit(0); /* the processor is gone */
    in.len += (size_t)n;
    return true;
}

/* The next whole message, or NULL. */
static Stator__Worker__V1__ToWorker *take_message(void)
{
    Stator__Worker__V1__ToWorker *msg;
    size_t n = 0;

    if (in.len < PREFIX)
        return NULL;
    for (unsigned i = 0; i < PREFIX; i++)
        n |= (size_t)in.bytes[i] << 8 * i;
    if (n > MAX_MESSAGE)
        st_host_die("the processor's control message is longer than 1 MiB");
    if (in.len - PREFIX < n)
        return NULL;
    msg = stator__worker__v1__to_worker__unpack(NULL, n, in.bytes + PREFIX);
    if (msg == NULL)
        st_host_die("the processor's control message can't be read");
    in.len -= PREFIX + n;
    memmove(in.bytes, in.bytes + PREFIX + n, in.len);
    return msg;
}

void st_host_control_open(void)
{
    Stator__Worker__V1__Hello hello = STATOR__WORKER__V1__HELLO__INIT;
    Stator__Worker__V1__FromWorker msg = STATOR__WORKER__V1__FROM_WORKER__INIT;

    hello.protocol = ST_WIRE_PROTOCOL;
    hello.language = (char *)"native";
    hello.shared_memory = true;
    msg.kind_case = STATOR__WORKER__V1__FROM_WORKER__KIND_HELLO;
    msg.hello = &hello;
    say(&msg);
    while ((st_host.told = take_message()) == NULL)
        (void)read_more(0);
    if (st_host.told->kind_case == STATOR__WORKER__V1__TO_WORKER__KIND_TERMINATE)
        _exit(0);
    if (st_host.told->kind_case != STATOR__WORKER__V1__TO_WORKER__KIND_CONFIGURE)
        st_host_die("the processor's first message is not Configure");
    st_host.configure = st_host.told->configure;
}

void st_host_control_ready(uint32_t credits)
{
    Stator__Worker__V1__Ready ready = STATOR__WORKER__V1__READY__INIT;
    Stator__Worker__V1__FromWorker msg = STATOR__WORKER__V1__FROM_WORKER__INIT;

    ready.credits = credits;
    msg.kind_case = STATOR__WORKER__V1__FROM_WORKER__KIND_READY;
    msg.ready = &ready;
    say(&msg);
}

void st_host_control_failed(const char *text)
{
    Stator__Worker__V1__Failed failed = STATOR__WORKER__V1__FAILED__INIT;
    Stator__Worker__V1__FromWorker msg = STATOR__WORKER__V1__FROM_WORKER__INIT;

    failed.text = (char *)text;
    msg.kind_case = STATOR__WORKER__V1__FROM_WORKER__KIND_FAILED;
    msg.failed = &failed;
    say(&msg);
    _exit(1);
}

void st_host_control_drained(void)
{
    Stator__Worker__V1__Drained drained = STATOR__WORKER__V1__DRAINED__INIT;
    Stator__Worker__V1__FromWorker msg = STATOR__WORKER__V1__FROM_WORKER__INIT;

    msg.kind_case = STATOR__WORKER__V1__FROM_WORKER__KIND_DRAINED;
    msg.drained = &drained;
    say(&msg);
}

void st_host_log(stator_event *event, int level, const char *text)
{
    Stator__Worker__V1__Log log = STATOR__WORKER__V1__LOG__INIT;
    Stator__Worker__V1__FromWorker msg = STATOR__WORKER__V1__FROM_WORKER__INIT;
    struct st_host_event *ev = event != NULL ? st_host_from(event) : NULL;
    uint32_t l = level < STATOR_LOG_DEBUG   ? STATOR_LOG_DEBUG
                 : level > STATOR_LOG_ERROR ? STATOR_LOG_ERROR
                                            : (uint32_t)level;
    /* The client's own level is above all others where it asked for nothing. */
    bool for_client = ev != NULL && l >= ev->meta.log_level;
    char *cut = NULL;

    if (l < st_host.configure->log_level && !for_client)
        return;
    if (text == NULL)
        text = "";
    if (strlen(text) > MAX_LOG)
        text = cut = strndup(text, MAX_LOG);
    log.seq = ev != NULL ? ev->seq : 0;
    log.level = l;
    log.message = (char *)text;
    msg.kind_case = STATOR__WORKER__V1__FROM_WORKER__KIND_LOG;
    msg.log = &log;
    if (text != NULL)
        say(&msg);
    if (for_client)
        __atomic_store_n(&ev->logged, true, __ATOMIC_RELAXED);
    free(cut);
}

static void on_message(const Stator__Worker__V1__ToWorker *msg)
{
    bool locked;

    switch (msg->kind_case) {
    case STATOR__WORKER__V1__TO_WORKER__KIND_TERMINATE:
        st_host.stop = true;
        break;
    case STATOR__WORKER__V1__TO_WORKER__KIND_DRAIN:
    case STATOR__WORKER__V1__TO_WORKER__KIND_RESUME:
        locked = st_host_lock();
        st_host.draining = msg->kind_case == STATOR__WORKER__V1__TO_WORKER__KIND_DRAIN;
        st_host.must_tell = st_host.draining;
        st_host_unlock(locked);
        break;
    default: /* of a later version */
        break;
    }
}

void st_host_control_read(void)
{
    Stator__Worker__V1__ToWorker *msg;

    while (read_more(MSG_DONTWAIT)) {
        while ((msg = take_message()) != NULL) {
            on_message(msg);
            stator__worker__v1__to_worker__free_unpacked(msg, NULL);
        }
    }
}
