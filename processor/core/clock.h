/* Clocks in nanoseconds, and their texts. */
#ifndef PROCESSOR_CORE_CLOCK_H
#define PROCESSOR_CORE_CLOCK_H

#include "processor/core/base.h"

/* CLOCK_MONOTONIC now. Costs a vDSO call: code on a loop uses st_loop_now() instead. */
uint64_t st_clock_mono(void);

/* CLOCK_REALTIME now, since the epoch. */
uint64_t st_clock_wall(void);

enum { ST_HTTP_DATE_LEN = 29, ST_ISO8601_LEN = 24 };

/* Writes IMF-fixdate (RFC 9110 section 5.6.7), "Sun, 06 Nov 1994 08:49:37 GMT", and a NUL. */
void st_clock_http_date(uint64_t wall_ns, char out[ST_HTTP_DATE_LEN + 1]);

/* Writes "2026-01-31T23:59:59.123Z" and a NUL. */
void st_clock_iso8601(uint64_t wall_ns, char out[ST_ISO8601_LEN + 1]);

#endif
