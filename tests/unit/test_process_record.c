/* Events as records, and results out of records. */
#include "tests/unit/test_core.h"

#include "processor/core/alloc.h"
#include "processor/core/rand.h"
#include "processor/event.h"
#include "processor/event_log.h"
#include "processor/net/net.h"
#include "runtimes/process/record.h"
#include "tests/support/wire_worker.h"

static struct st_loop loop;
static struct st_body_budget bodies;
static struct st_channel *channel;
static struct wire_worker worker;
static struct st_event ev;
static char space[512];

static void on_record(struct st_channel *ch, const struct st_wire_view *view)
{
    (void)ch;
    (void)view;
}

static void on_other(struct st_channel *ch)
{
    (void)ch;
}

static void on_broken(struct st_channel *ch, const char *text)
{
    (void)ch;
    fail_msg("broken: %s", text);
}

static const struct st_channel_handler handler = {on_record, on_other, on_broken, on_other};

static void reset_event(void)
{
    st_buf_drop(&ev.result.body_owner);
    st_arena_release(&ev.arena);
    memset(&ev, 0, sizeof ev);
    st_arena_init(&ev.arena, space, sizeof space);
}

static int open_all(void **state)
{
    const struct st_channel_options o = {.loop = &loop,
                                         .handler = &handler,
                                         .bodies = &bodies,
                                         .ring_bytes = 1 << 20,
                                         .pool_bytes = 1 << 20};

    (void)state;
    bodies = (struct st_body_budget){.limit = 4 << 20};
    reset_event();
    if (st_loop_open(&loop, 0, "test", NULL) != ST_OK)
        return -1;
    channel = st_channel_new(&o, NULL);
    wire_worker_open(&worker, channel);
    st_channel_close_far(channel);
    st_channel_start(channel, true);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    reset_event();
    st_channel_close(channel);
    st_loop_close(&loop);
    wire_worker_close(&worker);
    assert_int_equal(bodies.used, 0);
    return 0;
}

/* ---- Events ---- */

enum { MOST = 200000 };

/* Twice over different bytes: what is equal then was written. */
static size_t write_event(char *out, const struct st_wire_ref *ref)
{
    static char other[MOST];
    size_t size = st_record_event_size(&ev, ref);

    assert_true(size % ST_WIRE_ALIGN == 0 && size + 1 < MOST);
    memset(out, 0xaa, size + 1);
    memset(other, 0x55, size + 1);
    st_record_event_put(out, size, &ev, 77, 3, ref);
    st_record_event_put(other, size, &ev, 77, 3, ref);
    assert_memory_equal(out, other, size);
    assert_int_equal((unsigned char)out[size], 0xaa);
    return size;
}

static void assert_section(const char *at, enum st_wire_id id, struct st_slice s)
{
    struct st_slice got = wire_section(at, (uint16_t)id);

    assert_int_equal(got.len, s.len);
    if (s.len != 0)
        assert_memory_equal(got.ptr, s.ptr, s.len);
}

static void assert_headers(const char *at, const struct st_headers *h)
{
    struct st_slice got = wire_section(at, ST_WIRE_HEADERS);
    size_t place = sizeof(struct st_wire_headers) + h->count * sizeof(struct st_wire_header);
    uint32_t count;

    if (h->count == 0) {
        assert_int_equal(got.len, 0);
        return;
    }
    memcpy(&count, got.ptr, sizeof count);
    assert_int_equal(count, h->count);
    for (uint32_t i = 0; i < count; i++) {
        struct st_wire_header length;

        memcpy(&length, got.ptr + sizeof count + i * sizeof length, sizeof length);
        assert_int_equal(length.name_length, h->items[i].name_len);
        assert_int_equal(length.value_length, h->items[i].value_len);
        assert_memory_equal(got.ptr + place, h->items[i].name, h->items[i].name_len);
        place += h->items[i].name_len;
        if (length.value_length != 0)
            assert_memory_equal(got.ptr + place, h->items[i].value, h->items[i].value_len);
        place += h->items[i].value_len;
    }
    assert_int_equal(place, got.len);
}

