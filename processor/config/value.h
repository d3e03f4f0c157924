/* One value of an option: from a scalar node or a default's text into the field, with its checks.
 */
#ifndef PROCESSOR_CONFIG_VALUE_H
#define PROCESSOR_CONFIG_VALUE_H

#include "processor/config/document.h"
#include "processor/config/memory.h"
#include "processor/config/option.h"
#include "processor/core/base.h"

/* Reads a scalar node of the document into the row's field of base. On a fault returns
 * ST_ERR_INVALID, leaves the field and writes "found X, expected Y, for example Z". */
int st_value_read(struct st_document *doc, const struct st_option *row, void *base,
                  struct st_node node, char *fault, size_t n) ST_MUST_CHECK;

/* The same where every value is written as text, quoted or not; a list's items are separated by
 * commas. */
int st_value_read_text(struct st_document *doc, const struct st_option *row, void *base,
                       struct st_node node, char *fault, size_t n) ST_MUST_CHECK;

/* Sets the row's default, which is not NULL. A bad one is a broken invariant. */
void st_value_default(struct st_config_memory *mem, const struct st_option *row, void *base);

/* How messages call what stands there: a list, the number 5, "text"; secrets are not shown. */
const char *st_value_found(struct st_config_memory *mem, const struct st_option *row,
                           struct st_node node);

/* Writes "found X, expected Y, for example Z" for the row. node serves the example of a text that
 * only lacks its quotes; its fyn may be NULL. */
void st_value_describe_fault(char *text, size_t n, const struct st_option *row, const char *found,
                             struct st_node node);

/* Writes what the row takes: "a whole number from 1 to 64". */
void st_value_describe_type(char *text, size_t n, const struct st_option *row);

/* The default as people write it, or NULL where there is none: absent and zero differ, or a text
 * that is empty. */
const char *st_value_default_text(const struct st_option *row);

#endif
