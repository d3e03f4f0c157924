/* What a hostile worker writes: into its ring, over the indexes, into the sockets. Nothing of it
 * may crash the processor, keep it busy, or make it look outside the worker's memory.
 *
 * The first byte says which way, and whether the worker scribbles over a record while the processor
 * reads it; then come operations of one byte and their operands, or bytes of the socket. */
#include <stdlib.h>

#include "processor/event.h"
#include "processor/net/http_msg.h"
#include "processor/net/net.h"
#include "runtimes/process/channel_int.h"
#include "runtimes/process/control.h"
#include "runtimes/process/emit.h"
#include "runtimes/process/metric.h"
#include "runtimes/process/record.h"
#include "tests/support/wire_worker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    RING = 64 * 1024,
    POOL = 256 * 1024,
    MAX_RECORDS = 4 * ST_CHANNEL_IO_SIZE / ST_WIRE_ALIGN, /* passed on by one call of pass() */
    MAX_BORROWED = 8
};

enum mode { SOCKET = 1, SCRIBBLE = 2, KEEP = 4, CONTROL = 8 };

static struct st_loop loop;
static struct st_body_budget bodies = {.limit = 2 << 20};

static struct run {
    const uint8_t *in;
    size_t left;
    unsigned mode, records;
    struct wire_worker worker;
    struct st_channel *ch;
    bool broken;
    struct st_wire_ref body;
    struct st_buf borrowed[MAX_BORROWED];
    unsigned borrowed_count;
} run;

static volatile uint8_t sink;

static void touch(struct st_slice s)
{
    for (size_t i = 0; i < s.len; i++)
        sink = (uint8_t)(sink ^ (uint8_t)s.ptr[i]);
}

/* Slices of a record lie in the worker's ring, or in the input of the socket. */
static void check(struct st_slice s)
{
    const struct st_ring *up = &run.ch->up;
    const struct st_channel_bytes *in = &run.ch->in;

    if (s.len == 0)
        return;
    if ((run.mode & SOCKET) != 0)
        ST_ASSERT(s.ptr >= in->region->base + in->at &&
                  s.ptr + s.len <= in->region->base + in->len);
    else
        ST_ASSERT(s.ptr >= up->base && s.ptr + s.len <= up->base + up->size);
    touch(s);
}

static void check_result(const struct st_result *r)
{
    ST_ASSERT((r->status == 0 || (r->status >= 100 && r->status <= 599)) &&
              r->outcome <= ST_OUTCOME_REJECT && r->header_count <= 256);
    ST_ASSERT(st_http_value_ok(r->content_type));
    for (size_t i = 0; i < r->header_count; i++) {
        const struct st_header *h = &r->headers[i];

        ST_ASSERT(st_http_name_ok((struct st_slice){h->name, h->name_len}) &&
                  st_http_value_ok((struct st_slice){h->value, h->value_len}) &&
                  !st_header_is_ours(h->id));
    }
    touch(r->body);
}

static void keep(struct st_buf body)
{
    if ((run.mode & KEEP) != 0 && run.borrowed_count < MAX_BORROWED)
        run.borrowed[run.borrowed_count++] = body;
    else
        st_buf_drop(&body);
}

static void read_result(struct st_channel *ch, const struct st_wire_view *view)
{
    static struct st_event ev;
    const char *why;
    char space[256];

    memset(&ev, 0, sizeof ev);
    st_arena_init(&ev.arena, space, sizeof space);
    if (st_record_result(ch, view, &ev, &why) == ST_OK) {
        check_result(&ev.result);
        keep(ev.result.body_owner);
    } else {
        ST_ASSERT(why != NULL && ev.result.body_owner.region == NULL);
    }
    st_arena_release(&ev.arena);
}

static void read_emit(const struct st_wire_view *view)
{
    struct st_emitted e;

    if (st_emitted_read(&e, view) == NULL) {
        ST_ASSERT(e.m.header_count <= ST_MESSAGE_HEADERS && e.m.key.len <= ST_MESSAGE_KEY_BYTES);
        touch(e.output);
        touch(e.m.key);
        touch(e.m.topic);
        for (size_t i = 0; i < e.m.header_count; i++) {
            touch((struct st_slice){e.m.headers[i].name, e.m.headers[i].name_len});
            touch((struct st_slice){e.m.headers[i].value, e.m.headers[i].value_len});
        }
    }
    st_emitted_drop(&e);
}

