/* Streams as stream.c, on a loop thread: defers while the client is slow. The query is how many
 * KiB. */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 16 * 1024 };

struct stream {
    const struct stator_host_v1 *host;
    stator_token token;
    size_t at, total;
    unsigned char piece[PIECE];
};

static void go_on(stator_event *ev, void *arg)
{
    struct stream *s = arg;
    int rc = STATOR_DONE;

    while (rc == STATOR_DONE && s->at < s->total) {
        size_t n = s->total - s->at < PIECE ? s->total - s->at : PIECE, i;

        for (i = 0; i < n; i++)
            s->piece[i] = (unsigned char)((s->at + i) % 251);
        rc = s->host->write(ev, s->piece, n);
        if (rc == STATOR_DONE || rc == STATOR_AGAIN)
            s->at += n;
    }
    if (rc == STATOR_AGAIN && s->at < s->total && s->host->on_writable(ev, go_on, s) == STATOR_DONE)
        return;
    s->host->resolve(s->token, s->at == s->total ? STATOR_OK : STATOR_ERROR, NULL);
    free(s);
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply head = {.size = sizeof head};
    struct stator_str query = host->query(ev);
    struct stream *s = calloc(1, sizeof *s);
    char text[24] = "";

    (void)user;
    if (s == NULL || host->stream_open(ev, &head) != STATOR_DONE) {
        free(s);
        return STATOR_ERROR;
    }
    if (query.len < sizeof text)
        memcpy(text, query.ptr != NULL ? query.ptr : "", query.len);
    s->host = host;
    s->total = strtoul(text, NULL, 10) * 1024;
    s->token = host->defer(ev);
    if (s->token == 0) {
        free(s);
        return STATOR_ERROR;
    }
    go_on(ev, s);
    return STATOR_DEFER;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "stream-inline",
    .flags = STATOR_NONBLOCKING,
    .handle = handle,
};
