/* stator-native-host FILE: the life of the worker, and its loop. The processor starts it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "runtimes/native_process/host/host.h"
#include "runtimes/native_process/host/link.h"

struct st_host st_host;

/* Control messages are looked for this often while events leave no time to sleep. */
static const uint64_t control_ns = 10 * ST_MSEC;

/* A handler that takes longer does not let the results before it wait. */
static const uint64_t quick_ns = 25000;

uint64_t st_host_clock(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * ST_SEC + (uint64_t)ts.tv_nsec;
}

void st_host_die(const char *text)
{
    dprintf(STDERR_FILENO, "stator-native-host: %s\n", text);
    _exit(1);
}

void st_host_other(const struct st_wire_record *record)
{
    struct st_slice bytes;
    struct st_wire_credit credit;
    struct st_wire_ref ref;
    bool locked;

    switch (record->kind) {
    case ST_WIRE_ACK:
        bytes = st_host_section(record, ST_WIRE_BODY_REF);
        if (bytes.len < sizeof ref)
            break;
        memcpy(&ref, bytes.ptr, sizeof ref);
        locked = st_host_lock();
        st_link_free_body(&ref);
        st_host_unlock(locked);
        break;
    case ST_WIRE_CREDIT:
        bytes = st_host_section(record, ST_WIRE_META);
        if (bytes.len < sizeof credit)
            break;
        memcpy(&credit, bytes.ptr, sizeof credit);
        st_host_stream_credit(record->seq, credit.n);
        break;
    case ST_WIRE_CANCEL:
        st_host_cancel(record->seq);
        break;
    default: /* nothing is called, so nothing returns */
        break;
    }
}

static void announce(void)
{
    bool locked = st_host_lock();

    st_link_announce();
    st_host_unlock(locked);
}

static inline void run(struct st_host_event *ev)
{
    uint64_t start = st_host.now_ns != 0 ? st_host.now_ns : st_host_clock(), end;
    bool locked;
    int rc;

    ev->begun_ns = start;
    if (st_unlikely(st_host.mean_ns > quick_ns))
        announce();
    st_host.current = ev;
    rc = st_host.handler.handle(&st_host_table, st_host.user, st_host_to(ev));
    end = st_host_clock();
    st_host.now_ns = end;
    st_host.mean_ns = st_host.mean_ns - st_host.mean_ns / 8 + (end - start) / 8;
    ev->duration_ns = end - start;
    st_host.current = NULL;
    st_host_returned(ev, rc);
    locked = st_host_lock();
    st_link_announce_late(end);
    st_host_unlock(locked);
}

/* Each event's duration is its share of the batch's. */
static void run_together(void)
{
    static stator_event *events[ST_WIRE_MAX_BATCH];
    static int results[ST_WIRE_MAX_BATCH];
    uint64_t start = st_host_clock(), share;
    size_t n = st_host.batch_count;

    for (size_t i = 0; i < n; i++) {
        st_host.batch[i]->begun_ns = start;
        events[i] = st_host_to(st_host.batch[i]);
        results[i] = STATOR_ERROR; /* what the handler forgets must not count as handled */
    }
    st_host.handler.handle_batch(&st_host_table, st_host.user, events, results, n);
    st_host.now_ns = st_host_clock();
    share = (st_host.now_ns - start) / n;
    for (size_t i = 0; i < n; i++) {
        struct st_host_event *ev = st_host.batch[i];

        ev->duration_ns = share;
        st_host.batch[i] = NULL;
        st_host_returned(ev, results[i]);
    }
    announce();
}

static void run_each(void)
{
    for (size_t i = 0; i < st_host.batch_count && !st_host.stop; i++) {
        struct st_host_event *ev = st_host.batch[i];

        st_host.batch[i] = NULL;
        run(ev);
    }
}