static void on_record(struct st_channel *ch, const struct st_wire_view *view)
{
    ST_ASSERT(!run.broken && ++run.records <= MAX_RECORDS);
    check(view->body);
    check(view->headers);
    check(view->content_type);
    check(view->key);
    check(view->topic);
    check(view->name);
    check(view->text);
    if (view->has_ref)
        ST_ASSERT(view->ref.region <= ST_WIRE_UP && view->ref.offset <= POOL &&
                  view->ref.length <= POOL - view->ref.offset);
    if ((run.mode & (SCRIBBLE | SOCKET)) == SCRIBBLE && view->seq % 2 == 1)
        memset(run.ch->up.base, (int)(view->seq >> 8 & 0xff), RING);
    if (view->kind == ST_WIRE_EMIT)
        read_emit(view);
    if (view->kind == ST_WIRE_RESULT || (view->flags & ST_WIRE_HEAD) != 0)
        read_result(ch, view);
    else if (view->has_ref)
        st_channel_return_body(ch, &view->ref);
}

static void on_broken(struct st_channel *ch, const char *text)
{
    (void)ch;
    ST_ASSERT(!run.broken && text[0] != '\0');
    run.broken = true;
}

static void on_other(struct st_channel *ch)
{
    (void)ch;
}

static const struct st_channel_handler handler = {on_record, on_other, on_broken, on_other};

/* ---- Operations ---- */

static uint64_t take(size_t n)
{
    uint64_t v = 0;

    n = n < run.left ? n : run.left;
    memcpy(&v, run.in, n);
    run.in += n;
    run.left -= n;
    return v;
}

static void pass(void)
{
    run.records = 0;
    wire_worker_signal(&run.worker);
    for (int i = 0; i < 4; i++) {
        event_base_loop(loop.base, EVLOOP_NONBLOCK);
        st_loop_settle(&loop);
    }
}

/* Bytes of the input behind what the worker wrote last; `whole`: with a size that is right. */
static void append(bool whole)
{
    struct st_ring *out = &run.worker.out;
    size_t n = take(2);
    uint32_t size;
    char *at;

    n = n < run.left ? n : run.left;
    size = (uint32_t)((n + ST_WIRE_ALIGN - 1) / ST_WIRE_ALIGN * ST_WIRE_ALIGN);
    if (size < ST_WIRE_ALIGN || st_ring_reserve(out, size, &at) != ST_RING_OK)
        return;
    memset(at, 0, size);
    memcpy(at, run.in, n);
    run.in += n;
    run.left -= n;
    if (whole)
        memcpy(at, &size, sizeof size);
    st_ring_commit(out);
}

static void poke(void)
{
    uint64_t at = take(2) * ST_WIRE_ALIGN % RING;
    size_t n = take(1);

    n = n < run.left ? n : run.left;
    n = n < RING - at ? n : RING - at;
    memcpy(run.worker.out.base + at, run.in, n);
    run.in += n;
    run.left -= n;
}

static void send_event(void)
{
    size_t size = (1 + take(1)) * 64;
    char *at = st_channel_reserve(run.ch, size);

    if (at != NULL) {
        memset(at, 0, size);
        (void)st_channel_has_begun(run.ch, st_channel_commit(run.ch));
    }
}

static void put_body(void)
{
    static const char bytes[100000];

    if (run.body.length != 0)
        st_channel_free_body(run.ch, &run.body);
    run.body.length = 0;
    if (st_channel_put_body(run.ch, (struct st_slice){bytes, sizeof bytes}, &run.body) != ST_OK)
        run.body.length = 0;
}

