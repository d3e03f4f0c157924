#include "triggers/http/http_trigger.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/core/log.h"
#include "processor/processor.h"
#include "triggers/http/http_int.h"

enum { KEEP_EVENTS = 1024, OTHER_FDS = 128 };

static const char *const modes[] = {"sync", "async", NULL};

#define AT(member) offsetof(struct http_attributes, member)
static const struct st_option attributes[] = {
    {.name = "readBufferSize",
     .type = ST_OPT_SIZE,
     .offset = AT(read_buffer_size),
     .value = "16384",
     .min = 1024,
     .max = 65536,
     .help = "Most bytes of request line and headers; more is answered with 431 or 414.",
     .example = "16384"},
    {.name = "maxRequestBodySize",
     .type = ST_OPT_SIZE,
     .offset = AT(max_request_body_size),
     .value = "4194304",
     .max = 4294967295.0,
     .help = "Most bytes of a request's body; more is answered with 413.",
     .example = "4194304"},
    {.name = "maxConnections",
     .type = ST_OPT_INT,
     .offset = AT(max_connections),
     .value = "10000",
     .min = 1,
     .max = 10000000,
     .help = "Most open connections; further clients wait in the kernel's queue.",
     .example = "10000"},
    {.name = "headerTimeout",
     .type = ST_OPT_DURATION,
     .offset = AT(header_timeout_ns),
     .value = "10s",
     .min = ST_MSEC,
     .max = INFINITY,
     .help = "From the first byte of a request to the end of its headers.",
     .example = "10s"},
    {.name = "bodyTimeout",
     .type = ST_OPT_DURATION,
     .offset = AT(body_timeout_ns),
     .value = "30s",
     .min = ST_MSEC,
     .max = INFINITY,
     .help = "Longest time without a byte while a body is received.",
     .example = "30s"},
    {.name = "idleTimeout",
     .type = ST_OPT_DURATION,
     .offset = AT(idle_timeout_ns),
     .value = "75s",
     .min = ST_MSEC,
     .max = INFINITY,
     .help = "How long a connection may be idle between requests.",
     .example = "75s"},
    {.name = "writeTimeout",
     .type = ST_OPT_DURATION,
     .offset = AT(write_timeout_ns),
     .value = "30s",
     .min = ST_MSEC,
     .max = INFINITY,
     .help = "Longest time without a byte taken by a client that is being answered.",
     .example = "30s"},
    {.name = "reduceMemoryUsage",
     .type = ST_OPT_BOOL,
     .offset = AT(reduce_memory_usage),
     .help = "Accepted for compatibility: idle connections hold no buffers in any case.",
     .example = "true"},
    {.name = "mode",
     .type = ST_OPT_ENUM,
     .offset = AT(mode),
     .value = "sync",
     .values = modes,
     .help = "Accepted for compatibility, without effect.",
     .example = "sync"},
    {.name = "cors",
     .type = ST_OPT_OBJECT,
     .offset = AT(cors),
     .table = http_cors_table,
     .help = "Cross-origin rules (CORS): which pages of other sites may call the function."},
    {.name = "port", .type = ST_OPT_ANY, .help = "For the platform."},
    {.name = "ingresses", .type = ST_OPT_ANY, .help = "For the platform."},
    {.name = "serviceType", .type = ST_OPT_ANY, .help = "For the platform."},
    {.name = "disablePortPublishing", .type = ST_OPT_ANY, .help = "For the platform."},
    {.name = NULL},
};
#undef AT

static struct http_trigger *http_of(struct st_trigger *t)
{
    return ST_CONTAINER_OF(t, struct http_trigger, base);
}

static const struct http_attributes *attributes_of(const struct http_trigger *ht)
{
    return ht->base.attributes;
}

static const char *url_of(const struct st_trigger_config *config)
{
    return config->url != NULL && config->url[0] != '\0' ? config->url : ":8080";
}

