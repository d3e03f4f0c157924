/* Each line of the body is a record, "info some text", or what else to do: "fail", "sleep 100",
 * "long 5000" (a text of that length), "stream" (the reply is streamed from here on). */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

enum { LINE_MAX_BYTES = 8192 };

static void sleep_ms(long ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

static void log_long(const struct stator_host_v1 *host, stator_event *ev, long n)
{
    static _Thread_local char text[LINE_MAX_BYTES];

    if (n < 0 || n >= LINE_MAX_BYTES)
        return;
    memset(text, 'x', (size_t)n);
    text[n] = '\0';
    host->log(ev, STATOR_LOG_INFO, text);
}

static int run(const struct stator_host_v1 *host, stator_event *ev, const char *line)
{
    static const char *const levels[] = {"debug ", "info ", "warn ", "error "};
    static const int values[] = {STATOR_LOG_DEBUG, STATOR_LOG_INFO, STATOR_LOG_WARN,
                                 STATOR_LOG_ERROR};
    struct stator_reply head = {.size = sizeof head, .status = 202};

    for (int i = 0; i < 4; i++)
        if (strncmp(line, levels[i], strlen(levels[i])) == 0)
            host->log(ev, values[i], line + strlen(levels[i]));
    if (strncmp(line, "sleep ", 6) == 0)
        sleep_ms(strtol(line + 6, NULL, 10));
    if (strncmp(line, "long ", 5) == 0)
        log_long(host, ev, strtol(line + 5, NULL, 10));
    if (strcmp(line, "stream") == 0)
        host->stream_open(ev, &head);
    if (strcmp(line, "fail") != 0)
        return STATOR_OK;
    host->fail(ev, 418, "failed");
    return STATOR_ERROR;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str body = host->body(ev);
    const char *at = body.ptr, *end = at + body.len;
    char line[LINE_MAX_BYTES];
    int rc = STATOR_OK;

    (void)user;
    while (rc == STATOR_OK && at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop != NULL ? stop : end) - at);

        if (n >= sizeof line)
            return STATOR_ERROR;
        memcpy(line, at, n);
        line[n] = '\0';
        rc = run(host, ev, line);
        at += n + 1;
    }
    return rc;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "logs",
    .flags = FLAGS,
    .handle = handle,
};