static void operate(void)
{
    struct st_wire_ring *index = run.worker.memory->index;
    uint64_t from;

    switch (take(1)) {
    case 'r':
        append(true);
        break;
    case 'a':
        append(false);
        break;
    case 'p':
        poke();
        break;
    case 't':
        index[ST_WIRE_UP].tail = take(8);
        break;
    case 'T':
        index[ST_WIRE_UP].tail = take(3);
        break;
    case 'h':
        index[ST_WIRE_DOWN].head = take(8);
        break;
    case 'H':
        index[ST_WIRE_DOWN].head = take(3);
        break;
    case 'k':
        index[ST_WIRE_DOWN].taken = take(3);
        break;
    case 's':
        index[ST_WIRE_DOWN].sleeping = (uint32_t)take(1);
        index[ST_WIRE_UP].sleeping = (uint32_t)take(1);
        index[ST_WIRE_UP].full = (uint32_t)take(1);
        break;
    case 'e':
        send_event();
        break;
    case 'b':
        (void)st_channel_take_back(run.ch, &from);
        break;
    case 'd':
        put_body();
        break;
    case '.':
        pass();
        break;
    default:
        break;
    }
}

static void send_some(void)
{
    size_t n = 1 + take(2);

    n = n < run.left ? n : run.left;
    if (n == 0)
        return;
    (void)send(run.worker.sock, run.in, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    run.in += n;
    run.left -= n;
    pass();
}

/* ---- The control socket ---- */

struct control {
    struct st_control end;
    struct st_handler_metrics *metrics;
    bool broken;
};

static void on_message(void *user, const Stator__Worker__V1__FromWorker *msg)
{
    struct control *c = user;
    char pool[] = "pool";

    ST_ASSERT(!c->broken);
    if (msg->kind_case != STATOR__WORKER__V1__FROM_WORKER__KIND_METRIC)
        return;
    if (st_handler_metrics_take(c->metrics, pool, (unsigned)run.left % 4, msg->metric) == NULL)
        touch(st_slice_of(msg->metric->name));
}

static void on_control_broken(void *user, const char *text)
{
    struct control *c = user;

    ST_ASSERT(!c->broken && text[0] != '\0');
    c->broken = true;
}

static void on_control_closed(void *user)
{
    (void)user;
}

static void run_control(void)
{
    static const struct st_control_handler on_control = {on_message, on_control_broken,
                                                         on_control_closed};
    struct control c = {.metrics = st_handler_metrics_new("fuzz")};
    FILE *out = fopen("/dev/null", "w");
    int far;

    ST_ASSERT(out != NULL && st_control_open(&c.end, &loop, &on_control, &c, &far, NULL) == ST_OK);
    while (run.left > 0 && !c.broken) {
        size_t n = 1 + take(2);

        n = n < run.left ? n : run.left;
        if (n > 0)
            (void)send(far, run.in, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        run.in += n;
        run.left -= n;
        st_control_read(&c.end);
    }
    st_metrics_write(out);
    fclose(out);
    close(far);
    st_control_close(&c.end);
    st_metrics_reset();
    st_handler_metrics_free(c.metrics);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct st_channel_options options = {.loop = &loop,
                                               .handler = &handler,
                                               .bodies = &bodies,
                                               .ring_bytes = RING,
                                               .pool_bytes = POOL};

    if (loop.base == NULL)
        ST_ASSERT(st_loop_open(&loop, 0, "fuzz", NULL) == ST_OK);
    run = (struct run){.in = data, .left = size};
    run.mode = (unsigned)take(1);
    if ((run.mode & CONTROL) != 0) {
        run_control();
        return 0;
    }
    run.ch = st_channel_new(&options, NULL);
    ST_ASSERT(run.ch != NULL);
    wire_worker_open(&run.worker, run.ch);
    st_channel_close_far(run.ch);
    st_channel_start(run.ch, (run.mode & SOCKET) == 0);
    while (run.left > 0) {
        if ((run.mode & SOCKET) == 0)
            operate();
        else
            send_some();
    }
    pass();
    st_channel_read(run.ch);
    st_channel_close(run.ch);
    st_loop_settle(&loop);
    while (run.borrowed_count > 0)
        st_buf_drop(&run.borrowed[--run.borrowed_count]);
    wire_worker_close(&run.worker);
    ST_ASSERT(bodies.used == 0);
    return 0;
}
