/* Dies of the signal that the body names: "segv", "abort", "fpe", "bus", "stack". Anything else is
 * answered. */
#include <signal.h>
#include <stator/handler.h>
#include <stdlib.h>
#include <string.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

static int is(struct stator_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static int endless(volatile char *below)
{
    volatile char frame[4096];

    frame[0] = below != NULL ? below[0] : 1;
    return frame[0] == 0 ? 0 : endless(frame) + frame[0];
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str how = host->body(ev);
    int *volatile nowhere = (int *)64; /* a sanitizer stops NULL before the CPU does */

    (void)user;
    if (is(how, "segv"))
        *nowhere = 1;
    if (is(how, "abort"))
        abort();
    if (is(how, "fpe"))
        raise(SIGFPE);
    if (is(how, "bus"))
        raise(SIGBUS);
    if (is(how, "stack"))
        return endless(NULL);
    return host->reply_text(ev, 200, "alive");
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "crash",
    .flags = FLAGS,
    .handle = handle,
};
