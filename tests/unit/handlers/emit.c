/* Emits what the query says: "output,key,value" once for each "&"; a key "-" is none, a value "-"
 * none at all. The reply has the codes. In both ways of running. */
#include <stator/handler.h>

#include <stdio.h>
#include <string.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

static size_t take(const char **at, const char *end, char stop, char *out, size_t room)
{
    size_t n = 0;

    while (*at < end && **at != stop && **at != '&' && n < room - 1)
        out[n++] = *(*at)++;
    out[n] = '\0';
    if (*at < end && **at == stop)
        ++*at;
    return n;
}

static int emit_one(const struct stator_host_v1 *host, stator_event *ev, const char **at,
                    const char *end)
{
    static const struct stator_header headers[] = {{{"from", 4}, {"handler", 7}}};
    char output[64], key[64], value[256];
    struct stator_message m = {.size = sizeof m};

    take(at, end, ',', output, sizeof output);
    m.key.len = take(at, end, ',', key, sizeof key);
    m.value.len = take(at, end, '\0', value, sizeof value);
    m.key.ptr = key;
    m.value.ptr = value;
    if (strcmp(key, "-") == 0)
        m.key = (struct stator_str){NULL, 0};
    if (strcmp(value, "-") == 0)
        m.flags = STATOR_NO_VALUE;
    if (strcmp(value, "body") == 0)
        m.value = host->body(ev);
    m.headers = headers;
    m.header_count = 1;
    return host->emit(ev, output, &m);
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str query = host->query(ev);
    const char *at = query.ptr, *end = query.ptr + query.len;
    char codes[256] = "";
    size_t n = 0;

    (void)user;
    if (!STATOR_HAS(host, struct stator_host_v1, emit))
        return STATOR_ERROR;
    while (at < end && n < sizeof codes - 16) {
        n += (size_t)snprintf(codes + n, sizeof codes - n, "%d ", emit_one(host, ev, &at, end));
        if (at < end && *at == '&')
            at++;
    }
    return host->reply_text(ev, 200, codes);
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "emit",
    .flags = FLAGS,
    .handle = handle,
};
