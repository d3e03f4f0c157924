/* Values as text: what YAML makes of a plain word, and the syntaxes of numbers, durations, sizes.
 */
#ifndef PROCESSOR_CONFIG_SCALAR_H
#define PROCESSOR_CONFIG_SCALAR_H

#include "processor/core/base.h"
#include "processor/core/err.h"

enum st_scalar_type {
    ST_SCALAR_NULL,
    ST_SCALAR_BOOL,
    ST_SCALAR_INT,
    ST_SCALAR_FLOAT,
    ST_SCALAR_TEXT
};

/* What a word without quotes is in YAML 1.1 (yaml.org/type), sexagesimal numbers excepted. */
enum st_scalar_type st_scalar_resolve(struct st_slice text);

/* These return 0, ST_ERR_INVALID (not of that syntax) or ST_ERR_LIMIT (outside of the type). */

/* y, yes, true, on and their opposites, as YAML 1.1 spells them. */
int st_scalar_bool(struct st_slice text, bool *out) ST_MUST_CHECK;

/* Decimal, 0x, 0o, 0b, octal by a leading 0, with _ between digits; a float without a fraction. */
int st_scalar_int(struct st_slice text, int64_t *out) ST_MUST_CHECK;

/* Go's time.ParseDuration, in ns. */
int st_scalar_duration(struct st_slice text, int64_t *out) ST_MUST_CHECK;

/* A Kubernetes resource.Quantity in bytes, rounded up; negative ones are ST_ERR_LIMIT. */
int st_scalar_size(struct st_slice text, uint64_t *out) ST_MUST_CHECK;

#endif
