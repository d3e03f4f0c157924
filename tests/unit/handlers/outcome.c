/* Ends as the body says: "error-418", "retry", "reject" ... */
#include <stator/handler.h>
#include <string.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

static int is(struct stator_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static int fails(const struct stator_host_v1 *host, stator_event *ev, struct stator_str how)
{
    if (is(how, "error-418")) {
        host->fail(ev, 418, "I am a teapot");
        return STATOR_ERROR;
    }
    if (is(how, "error-bad-status")) {
        host->fail(ev, 99, "no such status");
        return STATOR_ERROR;
    }
    if (is(how, "error-after-reply")) {
        host->reply_text(ev, 201, "forgotten");
        return STATOR_ERROR;
    }
    if (is(how, "retry")) {
        host->retry_after(ev, 2500);
        return STATOR_RETRY;
    }
    if (is(how, "retry-text")) {
        host->fail(ev, 429, "slow down");
        host->retry_after(ev, 1000);
        return STATOR_RETRY;
    }
    if (is(how, "reject")) {
        host->reject(ev, "poison");
        return STATOR_REJECT;
    }
    if (is(how, "unknown"))
        return 77;
    return STATOR_ERROR;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str how = host->body(ev);

    (void)user;
    if (is(how, "empty"))
        return STATOR_OK;
    if (is(how, "ok-after-fail")) {
        host->fail(ev, 500, "forgotten");
        return STATOR_OK;
    }
    if (is(how, "last-reply")) {
        host->fail(ev, 500, "forgotten");
        host->reply_text(ev, 200, "forgotten too");
        return host->reply_text(ev, 202, "this one");
    }
    if (is(how, "defer-without-token"))
        return STATOR_DEFER;
    if (is(how, "token-without-defer")) {
        stator_token token = host->defer(ev);

        host->reply_text(ev, 200, token != 0 ? "at once" : "no token");
        return STATOR_OK;
    }
    return fails(host, ev, how);
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "outcome",
    .flags = FLAGS,
    .handle = handle,
};
