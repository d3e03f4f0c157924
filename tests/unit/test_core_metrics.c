#include "tests/unit/test_core.h"

#include <math.h>
#include <pthread.h>

#include "processor/core/metrics.h"

static int reset(void **state)
{
    (void)state;
    st_metrics_reset();
    return 0;
}

/* Caller frees. */
static char *scrape(void)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    assert_non_null(out);
    st_metrics_write(out);
    fclose(out);
    return text;
}

static void assert_scrape(const char *expected)
{
    char *text = scrape();

    assert_string_equal(text, expected);
    free(text);
}

#define LABELS(...) ((const struct st_label[]){__VA_ARGS__ __VA_OPT__(, ){NULL, NULL}})

static void test_empty(void **state)
{
    (void)state;
    assert_scrape("");
    st_metrics_shard_new();
    assert_scrape("");
}

static void test_counters_and_gauges(void **state)
{
    struct st_metrics_shard *a = st_metrics_shard_new(), *b = st_metrics_shard_new();
    st_metric ok = st_metric_register(ST_METRIC_HANDLED_EVENTS, LABELS({"result", "ok"}));
    st_metric bad = st_metric_register(ST_METRIC_HANDLED_EVENTS, LABELS({"result", "error"}));
    st_metric flight = st_metric_register(ST_METRIC_EVENTS_IN_FLIGHT, NULL);

    (void)state;
    assert_int_not_equal(ok, 0);
    assert_int_not_equal(ok, bad);
    st_metric_add(a, ok, 2);
    st_metric_add(b, ok, 40);
    st_metric_add(a, flight, 5);
    st_metric_add(b, flight, -7);
    assert_int_equal(st_metric_value(ok), 42);
    assert_int_equal(st_metric_value(bad), 0);
    assert_int_equal(st_metric_value(flight), -2);
    assert_scrape("# HELP nuclio_processor_handled_events_total Events handled, by result\n"
                  "# TYPE nuclio_processor_handled_events_total counter\n"
                  "nuclio_processor_handled_events_total{result=\"ok\"} 42\n"
                  "nuclio_processor_handled_events_total{result=\"error\"} 0\n"
                  "# HELP stator_events_in_flight Events dispatched and not finished\n"
                  "# TYPE stator_events_in_flight gauge\n"
                  "stator_events_in_flight -2\n");
    st_metric_set(a, flight, 3);
    st_metric_set(b, flight, 0);
    assert_int_equal(st_metric_value(flight), 3);
}

static void test_same_labels_same_handle(void **state)
{
    char value[] = "http";
    st_metric a, b, c, d;

    (void)state;
    a = st_metric_register(ST_METRIC_REJECTED, LABELS({"trigger", value}, {"reason", "limit"}));
    value[0] = 'x'; /* labels are copied */
    b = st_metric_register(ST_METRIC_REJECTED, LABELS({"trigger", "http"}, {"reason", "limit"}));
    c = st_metric_register(ST_METRIC_REJECTED, LABELS({"trigger", "http"}));
    d = st_metric_register(ST_METRIC_CLIENT_GONE, LABELS({"trigger", "http"}));
    assert_int_equal(a, b);
    assert_int_not_equal(a, c);
    assert_int_not_equal(c, d);
    assert_int_equal(st_metric_register(ST_METRIC_BYTES, NULL),
                     st_metric_register(ST_METRIC_BYTES, LABELS()));
}

static void test_label_escapes(void **state)
{
    (void)state;
    st_metric_register(ST_METRIC_BUILD_INFO, LABELS({"a", "back\\slash"}, {"b", "q\"uote\nline"}));
    assert_scrape("# HELP stator_build_info 1, the build in the labels\n"
                  "# TYPE stator_build_info gauge\n"
                  "stator_build_info{a=\"back\\\\slash\",b=\"q\\\"uote\\nline\"} 0\n");
}