/* All events are made first: a handler that blocks may give the batch's place in the ring free. */
static void run_batch(const struct st_wire_record *record)
{
    const struct st_wire_section *s = (const struct st_wire_section *)(record + 1);
    size_t count = (record->header_size - sizeof *record) / sizeof *s;

    for (size_t i = 0; i < count && st_host.batch_count < ST_WIRE_MAX_BATCH; i++)
        if (s[i].id == ST_WIRE_RECORD)
            st_host.batch[st_host.batch_count++] = st_host_event_new(
                (const struct st_wire_record *)(const void *)((const char *)record + s[i].offset));
    if (st_host.handler.handle_batch == NULL)
        run_each();
    else if (st_host.batch_count > 0)
        run_together();
    st_host.batch_count = 0;
}

/* Nothing to do: sleeps. */
static void rest(void)
{
    bool locked = st_host_lock(), drained = st_host.must_tell && st_host.lasting == 0;

    st_link_announce();
    st_host_unlock(locked);
    st_link_release(false);
    if (drained) {
        st_host.must_tell = false;
        st_host_control_drained();
    }
    st_link_sleep(st_host.draining);
}

static void serve(void)
{
    uint64_t looked_ns = 0;

    while (!st_host.stop) {
        const struct st_wire_record *record = NULL;

        if (st_likely(!st_host.draining))
            record = st_link_begin();
        else
            st_link_scan();
        if (st_unlikely(record == NULL)) {
            if (!st_host_stream_call())
                rest();
            continue;
        }
        if (st_likely(record->kind == ST_WIRE_EVENT))
            run(st_host_event_new(record));
        else
            run_batch(record);
        st_link_release(true);
        (void)st_host_stream_call();
        if (st_host.now_ns - looked_ns > control_ns) {
            looked_ns = st_host.now_ns;
            st_link_poll();
        }
    }
}

static void open_handler(const char *path)
{
    const Stator__Worker__V1__Configure *c = st_host.configure;
    struct st_error err;
    char text[PATH_MAX + 64];
    int rc = 0;

    if (st_native_open(&st_host.handler, path, &err) != ST_OK)
        st_host_control_failed(err.text);
    st_host.blocking = (st_host.handler.flags & STATOR_NONBLOCKING) == 0;
    if ((st_host.handler.flags & ~(uint32_t)STATOR_NONBLOCKING) != 0 && c->worker == 0)
        st_host_log(NULL, STATOR_LOG_WARN, "The handler has flags that this version ignores");
    st_host.info = (struct stator_worker_v1){.size = sizeof st_host.info,
                                             .index = c->worker,
                                             .count = c->workers,
                                             .function = c->function,
                                             .trigger = c->pool->name,
                                             .slot = c->slot};
    if (st_host.handler.init != NULL)
        rc = st_host.handler.init(&st_host_table, &st_host.info, &st_host.user);
    if (rc == 0)
        return;
    snprintf(text, sizeof text, "init() of handler %s returned %d", path, rc);
    st_host_control_failed(text);
}

int main(int argc, char **argv)
{
    static const int kept[] = {ST_WIRE_FD_CONTROL, ST_WIRE_FD_WAKE_WORKER,
                               ST_WIRE_FD_WAKE_PROCESSOR};

    if (argc != 2)
        st_host_die("only the processor starts this program, with a handler's file");
    for (size_t i = 0; i < ST_ARRAY_LEN(kept); i++)
        if (fcntl(kept[i], F_SETFD, FD_CLOEXEC) != 0)
            st_host_die("a descriptor of the worker wire is missing: only the processor starts "
                        "this program");
    close(ST_WIRE_FD_DATA);
    signal(SIGPIPE, SIG_IGN);
    TAILQ_INIT(&st_host.events);
    TAILQ_INIT(&st_host.unused);
    st_link_open();
    st_host_control_open();
    open_handler(argv[1]);
    st_host.credits = 1;
    st_host_control_ready(st_host.credits);
    serve();
    announce();
    if (st_host.handler.fini != NULL)
        st_host.handler.fini(&st_host_table, st_host.user);
    /* Threads of the handler may still run: no exit handlers under them. */
    fflush(NULL);
    _exit(0);
}
