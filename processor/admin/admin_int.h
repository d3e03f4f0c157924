/* Between the files of the admin listeners: admin.c (listening, routes, metrics), admin_live.c,
 * admin_status.c, admin_triggers.c, admin_logger.c. Everything runs on the main loop. */
#ifndef PROCESSOR_ADMIN_ADMIN_INT_H
#define PROCESSOR_ADMIN_ADMIN_INT_H

#include <jansson.h>

#include "processor/admin/admin.h"
#include "processor/core/loop.h"
#include "processor/core/slab.h"
#include "processor/net/http1.h"
#include "processor/net/listener.h"

struct st_admin_route;

struct admin_endpoint {
    struct st_admin *admin;
    const struct st_admin_route *routes; /* end with a NULL path */
    struct st_listener listener;
    struct st_http_server server;
    bool opened;
};

/* A sign of life from one loop, at most one under way. */
struct admin_sign {
    struct st_mail mail;
    struct st_admin *admin;
    struct st_loop *loop;
    bool awaited;
};

struct st_admin {
    struct st_processor *p;
    struct admin_endpoint health, metrics, web, bare_http;
    struct admin_sign *signs;                  /* one a loop */
    TAILQ_HEAD(, admin_exchange) live_waiters; /* /live requests, oldest first */
    struct st_slab exchanges;
};

struct admin_exchange {
    struct st_exchange x;
    struct st_admin *admin;
    struct admin_endpoint *endpoint;
    struct st_slice path; /* decoded */
    TAILQ_ENTRY(admin_exchange) link;
    struct st_timer timer;
    bool waits;
    bool full; /* the query has full=1 */
    struct st_arena arena;
    struct st_header headers[ST_HTTP1_INLINE_HEADERS];
};

/* The one answer of an exchange, which may be gone afterwards. body and type are copied; _json
 * drops the reference. */
void st_admin_answer(struct admin_exchange *ax, unsigned status, struct st_slice type,
                     struct st_slice body);
void st_admin_answer_empty(struct admin_exchange *ax, unsigned status);
void st_admin_answer_json(struct admin_exchange *ax, unsigned status, json_t *value_take);

/* admin_live.c: /live, /ready */
void st_admin_live(struct admin_exchange *ax);
void st_admin_ready(struct admin_exchange *ax);

/* The client left; nothing happens where it does not wait for /live. */
void st_admin_live_gone(struct admin_exchange *ax);

/* admin_triggers.c: /triggers, /triggers/ID, /triggers/ID/stats */
void st_admin_triggers(struct admin_exchange *ax);

/* admin_status.c: /status */
void st_admin_status(struct admin_exchange *ax);

/* admin_logger.c: /logger/level */
void st_admin_level_get(struct admin_exchange *ax);
void st_admin_level_put(struct admin_exchange *ax);

#endif