static void assert_event(const char *at, size_t size, const struct st_wire_ref *ref)
{
    struct st_wire_record record;
    struct st_wire_event meta;

    memcpy(&record, at, sizeof record);
    assert_int_equal(record.size, size);
    assert_int_equal(record.kind, ST_WIRE_EVENT);
    assert_int_equal(record.flags, 0);
    assert_int_equal(record.seq, 77);
    assert_int_equal(wire_section(at, ST_WIRE_META).len, sizeof meta);
    memcpy(&meta, wire_section(at, ST_WIRE_META).ptr, sizeof meta);
    assert_memory_equal(meta.id, ev.id, 16);
    assert_int_equal(meta.timestamp_ns, ev.timestamp_ns);
    assert_int_equal(meta.deadline_ns, ev.deadline_ns);
    assert_int_equal(meta.hi, ev.position.hi);
    assert_int_equal(meta.lo, ev.position.lo);
    assert_int_equal(meta.shard, ev.position.shard);
    assert_int_equal(meta.shards, ev.position.shards);
    assert_int_equal(meta.attempt, ev.attempt);
    assert_int_equal(meta.http_version, ev.http_version);
    assert_int_equal(meta.peer_port, ev.peer != NULL ? ev.peer->port : 0);
    assert_int_equal(meta.trigger, 3);
    assert_section(at, ST_WIRE_METHOD, ev.method);
    assert_section(at, ST_WIRE_TARGET, ev.target);
    assert_section(at, ST_WIRE_PATH, ev.path);
    assert_section(at, ST_WIRE_QUERY, ev.query);
    assert_section(at, ST_WIRE_SCHEME, ev.scheme);
    assert_section(at, ST_WIRE_CONTENT_TYPE, ev.content_type);
    assert_section(at, ST_WIRE_KEY, ev.key);
    assert_section(at, ST_WIRE_TOPIC, ev.position.topic);
    assert_section(at, ST_WIRE_TRACE_PARENT, ev.trace_parent);
    assert_section(at, ST_WIRE_PEER, st_slice_of(ev.peer != NULL ? ev.peer->address : NULL));
    assert_headers(at, &ev.headers);
    if (ref != NULL) {
        assert_section(at, ST_WIRE_BODY_REF, (struct st_slice){(const char *)ref, sizeof *ref});
        assert_section(at, ST_WIRE_BODY, (struct st_slice){0});
    } else {
        assert_section(at, ST_WIRE_BODY_REF, (struct st_slice){0});
        assert_section(at, ST_WIRE_BODY, ev.body);
    }
}

static void empty_event(void **state)
{
    static char out[MOST];
    struct st_wire_event meta;

    (void)state;
    assert_event(out, write_event(out, NULL), NULL);
    memcpy(&meta, wire_section(out, ST_WIRE_META).ptr, sizeof meta);
    assert_int_equal(meta.log_level, ST_WIRE_NO_LEVEL);
}

static struct st_slice any(struct st_rand *rand, size_t most)
{
    static char text[70000];
    size_t n = st_rand_next(rand) % 3 == 0 ? 0 : st_rand_next(rand) % most;
    size_t at = st_rand_next(rand) % (sizeof text - most);

    if (text[1] == '\0')
        for (size_t i = 0; i < sizeof text; i++)
            text[i] = (char)('!' + i * 7 % 90);
    return (struct st_slice){text + at, n};
}

