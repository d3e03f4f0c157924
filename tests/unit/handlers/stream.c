/* Streams "piece" by "piece": the query is how many KiB, or "forever" until the client has gone, or
 * "cut": one piece, then a failure. Each byte is its offset modulo 251. */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 16 * 1024 };

static void fill(unsigned char *piece, size_t offset)
{
    size_t i;

    for (i = 0; i < PIECE; i++)
        piece[i] = (unsigned char)((offset + i) % 251);
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply head = {.size = sizeof head};
    struct stator_str query = host->query(ev);
    unsigned char piece[PIECE];
    char text[24] = "";
    size_t total, at = 0;
    int rc;

    (void)user;
    if (query.len < sizeof text)
        memcpy(text, query.ptr != NULL ? query.ptr : "", query.len);
    total = strcmp(text, "forever") == 0 ? (size_t)-1 : strtoul(text, NULL, 10) * 1024;
    head.content_type.ptr = "application/octet-stream";
    head.content_type.len = strlen(head.content_type.ptr);
    rc = host->stream_open(ev, &head);
    if (rc != STATOR_DONE)
        return STATOR_ERROR;
    if (strcmp(text, "cut") == 0) {
        host->write(ev, "half", 4);
        return STATOR_ERROR;
    }
    while (at < total) {
        size_t n = total - at < PIECE ? total - at : PIECE;

        fill(piece, at);
        rc = host->write(ev, piece, n);
        if (rc != STATOR_DONE)
            return STATOR_ERROR;
        at += n;
    }
    return STATOR_OK;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "stream",
    .handle = handle,
};
