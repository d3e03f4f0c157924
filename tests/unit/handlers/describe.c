/* Answers with everything that the accessors say, one "name=value" a line. */
#include <stator/handler.h>
#include <stdarg.h>
#include <stdio.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

struct text {
    char bytes[4096];
    size_t len;
};

static void line(struct text *t, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(t->bytes + t->len, sizeof t->bytes - t->len, fmt, args);
    va_end(args);
    if (n > 0 && (size_t)n < sizeof t->bytes - t->len)
        t->len += (size_t)n;
}

static void texts(const struct stator_host_v1 *host, stator_event *ev, struct text *t)
{
    const struct {
        const char *name;
        struct stator_str (*get)(stator_event *ev);
    } fields[] = {
        {"id", host->id},
        {"trigger_kind", host->trigger_kind},
        {"trigger_name", host->trigger_name},
        {"method", host->method},
        {"target", host->target},
        {"path", host->path},
        {"query", host->query},
        {"content_type", host->content_type},
        {"body", host->body},
        {"key", host->key},
        {"topic", host->topic},
        {"peer", host->peer},
    };
    size_t i;

    for (i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct stator_str s = fields[i].get(ev);

        line(t, "%s=%.*s\n", fields[i].name, (int)s.len, s.ptr != NULL ? s.ptr : "");
    }
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply};
    struct stator_str h = host->header(ev, "x-test");
    struct text t = {.len = 0};

    (void)user;
    texts(host, ev, &t);
    line(&t, "headers=%zu\n", host->header_count(ev));
    line(&t, "x-test=%.*s\n", (int)h.len, h.ptr != NULL ? h.ptr : "");
    line(&t, "shard=%d\n", (int)host->shard(ev));
    line(&t, "offset=%llu\n", (unsigned long long)host->offset(ev));
    line(&t, "attempt=%u\n", (unsigned)host->attempt(ev));
    line(&t, "timestamp_ns=%lld\n", (long long)host->timestamp_ns(ev));
    line(&t, "time_left_ms=%lld\n", (long long)host->time_left_ms(ev));
    line(&t, "is_tombstone=%d\n", host->is_tombstone(ev));
    host->log(ev, STATOR_LOG_DEBUG, "described an event");
    host->log(NULL, STATOR_LOG_DEBUG, "described no event");
    reply.body = t.bytes;
    reply.body_len = t.len;
    return host->reply(ev, &reply) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "describe",
    .flags = FLAGS,
    .handle = handle,
};
