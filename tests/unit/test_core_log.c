#include "tests/unit/test_core.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>

#include "processor/core/clock.h"
#include "processor/core/log_int.h"
#include "processor/core/rand.h"

/* ---- one record ---- */

static const uint64_t noon = 1769860799123 * ST_MSEC; /* 2026-01-31 11:59:59.123 */

static char line[ST_LOG_RECORD_MAX + 1];

static const char *format_styled(const struct st_log_style *style, bool colour,
                                 enum st_log_level level, const char *name, const char *text,
                                 const struct st_log_var *vars)
{
    struct st_log_record rec = {level, noon, name, text, vars};
    size_t len;

    memset(line, '#', sizeof(line));
    len = st_log_format(line, &rec, style, colour);
    assert_in_range(len, 1, ST_LOG_RECORD_MAX);
    line[len] = '\0';
    assert_int_equal(strlen(line), len);
    assert_ptr_equal(strchr(line, '\n'), line + len - 1);
    return line;
}

static const char *format(enum st_log_encoding encoding, bool colour, enum st_log_level level,
                          const char *name, const char *text, const struct st_log_var *vars)
{
    const struct st_log_style style = {.encoding = encoding, .time = ST_LOG_ISO8601};

    return format_styled(&style, colour, level, name, text, vars);
}

#define VARS(...) ((const struct st_log_var[]){__VA_ARGS__ __VA_OPT__(, ){.key = NULL}})

static void test_console(void **state)
{
    (void)state;
    assert_string_equal(format(ST_LOG_CONSOLE, false, ST_LOG_INFO, "processor.http", "Listening",
                               VARS(ST_KV_STR("address", ":8080"), ST_KV_INT("loops", -2),
                                    ST_KV_BOOL("tls", false))),
                        "26.01.31 11:59:59.123 (I)            processor.http Listening "
                        "{\"address\": \":8080\", \"loops\": -2, \"tls\": false}\n");
    assert_string_equal(
        format(ST_LOG_CONSOLE, false, ST_LOG_DEBUG, "a.name.of.more.than.25.characters", "x", NULL),
        "26.01.31 11:59:59.123 (D) f.more.than.25.characters x\n");
    assert_string_equal(
        format(ST_LOG_CONSOLE, false, ST_LOG_WARN, "n", "say \"hi\"\n\x1b[2J", VARS()),
        "26.01.31 11:59:59.123 (W)                         n "
        "say \"hi\"\\n\\u001b[2J\n");
    assert_string_equal(format(ST_LOG_CONSOLE, true, ST_LOG_ERROR, "n", "x", NULL),
                        "26.01.31 11:59:59.123 \x1b[31m(E) \x1b[0m                        n x\n");
    assert_string_equal(format(ST_LOG_CONSOLE, false, ST_LOG_INFO, NULL, NULL, NULL),
                        "26.01.31 11:59:59.123 (I)                           \n");
}

static void test_json(void **state)
{
    (void)state;
    assert_string_equal(
        format(ST_LOG_JSON, true, ST_LOG_WARN, "processor.http", "Slow \"client\"",
               VARS(ST_KV_STR("s", "a\\b"), ST_KV_SLICE("bytes", ((struct st_slice){"x\0y", 3})),
                    ST_KV_INT("i", INT64_MIN), ST_KV_UINT("u", UINT64_MAX), ST_KV_BOOL("b", true),
                    ST_KV_STR("none", NULL))),
        "{\"level\":\"warn\",\"time\":\"2026-01-31T11:59:59.123Z\",\"name\":\"processor.http\","
        "\"message\":\"Slow \\\"client\\\"\",\"s\":\"a\\\\b\",\"bytes\":\"x\\u0000y\","
        "\"i\":-9223372036854775808,\"u\":18446744073709551615,\"b\":true,\"none\":null}\n");
    assert_string_equal(format(ST_LOG_JSON, false, ST_LOG_DEBUG, "n", "", NULL),
                        "{\"level\":\"debug\",\"time\":\"2026-01-31T11:59:59.123Z\",\"name\":\"n\","
                        "\"message\":\"\"}\n");
}

