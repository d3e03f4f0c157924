/* Reading a record that a worker wrote. */
#ifndef RUNTIMES_PROCESS_VIEW_H
#define RUNTIMES_PROCESS_VIEW_H

#include "runtimes/process/channel.h"

/* Checks the record, of which `record` is a copy and which lies at `at` with record->size bytes,
 * and fills *out. pool_bytes: of each pool; 0: there is none. NULL, or what is wrong, static. */
const char *st_wire_view_read(struct st_wire_view *out, const struct st_wire_record *record,
                              const char *at, uint64_t pool_bytes);

#endif
