/* What handlers count and measure: what is exposed, what a hostile worker may say. */
#include "tests/unit/test_core.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "processor/core/metrics.h"
#include "runtimes/process/metric.h"

static struct st_handler_metrics *table;
static const char web[] = "web", cron[] = "cron";

static int setup(void **state)
{
    (void)state;
    table = st_handler_metrics_new("f");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    st_metrics_reset();
    st_handler_metrics_free(table);
    return 0;
}

static const char *take(const char *pool, unsigned worker, const char *name, double value,
                        bool gauge)
{
    Stator__Worker__V1__Metric m = STATOR__WORKER__V1__METRIC__INIT;

    m.name = (char *)name;
    m.value = value;
    m.gauge = gauge;
    return st_handler_metrics_take(table, pool, worker, &m);
}

static void expect(const char *line, bool is_there)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    st_metrics_write(out);
    assert_int_equal(fclose(out), 0);
    if ((strstr(text, line) != NULL) != is_there)
        fail_msg("%s: %s in\n%s", line, is_there ? "not" : "is", text);
    free(text);
}

static void test_counts_add_up(void **state)
{
    (void)state;
    assert_null(take(web, 0, "orders", 2, false));
    assert_null(take(web, 1, "orders", 3, false));
    assert_null(take(cron, 0, "orders", 0.5, false));
    assert_null(take(web, 0, "_0", 0, false));
    expect("stator_handler_total{function=\"f\",name=\"orders\"} 5.5\n", true);
    expect("stator_handler_total{function=\"f\",name=\"_0\"} 0\n", true);
}

static void test_gauges_are_a_worker_s(void **state)
{
    (void)state;
    assert_null(take(web, 0, "depth", 7, true));
    assert_null(take(web, 0, "depth", -2.25, true));
    assert_null(take(web, 1, "depth", 4, true));
    assert_null(take(cron, 0, "depth", 9, true));
    assert_null(take(web, 0, "depth", 1, false)); /* a counter of the same name */
    expect("{function=\"f\",trigger_id=\"web\",worker=\"0\",name=\"depth\"} -2.25\n", true);
    expect("{function=\"f\",trigger_id=\"web\",worker=\"1\",name=\"depth\"} 4\n", true);
    expect("{function=\"f\",trigger_id=\"cron\",worker=\"0\",name=\"depth\"} 9\n", true);
    expect("stator_handler_total{function=\"f\",name=\"depth\"} 1\n", true);
}

static void test_hostile(void **state)
{
    char longest[ST_HANDLER_METRIC_NAME_MAX + 2];
    const char *const names[] = {"", "0a", "a b", "a\"", "a\n", "a{", "\xc3\xa9", "a-b", longest};

    (void)state;
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i < ST_ARRAY_LEN(names); i++)
        assert_non_null(take(web, 0, names[i], 1, i % 2 == 0));
    assert_null(take(web, 0, longest + 1, 1, false));
    for (int gauge = 0; gauge < 2; gauge++) {
        assert_non_null(take(web, 0, "a", NAN, gauge));
        assert_non_null(take(web, 0, "a", INFINITY, gauge));
        assert_non_null(take(web, 0, "a", -INFINITY, gauge));
    }
    assert_non_null(take(web, 0, "a", -1, false));
    expect("name=\"a\"", false);
    for (int i = 0; i < 3; i++) /* no sum is beyond what can be written */
        assert_null(take(web, 0, "big", 1.7e308, false));
    expect("name=\"big\"} +Inf\n", true);
}

static void test_too_many_names(void **state)
{
    Stator__Worker__V1__Metric m = STATOR__WORKER__V1__METRIC__INIT;
    char name[32];

    (void)state;
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_null(take(web, 0, name, 1, i % 2 == 0));
        assert_null(take(web, 0, name, 1, i % 2 == 0));
    }
    expect("name=\"n63\"} 2\n", true);
    expect("name=\"n64\"", false);
    expect("stator_handler_metrics_dropped_total{function=\"f\"} 272\n", true);
    m.name = (char *)"n1"; /* the worker left out some: no count of this name */
    m.dropped = 1000;
    m.value = 5;
    assert_null(st_handler_metrics_take(table, web, 0, &m));
    m.dropped = UINT64_MAX;
    expect("stator_handler_metrics_dropped_total{function=\"f\"} 1272\n", true);
    expect("name=\"n1\"} 2\n", true);
    assert_null(st_handler_metrics_take(table, web, 0, &m));
    expect("stator_handler_metrics_dropped_total{function=\"f\"} 1.8446744073709", true);
}

int main(void)
{
#define WITH_TABLE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_TABLE(test_counts_add_up),
        WITH_TABLE(test_gauges_are_a_worker_s),
        WITH_TABLE(test_hostile),
        WITH_TABLE(test_too_many_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
