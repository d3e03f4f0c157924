/* Time zones: the offset from UTC at a time, and from when to when it holds.
 *
 * A reader of its own for TZif files (RFC 8536) and the POSIX TZ rules in their footers: libc knows
 * one zone at a time, and tzset(3) is not for threads. A zone is constant once open; any thread. */
#ifndef TRIGGERS_CRON_ZONE_H
#define TRIGGERS_CRON_ZONE_H

#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_cron_zone;

/* A stretch of time with one offset. Seconds since the epoch; seconds east of UTC. */
struct st_cron_span {
    int64_t begin, end; /* end is not part of it; INT64_MIN, INT64_MAX: for ever */
    int32_t offset;
    int32_t before; /* offset of the span before; the same as offset in the first */
};

/* Opens a zone by its IANA name, from $TZDIR or /usr/share/zoneinfo. "UTC" needs no file; "" and
 * "Local" are the container's zone: $TZ (a name, or a POSIX rule), else /etc/localtime, else UTC.
 * ST_ERR_INVALID for a bad name or file, ST_ERR_NOTFOUND when there is none. */
int st_cron_zone_open(struct st_cron_zone **out, const char *name,
                      struct st_error *err) ST_MUST_CHECK;

/* The same from the bytes of a TZif file. */
int st_cron_zone_read(struct st_cron_zone **out, struct st_slice bytes,
                      struct st_error *err) ST_MUST_CHECK;

/* The same from a POSIX TZ rule, "CET-1CEST,M3.5.0,M10.5.0/3". */
int st_cron_zone_rule(struct st_cron_zone **out, struct st_slice rule,
                      struct st_error *err) ST_MUST_CHECK;

/* NULL is ignored. */
void st_cron_zone_free(struct st_cron_zone *zone);

/* The span that the time lies in; within a million years of the epoch. */
struct st_cron_span st_cron_zone_span(const struct st_cron_zone *zone, int64_t utc);

#endif