static void random_events(void **state)
{
    static char out[MOST];
    struct st_rand rand;

    (void)state;
    st_rand_seed(&rand, 4);
    for (int round = 0; round < 1500; round++) {
        const struct st_wire_ref ref = {.offset = 64, .length = 1 << 17};
        const bool by_ref = st_rand_next(&rand) % 4 == 0;
        struct st_header items[20];
        struct st_peer peer = {"192.168.123.45", 4711};

        reset_event();
        for (int i = 0; i < 16; i++)
            ev.id[i] = (uint8_t)st_rand_next(&rand);
        ev.method = any(&rand, 10);
        ev.target = any(&rand, 200);
        ev.path = any(&rand, 60);
        ev.query = any(&rand, 60);
        if (ev.target.len > 20 && st_rand_next(&rand) % 2 == 0) {
            ev.path = (struct st_slice){ev.target.ptr, 12};
            ev.query = (struct st_slice){ev.target.ptr + 13, ev.target.len - 13};
        }
        ev.scheme = any(&rand, 6);
        ev.content_type = any(&rand, 40);
        ev.key = any(&rand, 40);
        ev.position.topic = any(&rand, 40);
        ev.trace_parent = any(&rand, 56);
        ev.body = any(&rand, round % 2 ? 60000 : 40);
        ev.headers.items = items;
        ev.headers.count = (uint32_t)(st_rand_next(&rand) % 20);
        for (uint32_t i = 0; i < ev.headers.count; i++) {
            struct st_slice name = any(&rand, 60), value = any(&rand, 100);

            items[i] = (struct st_header){.name = name.ptr,
                                          .name_len = (uint16_t)name.len,
                                          .value = value.ptr,
                                          .value_len = (uint32_t)value.len};
        }
        if (st_rand_next(&rand) % 3 == 0)
            peer.address[0] = '\0';
        ev.peer = st_rand_next(&rand) % 3 != 0 ? &peer : NULL;
        ev.timestamp_ns = st_rand_next(&rand);
        ev.deadline_ns = st_rand_next(&rand);
        ev.position.hi = st_rand_next(&rand);
        ev.position.lo = st_rand_next(&rand);
        ev.position.shard = -1;
        ev.position.shards = 7;
        ev.attempt = 2;
        ev.http_version = 11;
        assert_event(out, write_event(out, by_ref ? &ref : NULL), by_ref ? &ref : NULL);
    }
}

static void log_level(void **state)
{
    static char out[MOST];
    struct st_wire_event meta;

    (void)state;
    st_event_log_start(&ev, ST_LOG_WARN);
    write_event(out, NULL);
    memcpy(&meta, wire_section(out, ST_WIRE_META).ptr, sizeof meta);
    assert_int_equal(meta.log_level, 2);
}

/* ---- Results ---- */

struct text {
    char bytes[80000];
    size_t len;
};

static struct text headers;

/* Name and value, name and value ...; NULL ends. */
static struct st_slice make_headers(const char *const *texts)
{
    struct st_wire_header lengths[300];
    uint32_t count = 0;
    size_t at;

    while (texts[2 * count] != NULL) {
        lengths[count] = (struct st_wire_header){(uint32_t)strlen(texts[2 * count]),
                                                 (uint32_t)strlen(texts[2 * count + 1])};
        count++;
    }
    memcpy(headers.bytes, &count, sizeof count);
    memcpy(headers.bytes + sizeof count, lengths, count * sizeof lengths[0]);
    at = sizeof count + count * sizeof lengths[0];
    for (uint32_t i = 0; i < 2 * count; i++) {
        memcpy(headers.bytes + at, texts[i], strlen(texts[i]));
        at += strlen(texts[i]);
    }
    headers.len = at;
    return (struct st_slice){headers.bytes, at};
}

static struct st_wire_view view_of(unsigned status, const char *type, const char *body)
{
    return (struct st_wire_view){
        .kind = ST_WIRE_RESULT,
        .meta.result = {.status = (uint16_t)status, .retry_after_ms = 9},
        .content_type = st_slice_of(type),
        .body = st_slice_of(body),
    };
}

static void expect(const struct st_wire_view *view, int rc, const char *text)
{
    const struct st_result before = ev.result;
    const char *why = NULL;

    assert_int_equal(st_record_result(channel, view, &ev, &why), rc);
    if (rc == ST_OK) {
        assert_null(why);
        return;
    }
    assert_non_null(strstr(why, text));
    assert_memory_equal(&before, &ev.result, sizeof before);
}

