/* Wrong usage of a command: one line on stderr that says what to type, and exit status 2. */
#ifndef PROCESSOR_CLI_USAGE_H
#define PROCESSOR_CLI_USAGE_H

#include <argp.h>
#include <stdarg.h>

#include "processor/core/base.h"

/* synopsis: what to type behind "stator". Main thread. */
ST_NORETURN void st_usage_fail(const char *synopsis, const char *fmt, ...) ST_PRINTF(2, 3);
ST_NORETURN void st_usage_vfail(const char *synopsis, const char *fmt, va_list args)
    ST_PRINTF(2, 0);

/* For ARGP_KEY_ERROR of a parser that argp keeps quiet: says which option of `command` is unknown,
 * lacks its value or takes none. */
ST_NORETURN void st_usage_bad_option(const char *command, const char *synopsis,
                                     const struct argp_option *options,
                                     const struct argp_state *state);

/* The value of an option as a number from min to max, or wrong usage. */
int64_t st_usage_number(const char *synopsis, const char *option, const char *text, int64_t min,
                        int64_t max);

/* The same for a duration as Go writes it, in ns; at least 1 ms. */
uint64_t st_usage_duration(const char *synopsis, const char *option, const char *text);

#endif