/* Nuclio's choices. */
static void test_styles(void **state)
{
    static const struct {
        struct st_log_style style;
        const char *out;
    } cases[] = {
        {{.encoding = ST_LOG_JSON},
         "{\"level\":\"info\",\"time\":1769860799123.000,\"name\":\"n\",\"message\":\"m\","
         "\"a\":\"x\\\"y\",\"b\":2,\"c\":null,\"d\":true}\n"},
        {{.encoding = ST_LOG_JSON, .time = ST_LOG_ISO8601, .time_name = "at \"t\""},
         "{\"level\":\"info\",\"at \\\"t\\\"\":\"2026-01-31T11:59:59.123Z\",\"name\":\"n\","
         "\"message\":\"m\",\"a\":\"x\\\"y\",\"b\":2,\"c\":null,\"d\":true}\n"},
        {{.encoding = ST_LOG_JSON, .group_name = "more"},
         "{\"level\":\"info\",\"time\":1769860799123.000,\"name\":\"n\",\"message\":\"m\","
         "\"more\":{\"a\":\"x\\\"y\",\"b\":2,\"c\":null,\"d\":true}}\n"},
        {{.encoding = ST_LOG_JSON, .group_name = "more", .flattened = true},
         "{\"level\":\"info\",\"time\":1769860799123.000,\"name\":\"n\",\"message\":\"m\","
         "\"more\":\"a=x\\\"y || b=2 || c=null || d=true\"}\n"},
        {{.encoding = ST_LOG_CONSOLE, .group_name = "more", .flattened = true},
         "26.01.31 11:59:59.123 (I)                         n m "
         "{\"a\": \"x\\\"y\", \"b\": 2, \"c\": null, \"d\": true}\n"},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        format_styled(&cases[i].style, false, ST_LOG_INFO, "n", "m",
                      VARS(ST_KV_STR("a", "x\"y"), ST_KV_INT("b", 2), ST_KV_STR("c", NULL),
                           ST_KV_BOOL("d", true)));
        assert_string_equal(line, cases[i].out);
        format_styled(&cases[i].style, false, ST_LOG_INFO, "n", "m", NULL);
        assert_null(strstr(line, "more"));
    }
}

static void test_doubles(void **state)
{
    static const struct {
        double d;
        const char *text;
    } cases[] = {
        {0, "0"},
        {0.1, "0.1"},
        {1e300, "1e+300"},
        {-2.5, "-2.5"},
        {1e15, "1e+15"},
        {0.1 + 0.2, "0.30000000000000004"},
        {-INFINITY, "null"},
        {NAN, "null"},
        {5e-324, "4.94065645841247e-324"},
        {1 / 3.0, "0.33333333333333331"},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        char expected[64];

        snprintf(expected, sizeof(expected), "{\"d\": %s}\n", cases[i].text);
        format(ST_LOG_CONSOLE, false, ST_LOG_INFO, "n", "m", VARS(ST_KV_DOUBLE("d", cases[i].d)));
        assert_string_equal(strstr(line, "{\"d\""), expected);
    }
}

/* Long texts are looked at in words: each byte means the same at each place in them. */
static void test_every_byte_everywhere(void **state)
{
    enum { LENGTH = 21 };

    (void)state;
    for (unsigned c = 1; c < 256; c++) {
        char one[2] = {(char)c}, alone[64];

        format(ST_LOG_JSON, false, ST_LOG_INFO, "n", one, NULL);
        snprintf(alone, sizeof alone, "%s", strstr(line, "\"message\":\"") + 11);
        alone[strlen(alone) - 3] = '\0'; /* "}\n */
        for (size_t at = 0; at < LENGTH; at++) {
            char text[LENGTH + 1], expected[64];

            memset(text, 'a', LENGTH);
            text[LENGTH] = '\0';
            text[at] = (char)c;
            format(ST_LOG_JSON, false, ST_LOG_INFO, "n", text, NULL);
            snprintf(expected, sizeof expected, "\"message\":\"%.*s%s%s\"}\n", (int)at, text, alone,
                     text + at + 1);
            assert_string_equal(strstr(line, "\"message\""), expected);
        }
    }
}

