/* A struct that ends at handle(): what lies behind it is none of the processor's business. */
#include <stator/handler.h>
#include <stdlib.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    (void)user;
    return host->reply_text(ev, 200, "small");
}

static void never(const struct stator_host_v1 *host, void *user)
{
    (void)host;
    (void)user;
    abort();
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = offsetof(struct stator_handler_v1, handle_batch),
    .name = "small",
    .flags = STATOR_NONBLOCKING,
    .handle = handle,
    .fini = never,
};
