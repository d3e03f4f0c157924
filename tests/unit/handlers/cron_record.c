/* Appends a line for each event to the file named by $RECORD when it begins, and another when it
 * ends. Sleeps x-sleep milliseconds in between; fails where x-fail is set. */
#include <stator/handler.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void text(FILE *f, const char *name, struct stator_str s)
{
    fprintf(f, "\t%s=%.*s", name, (int)s.len, s.ptr != NULL ? s.ptr : "");
}

static void record(const struct stator_host_v1 *host, stator_event *ev, const char *what)
{
    const char *path = getenv("RECORD");
    FILE *f = path != NULL ? fopen(path, "a") : NULL;

    if (f == NULL)
        abort();
    fputs(what, f);
    text(f, "id", host->id(ev));
    text(f, "kind", host->trigger_kind(ev));
    text(f, "name", host->trigger_name(ev));
    text(f, "method", host->method(ev));
    text(f, "path", host->path(ev));
    text(f, "body", host->body(ev));
    text(f, "type", host->content_type(ev));
    text(f, "number", host->header(ev, "x-number"));
    text(f, "scheduled", host->header(ev, "x-stator-scheduled-time"));
    fprintf(f, "\theaders=%u\ttimestamp=%lld\n", (unsigned)host->header_count(ev),
            (long long)host->timestamp_ns(ev));
    fclose(f);
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str ms = host->header(ev, "x-sleep");
    struct timespec ts = {.tv_sec = 0};
    long n = ms.len > 0 ? strtol(ms.ptr, NULL, 10) : 0;

    (void)user;
    record(host, ev, "begin");
    ts.tv_sec = n / 1000;
    ts.tv_nsec = n % 1000 * 1000000;
    nanosleep(&ts, NULL);
    record(host, ev, "end");
    return host->header(ev, "x-fail").len > 0 ? STATOR_ERROR : STATOR_OK;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "cron_record",
    .handle = handle,
};
