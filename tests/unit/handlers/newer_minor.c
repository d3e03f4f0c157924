/* A later minor version: a longer struct, which this processor reads as far as it knows it. */
#include <stator/handler.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    (void)user;
    return host->reply_text(ev, 200, "from the future");
}

struct longer {
    struct stator_handler_v1 known;
    void *unknown[4];
};

STATOR_EXPORT const struct longer stator_handler_v1 = {
    .known = {.abi = STATOR_ABI + 7,
              .size = sizeof(struct longer),
              .name = "future",
              .flags = STATOR_NONBLOCKING,
              .handle = handle},
    .unknown = {(void *)1, (void *)2, (void *)3, (void *)4},
};
