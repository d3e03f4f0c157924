/* Needs a function that nothing has. */
#include <stator/handler.h>

extern int function_that_nobody_wrote(void);

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    (void)user;
    return host->reply_text(ev, function_that_nobody_wrote(), "never");
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .handle = handle,
};
