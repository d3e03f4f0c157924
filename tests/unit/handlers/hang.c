/* Body "hang": never returns. "hang MS": returns very late. Both are logged before. Anything else
 * is answered. */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef FLAGS
#define FLAGS 0
#endif

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str how = host->body(ev);
    char text[32] = "";
    struct timespec ts;
    long ms;

    (void)user;
    if (how.len < 4 || how.len >= sizeof text || memcmp(how.ptr, "hang", 4) != 0)
        return host->reply_text(ev, 200, "alive");
    memcpy(text, how.ptr, how.len);
    host->log(ev, STATOR_LOG_INFO, "The handler hangs");
    ms = strtol(text + 4, NULL, 10);
    while (ms == 0)
        pause();
    ts.tv_sec = ms / 1000;
    ts.tv_nsec = ms % 1000 * 1000000;
    nanosleep(&ts, NULL);
    return host->reply_text(ev, 200, "late");
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "hang",
    .flags = FLAGS,
    .handle = handle,
};
