/* A function that nobody calls: the cron trigger does, and what there is to say goes to the log. */
#include <stator/handler.h>
#include <stdio.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str body = host->body(ev);
    struct stator_str due = host->header(ev, "X-Stator-Scheduled-Time");
    char text[256];

    (void)user;
    snprintf(text, sizeof text, "%.*s, due at %.*s", (int)body.len, body.len > 0 ? body.ptr : "",
             (int)due.len, due.len > 0 ? due.ptr : "");
    host->log(ev, STATOR_LOG_INFO, text);
    return STATOR_OK;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "heartbeat",
    .handle = handle,
};