static int http_check(const struct st_trigger_config *config, char member[ST_TRIGGER_MEMBER_MAX],
                      struct st_error *err)
{
    const struct http_attributes *a = config->attributes;

    if (st_listen_check(url_of(config), err) == ST_OK)
        return http_cors_check(&a->cors, member, err);
    snprintf(member, ST_TRIGGER_MEMBER_MAX, "url");
    return ST_ERR_INVALID;
}

static int http_init(struct st_trigger *t, struct st_error *err)
{
    struct http_trigger *ht = http_of(t);

    (void)err;
    ht->unix_fd = -1;
    snprintf(ht->address, sizeof ht->address, "%s", url_of(t->config));
    ht->cors = http_cors_new(&attributes_of(ht)->cors);
    ht->bad = st_trigger_rejected_metric(t, "bad_request");
    ht->big = st_trigger_rejected_metric(t, "too_large");
    ht->late = st_trigger_rejected_metric(t, "request_timeout");
    ht->loops = calloc(t->processor->loop_count, sizeof *ht->loops);
    ST_ASSERT(ht->loops != NULL);
    return ST_OK;
}

/* Connections of one loop: its share of maxConnections, within what descriptors allow. */
static size_t connection_share(const struct http_trigger *ht)
{
    struct rlimit limit;
    uint64_t max = (uint64_t)attributes_of(ht)->max_connections;
    unsigned loops = ht->base.processor->loop_count;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 2ul * OTHER_FDS &&
        max > limit.rlim_cur - OTHER_FDS)
        max = limit.rlim_cur - OTHER_FDS;
    return (size_t)((max + loops - 1) / loops);
}

static void accepted(struct st_listener *l, int fd, const struct st_peer *peer)
{
    struct http_loop *hl = l->arg;

    st_http1_accept(&hl->server, fd, peer);
    if (hl->server.conns.open >= hl->server.conns.max) {
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.http",
                       "maxConnections is reached: further clients wait until one leaves",
                       ST_KV_UINT("connections", hl->server.conns.open));
        st_listener_pause(l, ST_PAUSE_FULL);
    }
}

static void check_drained(struct http_loop *hl)
{
    if (hl->draining && !hl->drained && hl->server.conns.open == 0) {
        hl->drained = true;
        st_trigger_drained(&hl->trigger->base, hl->loop);
    }
}

static void connection_closed(struct st_http_server *server)
{
    struct http_loop *hl = ST_CONTAINER_OF(server, struct http_loop, server);

    st_listener_fd_freed(&hl->listener);
    if (hl->server.conns.open < hl->server.conns.max)
        st_listener_resume(&hl->listener, ST_PAUSE_FULL);
    check_drained(hl);
}

/* The socket for this loop. A unix socket is one for all; of TCP every loop has its own, on the
 * port of the first. */
static int listen_for(struct http_trigger *ht, struct st_loop *loop, struct st_error *err)
{
    bool first = loop->index == 0;
    int fd;

    if (ht->unix_fd >= 0) {
        fd = fcntl(ht->unix_fd, F_DUPFD_CLOEXEC, 0);
        return fd >= 0 ? fd : st_error_sys(err, errno, "share the unix socket");
    }
    fd = st_listen(ht->address, first, err);
    if (fd < 0 || !first)
        return fd;
    if (strncmp(ht->address, "unix:", 5) == 0) {
        ht->unix_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    } else {
        char *colon = strrchr(ht->address, ':');
        size_t room = sizeof ht->address - (size_t)(colon + 1 - ht->address);
        snprintf(colon + 1, room, "%u", st_listen_port(fd));
    }
    return fd;
}

static void linger_over(struct st_timer *t);

