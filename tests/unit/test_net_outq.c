#include "tests/unit/test_core.h"

#include "processor/core/rand.h"
#include "processor/net/net.h"
#include "processor/net/outq.h"
#include "tests/support/net_rig.h"

static struct net_rig rig;
static struct st_net *net;

static int open_rig(void **state)
{
    (void)state;
    net_rig_open(&rig);
    net = net_rig_net(&rig);
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    net_rig_close(&rig);
    return 0;
}

/* A sent byte has a value by its number, so that any that is lost or repeated is seen. */
static char byte_at(size_t i)
{
    return (char)((i * 131 + (i >> 8) * 7 + (i >> 16)) & 0xff);
}

static struct st_buf make_buf(size_t at, size_t n)
{
    struct st_region *r = st_region_try_new(n + 7);

    assert_non_null(r);
    for (size_t i = 0; i < n; i++)
        r->base[5 + i] = byte_at(at + i);
    return (struct st_buf){r, 5, n};
}

/* All bytes of the queue are those from number `at` on. */
static void assert_bytes(const struct st_outq *q, size_t at)
{
    size_t seen = 0, pieces = 0;
    struct iovec iov[ST_OUTQ_IOV];
    int n = st_outq_gather(q, iov);

    for (const struct st_out *o = q->first; o != NULL; o = o->next, pieces++) {
        for (uint32_t i = 0; i < o->len; i++)
            if (o->at[i] != byte_at(at + seen + i))
                fail_msg("byte %zu is wrong", seen + i);
        if (o->next == NULL)
            assert_ptr_equal(o, q->last);
        seen += o->len;
    }
    assert_int_equal(seen, q->bytes);
    assert_true(n <= ST_OUTQ_IOV);
    if (pieces <= ST_OUTQ_IOV) {
        seen = 0;
        for (int i = 0; i < n; i++) {
            assert_true(iov[i].iov_len > 0);
            assert_int_equal(((char *)iov[i].iov_base)[0], byte_at(at + seen));
            seen += iov[i].iov_len;
        }
        assert_int_equal(seen, q->bytes);
    }
}

static void copy_bytes(struct st_outq *q, size_t at, size_t n)
{
    char *bytes = malloc(n + 1);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(at + i);
    st_outq_copy(q, net, (struct st_slice){bytes, n});
    free(bytes);
}

static void test_copies_share_a_chunk(void **state)
{
    struct st_outq q = {0};
    size_t at = 0;

    (void)state;
    for (int i = 0; i < 100; i++, at += 100)
        copy_bytes(&q, at, 100);
    assert_int_equal(net->chunks.in_use, 1);
    assert_ptr_equal(q.first, q.last);
    assert_bytes(&q, 0);
    copy_bytes(&q, at, 3 * ST_NET_CHUNK_SIZE);
    assert_int_equal(net->chunks.in_use, 4);
    assert_bytes(&q, 0);
    st_outq_clear(&q, net);
    assert_int_equal(net->chunks.in_use, 0);
    assert_null(q.first);
    assert_null(q.last);
}

static void test_reserve_and_commit(void **state)
{
    struct st_outq q = {0};
    size_t at = 0;
    char *p;

    (void)state;
    while (q.first == q.last) {
        p = st_outq_reserve(&q, net, 500);
        for (size_t i = 0; i < 333; i++)
            p[i] = byte_at(at + i);
        st_outq_commit(&q, 333);
        at += 333;
    }
    assert_bytes(&q, 0);
    /* The most that may be asked for; nothing of it is used. */
    p = st_outq_reserve(&q, net, ST_NET_CHUNK_SIZE / 2);
    memset(p, 0, ST_NET_CHUNK_SIZE / 2);
    st_outq_commit(&q, 0);
    assert_bytes(&q, 0);
    st_outq_clear(&q, net);
}

/* A chunk that was reserved and not filled is in nobody's way. */
static void test_empty_chunk(void **state)
{
    struct st_outq q = {0};
    struct iovec iov[ST_OUTQ_IOV];

    (void)state;
    st_outq_reserve(&q, net, 10);
    assert_int_equal(st_outq_gather(&q, iov), 0);
    st_outq_take(&q, net, make_buf(0, ST_OUTQ_COPY_MAX + 1));
    assert_int_equal(st_outq_gather(&q, iov), 1);
    assert_bytes(&q, 0);
    st_outq_consume(&q, net, 1);
    assert_bytes(&q, 1);
    st_outq_clear(&q, net);
    st_outq_reserve(&q, net, 10);
    st_outq_clear(&q, net);
    assert_null(q.first);
}

static void test_take_copies_small_ones(void **state)
{
    struct st_outq q = {0};
    struct st_buf small = make_buf(0, ST_OUTQ_COPY_MAX), keep = st_buf_ref(&small), large;

    (void)state;
    st_outq_take(&q, net, small);
    assert_true(st_region_is_sole(keep.region)); /* given back at once */
    st_buf_drop(&keep);
    assert_int_equal(net->refs.in_use, 0);
    large = make_buf(ST_OUTQ_COPY_MAX, ST_OUTQ_COPY_MAX + 1);
    keep = st_buf_ref(&large);
    st_outq_take(&q, net, large);
    assert_int_equal(net->refs.in_use, 1);
    assert_false(st_region_is_sole(keep.region));
    assert_bytes(&q, 0);
    st_outq_consume(&q, net, q.bytes - 1);
    assert_false(st_region_is_sole(keep.region));
    st_outq_consume(&q, net, 1);
    assert_true(st_region_is_sole(keep.region));
    st_buf_drop(&keep);
    st_outq_take(&q, net, (struct st_buf){0});
    assert_int_equal(q.bytes, 0);
    st_outq_clear(&q, net);
}