static void plain_result(void **state)
{
    struct st_wire_view view = view_of(404, "text/html", "hello");
    const struct st_result *r = &ev.result;

    (void)state;
    expect(&view, ST_OK, NULL);
    assert_int_equal(r->outcome, ST_OUTCOME_OK);
    assert_int_equal(r->status, 404);
    assert_int_equal(r->retry_after_ms, 9);
    assert_true(st_slice_eq(r->content_type, ST_SLICE("text/html")));
    assert_true(st_slice_eq(r->body, ST_SLICE("hello")));
    assert_ptr_not_equal(r->body.ptr, view.body.ptr);
    assert_ptr_not_equal(r->content_type.ptr, view.content_type.ptr);
    assert_int_equal(r->header_count, 0);
    reset_event();
    view = view_of(0, NULL, NULL);
    view.meta.result.outcome = ST_WIRE_REJECT;
    expect(&view, ST_OK, NULL);
    assert_int_equal(r->outcome, ST_OUTCOME_REJECT);
    assert_int_equal(r->body.len + r->content_type.len, 0);
}

static void result_headers(void **state)
{
    static const char *const texts[] = {
        "X-One", "1",          "connection", "close", "Content-Type", "a/b", "Set-Cookie",
        "a=b",   "set-cookie", "",           "Date",  "now",          NULL};
    struct st_wire_view view = view_of(200, NULL, "x");
    const struct st_result *r = &ev.result;

    (void)state;
    view.headers = make_headers(texts);
    expect(&view, ST_OK, NULL);
    memset(headers.bytes, 'Q', headers.len); /* what the worker does later changes nothing */
    assert_int_equal(r->header_count, 3);
    assert_memory_equal(r->headers[0].name, "X-One", 5);
    assert_int_equal(r->headers[0].name_len, 5);
    assert_memory_equal(r->headers[0].value, "1", 1);
    assert_memory_equal(r->headers[1].value, "a=b", 3);
    assert_int_equal(r->headers[2].value_len, 0);
    assert_true(st_slice_eq(r->content_type, ST_SLICE("a/b")));
    reset_event();
    view = view_of(200, "text/css", "x");
    view.headers = make_headers(texts);
    expect(&view, ST_OK, NULL);
    assert_true(st_slice_eq(r->content_type, ST_SLICE("text/css")));
}

static void bad_results(void **state)
{
    static const char *const bad[][3] = {{"X-A", "a\nb", NULL}, {"X-A", "a\rb", NULL},
                                         {"X A", "a", NULL},    {"", "a", NULL},
                                         {"X:A", "a", NULL},    {"X\n", "a", NULL}};
    const unsigned statuses[] = {1, 99, 600, 65535};
    struct st_wire_view view;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(statuses); i++) {
        view = view_of(statuses[i], NULL, "x");
        expect(&view, ST_ERR_INVALID, "status");
    }
    view = view_of(200, NULL, "x");
    view.meta.result.outcome = ST_WIRE_REJECT + 1;
    expect(&view, ST_ERR_INVALID, "outcome");
    view = view_of(200, "text/pl\nain", "x");
    expect(&view, ST_ERR_INVALID, "content type");
    view.content_type = (struct st_slice){"a\0b", 3};
    expect(&view, ST_ERR_INVALID, "content type");
    for (size_t i = 0; i < ST_ARRAY_LEN(bad); i++) {
        view = view_of(200, NULL, "x");
        view.headers = make_headers(bad[i]);
        expect(&view, ST_ERR_INVALID, "bad name or value");
    }
}

/* Every cut and every wrong number of a HEADERS section. */
static void bad_headers(void **state)
{
    static const char *const texts[] = {"X-One", "1", "X-Two", "22", NULL};
    const size_t whole = make_headers(texts).len;

    (void)state;
    for (size_t n = 1; n < whole; n++) {
        struct st_wire_view view = view_of(200, NULL, "x");

        make_headers(texts);
        /* Of just that size: a read behind it is seen. */
        view.headers = (struct st_slice){st_malloc(n), n};
        memcpy((char *)view.headers.ptr, headers.bytes, n);
        expect(&view, ST_ERR_INVALID, "cut off");
        free((char *)view.headers.ptr);
        reset_event();
    }
    for (size_t i = 0; i < 5; i++) {
        const uint32_t numbers[] = {257, 1000, UINT32_MAX, 1u << 31, 1u << 29};

        for (size_t k = 0; k < ST_ARRAY_LEN(numbers); k++) {
            struct st_wire_view view = view_of(200, NULL, "x");

            view.headers = make_headers(texts);
            memcpy(headers.bytes + 4 * i, &numbers[k], 4);
            expect(&view, ST_ERR_INVALID, i == 0 ? "256" : "cut off");
            reset_event();
        }
    }
}

