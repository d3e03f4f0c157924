/* Forgot to say which version. */
#include <stator/handler.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    (void)user;
    return host->reply_text(ev, 200, "never");
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .size = sizeof stator_handler_v1,
    .handle = handle,
};
