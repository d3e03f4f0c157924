/* What the tests of pools share: one pool, whose handler is the test (tests/support/fake.h). */
#ifndef TESTS_UNIT_TEST_POOL_H
#define TESTS_UNIT_TEST_POOL_H

#include "tests/unit/test_core.h"

#include "processor/core/metrics.h"
#include "tests/support/fake.h"

static struct fake f;

static inline struct st_pool *pool(void)
{
    return f.pools[0];
}

static inline void open_one(unsigned loops, unsigned workers, struct fake_pool_options pool)
{
    pool.workers = workers;
    fake_open(&f, &(struct fake_options){.loops = loops, .pool = {pool}});
}

static inline void finish(void)
{
    fake_check_pool(pool());
    fake_stop(&f);
    fake_close(&f);
}

/* The call that began last. */
static inline struct fake_call *last(void)
{
    assert_true(f.call_count > 0);
    return &f.calls[f.call_count - 1];
}

static inline void check_outcome(struct fake_answer *a, enum st_outcome outcome)
{
    assert_int_equal(a->completed, 1);
    assert_int_equal(a->outcome, outcome);
    assert_int_equal(a->released, 1);
    fake_free(a);
}

static inline int64_t value(st_metric m)
{
    return st_metric_value(m);
}

#endif