static void test_scale(void **state)
{
    struct st_metrics_shard *s = st_metrics_shard_new();
    st_metric m = st_metric_register(ST_METRIC_HANDLED_DURATION_SUM, LABELS({"worker", "0"}));
    st_metric r = st_metric_register(ST_METRIC_READY_SECONDS, NULL);
    char *text;

    (void)state;
    st_metric_add(s, m, 1234567);
    st_metric_set(s, r, 42);
    assert_scrape("# HELP nuclio_processor_handled_events_duration_milliseconds_sum Milliseconds "
                  "spent handling events, by worker\n"
                  "# TYPE nuclio_processor_handled_events_duration_milliseconds_sum counter\n"
                  "nuclio_processor_handled_events_duration_milliseconds_sum{worker=\"0\"} "
                  "1234.567\n"
                  "# HELP stator_ready_seconds From the process's start to readiness\n"
                  "# TYPE stator_ready_seconds gauge\n"
                  "stator_ready_seconds 0.042\n");
    st_metric_set(s, r, -1500);
    text = scrape();
    assert_non_null(strstr(text, "\nstator_ready_seconds -1.500\n"));
    free(text);
}

static void test_histogram_buckets(void **state)
{
    struct st_metrics_shard *s = st_metrics_shard_new();
    st_metric m = st_metric_register(ST_METRIC_QUEUE_WAIT, NULL);

    (void)state;
    /* On and around each bound: 2^k us is in bucket k, 1 ns more is not. */
    for (unsigned k = 0; k < ST_HISTOGRAM_BUCKETS - 1; k++) {
        uint64_t bound = 1000ull << k;
        int64_t at = st_metric_value(m + k), above = st_metric_value(m + k + 1);

        st_metric_observe(s, m, bound, 1);
        assert_int_equal(st_metric_value(m + k), at + 1);
        st_metric_observe(s, m, bound + 1, 1);
        assert_int_equal(st_metric_value(m + k + 1), above + 1);
    }
    st_metric_observe(s, m, 0, 1);
    assert_int_equal(st_metric_value(m), 2);
    st_metric_observe(s, m, 3600ull * 1000000000ull, 1);
    assert_int_equal(st_metric_value(m + ST_HISTOGRAM_BUCKETS - 1), 2);
}

static void test_histogram_text(void **state)
{
    struct st_metrics_shard *s = st_metrics_shard_new();
    st_metric plain = st_metric_register(ST_METRIC_QUEUE_WAIT, NULL), m;
    char *text;

    (void)state;
    m = st_metric_register(ST_METRIC_EVENT_DURATION, LABELS({"trigger", "http"}));
    st_metric_observe(s, m, 1000, 3);
    st_metric_observe(s, m, 1500, 1);
    st_metric_observe(s, m, 5000000000ull, 2);
    st_metric_observe(s, plain, 1, 1);
    text = scrape();
    assert_non_null(strstr(text, "# TYPE stator_event_duration_seconds histogram\n"
                                 "stator_event_duration_seconds_bucket{trigger=\"http\","
                                 "le=\"1e-06\"} 3\n"
                                 "stator_event_duration_seconds_bucket{trigger=\"http\","
                                 "le=\"2e-06\"} 4\n"));
    assert_non_null(strstr(text, "{trigger=\"http\",le=\"0.001024\"} 4\n"));
    assert_non_null(strstr(text, "{trigger=\"http\",le=\"4.194304\"} 4\n"
                                 "stator_event_duration_seconds_bucket{trigger=\"http\","
                                 "le=\"+Inf\"} 6\n"
                                 "stator_event_duration_seconds_sum{trigger=\"http\"} "
                                 "10.000004500\n"
                                 "stator_event_duration_seconds_count{trigger=\"http\"} 6\n"));
    assert_non_null(strstr(text, "\nstator_queue_wait_seconds_bucket{le=\"+Inf\"} 1\n"
                                 "stator_queue_wait_seconds_sum 0.000000001\n"
                                 "stator_queue_wait_seconds_count 1\n"));
    free(text);
}

static double computed(void *arg)
{
    return *(double *)arg;
}

static void test_functions(void **state)
{
    double a = 3, b = 0.125, c = NAN, d = -INFINITY, e = 1763830000.25;

    (void)state;
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, LABELS({"n", "a"}), computed, &a);
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, LABELS({"n", "b"}), computed, &b);
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, LABELS({"n", "c"}), computed, &c);
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, LABELS({"n", "d"}), computed, &d);
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, LABELS({"n", "e"}), computed, &a);
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, LABELS({"n", "e"}), computed, &e); /* replaces */
    assert_scrape("# HELP stator_queue_events Events that wait for a worker\n"
                  "# TYPE stator_queue_events gauge\n"
                  "stator_queue_events{n=\"a\"} 3\n"
                  "stator_queue_events{n=\"b\"} 0.125\n"
                  "stator_queue_events{n=\"c\"} NaN\n"
                  "stator_queue_events{n=\"d\"} -Inf\n"
                  "stator_queue_events{n=\"e\"} 1763830000.25\n");
}

