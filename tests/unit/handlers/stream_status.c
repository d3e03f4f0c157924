/* Streams "some body" with the status of the query. */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply head = {.size = sizeof head};
    struct stator_str query = host->query(ev);
    char text[4] = "";

    (void)user;
    if (query.len < sizeof text)
        memcpy(text, query.ptr != NULL ? query.ptr : "", query.len);
    head.status = (int)strtol(text, NULL, 10);
    if (host->stream_open(ev, &head) != STATOR_DONE)
        return STATOR_ERROR;
    return host->write(ev, "some body", 9) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "stream-status",
    .flags = STATOR_NONBLOCKING,
    .handle = handle,
};
