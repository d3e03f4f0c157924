/* The smallest function: GET is greeted, anything else is echoed. */
#include <stator/handler.h>
#include <string.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply, .content_type = {"text/plain", 10}};
    struct stator_str method = host->method(ev), body = host->body(ev);

    (void)user;
    if (method.len == 3 && memcmp(method.ptr, "GET", 3) == 0)
        return host->reply_text(ev, 200, "Hello, world!\n") == STATOR_DONE ? STATOR_OK
                                                                           : STATOR_ERROR;
    reply.body = body.ptr;
    reply.body_len = body.len;
    return host->reply(ev, &reply) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "hello",
    .flags = STATOR_NONBLOCKING,
    .handle = handle,
};
