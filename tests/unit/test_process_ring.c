/* Rings and extents of the process runtime, without a channel. */
#include <pthread.h>
#include <sys/mman.h>

#include "processor/core/rand.h"
#include "runtimes/process/extent.h"
#include "runtimes/process/ring.h"
#include "tests/unit/test_core.h"

enum { SIZE = 4096, HEADER = sizeof(struct st_wire_record) };

/* A ring in memory that a forked process shares. */
struct shared {
    struct st_wire_ring index;
    uint32_t done;
    _Alignas(64) char bytes[SIZE];
};

static struct shared *open_shared(void)
{
    struct shared *s =
        mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(s != MAP_FAILED);
    return s;
}

static struct st_ring open_ring(struct shared *s)
{
    struct st_ring r;

    st_ring_init(&r, &s->index, s->bytes, SIZE);
    return r;
}

/* Size of the record number seq, and what it holds. */
static uint32_t size_of(uint64_t seq)
{
    return (uint32_t)(1 + (seq * 2654435761u >> 7) % (SIZE / 4 / ST_WIRE_ALIGN)) * ST_WIRE_ALIGN;
}

static char byte_of(uint64_t seq, uint32_t i)
{
    return (char)(seq * 31 + i * 7);
}

static bool put(struct st_ring *r, uint64_t seq, uint64_t *place)
{
    uint32_t size = size_of(seq);
    struct st_wire_record record = {
        .size = size, .header_size = HEADER, .kind = ST_WIRE_EVENT, .seq = seq};
    enum st_ring_result rc;
    uint64_t at;
    char *to = NULL;

    rc = st_ring_reserve(r, size, &to);
    if (rc != ST_RING_OK) {
        if (rc != ST_RING_NONE)
            abort();
        return false;
    }
    memcpy(to, &record, sizeof record);
    for (uint32_t i = HEADER; i < size; i++)
        to[i] = byte_of(seq, i);
    at = st_ring_commit(r);
    if (place != NULL)
        *place = at;
    return true;
}

static bool is_record(const struct st_wire_record *record, const char *at, uint64_t seq)
{
    if (record->seq != seq || record->size != size_of(seq) || record->kind != ST_WIRE_EVENT)
        return false;
    for (uint32_t i = HEADER; i < record->size; i++)
        if (at[i] != byte_of(seq, i))
            return false;
    return true;
}

/* ---- One thread, against a model ---- */

static void random_sequences(void **state)
{
    struct st_rand rand;

    (void)state;
    st_rand_seed(&rand, 7);
    for (int round = 0; round < 50; round++) {
        struct shared *s = open_shared();
        struct st_ring in = open_ring(s), out = open_ring(s);
        uint64_t written = 0, seen = 0;
        bool full = false;

        for (int step = 0; step < 2000; step++) {
            struct st_wire_record record;
            const char *at;

            if (st_rand_next(&rand) % 2 == 0) {
                full = !put(&in, written, NULL);
                if (!full) {
                    written++;
                    assert_true(in.tail - out.head <= SIZE);
                } else {
                    assert_true(s->index.full == 1);
                    assert_true(in.tail - s->index.head > SIZE / 2);
                }
                continue;
            }
            switch (st_ring_peek(&out, &record, &at)) {
            case ST_RING_OK:
                assert_true(is_record(&record, at, seen));
                assert_true(at >= s->bytes && at + record.size <= s->bytes + SIZE);
                st_ring_skip(&out, record.size);
                seen++;
                break;
            case ST_RING_NONE:
                assert_int_equal(seen, written);
                break;
            default:
                fail();
            }
            if (st_rand_next(&rand) % 4 == 0) {
                assert_int_equal(st_ring_release(&out), full);
                full = false;
            }
        }
        assert_true(written > 100);
        munmap(s, sizeof *s);
    }
}

static void sleeping(void **state)
{
    struct shared *s = open_shared();
    struct st_ring in = open_ring(s), out = open_ring(s);
    struct st_wire_record record;
    const char *at;

    (void)state;
    assert_false(st_ring_must_wake(&in));
    assert_true(st_ring_sleep(&out));
    assert_true(put(&in, 1, NULL));
    assert_true(st_ring_must_wake(&in));
    assert_false(st_ring_must_wake(&in));
    assert_false(st_ring_sleep(&out)); /* there is one */
    assert_int_equal(s->index.sleeping, 0);
    assert_int_equal(st_ring_peek(&out, &record, &at), ST_RING_OK);
    st_ring_skip(&out, record.size);
    assert_true(st_ring_sleep(&out));
    munmap(s, sizeof *s);
}

