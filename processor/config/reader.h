/* Fills structs from a document by option tables, and tells every fault with its place. */
#ifndef PROCESSOR_CONFIG_READER_H
#define PROCESSOR_CONFIG_READER_H

#include "processor/config/diag.h"
#include "processor/config/document.h"
#include "processor/config/memory.h"
#include "processor/config/option.h"
#include "processor/core/base.h"

enum { ST_READER_MAX_ROWS = 128 }; /* of one table */

struct st_seen; /* where a field was found; private */

struct st_reader {
    struct st_document *doc;
    struct st_config_memory *mem; /* the document's, as diag */
    struct st_diag *diag;
    struct st_seen *seen;       /* newest first */
    struct st_string_list told; /* spellings that were warned of; items owned by mem */
    bool partial;               /* spec and spec.runtime may be absent */
};

/* The way to a node, for messages; lives on the stack of the walk. */
struct st_path {
    const struct st_path *up;
    struct st_slice name; /* ptr NULL: an item of a list */
    size_t index;
};

/* Memory and diagnostics are the document's. */
void st_reader_init(struct st_reader *r, struct st_document *doc);

/* Sets defaults only. base: the zeroed struct that the table describes. */
void st_reader_defaults(struct st_config_memory *mem, const struct st_option *table, void *base);

/* Sets defaults, then what the node says. Faults go to diag and leave the default. up may be NULL:
 * the document's root. A node that is nothing is an object without keys. */
void st_reader_fill(struct st_reader *r, const struct st_option *table, void *base,
                    struct st_node node, const struct st_path *up);

/* Sets one option of base from a scalar that is written as text, whatever the option's type
 * (st_value_read_text). path is the node's own, for faults. */
void st_reader_set_text(struct st_reader *r, const struct st_option *row, void *base,
                        struct st_node node, const struct st_path *path);

/* A warning about the node at path. */
void st_reader_warn_at(struct st_reader *r, struct st_node node, const struct st_path *path,
                       const char *text);

/* True when the document set the field (its address within a filled struct; items of LIST and MAP
 * by the item's address); *node, which may be NULL, gets the place. */
bool st_reader_was_set(const struct st_reader *r, const void *field, struct st_node *node);

/* A fault or a warning about a field, found by a rule that tables can't express. Where the field
 * was not set, the place is that of `node`. fmt begins with the path. */
void st_reader_error(struct st_reader *r, const void *field, struct st_node node, const char *fmt,
                     ...) ST_PRINTF(4, 5);
void st_reader_warn(struct st_reader *r, const void *field, struct st_node node, const char *fmt,
                    ...) ST_PRINTF(4, 5);

#endif