static void test_utf8(void **state)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"\t\b\f\r\n\x01\x7f", "\\t\\b\\f\\r\\n\\u0001\\u007f"},
        {"\xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80", "\xc3\xa9 \xe4\xbd\xa0 \xf0\x9f\x98\x80"},
        {"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf"},
        {"\xc2\x80\xc2\x9b\xc2\xa0", "\\u0080\\u009b\xc2\xa0"}, /* C1 controls */
        {"a\xff"
         "b",
         "a\xef\xbf\xbd"
         "b"},
        {"\x80", "\xef\xbf\xbd"},
        {"\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},                 /* too long a form */
        {"\xe0\x9f\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* the same */
        {"\xf0\x8f\xbf\xbf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},                 /* a surrogate */
        {"\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, /* > U+10FFFF */
        {"\xe4\xbd", "\xef\xbf\xbd\xef\xbf\xbd"},                                 /* ends early */
        {"\xe4x", "\xef\xbf\xbdx"},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        char expected[128];

        format(ST_LOG_JSON, false, ST_LOG_INFO, "n", cases[i].in, NULL);
        snprintf(expected, sizeof(expected), "\"message\":\"%s\"}\n", cases[i].out);
        assert_string_equal(strstr(line, "\"message\""), expected);
    }
}

static char big[20000];

static void test_long_records_are_cut(void **state)
{
    json_t *json;

    (void)state;
    memset(big, 'x', sizeof(big) - 1);
    format(ST_LOG_CONSOLE, false, ST_LOG_INFO, "n", big, VARS(ST_KV_INT("a", 1)));
    assert_in_range(strlen(line), ST_LOG_RECORD_MAX - 40, ST_LOG_RECORD_MAX);
    assert_non_null(strstr(line, "x...\n"));

    format(ST_LOG_JSON, false, ST_LOG_INFO, "n", big, VARS(ST_KV_INT("a", 1)));
    assert_non_null(strstr(line, "x...\"}\n"));

    format(ST_LOG_JSON, false, ST_LOG_INFO, "n", "m",
           VARS(ST_KV_INT("a", 1), ST_KV_STR("b", big), ST_KV_INT("c", 1)));
    assert_non_null(strstr(line, "\"a\":1,\"b\":\"xxx"));
    assert_non_null(strstr(line, "x...\"}\n"));
    assert_null(strstr(line, "\"c\""));

    format(ST_LOG_JSON, false, ST_LOG_INFO, "n", "m", VARS(ST_KV_INT("a", 1), ST_KV_INT(big, 2)));
    assert_non_null(strstr(line, "\"a\":1,\"...\":\"...\"}\n"));

    format(ST_LOG_JSON, false, ST_LOG_INFO, big, "m", NULL);
    json = json_loads(line, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "message")), "m");
    json_decref(json);
}

/* Every length around the limit, with values of every kind last: the line stays JSON. */
static void cut_anywhere(const struct st_log_style *style)
{
    static const struct st_log_var last[] = {
        ST_KV_INT("int", -123456789), ST_KV_DOUBLE("double", 0.30000000000000004),
        ST_KV_BOOL("bool", false), ST_KV_STR("text", "\x01\xf0\x9f\x98\x80\\\"end"),
        ST_KV_STR("null", NULL)};

    for (size_t kind = 0; kind < ST_ARRAY_LEN(last); kind++) {
        for (size_t len = ST_LOG_RECORD_MAX - 120; len < ST_LOG_RECORD_MAX; len++) {
            json_t *json;
            bool whole;

            memset(big, 'x', len);
            big[len] = '\0';
            format_styled(style, false, ST_LOG_INFO, "n", "m",
                          VARS(ST_KV_STR("big", big), last[kind], ST_KV_INT("z", 1)));
            json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
            assert_non_null(json);
            whole = strstr(line, style->flattened ? "z=1" : "\"z\":1") != NULL;
            assert_true(whole == (strstr(line, "...") == NULL));
            json_decref(json);
            format_styled(style, false, ST_LOG_INFO, "n", big, VARS(last[kind]));
            json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
            assert_non_null(json);
            json_decref(json);
        }
    }
}