static void takes_back(void **state)
{
    struct shared *s = open_shared();
    struct st_ring in = open_ring(s), out = open_ring(s);
    struct st_wire_record record;
    uint64_t place[4], from;
    const char *at;

    (void)state;
    assert_int_equal(st_ring_take_back(&in, &from), ST_RING_NONE);
    for (uint64_t i = 0; i < 3; i++)
        assert_true(put(&in, i, &place[i]));
    assert_int_equal(st_ring_begin(&out, &record, &at), ST_RING_OK);
    assert_true(is_record(&record, at, 0));
    assert_true(st_ring_has_begun(&in, place[0]));
    assert_false(st_ring_has_begun(&in, place[1]));
    assert_int_equal(st_ring_take_back(&in, &from), ST_RING_OK);
    assert_int_equal(from, place[1]);
    assert_int_equal(st_ring_begin(&out, &record, &at), ST_RING_NONE);
    assert_int_equal(st_ring_take_back(&in, &from), ST_RING_NONE);
    assert_true(put(&in, 3, &place[3]));
    assert_false(st_ring_has_begun(&in, place[3]));
    assert_int_equal(st_ring_begin(&out, &record, &at), ST_RING_OK);
    assert_true(is_record(&record, at, 3));
    assert_true(st_ring_has_begun(&in, place[3]));
    st_ring_release(&out);
    assert_int_equal(s->index.head, in.tail);
    munmap(s, sizeof *s);
}

/* Only events can be taken back: an ACK among them arrives. */
static void takes_back_events_only(void **state)
{
    const struct st_wire_record ack = {
        .size = HEADER, .header_size = HEADER, .kind = ST_WIRE_ACK, .seq = 99};
    struct shared *s = open_shared();
    struct st_ring in = open_ring(s), out = open_ring(s);
    struct st_wire_record record;
    uint64_t from;
    const char *at;
    char *to = NULL;

    (void)state;
    for (int round = 0; round < 100; round++) {
        while (put(&in, 3, NULL))
            ;
        assert_int_equal(st_ring_begin(&out, &record, &at), ST_RING_OK);
        assert_int_equal(record.seq, 3);
        st_ring_release(&out);
        assert_int_equal(st_ring_reserve(&in, HEADER, &to), ST_RING_OK);
        memcpy(to, &ack, sizeof ack);
        st_ring_commit(&in);
        (void)put(&in, 3, NULL);
        assert_int_equal(st_ring_take_back(&in, &from), ST_RING_OK);
        assert_int_equal(st_ring_begin(&out, &record, &at), ST_RING_OK);
        assert_int_equal(record.seq, 99);
        assert_int_equal(st_ring_begin(&out, &record, &at), ST_RING_NONE);
        st_ring_release(&out);
    }
    munmap(s, sizeof *s);
}

/* ---- Two sides at once ---- */

enum { RECORDS = 40000, TAKES = 20000 };

/* Everything in order; what the producer waits for is told. False: something was wrong. */
static bool consume(struct st_ring *r, uint64_t count)
{
    for (uint64_t seq = 0; seq < count;) {
        struct st_wire_record record;
        const char *at;

        switch (st_ring_peek(r, &record, &at)) {
        case ST_RING_OK:
            if (!is_record(&record, at, seq))
                return false;
            st_ring_skip(r, record.size);
            seq++;
            if (seq % 3 == 0)
                st_ring_release(r);
            break;
        case ST_RING_NONE:
            st_ring_release(r);
            sched_yield();
            break;
        default:
            return false;
        }
    }
    return true;
}

static void *consumer_thread(void *arg)
{
    struct st_ring r = open_ring(arg);

    return consume(&r, RECORDS) ? NULL : arg;
}

static void produce(struct shared *s, uint64_t count)
{
    struct st_ring r = open_ring(s);

    for (uint64_t seq = 0; seq < count;) {
        if (put(&r, seq, NULL))
            seq++;
        else
            sched_yield();
    }
}

static void another_thread(void **state)
{
    struct shared *s = open_shared();
    pthread_t id;
    void *failed;

    (void)state;
    assert_int_equal(pthread_create(&id, NULL, consumer_thread, s), 0);
    produce(s, RECORDS);
    pthread_join(id, &failed);
    assert_null(failed);
    munmap(s, sizeof *s);
}

static void another_process(void **state)
{
    struct shared *s = open_shared();
    int status;
    pid_t pid;

    (void)state;
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct st_ring r = open_ring(s);

        _exit(consume(&r, RECORDS) ? 0 : 1);
    }
    produce(s, RECORDS);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    munmap(s, sizeof *s);
}

/* One begins records, the other takes them back: each record has one of the two fates. */
static unsigned char fate[TAKES]; /* 1: begun, 2: taken back */

