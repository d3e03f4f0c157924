/* Counts the events of each worker in its user data. Answers "INDEX/COUNT n". Two events of one
 * worker that overlap, or a fini() that misses, end in abort(). */
#include <stator/handler.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef FLAGS
#define FLAGS 0
#endif

struct counter {
    unsigned index, count, events;
    int busy;
};

static int init(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                void **user)
{
    struct counter *c = calloc(1, sizeof *c);

    if (c == NULL || worker->index >= worker->count || worker->function == NULL ||
        worker->trigger == NULL || worker->slot == NULL)
        return 1;
    c->index = worker->index;
    c->count = worker->count;
    *user = c;
    host->log(NULL, STATOR_LOG_DEBUG, "a worker counts");
    return 0;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct counter *c = user;
    char text[64];
    int rc;

    if (__atomic_exchange_n(&c->busy, 1, __ATOMIC_SEQ_CST) != 0)
        abort();
    c->events++;
    snprintf(text, sizeof text, "%u/%u %u", c->index, c->count, c->events);
    rc = host->reply_text(ev, 200, text);
    __atomic_store_n(&c->busy, 0, __ATOMIC_SEQ_CST);
    return rc == STATOR_DONE ? STATOR_OK : STATOR_ERROR;
}

static void fini(const struct stator_host_v1 *host, void *user)
{
    struct counter *c = user;

    (void)host;
    if (c->busy)
        abort();
    memset(c, 0xff, sizeof *c);
    free(c);
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "count",
    .flags = FLAGS,
    .init = init,
    .handle = handle,
    .fini = fini,
};
