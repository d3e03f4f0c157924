/* Sends the headers of the event back, as headers and as "name: value" lines in the body. */
#include <stator/handler.h>
#include <string.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply};
    size_t n = host->header_count(ev), i, size = 1, at = 0;
    struct stator_header *headers = host->alloc(ev, (n + 1) * sizeof *headers);
    char *text;

    (void)user;
    if (headers == NULL)
        return STATOR_ERROR;
    for (i = 0; i < n; i++) {
        headers[i] = host->header_at(ev, i);
        size += headers[i].name.len + headers[i].value.len + 3;
    }
    text = host->alloc(ev, size);
    if (text == NULL)
        return STATOR_ERROR;
    for (i = 0; i < n; i++) {
        memcpy(text + at, headers[i].name.ptr, headers[i].name.len);
        at += headers[i].name.len;
        memcpy(text + at, ": ", 2);
        at += 2;
        memcpy(text + at, headers[i].value.ptr, headers[i].value.len);
        at += headers[i].value.len;
        text[at++] = '\n';
    }
    reply.headers = headers;
    reply.header_count = n;
    reply.body = text;
    reply.body_len = at;
    return host->reply(ev, &reply) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "headers",
    .flags = FLAGS,
    .handle = handle,
};
