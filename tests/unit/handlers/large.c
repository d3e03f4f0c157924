/* Answers at once with as many KiB as the query says; each byte is its offset modulo 251. */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply};
    struct stator_str query = host->query(ev);
    char text[16] = "";
    unsigned char *body;
    size_t i;
    int rc;

    (void)user;
    if (query.len < sizeof text)
        memcpy(text, query.ptr != NULL ? query.ptr : "", query.len);
    reply.body_len = strtoul(text, NULL, 10) * 1024;
    body = malloc(reply.body_len + 1);
    if (body == NULL)
        return STATOR_ERROR;
    for (i = 0; i < reply.body_len; i++)
        body[i] = (unsigned char)(i % 251);
    reply.body = body;
    rc = host->reply(ev, &reply);
    free(body);
    return rc == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "large",
    .handle = handle,
};
