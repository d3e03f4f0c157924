/* Publishes a message again to the output "out", with its headers, the body "BODY CONTENT-TYPE"
 * and the value of its header "h" as key. When it looks at the headers is what the body says. */
#include <stator/handler.h>

#include <stdio.h>
#include <string.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

enum { MOST = 8 };

static int is(struct stator_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static int relay(const struct stator_host_v1 *host, stator_event *ev)
{
    struct stator_str body = host->body(ev), type = host->content_type(ev);
    struct stator_header headers[MOST];
    struct stator_message m = {.size = sizeof m, .headers = headers};
    char text[128];

    m.value.len = (size_t)snprintf(text, sizeof text, "%.*s %.*s", (int)body.len, body.ptr,
                                   (int)type.len, type.ptr);
    m.value.ptr = text;
    m.key = host->header(ev, "H");
    for (; m.header_count < MOST && m.header_count < host->header_count(ev); m.header_count++)
        headers[m.header_count] = host->header_at(ev, m.header_count);
    return host->emit(ev, "out", &m);
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    static const struct stator_message first = {.size = sizeof first, .value = {"first", 5}};
    struct stator_str body = host->body(ev);

    (void)user;
    if (is(body, "never"))
        return STATOR_OK;
    if (is(body, "reject"))
        return STATOR_REJECT;
    if (is(body, "again") && host->attempt(ev) == 1)
        return STATOR_RETRY;
    /* What an event has is copied before its first emit. */
    if (is(body, "late") && host->emit(ev, "out", &first) != STATOR_DONE)
        return STATOR_ERROR;
    return relay(host, ev) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "relay",
    .flags = FLAGS,
    .handle = handle,
};