static void *beginner_thread(void *arg)
{
    struct shared *s = arg;
    struct st_ring r = open_ring(s);

    for (;;) {
        bool last = __atomic_load_n(&s->done, __ATOMIC_ACQUIRE) != 0;
        struct st_wire_record record;
        const char *at;
        enum st_ring_result rc = st_ring_begin(&r, &record, &at);

        if (rc == ST_RING_BROKEN)
            return arg;
        if (rc == ST_RING_OK) {
            if (!is_record(&record, at, record.seq) || fate[record.seq] != 0)
                return arg;
            fate[record.seq] |= 1;
        } else if (last) {
            return NULL;
        }
        st_ring_release(&r);
    }
}

static void take_back_race(void **state)
{
    struct shared *s = open_shared();
    struct st_ring r = open_ring(s);
    static uint64_t places[TAKES];
    uint64_t begun = 0, back = 0, next = 0;
    pthread_t id;
    void *failed;

    (void)state;
    memset(fate, 0, sizeof fate);
    assert_int_equal(pthread_create(&id, NULL, beginner_thread, s), 0);
    for (uint64_t seq = 0; seq < TAKES;) {
        uint64_t from;

        if (put(&r, seq, &places[seq]))
            seq++;
        else
            sched_yield();
        if (seq % 5 != 0 || st_ring_take_back(&r, &from) != ST_RING_OK)
            continue;
        while (next < seq && places[next] < from)
            next++;
        for (; next < seq; next++, back++)
            places[next] |= 1;
    }
    __atomic_store_n(&s->done, 1, __ATOMIC_RELEASE);
    pthread_join(id, &failed);
    assert_null(failed);
    for (uint64_t seq = 0; seq < TAKES; seq++) {
        assert_int_equal(fate[seq], (places[seq] & 1) != 0 ? 0 : 1);
        begun += fate[seq];
    }
    assert_int_equal(begun + back, TAKES);
    munmap(s, sizeof *s);
}

/* ---- What a hostile other side writes ---- */

static void hostile_tail(void **state)
{
    const uint64_t bad[] = {1, 8, SIZE + 16, UINT64_MAX, UINT64_MAX - 15, 1ull << 63};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct shared *s = open_shared();
        struct st_ring r = open_ring(s);
        struct st_wire_record record;
        const char *at;

        s->index.tail = bad[i];
        assert_false(st_ring_sleep(&r));
        assert_int_equal(st_ring_peek(&r, &record, &at), ST_RING_BROKEN);
        munmap(s, sizeof *s);
    }
}

static void hostile_head(void **state)
{
    const uint64_t bad[] = {1, 24, SIZE * 2, UINT64_MAX, UINT64_MAX - 15};
    char *at;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct shared *s = open_shared();
        struct st_ring r = open_ring(s);

        while (put(&r, 1, NULL))
            ;
        s->index.head = bad[i];
        assert_int_equal(st_ring_reserve(&r, SIZE / 4, &at), ST_RING_BROKEN);
        munmap(s, sizeof *s);
    }
}

static void hostile_head_goes_back(void **state)
{
    struct shared *s = open_shared();
    struct st_ring r = open_ring(s);
    char *at;

    (void)state;
    while (put(&r, 1, NULL))
        ;
    s->index.head = size_of(1) * 2;
    while (put(&r, 1, NULL))
        ;
    s->index.head = 0;
    assert_int_equal(st_ring_reserve(&r, SIZE / 4, &at), ST_RING_BROKEN);
    munmap(s, sizeof *s);
}

static void hostile_taken(void **state)
{
    const uint64_t bad[] = {1, SIZE * 2, UINT64_MAX, UINT64_MAX - 15};
    uint64_t from, place;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct shared *s = open_shared();
        struct st_ring r = open_ring(s);

        assert_true(put(&r, 1, &place));
        s->index.taken = bad[i];
        assert_true(st_ring_has_begun(&r, place));
        assert_int_equal(st_ring_take_back(&r, &from), ST_RING_BROKEN);
        munmap(s, sizeof *s);
    }
}