/* What was never registered counts somewhere, and nobody sees it. */
static void test_invalid_handle_is_a_sink(void **state)
{
    struct st_metrics_shard *s = st_metrics_shard_new();
    st_metric m = st_metric_register(ST_METRIC_HANDLED_EVENTS, NULL);

    (void)state;
    st_metric_add(s, 0, 5);
    for (unsigned k = 0; k < 40; k++)
        st_metric_observe(s, 0, 1ull << k, 1);
    assert_int_equal(st_metric_value(m), 0);
}

enum { WRITERS = 3, ROUNDS = 100000 };

static st_metric counter, histogram;

static void *writer(void *arg)
{
    struct st_metrics_shard *s = arg;

    for (uint64_t i = 0; i < ROUNDS; i++) {
        st_metric_add(s, counter, 1);
        st_metric_observe(s, histogram, i, 1);
    }
    return NULL;
}

static void test_threads(void **state)
{
    pthread_t threads[WRITERS];
    int64_t last = 0;

    (void)state;
    counter = st_metric_register(ST_METRIC_HANDLED_EVENTS, NULL);
    histogram = st_metric_register(ST_METRIC_QUEUE_WAIT, NULL);
    for (int t = 0; t < WRITERS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, writer, st_metrics_shard_new()), 0);
    while (last < WRITERS * ROUNDS / 2) {
        int64_t now = st_metric_value(counter);

        free(scrape());
        st_metric_register(ST_METRIC_BYTES, LABELS({"direction", "in"}));
        assert_true(now >= last);
        last = now;
    }
    for (int t = 0; t < WRITERS; t++)
        pthread_join(threads[t], NULL);
    assert_int_equal(st_metric_value(counter), WRITERS * ROUNDS);
    last = 0;
    for (unsigned k = 0; k < ST_HISTOGRAM_BUCKETS; k++)
        last += st_metric_value(histogram + k);
    assert_int_equal(last, WRITERS * ROUNDS);
    assert_int_equal(st_metric_value(histogram + ST_HISTOGRAM_BUCKETS),
                     (int64_t)WRITERS * ROUNDS * (ROUNDS - 1) / 2);
}

static void register_too_many(void)
{
    for (int i = 0; i < ST_METRIC_MAX_SLOTS; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        st_metric_register(ST_METRIC_HANDLED_EVENTS, LABELS({"n", name}));
    }
}

static void register_both_kinds(void)
{
    st_metric_register(ST_METRIC_QUEUE_EVENTS, NULL);
    st_metric_register_fn(ST_METRIC_QUEUE_EVENTS, NULL, computed, NULL);
}

static void test_misuse(void **state)
{
    (void)state;
    assert_panics(register_too_many, "ST_METRIC_MAX_SLOTS");
    assert_panics(register_both_kinds, "slot == 0");
}

static void test_reset(void **state)
{
    struct st_metrics_shard *s = st_metrics_shard_new();
    st_metric m = st_metric_register(ST_METRIC_HANDLED_EVENTS, NULL);

    (void)state;
    st_metric_add(s, m, 1);
    st_metrics_reset();
    assert_scrape("");
    assert_int_equal(st_metric_register(ST_METRIC_HANDLED_EVENTS, NULL), m);
    assert_int_equal(st_metric_value(m), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_empty, reset),
        cmocka_unit_test_teardown(test_counters_and_gauges, reset),
        cmocka_unit_test_teardown(test_same_labels_same_handle, reset),
        cmocka_unit_test_teardown(test_label_escapes, reset),
        cmocka_unit_test_teardown(test_scale, reset),
        cmocka_unit_test_teardown(test_histogram_buckets, reset),
        cmocka_unit_test_teardown(test_histogram_text, reset),
        cmocka_unit_test_teardown(test_functions, reset),
        cmocka_unit_test_teardown(test_invalid_handle_is_a_sink, reset),
        cmocka_unit_test_teardown(test_threads, reset),
        cmocka_unit_test_teardown(test_misuse, reset),
        cmocka_unit_test_teardown(test_reset, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
