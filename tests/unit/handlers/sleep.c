/* Sleeps as many milliseconds as the body says, or "ms=" of the query; then echoes that text. */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply};
    struct stator_str text = host->body(ev);
    struct timespec ts;
    char number[24] = "0";
    long ms;

    (void)user;
    if (text.len == 0) {
        text = host->query(ev);
        if (text.len > 3 && memcmp(text.ptr, "ms=", 3) == 0) {
            text.ptr += 3;
            text.len -= 3;
        }
    }
    if (text.len > 0 && text.len < sizeof number) {
        memcpy(number, text.ptr, text.len);
        number[text.len] = '\0';
    }
    ms = strtol(number, NULL, 10);
    ts.tv_sec = ms / 1000;
    ts.tv_nsec = ms % 1000 * 1000000;
    if (ms > 0)
        nanosleep(&ts, NULL);
    reply.body = text.ptr;
    reply.body_len = text.len;
    return host->reply(ev, &reply) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "sleep",
    .handle = handle,
};