static void hostile_records(void **state)
{
    const struct {
        uint64_t begin, tail; /* of the ring */
        uint32_t size;
        uint8_t kind;
    } bad[] = {
        {0, 64, 0, ST_WIRE_RESULT},
        {0, 64, 8, ST_WIRE_RESULT},
        {0, 64, 17, ST_WIRE_RESULT},
        {0, 64, 80, ST_WIRE_RESULT},
        {0, SIZE, SIZE / 4 + 16, ST_WIRE_RESULT},
        {0, 64, UINT32_MAX, ST_WIRE_RESULT},
        {0, 64, UINT32_MAX - 15, ST_WIRE_RESULT},
        {0, 64, 64, ST_WIRE_FILL},
        {SIZE - 32, SIZE + 64, 48, ST_WIRE_RESULT},
        {SIZE - 32, SIZE + 64, 16, ST_WIRE_FILL},
        {SIZE - 32, SIZE - 16, 32, ST_WIRE_FILL},
        {SIZE - 16, SIZE, 0, ST_WIRE_FILL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct shared *s = open_shared();
        struct st_ring r = open_ring(s);
        struct st_wire_record record = {.size = bad[i].size, .kind = bad[i].kind};
        const char *at;

        r.head = r.tail = s->index.head = bad[i].begin;
        s->index.tail = bad[i].tail;
        memcpy(s->bytes + bad[i].begin, &record, sizeof record);
        assert_int_equal(st_ring_peek(&r, &record, &at), ST_RING_BROKEN);
        munmap(s, sizeof *s);
    }
}

/* ---- Extents ---- */

enum { POOL = 64 * 1024, PIECES = 200 };

static void extents(void **state)
{
    static unsigned char owner[POOL / ST_EXTENT_ALIGN];
    struct st_extent pieces[PIECES] = {{0, 0}};
    struct st_extents x;
    struct st_rand rand;

    (void)state;
    st_rand_seed(&rand, 11);
    memset(owner, 0, sizeof owner);
    assert_true(st_extents_init(&x, POOL + 7));
    assert_int_equal(x.free_bytes, POOL);
    for (int step = 0; step < 50000; step++) {
        size_t i = st_rand_next(&rand) % PIECES, first, n;
        bool gives = pieces[i].size != 0;

        if (gives) {
            first = pieces[i].offset / ST_EXTENT_ALIGN;
            n = (pieces[i].size + ST_EXTENT_ALIGN - 1) / ST_EXTENT_ALIGN;
            assert_true(st_extents_give(&x, pieces[i].offset, pieces[i].size));
            assert_false(st_extents_give(&x, pieces[i].offset, pieces[i].size));
            for (size_t k = 0; k < n; k++)
                assert_int_equal(owner[first + k]--, 1);
            pieces[i].size = 0;
            continue;
        }
        pieces[i].size = 1 + st_rand_next(&rand) % (step % 100 < 50 ? 300 : 3000);
        if (!st_extents_take(&x, pieces[i].size, &pieces[i].offset)) {
            pieces[i].size = 0;
            continue;
        }
        first = pieces[i].offset / ST_EXTENT_ALIGN;
        n = (pieces[i].size + ST_EXTENT_ALIGN - 1) / ST_EXTENT_ALIGN;
        assert_int_equal(pieces[i].offset % ST_EXTENT_ALIGN, 0);
        assert_true(pieces[i].offset + pieces[i].size <= POOL);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(owner[first + k]++, 0);
    }
    for (size_t i = 0; i < PIECES; i++)
        if (pieces[i].size != 0)
            assert_true(st_extents_give(&x, pieces[i].offset, pieces[i].size));
    assert_int_equal(x.count, 1);
    assert_int_equal(x.holes[0].size, POOL);
    st_extents_end(&x);
}

static void extents_refuse(void **state)
{
    struct st_extents x;
    uint64_t at;

    (void)state;
    assert_true(st_extents_init(&x, 256));
    assert_false(st_extents_take(&x, 0, &at));
    assert_false(st_extents_take(&x, 257, &at));
    assert_false(st_extents_take(&x, UINT64_MAX, &at));
    assert_false(st_extents_give(&x, 0, 64));
    assert_true(st_extents_take(&x, 256, &at));
    assert_false(st_extents_take(&x, 1, &at));
    assert_false(st_extents_give(&x, 64, 256));
    assert_false(st_extents_give(&x, UINT64_MAX - 63, 64));
    assert_false(st_extents_give(&x, 0, 0));
    assert_true(st_extents_give(&x, 0, 256));
    st_extents_end(&x);
    assert_true(st_extents_init(&x, 0));
    assert_false(st_extents_take(&x, 1, &at));
    st_extents_end(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_sequences), cmocka_unit_test(sleeping),
        cmocka_unit_test(takes_back),       cmocka_unit_test(takes_back_events_only),
        cmocka_unit_test(another_thread),   cmocka_unit_test(another_process),
        cmocka_unit_test(take_back_race),   cmocka_unit_test(hostile_tail),
        cmocka_unit_test(hostile_head),     cmocka_unit_test(hostile_head_goes_back),
        cmocka_unit_test(hostile_taken),    cmocka_unit_test(hostile_records),
        cmocka_unit_test(extents),          cmocka_unit_test(extents_refuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
