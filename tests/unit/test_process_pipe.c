#include "tests/unit/test_core.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <time.h>

#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/core/process.h"
#include "runtimes/process/pipe.h"
#include "tests/support/process.h"

/* A pass begins with part of a line, ends a read later than at 64 KiB; newlines are counted. */
enum { PASS_MAX = 64 * 1024 + 2 * ST_PIPE_LINE_MAX + 64, EURO = 3 };

static struct st_loop loop;
static struct st_pipe output;
static struct st_error err;
static int far; /* the worker's end */
static double open_before;

/* What came */
static char text[256 * 1024]; /* all lines, each with a newline behind */
static size_t text_len;
static size_t pass_bytes; /* since the test set it to 0 */
static uint64_t bytes, pieces, continued;
static bool logs;

static void on_line(struct st_pipe *out, struct st_slice line)
{
    assert_ptr_equal(out, &output);
    assert_in_range(line.len, 1, ST_PIPE_LINE_MAX);
    assert_int_equal(strlen(line.ptr), line.len);
    pieces++;
    continued += out->cut;
    bytes += line.len + 1;
    pass_bytes += line.len + 1;
    if (text_len + line.len + 2 < sizeof(text)) {
        memcpy(text + text_len, line.ptr, line.len);
        text_len += line.len;
        text[text_len++] = '\n';
        text[text_len] = '\0';
    }
    if (logs)
        st_log_write_function(ST_LOG_INFO, "worker", line.ptr, NULL);
}

static int before(void **state)
{
    (void)state;
    st_test_find_parts();
    open_before = st_process_open_fds();
    text_len = 0;
    text[0] = '\0';
    bytes = pieces = continued = 0;
    logs = false;
    assert_int_equal(st_loop_open(&loop, 0, "test", &err), ST_OK);
    assert_int_equal(st_pipe_open(&output, &loop, on_line, &far, &err), ST_OK);
    return 0;
}

static int after(void **state)
{
    (void)state;
    st_pipe_close(&output);
    st_pipe_close(&output);
    st_loop_close(&loop);
    st_metrics_reset();
    assert_true(st_process_open_fds() == open_before);
    return 0;
}

static void print(const void *what, size_t n)
{
    assert_int_equal(write(far, what, n), n);
}

static void print_text(const char *what)
{
    print(what, strlen(what));
}

static void close_far(void)
{
    close(far);
    far = -1;
}

/* ---- lines ---- */

static void test_lines(void **state)
{
    (void)state;
    assert_true((fcntl(far, F_GETFL) & O_NONBLOCK) == 0);
    assert_int_equal(fcntl(far, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(output.fd, F_GETFD), FD_CLOEXEC);
    print_text("one\ntwo\r\n\n\r\nthr");
    st_loop_pass(&loop);
    assert_string_equal(text, "one\ntwo\n");
    print_text("ee\nfour");
    st_loop_pass(&loop);
    assert_string_equal(text, "one\ntwo\nthree\n");
    assert_true(output.fd >= 0);
    close_far();
    st_loop_pass(&loop);
    assert_string_equal(text, "one\ntwo\nthree\nfour\n");
    assert_int_equal(output.fd, -1);
    assert_int_equal(output.lines, 4);
    assert_int_equal(continued, 0);
}

static void test_close(void **state)
{
    (void)state;
    print_text("one\ntw");
    st_loop_pass(&loop);
    print_text("o\nthree");
    st_pipe_close(&output); /* the far end is open */
    assert_string_equal(text, "one\ntwo\nthree\n");
    assert_int_equal(output.fd, -1);
    close_far();
}

/* The bytes of the line may be anything. */
static void test_bytes(void **state)
{
    static const char line[] = "a\0b\xff\x1b[1m\xc3(\xe2\x82\xac\t\n";
    char record[ST_LOG_RECORD_MAX];
    json_t *json;

    (void)state;
    print(line, sizeof(line) - 1);
    close_far();
    st_loop_pass(&loop);
    assert_string_equal(text, "a\xff"
                              "b\xff\x1b[1m\xc3(\xe2\x82\xac\t\n");
    text[text_len - 1] = '\0';
    st_log_json(record, ST_LOG_INFO, "worker", text, NULL);
    json = json_loads(record, 0, NULL); /* which takes UTF-8 only */
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "message")),
                        "a\xef\xbf\xbd"
                        "b\xef\xbf\xbd\x1b[1m\xef\xbf\xbd(\xe2\x82\xac\t");
    json_decref(json);
}

