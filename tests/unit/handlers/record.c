/* Appends a record for each message to the file OUT: the number that is its body, the process,
 * LIFE, the partition and the time. Before that it sleeps HANDLER_US microseconds. */
#include <fcntl.h>
#include <stator/handler.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct record {
    uint32_t number, pid;
    uint16_t life, shard;
    uint32_t zero;
    double at;
};

static struct {
    int fd;
    uint16_t life;
    struct timespec pause;
} own = {.fd = -1};

static long number_of(const char *name)
{
    const char *text = getenv(name);

    return text != NULL ? strtol(text, NULL, 10) : 0;
}

static int start(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                 void **user)
{
    const char *path = getenv("OUT");

    (void)host;
    (void)worker;
    (void)user;
    own.life = (uint16_t)number_of("LIFE");
    own.pause.tv_nsec = number_of("HANDLER_US") * 1000;
    if (path != NULL)
        own.fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    return own.fd >= 0 ? 0 : -1;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str body = host->body(ev);
    struct record r = {.pid = (uint32_t)getpid(), .life = own.life};
    struct timespec now;
    char text[24] = "";

    (void)user;
    if (own.pause.tv_nsec > 0)
        nanosleep(&own.pause, NULL);
    if (body.len < sizeof text)
        memcpy(text, body.ptr, body.len);
    clock_gettime(CLOCK_REALTIME, &now);
    r.number = (uint32_t)strtoul(text, NULL, 10);
    r.shard = (uint16_t)host->shard(ev);
    r.at = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
    return write(own.fd, &r, sizeof r) == sizeof r ? STATOR_OK : STATOR_ERROR;
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "record",
    .init = start,
    .handle = handle,
};
