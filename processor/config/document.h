/* A YAML or JSON file as a tree of nodes that know their place. The only user of libfyaml. */
#ifndef PROCESSOR_CONFIG_DOCUMENT_H
#define PROCESSOR_CONFIG_DOCUMENT_H

#include "processor/config/diag.h"
#include "processor/config/memory.h"
#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_secrets;
struct fy_document;
struct fy_node;

enum { ST_DOCUMENT_MAX_BYTES = 1024 * 1024 };

struct st_document {
    struct fy_document *fyd;
    const char *file;                 /* for messages; borrowed */
    char *text;                       /* libfyaml's tokens point into it */
    struct st_config_memory *mem;     /* borrowed */
    struct st_diag *diag;             /* borrowed */
    const struct st_secrets *secrets; /* of masked texts; NULL, as opened: they stay */
};

enum st_node_kind { ST_NODE_NULL, ST_NODE_SCALAR, ST_NODE_MAP, ST_NODE_LIST };

/* Aliases are followed. Objects and lists have the place of the key or item that they stand at. */
struct st_node {
    struct fy_node *fyn; /* NULL: nothing */
    unsigned line, column;
};

/* One key of an object. */
struct st_pair {
    struct st_slice key;
    struct st_node key_node, value;
    bool merged; /* came by << */
};

struct st_pairs {
    struct st_pair *items;
    size_t count;
};

/* Reads a file and parses it; a syntax error, a duplicate key or a second document is told to diag.
 * On success the caller closes the document after the last use of its nodes. */
int st_document_open(struct st_document *doc, const char *file, struct st_config_memory *mem,
                     struct st_diag *diag) ST_MUST_CHECK;

/* The same for text, which is copied. */
int st_document_parse(struct st_document *doc, const char *file, struct st_slice text,
                      struct st_config_memory *mem, struct st_diag *diag) ST_MUST_CHECK;
void st_document_close(struct st_document *doc);

struct st_node st_document_root(const struct st_document *doc);
enum st_node_kind st_node_kind(struct st_node node);

/* Of a scalar: its characters, unescaped; whether quotes or a tag make it text whatever it says. */
struct st_slice st_node_text(struct st_node node);
bool st_node_is_text(struct st_node node);

/* Own keys in file order, then merged ones. 0, or ST_ERR_INVALID when diag was told of a fault. */
int st_document_pairs(struct st_document *doc, struct st_node node,
                      struct st_pairs *out) ST_MUST_CHECK;

/* Items of a list; *count of them, in the configuration's memory. */
struct st_node *st_document_items(struct st_document *doc, struct st_node node, size_t *count);

#endif