static void test_cut_anywhere(void **state)
{
    static const struct st_log_style styles[] = {
        {.encoding = ST_LOG_JSON},
        {.encoding = ST_LOG_JSON, .group_name = "more"},
        {.encoding = ST_LOG_JSON, .group_name = "more", .flattened = true},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(styles); i++)
        cut_anywhere(&styles[i]);
}

static void test_random_bytes_stay_json(void **state)
{
    struct st_rand r;

    (void)state;
    st_rand_seed(&r, 9);
    for (int i = 0; i < 3000; i++) {
        uint64_t len = st_rand_below(&r, i % 10 == 0 ? 12000 : 60), split;
        json_t *json;

        for (uint64_t k = 0; k < len; k++)
            big[k] = (char)(st_rand_below(&r, 4) != 0 ? st_rand_next(&r) : st_rand_below(&r, 34));
        big[len] = '\0';
        split = len > 0 ? st_rand_below(&r, len) : 0;
        format(ST_LOG_JSON, false, ST_LOG_INFO, "n", big,
               VARS(ST_KV_SLICE("v", ((struct st_slice){big, split})),
                    ST_KV_SLICE("w", ((struct st_slice){big + split, len - split}))));
        json = json_loads(line, JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        json_decref(json);
    }
}

/* ---- the sink ---- */

/* Reads a pipe to its end on a thread of its own. */
struct reader {
    pthread_t thread;
    int fd;
    char *text;
    size_t len;
};

static void *read_all(void *arg)
{
    struct reader *r = arg;
    size_t size = 0;
    ssize_t n;

    do {
        if (size - r->len < 65536) {
            size += 1 << 20;
            r->text = realloc(r->text, size);
        }
        n = read(r->fd, r->text + r->len, 65535);
        r->len += n > 0 ? (size_t)n : 0;
    } while (n > 0);
    r->text[r->len] = '\0';
    return NULL;
}

/* Opens the log on a pipe; returns its write end. */
static int open_log(struct reader *r, enum st_log_encoding encoding, size_t ring_bytes)
{
    struct st_log_options opt = {
        .system = {ST_LOG_DEBUG, {.encoding = encoding}},
        .functions = {ST_LOG_INFO,
                      {.encoding = encoding, .time = ST_LOG_ISO8601, .time_name = "at"}},
        .ring_bytes = ring_bytes};
    int fds[2];

    assert_int_equal(pipe(fds), 0);
    memset(r, 0, sizeof(*r));
    r->fd = fds[0];
    opt.fd = fds[1];
    assert_int_equal(st_log_open(&opt, NULL), ST_OK);
    return fds[1];
}

static void start_reader(struct reader *r)
{
    assert_int_equal(pthread_create(&r->thread, NULL, read_all, r), 0);
}

static void end_reader(struct reader *r, int write_end)
{
    close(write_end);
    pthread_join(r->thread, NULL);
    close(r->fd);
}

static void test_lines_arrive(void **state)
{
    struct reader r;
    int fd = open_log(&r, ST_LOG_JSON, 0);

    (void)state;
    start_reader(&r);
    ST_LOG(ST_LOG_INFO, "one", "first");
    ST_LOG(ST_LOG_INFO, "one", "second", ST_KV_INT("n", 2));
    st_log_threshold = ST_LOG_WARN;
    ST_LOG(ST_LOG_INFO, "one", "hidden");
    ST_LOG(ST_LOG_WARN, "one", "third");
    st_log_threshold = ST_LOG_OFF;
    ST_LOG(ST_LOG_ERROR, "one", "hidden");
    assert_true(st_log_wants_function(ST_LOG_INFO) && !st_log_wants_function(ST_LOG_DEBUG));
    st_log_write_function(ST_LOG_INFO, "function", "fourth", NULL);
    st_log_close();
    end_reader(&r, fd);
    assert_non_null(strstr(r.text, "\"message\":\"first\"}\n{\"level\":\"info\""));
    assert_non_null(strstr(r.text, "\"message\":\"second\",\"n\":2}\n{\"level\":\"warn\""));
    assert_non_null(strstr(r.text, "\"message\":\"third\"}\n"));
    assert_non_null(strstr(r.text, "\"message\":\"third\"}\n{\"level\":\"info\",\"at\":\"20"));
    assert_null(strstr(r.text, "hidden"));
    free(r.text);
}

static unsigned count(const char *text, const char *what)
{
    unsigned n = 0;

    for (; (text = strstr(text, what)) != NULL; text += strlen(what))
        n++;
    return n;
}

enum { LOGGERS = 4, RECORDS = 5000 };

static void *log_many(void *arg)
{
    const char *name = arg;

    for (int i = 0; i < RECORDS; i++)
        ST_LOG(ST_LOG_INFO, name, "counting", ST_KV_INT("n", i));
    return NULL;
}

/* Whole lines only, of each thread in order; what is missing was counted. */
static void test_threads(void **state)
{
    static char names[LOGGERS][2] = {"0", "1", "2", "3"};
    pthread_t threads[LOGGERS];
    uint64_t dropped = st_log_dropped();
    int last[LOGGERS] = {-1, -1, -1, -1};
    unsigned lines = 0;
    struct reader r;
    int fd = open_log(&r, ST_LOG_JSON, 16384);
    char *at, *end;

    (void)state;
    start_reader(&r);
    for (int t = 0; t < LOGGERS; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, log_many, names[t]), 0);
    for (int t = 0; t < LOGGERS; t++)
        pthread_join(threads[t], NULL);
    st_log_close();
    end_reader(&r, fd);
    for (at = r.text; (end = strchr(at, '\n')) != NULL; at = end + 1, lines++) {
        json_t *json = json_loadb(at, (size_t)(end - at), 0, NULL);
        int t, n;

        assert_non_null(json);
        t = json_string_value(json_object_get(json, "name"))[0] - '0';
        n = (int)json_integer_value(json_object_get(json, "n"));
        assert_true(n > last[t]);
        last[t] = n;
        json_decref(json);
    }
    assert_int_equal(*at, '\0');
    assert_true(lines > 0);
    assert_int_equal(lines + st_log_dropped() - dropped, LOGGERS * RECORDS);
    free(r.text);
}