static int releases;

static void count_release(struct st_region *r)
{
    (void)r;
    releases++;
}

/* A length that no piece can hold; the bytes are never looked at. */
static void test_take_huge(void **state)
{
    static char base[1];
    struct st_region region = {.base = base, .size = (size_t)5 << 30, .release = count_release};
    struct st_outq q = {0};
    struct iovec iov[ST_OUTQ_IOV];
    size_t total = 0;
    int n;

    (void)state;
    atomic_init(&region.refs, 1);
    releases = 0;
    st_outq_take(&q, net, (struct st_buf){&region, 0, region.size});
    n = st_outq_gather(&q, iov);
    for (int i = 0; i < n; i++) {
        assert_ptr_equal(iov[i].iov_base, base + total);
        total += iov[i].iov_len;
    }
    assert_int_equal(total, region.size);
    st_outq_consume(&q, net, region.size - 1);
    assert_int_equal(releases, 0);
    assert_int_equal(q.bytes, 1);
    st_outq_clear(&q, net);
    assert_int_equal(releases, 1);
}

static void test_gather_limit(void **state)
{
    struct st_outq q = {0};
    struct iovec iov[ST_OUTQ_IOV];
    size_t at = 0, n = ST_OUTQ_COPY_MAX + 1;

    (void)state;
    for (int i = 0; i < ST_OUTQ_IOV + 3; i++, at += n)
        st_outq_take(&q, net, make_buf(at, n));
    assert_int_equal(st_outq_gather(&q, iov), ST_OUTQ_IOV);
    st_outq_consume(&q, net, n);
    assert_int_equal(st_outq_gather(&q, iov), ST_OUTQ_IOV);
    st_outq_consume(&q, net, 2 * n + 1);
    assert_int_equal(st_outq_gather(&q, iov), ST_OUTQ_IOV);
    st_outq_consume(&q, net, n);
    assert_int_equal(st_outq_gather(&q, iov), ST_OUTQ_IOV - 1);
    assert_bytes(&q, 4 * n + 1);
    st_outq_clear(&q, net);
}

static void test_splice(void **state)
{
    struct st_outq a = {0}, b = {0};

    (void)state;
    st_outq_splice(&a, &b);
    assert_null(a.first);
    copy_bytes(&b, 0, 100);
    st_outq_splice(&a, &b); /* into an empty one */
    assert_int_equal(b.bytes, 0);
    assert_null(b.first);
    assert_null(b.last);
    assert_bytes(&a, 0);
    copy_bytes(&b, 100, 20000);
    st_outq_splice(&a, &b);
    st_outq_splice(&a, &b);    /* of an empty one */
    copy_bytes(&a, 20100, 50); /* goes on behind what was b's */
    assert_bytes(&a, 0);
    assert_int_equal(a.bytes, 20150);
    st_outq_clear(&a, net);
}

static void test_random(void **state)
{
    struct st_rand r;

    (void)state;
    st_rand_seed(&r, 3);
    for (int round = 0; round < 40; round++) {
        struct st_outq q = {0}, other = {0};
        size_t sent = 0, queued = 0;

        for (int step = 0; step < 60; step++) {
            size_t n = (size_t)st_rand_below(&r, st_rand_below(&r, 3) != 0 ? 600 : 40000);

            switch (st_rand_below(&r, 5)) {
            case 0:
                copy_bytes(&q, queued, n);
                queued += n;
                break;
            case 1:
                if (n != 0)
                    st_outq_take(&q, net, make_buf(queued, n));
                queued += n;
                break;
            case 2:
                copy_bytes(&other, queued, n);
                st_outq_splice(&q, &other);
                queued += n;
                break;
            default:
                n = n < q.bytes ? n : q.bytes;
                st_outq_consume(&q, net, n);
                sent += n;
            }
            assert_int_equal(q.bytes, queued - sent);
            assert_bytes(&q, sent);
        }
        st_outq_clear(&q, net);
        assert_int_equal(net->chunks.in_use + net->refs.in_use, 0);
    }
}

/* ---- Regions of the body budget ---- */

static void test_body_budget(void **state)
{
    struct st_body_budget budget = {.limit = 1000};
    struct st_region *a, *b;

    (void)state;
    a = st_body_region_try_new(&budget, 600);
    assert_non_null(a);
    memset(a->base, 1, 600);
    assert_int_equal(a->size, 600);
    assert_null(st_body_region_try_new(&budget, 401));
    assert_null(st_body_region_try_new(&budget, SIZE_MAX));
    b = st_body_region_try_new(&budget, 400);
    assert_non_null(b);
    assert_null(st_body_region_try_new(&budget, 1));
    assert_int_equal(atomic_load(&budget.used), 1000);
    st_region_unref(a);
    assert_int_equal(atomic_load(&budget.used), 400);
    st_region_ref(b);
    st_region_unref(b);
    assert_int_equal(atomic_load(&budget.used), 400);
    st_region_unref(b);
    assert_int_equal(atomic_load(&budget.used), 0);
    budget.limit = UINT64_MAX;
    assert_null(st_body_region_try_new(&budget, SIZE_MAX));
    assert_int_equal(atomic_load(&budget.used), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copies_share_a_chunk, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_reserve_and_commit, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_empty_chunk, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_take_copies_small_ones, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_take_huge, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_gather_limit, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_splice, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(test_random, open_rig, close_rig),
        cmocka_unit_test(test_body_budget),
    };

    return cmocka_run_group_tests_name("outq", tests, NULL, NULL);
}
