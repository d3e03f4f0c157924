/* The admin listeners on the main loop: /live and /ready on the health address, /metrics on the
 * metrics address. */
#ifndef PROCESSOR_ADMIN_ADMIN_H
#define PROCESSOR_ADMIN_ADMIN_H

#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_admin;
struct st_processor;

/* Listens; sockets answer once the main loop runs. A configured address that is taken is an error,
 * a default one moves to a free port and says so. */
int st_admin_open(struct st_admin **out, struct st_processor *p,
                  struct st_error *err) ST_MUST_CHECK;

/* With neither an http trigger nor a default one: listens in its place and answers the health path
 * alone. When everything is ready; main loop. */
int st_admin_open_http(struct st_admin *a, struct st_error *err) ST_MUST_CHECK;

/* After the main loop has ended. NULL is ignored. */
void st_admin_close(struct st_admin *a);

#endif