/* The line has n bytes: `lead` of one, then characters of three. */
static void check_long_line(size_t lead, size_t characters)
{
    size_t n = lead + characters * EURO, joined = 0;
    char *line = malloc(n + 1);

    memset(line, 'x', lead);
    for (size_t i = 0; i < characters; i++)
        memcpy(line + lead + i * EURO, "\xe2\x82\xac", EURO);
    line[n] = '\n';
    text_len = 0;
    pieces = continued = 0;
    print(line, n + 1);
    st_loop_pass(&loop);
    print_text("next\n");
    st_loop_pass(&loop);
    for (char *at = text, *end; *at != '\0'; at = end + 1) {
        end = strchr(at, '\n');
        if (end[1] == '\0')
            assert_memory_equal(at, "next\n", 6);
        else {
            assert_memory_equal(at, line + joined, (size_t)(end - at));
            assert_int_not_equal(at[0] & 0xc0, 0x80); /* where a character begins */
            joined += (size_t)(end - at);
        }
    }
    assert_int_equal(joined, n);
    assert_in_range(pieces, 1 + (n + ST_PIPE_LINE_MAX - 1) / ST_PIPE_LINE_MAX,
                    2 + n / (ST_PIPE_LINE_MAX - EURO));
    assert_int_equal(continued, pieces - 2);
    free(line);
}

static void test_long_lines(void **state)
{
    (void)state;
    for (size_t lead = 0; lead < EURO; lead++) {
        check_long_line(lead, 1);
        check_long_line(lead, 1364);
        check_long_line(lead, 1365);
        check_long_line(lead, 1366);
        check_long_line(lead, 20000);
    }
    check_long_line(ST_PIPE_LINE_MAX, 0);
    check_long_line(2 * ST_PIPE_LINE_MAX, 0);
    check_long_line(2 * ST_PIPE_LINE_MAX - 1, 0);
    check_long_line(2 * ST_PIPE_LINE_MAX + 1, 0);
    close_far();
}

/* ---- the last lines ---- */

static void assert_tail(const char *expected, size_t room)
{
    char tail[ST_PIPE_TAIL_MAX + 1];

    assert_int_equal(st_pipe_tail(&output, tail, room), strlen(expected));
    assert_string_equal(tail, expected);
}

static void test_tail(void **state)
{
    char line[ST_PIPE_TAIL_MAX], expected[ST_PIPE_TAIL_MAX + 1] = "";

    (void)state;
    assert_tail("", sizeof(expected));
    print_text("one\ntwo\n\n");
    st_loop_pass(&loop);
    assert_tail("one\ntwo", sizeof(expected));
    assert_tail("one\ntwo", 8);
    assert_tail("two", 7);
    assert_tail("wo", 3);
    for (int i = 0; i < 2000; i++) {
        snprintf(line, sizeof(line), "line %04d\n", i);
        print_text(line);
        if (i >= 2000 - ST_PIPE_TAIL_MAX / 10)
            strcat(expected, line);
        if (i % 7 == 0)
            st_loop_pass(&loop);
    }
    expected[strlen(expected) - 1] = '\0';
    close_far();
    while (output.fd >= 0)
        st_loop_pass(&loop);
    assert_tail(expected, sizeof(expected));
    assert_int_equal(output.lines, 2002);
}

/* ---- real processes ---- */

static struct st_process start(const char *script)
{
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);
    struct st_process p;

    opt.fds[1] = opt.fds[2] = far;
    if (st_spawn_now(&opt, &p, &err) != ST_OK)
        fail_msg("%s", err.text);
    close_far();
    return p;
}

