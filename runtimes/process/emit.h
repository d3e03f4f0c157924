/* EMIT records as messages. */
#ifndef RUNTIMES_PROCESS_EMIT_H
#define RUNTIMES_PROCESS_EMIT_H

#include "processor/output.h"
#include "runtimes/process/channel.h"

enum { ST_EMITTED_SPACE = 1024 };

/* A message of a worker. All but the value's bytes, which nobody may look at twice, lies in our
 * memory: in `space`, or in `copy`. */
struct st_emitted {
    struct st_message m; /* without a value where that travels by reference */
    struct st_slice output;
    char *copy; /* or NULL */
    struct st_header headers[ST_MESSAGE_HEADERS];
    _Alignas(uint32_t) char space[ST_EMITTED_SPACE];
};

/* NULL, or what is wrong, static. Either way st_emitted_drop follows. */
const char *st_emitted_read(struct st_emitted *e, const struct st_wire_view *view);
void st_emitted_drop(struct st_emitted *e);

#endif