static int http_open(struct st_trigger *t, struct st_loop *loop, struct st_error *err)
{
    struct http_trigger *ht = http_of(t);
    const struct http_attributes *a = attributes_of(ht);
    struct http_loop *hl = &ht->loops[loop->index];
    int fd = listen_for(ht, loop, err);

    if (fd < 0)
        return fd;
    hl->trigger = ht;
    hl->loop = loop;
    hl->cors = ht->cors;
    st_slab_init(&hl->events, "http events", sizeof(struct http_event), KEEP_EVENTS);
    st_timer_init(&hl->linger, linger_over);
    hl->server = (struct st_http_server){
        .net = st_net_of(loop),
        .handler = &http_exchange_handler,
        .arg = hl,
        .max_head = a->read_buffer_size,
        .max_body = a->max_request_body_size,
        .header_timeout_ns = a->header_timeout_ns,
        .body_timeout_ns = a->body_timeout_ns,
        .idle_timeout_ns = a->idle_timeout_ns,
        .write_timeout_ns = a->write_timeout_ns,
        .conns = {.max = connection_share(ht)},
        .on_closed = connection_closed,
        .refused = {ht->bad, ht->big, ht->late, t->metrics.no_memory},
    };
    TAILQ_INIT(&hl->server.sessions);
    st_listener_open(&hl->listener, st_net_of(loop), fd, accepted, hl);
    hl->opened = true;
    if (loop->index == 0)
        ST_LOG(ST_LOG_INFO, "processor.http", "Listening", ST_KV_STR("trigger", t->name),
               ST_KV_STR("address", ht->address));
    return ST_OK;
}

static void http_pause(struct st_trigger *t, struct st_loop *loop)
{
    st_listener_pause(&http_of(t)->loops[loop->index].listener, ST_PAUSE_OWNER);
}

static void http_resume(struct st_trigger *t, struct st_loop *loop)
{
    st_listener_resume(&http_of(t)->loops[loop->index].listener, ST_PAUSE_OWNER);
}

static void stop_listening(struct http_loop *hl)
{
    hl->draining = true;
    st_listener_drain(&hl->listener);
    st_http_server_drain(&hl->server, true);
    check_drained(hl);
}

static void linger_over(struct st_timer *t)
{
    stop_listening(ST_CONTAINER_OF(t, struct http_loop, linger));
}

static void http_drain(struct st_trigger *t, struct st_loop *loop, uint64_t linger_ns)
{
    struct http_loop *hl = &http_of(t)->loops[loop->index];

    if (linger_ns == 0) {
        stop_listening(hl);
        return;
    }
    st_http_server_drain(&hl->server, false);
    st_loop_timer_arm(loop, &hl->linger, linger_ns);
}

static void http_close(struct st_trigger *t, struct st_loop *loop)
{
    struct http_loop *hl = &http_of(t)->loops[loop->index];

    if (!hl->opened)
        return;
    st_loop_timer_cancel(loop, &hl->linger);
    st_listener_close(&hl->listener);
    hl->draining = false;
    st_http_server_close(&hl->server);
}

static void http_destroy(struct st_trigger *t)
{
    struct http_trigger *ht = http_of(t);

    for (unsigned i = 0; ht->loops != NULL && i < t->processor->loop_count; i++) {
        if (ht->loops[i].opened && ht->loops[i].events.in_use == 0)
            st_slab_close(&ht->loops[i].events);
        free(ht->loops[i].room.items);
    }
    http_cors_free(ht->cors);
    if (ht->unix_fd >= 0) {
        close(ht->unix_fd);
        unlink(ht->address + 5);
    }
    free(ht->loops);
}

const struct st_trigger_kind st_trigger_http_kind = {
    .name = "http",

    .event_class = "sync",
    .attributes = attributes,
    .attributes_size = sizeof(struct http_attributes),
    .obj_size = sizeof(struct http_trigger),
    .check = http_check,
    .init = http_init,
    .open = http_open,
    .pause = http_pause,
    .resume = http_resume,
    .complete = http_complete,
    .detach = http_detach,
    .release = http_release,
    .stream_head = http_stream_head,
    .stream_write = http_stream_write,
    .drain = http_drain,
    .close = http_close,
    .destroy = http_destroy,
};
