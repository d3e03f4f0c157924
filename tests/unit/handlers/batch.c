/* Takes batches, and single events too. An event is answered with its place in the batch, "1 of 3",
 * or "alone", unless its body says something else, see one(). Where the environment variable OUT
 * names a file, a line for each event goes there before it is answered. */
#include <fcntl.h>
#include <pthread.h>
#include <stator/handler.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef FLAGS
#define FLAGS 0
#endif

struct worker {
    const struct stator_host_v1 *host;
    int out;
    stator_token token; /* for the resolver */
    int resolves;       /* the resolver is to be joined */
    pthread_t resolver;
};

static int is(struct stator_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.ptr, text, s.len) == 0;
}

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

    nanosleep(&ts, NULL);
}

/* Until the file OUT.go is there. */
static void wait_for_go(void)
{
    const char *out = getenv("OUT");
    char path[4096];

    snprintf(path, sizeof path, "%s.go", out != NULL ? out : "");
    while (access(path, F_OK) != 0)
        sleep_ms(2);
}

static void record(const struct stator_host_v1 *host, const struct worker *w, stator_event *ev,
                   size_t count)
{
    struct stator_str key = host->key(ev), body = host->body(ev);
    char line[512];
    int n = snprintf(line, sizeof line,
                     "{\"key\": \"%.*s\", \"shard\": %d, \"offset\": %llu, \"attempt\": %u, "
                     "\"body\": \"%.*s\", \"size\": %zu}\n",
                     (int)(key.len < 64 ? key.len : 64), key.ptr != NULL ? key.ptr : "",
                     (int)host->shard(ev), (unsigned long long)host->offset(ev),
                     (unsigned)host->attempt(ev), (int)(body.len < 64 ? body.len : 64),
                     body.ptr != NULL ? body.ptr : "", count);

    if (w->out >= 0 && write(w->out, line, (size_t)n) != n)
        abort();
}

static int answer(const struct worker *w, int result)
{
    struct stator_reply reply = {.size = sizeof reply, .status = 201, .body = "deferred"};

    reply.body_len = strlen("deferred");
    return w->host->resolve(w->token, result, &reply);
}

static void *resolve_later(void *arg)
{
    sleep_ms(20);
    answer(arg, STATOR_OK);
    return NULL;
}

static int defer(const struct stator_host_v1 *host, struct worker *w, stator_event *ev, int later)
{
    if (w->resolves)
        pthread_join(w->resolver, NULL);
    w->resolves = 0;
    w->host = host;
    w->token = host->defer(ev);
    if (!later)
        answer(w, STATOR_OK);
    else if (pthread_create(&w->resolver, NULL, resolve_later, w) == 0)
        w->resolves = 1;
    return STATOR_DEFER;
}

static int stream(const struct stator_host_v1 *host, stator_event *ev)
{
    struct stator_reply head = {.size = sizeof head, .status = 202};

    if (host->stream_open(ev, &head) != STATOR_DONE)
        return STATOR_ERROR;
    return host->write(ev, "piece", 5) == STATOR_GONE ? STATOR_ERROR : STATOR_OK;
}

static int emit(const struct stator_host_v1 *host, stator_event *ev)
{
    struct stator_message m = {.size = sizeof m, .value = host->body(ev)};

    return host->emit(ev, "sink", &m) == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

/* What the body wants; 0 in *known: nothing special. */
static int special(const struct stator_host_v1 *host, struct worker *w, stator_event *ev,
                   int *known)
{
    struct stator_str body = host->body(ev);

    if (is(body, "error")) {
        host->fail(ev, 502, "no good");
        return STATOR_ERROR;
    }
    if (is(body, "retry")) {
        host->retry_after(ev, 2000);
        return STATOR_RETRY;
    }
    if (is(body, "reject")) {
        host->reject(ev, "never");
        return STATOR_REJECT;
    }
    if (is(body, "early") || is(body, "later"))
        return defer(host, w, ev, is(body, "later"));
    if (is(body, "stream"))
        return stream(host, ev);
    if (is(body, "emit"))
        return emit(host, ev);
    if (is(body, "sleep"))
        sleep_ms(50);
    if (is(body, "wait"))
        wait_for_go();
    if (is(body, "crash"))
        abort();
    while (is(body, "hang"))
        pause();
    *known = 0;
    return STATOR_OK;
}

/* Returns -1: the event was forgotten. */
static int one(const struct stator_host_v1 *host, struct worker *w, stator_event *ev,
               const char *place)
{
    struct stator_str body = host->body(ev);
    int known = 1, result;

    if (is(body, "forget"))
        return -1;
    if (is(body, "once"))
        return host->attempt(ev) == 1 ? STATOR_RETRY : STATOR_OK;
    result = special(host, w, ev, &known);
    if (!known)
        host->reply_text(ev, 200, place);
    return result;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    record(host, user, ev, 0);
    return one(host, user, ev, "alone");
}

#ifndef EACH
static void handle_batch(const struct stator_host_v1 *host, void *user, stator_event *const *events,
                         int *results, size_t count)
{
    char place[64];
    size_t i;
    int result;

    for (i = 0; i < count; i++)
        record(host, user, events[i], count);
    for (i = 0; i < count; i++) {
        snprintf(place, sizeof place, "%zu of %zu", i, count);
        result = one(host, user, events[i], place);
        if (result >= 0)
            results[i] = result;
    }
}
#endif

static int init(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                void **user)
{
    const char *path = getenv("OUT");
    struct worker *w = calloc(1, sizeof *w);

    (void)host;
    (void)worker;
    *user = w;
    if (w == NULL)
        return 1;
    w->out = path != NULL ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    return path != NULL && w->out < 0;
}

static void fini(const struct stator_host_v1 *host, void *user)
{
    struct worker *w = user;

    (void)host;
    if (w->resolves)
        pthread_join(w->resolver, NULL);
    if (w->out >= 0)
        close(w->out);
    free(w);
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "batch",
    .flags = FLAGS,
    .init = init,
    .handle = handle,
#ifndef EACH
    .handle_batch = handle_batch,
#endif
    .fini = fini,
};