static void *log_one(void *arg)
{
    (void)arg;
    ST_LOG(ST_LOG_INFO, "short", "I was here");
    return NULL;
}

/* More rings than could lie in memory if they stayed. */
static void test_threads_that_end(void **state)
{
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 0);

    (void)state;
    start_reader(&r);
    for (int i = 0; i < 300; i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, log_one, NULL), 0);
        pthread_join(thread, NULL);
    }
    st_log_close();
    end_reader(&r, fd);
    assert_int_equal(count(r.text, "I was here\n"), 300);
    free(r.text);
}

static void test_full_ring_drops(void **state)
{
    uint64_t dropped = st_log_dropped();
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 16384);

    (void)state;
    for (int i = 0; i < 5000; i++) /* pipe and ring hold less, and nobody reads yet */
        ST_LOG(ST_LOG_INFO, "drop", "a line of some length, so that the ring is full");
    dropped = st_log_dropped() - dropped;
    assert_true(dropped > 0);
    start_reader(&r);
    st_log_close();
    end_reader(&r, fd);
    assert_int_equal(count(r.text, "the ring is full\n") + dropped, 5000);
    assert_int_equal(count(r.text, "\n") + dropped, 5000);
    free(r.text);
}

/* The same with a pipe that says EAGAIN, then a reader that comes back. */
static void test_non_blocking_sink(void **state)
{
    uint64_t dropped = st_log_dropped();
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 65536);

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; i < 5000; i++)
        ST_LOG(ST_LOG_INFO, "again", "a line of some length, so that the pipe is full");
    usleep(20000);
    start_reader(&r);
    usleep(20000);
    ST_LOG(ST_LOG_INFO, "again", "a line after the pipe is full");
    st_log_close();
    end_reader(&r, fd);
    dropped = st_log_dropped() - dropped;
    assert_int_equal(count(r.text, "the pipe is full\n") + dropped, 5001);
    assert_non_null(strstr(r.text, "a line after"));
    free(r.text);
}

