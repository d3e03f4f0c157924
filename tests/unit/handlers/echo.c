/* Answers with the body and content type of the event. */
#include <stator/handler.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply};
    struct stator_str body = host->body(ev);

    (void)user;
    reply.content_type = host->content_type(ev);
    reply.body = body.ptr;
    reply.body_len = body.len;
    return host->reply(ev, &reply) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "echo",
    .flags = FLAGS,
    .handle = handle,
};
