/* Channels to workers that break the rules. */
#include "tests/unit/test_process_channel.h"

#include <fcntl.h>

/* ---- Hostile workers ---- */

struct bad {
    uint64_t seq;
    uint32_t size;
    uint16_t header_size;
    uint8_t kind;
    struct st_wire_section section[2];
    const char *text;
};

#define SECTION(id_, offset_, length_)                        \
    {                                                         \
        .id = (id_), .offset = (offset_), .length = (length_) \
    }

static const struct bad bads[] = {
    {0, 16, 16, ST_WIRE_FILL, {{0}}, NULL},
    {0, 16, 16, ST_WIRE_EVENT, {{0}}, "kind"},
    {0, 16, 16, ST_WIRE_BATCH, {{0}}, "kind"},
    {0, 16, 16, ST_WIRE_CANCEL, {{0}}, "kind"},
    {0, 16, 16, ST_WIRE_RETURN, {{0}}, "kind"},
    {0, 16, 16, 77, {{0}}, "kind"},
    {0, 16, 16, 255, {{0}}, "kind"},
    {0, 64, 15, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 0, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 17, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 76, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 4096, 16 + 12 * 65, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, UINT16_MAX, ST_WIRE_RESULT, {{0}}, "header_size"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 27, 4)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 28, 37)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 65, 0)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, UINT32_MAX, 2)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_BODY, 32, UINT32_MAX - 16)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(999, 32, 33)}, "outside"},
    {0, 64, 28, ST_WIRE_RESULT, {SECTION(ST_WIRE_META, 32, 15)}, "META"},
    {0, 64, 28, ST_WIRE_CHUNK, {SECTION(ST_WIRE_META, 32, 0)}, "META"},
    {0, 64, 28, ST_WIRE_CREDIT, {SECTION(ST_WIRE_META, 32, 7)}, "META"},
    {0, 64, 28, ST_WIRE_ACK, {SECTION(ST_WIRE_BODY_REF, 32, 23)}, "BODY_REF"},
};

static void put_bad(char *at, const struct bad *b)
{
    const struct st_wire_record record = {
        .size = b->size, .header_size = b->header_size, .kind = b->kind, .seq = b->seq};

    memset(at, 0, 4096);
    memcpy(at, &record, sizeof record);
    memcpy(at + sizeof record, b->section, sizeof b->section);
}

static void bad_records(void **state)
{
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        for (size_t i = 0; i < ST_ARRAY_LEN(bads); i++) {
            struct st_channel *ch = open_channel(shared);
            char bytes[4096], *at = bytes;

            forget();
            if (shared)
                assert_int_equal(st_ring_reserve(&worker.out, 4096, &at), ST_RING_OK);
            put_bad(at, &bads[i]);
            if (shared) {
                st_ring_commit(&worker.out);
                wire_worker_signal(&worker);
            } else {
                assert_int_equal(send(worker.sock, bytes, bads[i].size, 0), bads[i].size);
            }
            expect_broken(bads[i].text);
            assert_null(st_channel_reserve(ch, 16));
            pass();
            assert_int_equal(seen.brokens, 1); /* told once */
            close_channel(ch);
        }
    }
}

static void bad_refs(void **state)
{
    const struct st_wire_ref refs[] = {
        {.region = 2, .length = 1},
        {.region = 1, .offset = POOL, .length = 1},
        {.region = 1, .offset = POOL + 1},
        {.region = 0, .length = POOL + 1},
        {.region = 1, .offset = 16, .length = UINT64_MAX - 8},
        {.region = 1, .offset = UINT64_MAX, .length = 2},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(refs); i++) {
        struct st_channel *ch = open_channel(true);

        forget();
        assert_true(wire_worker_put(&worker, ST_WIRE_ACK, 0, 0,
                                    &(struct wire_part){ST_WIRE_BODY_REF, &refs[i], sizeof refs[i]},
                                    1));
        expect_broken("BODY_REF");
        close_channel(ch);
    }
}

static void bad_indexes(void **state)
{
    const uint64_t values[] = {8, RING + 16, UINT64_MAX, UINT64_MAX - 15};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(values); i++) {
        struct st_channel *ch = open_channel(true);

        forget();
        worker.memory->index[ST_WIRE_UP].tail = values[i];
        wire_worker_signal(&worker);
        expect_broken("ring to the processor");
        close_channel(ch);

        ch = open_channel(true);
        forget();
        while (send_event(ch, 1, 4096) != UINT64_MAX)
            ;
        worker.memory->index[ST_WIRE_DOWN].head = values[i];
        send_event(ch, 1, 4096);
        expect_broken("head");
        close_channel(ch);
    }
}

/* Flags of its own descriptors, which it may set as it likes, and a pipe that it fills do not make
 * the processor wait: a test that hangs is ended by its alarm. */
static void blocking_wakes(void **state)
{
    struct st_channel *ch = open_channel(true);
    const uint64_t most = UINT64_MAX - 1;
    char path[64], zeros[4096] = {0}, *at = NULL;
    int end;

    (void)state;
    snprintf(path, sizeof path, "/proc/self/fd/%d", worker.wake_in);
    end = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(end >= 0);
    for (size_t size = sizeof zeros; size > 0; size = size == 1 ? 0 : 1)
        while (write(end, zeros, size) > 0)
            ;
    assert_int_equal(write(worker.wake_out, &most, sizeof most), sizeof most);
    assert_int_equal(fcntl(end, F_SETFL, 0), 0);
    assert_int_equal(fcntl(worker.wake_in, F_SETFL, 0), 0);
    assert_int_equal(fcntl(worker.wake_out, F_SETFL, 0), 0);
    for (uint64_t seq = 1; seq < 100; seq++) {
        worker.memory->index[ST_WIRE_DOWN].sleeping = 1;
        worker.memory->index[ST_WIRE_UP].full = 1;
        assert_int_not_equal(send_event(ch, seq, 64), UINT64_MAX);
        assert_int_equal(st_ring_reserve(&worker.out, ST_WIRE_ALIGN, &at), ST_RING_OK);
        wire_record_put(at, ST_WIRE_ACK, 0, seq, NULL, 0);
        st_ring_commit(&worker.out);
        pass();
        st_channel_read(ch);
        assert_int_equal(worker.memory->index[ST_WIRE_DOWN].sleeping, 0);
        assert_int_equal(worker.memory->index[ST_WIRE_UP].full, 0);
    }
    close(end);
    assert_int_equal(seen.records, 99);
    assert_int_equal(seen.brokens, 0);
    close_channel(ch);
}

/* Other fields of the shared memory mean nothing to the processor once the worker has it. */
static void scribbled_header(void **state)
{
    struct st_channel *ch = open_channel(true);
    struct st_wire_memory *m = worker.memory;

    (void)state;
    memset(m, 0xff, offsetof(struct st_wire_memory, index));
    m->index[ST_WIRE_UP].taken = m->index[ST_WIRE_UP].full = 99;
    m->index[ST_WIRE_DOWN].sleeping = 99;
    send_event(ch, 1, 64);
    assert_true(put_result(1, "x"));
    wire_worker_signal(&worker);
    pass();
    assert_int_equal(seen.records, 1);
    assert_int_equal(seen.brokens, 0);
    close_channel(ch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bad_records),    TEST(bad_refs),         TEST(bad_indexes),
        TEST(blocking_wakes), TEST(scribbled_header),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
