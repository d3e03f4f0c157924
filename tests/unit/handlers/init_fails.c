/* init() refuses. */
#include <stator/handler.h>

#ifndef FLAGS
#define FLAGS 0
#endif

static int init(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                void **user)
{
    (void)worker;
    (void)user;
    host->log(NULL, STATOR_LOG_ERROR, "the model is missing");
    return 42;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    (void)user;
    return host->reply_text(ev, 200, "never");
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "init-fails",
    .flags = FLAGS,
    .init = init,
    .handle = handle,
};