static void reap(struct st_process *p, const char *expected)
{
    char how[128];

    assert_true(st_test_wait_ended(p));
    st_process_reap(p, how, sizeof(how));
    assert_string_equal(how, expected);
}

static void open_log(int fd)
{
    const struct st_log_sink sink = {ST_LOG_INFO, {.encoding = ST_LOG_JSON}};
    const struct st_log_options opt = {.system = sink, .functions = sink, .fd = fd};

    assert_int_equal(st_log_open(&opt, &err), ST_OK);
    logs = true;
}

/* Runs passes to the end of the output; each is short. */
static void run_to_end(void)
{
    while (output.fd >= 0) {
        pass_bytes = 0;
        st_loop_pass(&loop);
        assert_in_range(pass_bytes, 0, PASS_MAX);
    }
}

static void test_flood(void **state)
{
    enum { FLOOD = 100 * 1000 * 1000 };
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    double memory = st_process_resident_bytes();
    struct st_process p =
        start("yes 'a line of some length, as programs that are in trouble print them, and then "
              "they print it again and again: what else should a program do that is in trouble?' "
              "| head -c 100000000");

    (void)state;
    open_log(null);
    run_to_end();
    st_log_close();
    close(null);
    reap(&p, "exited with status 0");
    assert_in_range(bytes, FLOOD, FLOOD + 1); /* the last line is not complete */
    assert_true(st_process_resident_bytes() < memory + (16 << 20));
}

static void test_flood_without_lines(void **state)
{
    struct st_process p = start("head -c 10000000 /dev/zero");

    (void)state;
    run_to_end();
    reap(&p, "exited with status 0");
    assert_int_equal(bytes - pieces, 10000000);
    assert_int_equal(continued, pieces - 1);
}

static void test_flood_of_short_lines(void **state)
{
    struct st_process p = start("yes '' | head -c 1000000; yes | head -c 1000000");
    uint64_t most = 0, lines;

    (void)state;
    while (output.fd >= 0) {
        lines = output.lines;
        st_loop_pass(&loop);
        if (output.lines - lines > most)
            most = output.lines - lines;
    }
    reap(&p, "exited with status 0");
    assert_int_equal(output.lines, 500000);
    assert_in_range(most, 1, 1024 + ST_PIPE_LINE_MAX / 2);
}

/* A worker that never stops is cut off. */
static void test_close_amid_flood(void **state)
{
    struct st_process p = start("exec yes");

    (void)state;
    st_loop_pass(&loop);
    pass_bytes = 0;
    st_pipe_close(&output);
    assert_in_range(pass_bytes, 0, PASS_MAX);
    reap(&p, "was killed by signal 13 (SIGPIPE)");
}

static uint64_t records;

static void *read_records(void *arg)
{
    FILE *in = fdopen(*(int *)arg, "r");
    char line[ST_LOG_RECORD_MAX + 1];
    json_t *json;

    while (fgets(line, sizeof(line), in) != NULL) {
        json = json_loads(line, 0, NULL);
        ST_ASSERT(json != NULL);
        json_decref(json);
        records++;
    }
    fclose(in);
    return NULL;
}

/* The sink takes nothing: the worker still runs to its end, and what is lost is counted. */
static void test_dropped(void **state)
{
    uint64_t dropped = st_log_dropped();
    struct st_process p = start("head -c 3000000 /dev/urandom");
    pthread_t reader;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    open_log(fds[1]);
    run_to_end();
    reap(&p, "exited with status 0");
    assert_true(st_log_dropped() > dropped);
    records = 0;
    assert_int_equal(pthread_create(&reader, NULL, read_records, &fds[0]), 0);
    st_log_close();
    close(fds[1]);
    assert_int_equal(pthread_join(reader, NULL), 0);
    assert_int_equal(records + (st_log_dropped() - dropped), pieces);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, before, after)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_lines),
        TEST(test_close),
        TEST(test_bytes),
        TEST(test_long_lines),
        TEST(test_tail),
        TEST(test_flood),
        TEST(test_flood_without_lines),
        TEST(test_flood_of_short_lines),
        TEST(test_close_amid_flood),
        TEST(test_dropped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
