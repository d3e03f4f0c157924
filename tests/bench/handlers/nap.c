/* For streams: a handler that waits for something, 1 ms each time, on a thread of its own. */
#include <stator/handler.h>
#include <time.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct timespec nap = {.tv_nsec = 1000000};

    (void)host, (void)user, (void)ev;
    nanosleep(&nap, NULL);
    return STATOR_OK;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "bench-nap",
    .handle = handle,
};
