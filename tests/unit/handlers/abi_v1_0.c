/* Compiled against the first public header, which never changes: such handlers run for ever. */
#include "../abi_v1_0/stator/handler.h"

static int init(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                void **user)
{
    static int state;

    *user = &state;
    return STATOR_HAS(host, struct stator_host_v1, log) && worker->size >= sizeof *worker ? 0 : 1;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply, .status = 200};
    struct stator_str method = host->method(ev);
    struct stator_header header = {{"X-Abi", 5}, {"1.0", 3}};

    if (user == NULL)
        return STATOR_ERROR;
    reply.headers = &header;
    reply.header_count = 1;
    reply.body = method.ptr;
    reply.body_len = method.len;
    return host->reply(ev, &reply) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

static void fini(const struct stator_host_v1 *host, void *user)
{
    (void)host;
    (void)user;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "abi-1.0",
    .flags = STATOR_NONBLOCKING,
    .init = init,
    .handle = handle,
    .fini = fini,
};
