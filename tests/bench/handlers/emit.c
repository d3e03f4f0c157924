/* For streams: every message goes to the output "out", with its key. */
#include <stator/handler.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_message m = {.size = sizeof m, .value = host->body(ev), .key = host->key(ev)};

    (void)user;
    return host->emit(ev, "out", &m) == STATOR_DONE ? STATOR_OK : STATOR_RETRY;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "bench-emit",
    .flags = STATOR_NONBLOCKING,
    .handle = handle,
};