static void test_stalled_sink_does_not_hold_close(void **state)
{
    uint64_t dropped = st_log_dropped(), start;
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 65536);
    unsigned arrived;

    (void)state;
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    for (int i = 0; i < 6000; i++) {
        ST_LOG(ST_LOG_INFO, "stall", "a line of some length, so that the pipe is full");
        if (i % 500 == 0)
            usleep(5000); /* the pipe fills first, then the ring */
    }
    start = st_clock_mono();
    st_log_close();
    assert_in_range(st_clock_mono() - start, ST_SEC, 10 * ST_SEC);
    start_reader(&r);
    end_reader(&r, fd);
    arrived = count(r.text, "\n");
    assert_int_equal(arrived + st_log_dropped() - dropped, 6000);
    free(r.text);
}

static void test_reader_that_left(void **state)
{
    uint64_t dropped = st_log_dropped();
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 0);

    (void)state;
    close(r.fd);
    for (int i = 0; i < 10; i++) {
        ST_LOG(ST_LOG_INFO, "epipe", "nobody reads this");
        usleep(1000);
    }
    st_log_close();
    close(fd);
    assert_int_equal(st_log_dropped() - dropped, 10);
}

/* One record at a time, the next while the writer goes to sleep: none is left lying. */
static void test_no_record_waits(void **state)
{
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 0);

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct pollfd p = {.fd = r.fd, .events = POLLIN};
        char text[256];

        ST_LOG(ST_LOG_INFO, "ping", "x");
        assert_int_equal(poll(&p, 1, 5000), 1);
        assert_true(read(r.fd, text, sizeof(text)) > 0);
    }
    st_log_close();
    close(fd);
    close(r.fd);
}

/* Voluntary context switches of the writer thread. */
static void *log_for_ever(void *arg)
{
    for (;;)
        ST_LOG(ST_LOG_INFO, arg, "again");
    return NULL;
}

static void *log_from_now_on(void *arg)
{
    atomic_bool *now = arg;

    while (!atomic_load(now))
        ;
    return log_for_ever("late");
}

/* A process with threads that log, two of them for the first time while it ends; goes with 7. */
static _Noreturn void end_among_threads(int fd)
{
    static atomic_bool now;
    struct st_log_options opt = {.fd = fd, .ring_bytes = 16384};
    pthread_t thread;
    bool ok = st_log_open(&opt, NULL) == ST_OK;

    close(STDERR_FILENO); /* what they log in the end */
    for (int t = 0; t < LOGGERS; t++)
        ok &= pthread_create(&thread, NULL, t < 2 ? log_for_ever : log_from_now_on,
                             t < 2 ? (void *)"stray" : (void *)&now) == 0;
    usleep(5000);
    ST_LOG(ST_LOG_INFO, "main", "last words");
    atomic_store(&now, true);
    st_log_abandon();
    _exit(ok ? 7 : 8);
}

static void test_abandoned_among_threads(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct reader r = {0};
        int fds[2], status;
        pid_t child;

        assert_int_equal(pipe(fds), 0);
        child = fork();
        if (child == 0)
            end_among_threads(fds[1]);
        r.fd = fds[0];
        start_reader(&r);
        end_reader(&r, fds[1]);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 7);
        assert_int_equal(count(r.text, "last words"), 1);
        free(r.text);
    }
}

static unsigned long writer_switches(void)
{
    DIR *tasks = opendir("/proc/self/task");
    unsigned long switches = 0;
    struct dirent *d;
    bool found = false;

    assert_non_null(tasks);
    while ((d = readdir(tasks)) != NULL) {
        char path[300], text[4096] = "";
        const char *at;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/self/task/%s/status", d->d_name);
        f = fopen(path, "r");
        if (f == NULL)
            continue;
        text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
        fclose(f);
        at = strstr(text, "\nvoluntary_ctxt_switches:");
        if (strncmp(text, "Name:\tlog\n", 10) == 0 && at != NULL) {
            switches = strtoul(strchr(at + 1, ':') + 1, NULL, 10);
            found = true;
        }
    }
    closedir(tasks);
    assert_true(found);
    return switches;
}

