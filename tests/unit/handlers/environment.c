/* Answers with the value of the environment variable that the body names. */
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str body = host->body(ev);
    const char *value;
    char name[64] = "";

    (void)user;
    memcpy(name, body.ptr, body.len < sizeof name ? body.len : sizeof name - 1);
    value = getenv(name);
    return host->reply_text(ev, 200, value != NULL ? value : "(none)") == STATOR_DONE
               ? STATOR_OK
               : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "environment",
    .flags = STATOR_NONBLOCKING,
    .handle = handle,
};
