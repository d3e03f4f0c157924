/* For streams: takes every message, and does nothing with it. */
#include <stator/handler.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    (void)host, (void)user, (void)ev;
    return STATOR_OK;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "bench-noop",
    .flags = STATOR_NONBLOCKING,
    .handle = handle,
};