static void limits(void **state)
{
    static const char *many[2 * 258];
    struct st_wire_view view = view_of(200, NULL, "x");

    (void)state;
    for (size_t i = 0; i < 257; i++) {
        many[2 * i] = "X-A";
        many[2 * i + 1] = "b";
    }
    view.headers = make_headers(many);
    expect(&view, ST_ERR_INVALID, "256");
    many[2 * 256] = NULL;
    view.headers = make_headers(many);
    expect(&view, ST_OK, NULL);
    assert_int_equal(ev.result.header_count, 256);
    view.headers = (struct st_slice){headers.bytes, 65537};
    expect(&view, ST_ERR_INVALID, "64 KiB");
}

static void large_bodies(void **state)
{
    static char body[ST_WIRE_INLINE_BODY + 1];
    struct st_wire_view view = view_of(200, NULL, NULL);

    (void)state;
    memset(body, 'b', sizeof body);
    view.body = (struct st_slice){body, sizeof body};
    expect(&view, ST_OK, NULL);
    assert_int_equal(bodies.used, sizeof body);
    assert_int_equal(ev.result.body.len, sizeof body);
    assert_memory_equal(ev.result.body.ptr, body, sizeof body);
    reset_event();
    assert_int_equal(bodies.used, 0);
    bodies.limit = 1000;
    expect(&view, ST_ERR_NOMEM, "memory");
    view.body.len--;
    expect(&view, ST_OK, NULL);
    assert_null(ev.result.body_owner.region);
}

static bool acked(void)
{
    struct st_wire_record record;
    const char *at;

    st_loop_settle(&loop);
    return wire_worker_begin(&worker, &record, &at) && record.kind == ST_WIRE_ACK;
}

static void bodies_by_reference(void **state)
{
    static const char *const bad[] = {"X A", "b", NULL};
    struct st_wire_view view = view_of(200, "a/b", NULL);

    (void)state;
    view.has_ref = true;
    view.ref = (struct st_wire_ref){.region = ST_WIRE_UP, .offset = 128, .length = 70000};
    wire_worker_pool(&worker, ST_WIRE_UP)[128] = 'k';
    expect(&view, ST_OK, NULL);
    assert_int_equal(ev.result.body.len, 70000);
    assert_int_equal(ev.result.body.ptr[0], 'k');
    assert_false(acked());
    reset_event();
    assert_true(acked());

    view.ref.region = ST_WIRE_DOWN;
    expect(&view, ST_ERR_INVALID, "pool");
    assert_false(acked());
    view.ref.region = ST_WIRE_UP;
    view.headers = make_headers(bad);
    expect(&view, ST_ERR_INVALID, "bad name");
    assert_true(acked());
    view.meta.result.status = 7;
    expect(&view, ST_ERR_INVALID, "status");
    assert_true(acked());
    view.meta.result.status = 200;
    bodies.limit = 10;
    expect(&view, ST_ERR_NOMEM, "memory");
    assert_true(acked());
}

static void out_of_memory(void **state)
{
    static const char *const texts[] = {"X-One", "1", NULL};
    static char body[2000];
    struct st_wire_view view = view_of(200, NULL, NULL);

    (void)state;
    view.body = (struct st_slice){body, sizeof body};
    st_alloc_fail_in = 1;
    expect(&view, ST_ERR_NOMEM, "memory");
    view.headers = make_headers(texts);
    st_alloc_fail_in = 1;
    expect(&view, ST_ERR_NOMEM, "memory");
    st_alloc_fail_in = 0;
    expect(&view, ST_OK, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(empty_event),    TEST(random_events),       TEST(log_level),     TEST(plain_result),
        TEST(result_headers), TEST(bad_results),         TEST(bad_headers),   TEST(limits),
        TEST(large_bodies),   TEST(bodies_by_reference), TEST(out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
