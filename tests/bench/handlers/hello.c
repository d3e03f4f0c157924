/*
 * The subject of the benchmarks: GET answers 13 bytes, any other method echoes the body. Compiled
 * twice: as it is it runs on the loop; with BENCH_BLOCKING it is run on a worker thread.
 */
#include <stator/handler.h>
#include <string.h>

#ifdef BENCH_BLOCKING
#define HELLO_FLAGS 0
#else
#define HELLO_FLAGS STATOR_NONBLOCKING
#endif

static const char hello[] = "Hello, world!";

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_reply reply = {.size = sizeof reply, .content_type = {"text/plain", 10}};
    struct stator_str method = host->method(ev), body;

    (void)user;
    if (method.len == 3 && memcmp(method.ptr, "GET", 3) == 0) {
        reply.flags = STATOR_BODY_STATIC;
        reply.body = hello;
        reply.body_len = sizeof hello - 1;
    } else {
        body = host->body(ev);
        reply.body = body.ptr;
        reply.body_len = body.len;
    }
    return host->reply(ev, &reply) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "bench-hello",
    .flags = HELLO_FLAGS,
    .handle = handle,
};