static void test_idle_writer_sleeps(void **state)
{
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 0);
    unsigned long before;

    (void)state;
    start_reader(&r);
    ST_LOG(ST_LOG_INFO, "idle", "x");
    usleep(100000);
    before = writer_switches();
    usleep(200000);
    assert_int_equal(writer_switches(), before);
    st_log_close();
    end_reader(&r, fd);
    free(r.text);
}

/* ---- without a writer ---- */

static void test_stderr_when_closed(void **state)
{
    struct reader r = {.fd = -1};
    int fds[2], saved = dup(STDERR_FILENO);

    (void)state;
    assert_int_equal(pipe(fds), 0);
    dup2(fds[1], STDERR_FILENO);
    st_log_threshold = ST_LOG_INFO;
    ST_LOG(ST_LOG_ERROR, "early", "before the log is open", ST_KV_INT("n", 1));
    dup2(saved, STDERR_FILENO);
    close(saved);
    r.fd = fds[0];
    start_reader(&r);
    end_reader(&r, fds[1]);
    assert_non_null(strstr(r.text, " (E)                     early before the log is open "
                                   "{\"n\": 1}\n"));
    free(r.text);
    st_log_close(); /* not open: nothing */
}

static void test_limit(void **state)
{
    struct st_log_limit l = {0};
    uint64_t suppressed = 99;

    (void)state;
    assert_true(st_log_limit_pass(&l, &suppressed));
    assert_int_equal(suppressed, 0);
    for (int i = 0; i < 5; i++)
        assert_false(st_log_limit_pass(&l, &suppressed));
    l.last_ns -= ST_SEC;
    assert_true(st_log_limit_pass(&l, &suppressed));
    assert_int_equal(suppressed, 5);
    assert_false(st_log_limit_pass(&l, &suppressed));
}

static void test_limited_macro(void **state)
{
    struct reader r;
    int fd = open_log(&r, ST_LOG_CONSOLE, 0);

    (void)state;
    start_reader(&r);
    for (int i = 0; i < 100; i++) {
        ST_LOG_LIMITED(ST_LOG_WARN, "limit", "again", ST_KV_INT("i", i));
        ST_LOG_LIMITED(ST_LOG_WARN, "limit", "other");
    }
    st_log_close();
    end_reader(&r, fd);
    assert_non_null(strstr(r.text, "again {\"i\": 0, \"suppressed\": 0}\n"));
    assert_non_null(strstr(r.text, "other {\"suppressed\": 0}\n"));
    assert_true(count(r.text, "\n") < 10);
    free(r.text);
}

static void open_twice(void)
{
    struct st_log_options opt = {.fd = STDERR_FILENO};

    if (st_log_open(&opt, NULL) == ST_OK && st_log_open(&opt, NULL) == ST_OK)
        return;
}

static void test_misuse(void **state)
{
    struct st_log_options opt = {.fd = STDERR_FILENO};
    struct rlimit old, none;
    struct st_error err;
    int rc;

    (void)state;
    assert_panics(open_twice, "generation");
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){0, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    rc = st_log_open(&opt, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(rc, ST_ERR_SYSTEM);
    assert_non_null(strstr(err.text, "eventfd"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_console),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_styles),
        cmocka_unit_test(test_doubles),
        cmocka_unit_test(test_every_byte_everywhere),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_long_records_are_cut),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_random_bytes_stay_json),
        cmocka_unit_test(test_stderr_when_closed),
        cmocka_unit_test(test_lines_arrive),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_threads_that_end),
        cmocka_unit_test(test_full_ring_drops),
        cmocka_unit_test(test_non_blocking_sink),
        cmocka_unit_test(test_stalled_sink_does_not_hold_close),
        cmocka_unit_test(test_reader_that_left),
        cmocka_unit_test(test_no_record_waits),
        cmocka_unit_test(test_abandoned_among_threads),
        cmocka_unit_test(test_idle_writer_sleeps),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limited_macro),
        cmocka_unit_test(test_misuse),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
