#include "processor/config/document.h"

#include <errno.h>
#include <fcntl.h>
#include <libfyaml.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processor/config/scalar.h"
#include "processor/core/alloc.h"

enum {
    MAX_MERGE_DEPTH = 16,
    MAX_MERGED = 1000, /* keys of one object that come by <<: aliases can multiply */
    MAX_ALIAS_CHAIN = 16
};

static struct st_place place_of(const struct st_document *doc, struct st_node node)
{
    return (struct st_place){doc->file, node.line, node.column};
}

/* A node with its own place where libfyaml knows one, otherwise that of `at`. */
static struct st_node node_of(struct fy_node *fyn, struct st_node at)
{
    struct st_node node = {fyn, at.line, at.column};
    struct fy_token *token = fyn != NULL ? fy_node_get_scalar_token(fyn) : NULL;
    const struct fy_mark *mark = token != NULL ? fy_token_start_mark(token) : NULL;
    enum fy_node_style style;

    if (mark == NULL)
        return node;
    style = fy_node_get_style(fyn);
    node.line = (unsigned)mark->line + 1;
    node.column = (unsigned)mark->column + 1;
    /* The mark is behind the quote, or the * of an alias. */
    if ((style == FYNS_SINGLE_QUOTED || style == FYNS_DOUBLE_QUOTED || style == FYNS_ALIAS) &&
        node.column > 1)
        node.column--;
    return node;
}

static struct st_slice scalar_text(struct fy_node *fyn)
{
    struct st_slice text = {NULL, 0};

    text.ptr = fy_node_get_scalar(fyn, &text.len);
    return text.ptr != NULL ? text : ST_SLICE("");
}

/* node, or what the alias stands for; a fault leaves nothing in node.fyn. */
static int follow(struct st_document *doc, struct st_node *node)
{
    for (int i = 0; node->fyn != NULL && fy_node_is_alias(node->fyn); i++) {
        struct st_slice name = scalar_text(node->fyn);

        node->fyn = i < MAX_ALIAS_CHAIN ? fy_node_resolve_alias(node->fyn) : NULL;
        if (node->fyn == NULL) {
            st_diag_error(doc->diag, place_of(doc, *node),
                          "found the alias *%.*s, expected the name of an anchor of this file",
                          (int)name.len, name.ptr);
            return ST_ERR_INVALID;
        }
    }
    return 0;
}

struct st_node st_document_root(const struct st_document *doc)
{
    struct st_node start = {NULL, 1, 1};

    return node_of(fy_document_root(doc->fyd), start);
}

enum st_node_kind st_node_kind(struct st_node node)
{
    if (node.fyn == NULL)
        return ST_NODE_NULL;
    if (fy_node_is_mapping(node.fyn))
        return ST_NODE_MAP;
    if (fy_node_is_sequence(node.fyn))
        return ST_NODE_LIST;
    if (!st_node_is_text(node) && st_scalar_resolve(scalar_text(node.fyn)) == ST_SCALAR_NULL)
        return ST_NODE_NULL;
    return ST_NODE_SCALAR;
}

struct st_slice st_node_text(struct st_node node)
{
    return scalar_text(node.fyn);
}

bool st_node_is_text(struct st_node node)
{
    size_t len = 0;
    const char *tag = fy_node_get_tag(node.fyn, &len);
    struct st_slice name = {tag, tag != NULL ? len : 0};

    if (name.len > 0) {
        if (st_slice_eq(name, ST_SLICE("tag:yaml.org,2002:str")) ||
            st_slice_eq(name, ST_SLICE("!")))
            return true;
        if (name.len > 18 && memcmp(name.ptr, "tag:yaml.org,2002:", 18) == 0)
            return false; /* !!int "5" is a number */
    }
    return fy_node_get_style(node.fyn) != FYNS_PLAIN;
}

struct st_node *st_document_items(struct st_document *doc, struct st_node node, size_t *count)
{
    int total = fy_node_sequence_item_count(node.fyn);
    struct st_node *items = st_config_alloc(doc->mem, (size_t)total * sizeof(items[0]));
    struct fy_node *fyn;
    void *at = NULL;

    *count = 0;
    while ((fyn = fy_node_sequence_iterate(node.fyn, &at)) != NULL) {
        struct st_node item = node_of(fyn, node);

        if (follow(doc, &item) == 0)
            items[(*count)++] = item;
    }
    return items;
}

static bool is_merge(struct st_node key)
{
    return fy_node_get_style(key.fyn) == FYNS_PLAIN &&
           st_slice_eq(st_node_text(key), ST_SLICE("<<"));
}

/* Room for the pairs of one object while it is put together. */
struct gather {
    struct st_pairs *pairs;
    size_t room, merged;
};

static bool has_key(const struct st_pairs *pairs, struct st_slice key)
{
    for (size_t i = 0; i < pairs->count; i++) {
        if (st_slice_eq(pairs->items[i].key, key))
            return true;
    }
    return false;
}

static void add_pair(struct st_document *doc, struct gather *g, struct st_pair pair)
{
    if (g->pairs->count == g->room) {
        struct st_pair *more;

        g->room = g->room == 0 ? 8 : 2 * g->room;
        more = st_config_alloc(doc->mem, g->room * sizeof(more[0]));
        if (g->pairs->count > 0)
            memcpy(more, g->pairs->items, g->pairs->count * sizeof(more[0]));
        g->pairs->items = more;
    }
    g->pairs->items[g->pairs->count++] = pair;
}

/* Adds the keys of an object that are no merge keys. */
static int gather_own(struct st_document *doc, struct st_node node, struct gather *g, bool merged)
{
    struct fy_node_pair *fynp;
    void *at = NULL;

    while ((fynp = fy_node_mapping_iterate(node.fyn, &at)) != NULL) {
        struct st_pair pair = {.merged = merged};

        pair.key_node = node_of(fy_node_pair_key(fynp), node);
        if (follow(doc, &pair.key_node) != 0)
            return ST_ERR_INVALID;
        if (pair.key_node.fyn == NULL || !fy_node_is_scalar(pair.key_node.fyn)) {
            st_diag_error(doc->diag, place_of(doc, pair.key_node),
                          "found a list or an object as a key, expected text");
            return ST_ERR_INVALID;
        }
        if (is_merge(pair.key_node))
            continue;
        pair.key = st_node_text(pair.key_node);
        pair.value = node_of(fy_node_pair_value(fynp), pair.key_node);
        if (follow(doc, &pair.value) != 0)
            return ST_ERR_INVALID;
        if (merged && has_key(g->pairs, pair.key))
            continue;
        if (merged && ++g->merged > MAX_MERGED) {
            st_diag_error(doc->diag, place_of(doc, node), "found more than %d keys merged by <<",
                          MAX_MERGED);
            return ST_ERR_INVALID;
        }
        add_pair(doc, g, pair);
    }
    return 0;
}

static int gather_merges(struct st_document *doc, struct st_node node, struct gather *g, int depth);

/* One object that a merge key names, then those that it merges itself. */
static int gather_merged(struct st_document *doc, struct st_node from, struct gather *g, int depth)
{
    int rc;

    if (st_node_kind(from) != ST_NODE_MAP || depth > MAX_MERGE_DEPTH) {
        st_diag_error(doc->diag, place_of(doc, from), "<<: found %s, expected %s",
                      depth > MAX_MERGE_DEPTH ? "merges in merges without an end"
                                              : "something else",
                      "an object or a list of objects, for example *anchor");
        return ST_ERR_INVALID;
    }
    /* Objects that hold nothing but merges add no keys, yet each visit counts. */
    if (++g->merged > MAX_MERGED) {
        st_diag_error(doc->diag, place_of(doc, from), "found more than %d keys merged by <<",
                      MAX_MERGED);
        return ST_ERR_INVALID;
    }
    rc = gather_own(doc, from, g, true);
    return rc != 0 ? rc : gather_merges(doc, from, g, depth + 1);
}

static int gather_merges(struct st_document *doc, struct st_node node, struct gather *g, int depth)
{
    struct fy_node_pair *fynp;
    void *at = NULL;
    int rc = 0;

    while (rc == 0 && (fynp = fy_node_mapping_iterate(node.fyn, &at)) != NULL) {
        struct st_node key = node_of(fy_node_pair_key(fynp), node), value;

        if (key.fyn == NULL || !fy_node_is_scalar(key.fyn) || !is_merge(key))
            continue;
        value = node_of(fy_node_pair_value(fynp), key);
        rc = follow(doc, &value);
        if (rc == 0 && st_node_kind(value) == ST_NODE_LIST) {
            struct fy_node *fyn;
            void *item_at = NULL;

            while (rc == 0 && (fyn = fy_node_sequence_iterate(value.fyn, &item_at)) != NULL) {
                struct st_node item = node_of(fyn, key);

                rc = follow(doc, &item);
                if (rc == 0)
                    rc = gather_merged(doc, item, g, depth);
            }
        } else if (rc == 0) {
            rc = gather_merged(doc, value, g, depth);
        }
    }
    return rc;
}

int st_document_pairs(struct st_document *doc, struct st_node node, struct st_pairs *out)
{
    struct gather g = {.pairs = out};
    int rc;

    *out = (struct st_pairs){NULL, 0};
    rc = gather_own(doc, node, &g, false);
    return rc != 0 ? rc : gather_merges(doc, node, &g, 0);
}

/* ---- duplicate keys: libfyaml's own check is quadratic and does not name the key ---- */

static int by_text(const void *left, const void *right)
{
    const struct st_pair *a = left, *b = right;
    size_t len = a->key.len < b->key.len ? a->key.len : b->key.len;
    int order = len > 0 ? memcmp(a->key.ptr, b->key.ptr, len) : 0;

    if (order == 0 && a->key.len != b->key.len)
        order = a->key.len < b->key.len ? -1 : 1;
    if (order == 0 && a->key_node.line != b->key_node.line)
        order = a->key_node.line < b->key_node.line ? -1 : 1;
    if (order == 0 && a->key_node.column != b->key_node.column)
        order = a->key_node.column < b->key_node.column ? -1 : 1;
    return order;
}

/* The first second key of an object in file order, or NULL. keys is sorted by this. */
static const struct st_pair *second_key(struct st_pair *keys, size_t count, unsigned *first_line)
{
    const struct st_pair *found = NULL;

    qsort(keys, count, sizeof(keys[0]), by_text);
    for (size_t i = 1; i < count; i++) {
        const struct st_pair *a = &keys[i - 1], *b = &keys[i];

        if (!st_slice_eq(a->key, b->key) ||
            (found != NULL && found->key_node.line <= b->key_node.line))
            continue;
        found = b;
        *first_line = a->key_node.line;
    }
    return found;
}

static int check_keys(struct st_document *doc, struct st_node node)
{
    int count = fy_node_mapping_item_count(node.fyn), n = 0;
    struct st_pair *keys = st_calloc((size_t)count + 1, sizeof(keys[0]));
    const struct st_pair *found;
    struct fy_node_pair *fynp;
    unsigned first_line = 0;
    void *at = NULL;

    while ((fynp = fy_node_mapping_iterate(node.fyn, &at)) != NULL && n < count) {
        struct fy_node *key = fy_node_pair_key(fynp);

        if (key == NULL || !fy_node_is_scalar(key) || fy_node_is_alias(key))
            continue;
        keys[n].key_node = node_of(key, node);
        keys[n++].key = scalar_text(key);
    }
    found = second_key(keys, (size_t)n, &first_line);
    if (found != NULL)
        st_diag_error(doc->diag, place_of(doc, found->key_node),
                      "found the key \"%.*s\" a second time, expected it once (first on line %u)",
                      (int)found->key.len, found->key.ptr, first_line);
    free(keys);
    return found != NULL ? ST_ERR_INVALID : 0;
}

/* Depth is bounded by the parser's limit. */
static int check_duplicates(struct st_document *doc, struct st_node node)
{
    void *at = NULL;
    int rc = 0;

    if (node.fyn == NULL || fy_node_is_alias(node.fyn))
        return 0;
    if (fy_node_is_mapping(node.fyn)) {
        struct fy_node_pair *fynp;

        rc = check_keys(doc, node);
        while (rc == 0 && (fynp = fy_node_mapping_iterate(node.fyn, &at)) != NULL) {
            struct st_node key = node_of(fy_node_pair_key(fynp), node);

            rc = check_duplicates(doc, key);
            if (rc == 0)
                rc = check_duplicates(doc, node_of(fy_node_pair_value(fynp), key));
        }
    } else if (fy_node_is_sequence(node.fyn)) {
        struct fy_node *fyn;

        while (rc == 0 && (fyn = fy_node_sequence_iterate(node.fyn, &at)) != NULL)
            rc = check_duplicates(doc, node_of(fyn, node));
    }
    return rc;
}

/* ---- characters: libfyaml silently stops at what is no UTF-8 ---- */

/* Length of the sequence at p, 0 when it is none that YAML allows (RFC 3629, YAML 1.2 5.1). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    uint32_t c = p[0];
    size_t len = c < 0x80                ? 1
                 : c >= 0xc2 && c < 0xe0 ? 2
                 : c >= 0xe0 && c < 0xf0 ? 3
                 : c >= 0xf0 && c < 0xf5 ? 4
                                         : 0;

    if (len == 0 || len > left)
        return 0;
    if (len == 1)
        return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c != 0x7f) ? 1 : 0;
    c &= 0x7fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
        (len == 4 && (c < 0x10000 || c > 0x10ffff)) || (c < 0xa0 && c != 0x85) || c == 0xfffe ||
        c == 0xffff)
        return 0;
    return len;
}

static int check_characters(const char *file, struct st_slice text, struct st_diag *diag)
{
    struct st_place at = {file, 1, 1};
    size_t len;

    for (size_t i = 0; i < text.len; i += len) {
        const unsigned char *p = (const unsigned char *)text.ptr + i;

        len = utf8_length(p, text.len - i);
        if (len == 0) {
            st_diag_error(diag, at, "found the byte 0x%02x, expected UTF-8 text", *p);
            return ST_ERR_INVALID;
        }
        at.column++;
        if (*p == '\n') {
            at.line++;
            at.column = 1;
        }
    }
    return 0;
}

/* ---- parsing ---- */

static void report_syntax(struct st_document *doc, struct fy_diag *diag)
{
    const struct fy_diag_error *e;
    void *at = NULL;

    /* Only the first counts: what follows is confused by it. */
    e = fy_diag_errors_iterate(diag, &at);
    if (e == NULL)
        st_diag_error(doc->diag, (struct st_place){doc->file, 0, 0}, "found no valid YAML");
    else
        st_diag_error(doc->diag,
                      (struct st_place){doc->file, (unsigned)e->line, (unsigned)e->column},
                      "not valid YAML: %s", e->msg);
}

static int load(struct st_document *doc, struct fy_parser *parser, struct fy_diag *diag, size_t len)
{
    struct fy_document *second;

    if (fy_parser_set_string(parser, doc->text, len) != 0)
        return ST_ERR_NOMEM;
    doc->fyd = fy_parse_load_document(parser);
    if (fy_diag_got_error(diag)) {
        report_syntax(doc, diag);
        return ST_ERR_INVALID;
    }
    if (doc->fyd == NULL || fy_document_root(doc->fyd) == NULL) {
        st_diag_error(doc->diag, (struct st_place){doc->file, 0, 0},
                      "found an empty file, expected a configuration");
        return ST_ERR_INVALID;
    }
    second = fy_parse_load_document(parser);
    if (fy_diag_got_error(diag)) {
        report_syntax(doc, diag);
    } else if (second != NULL &&
               st_node_kind((struct st_node){.fyn = fy_document_root(second)}) != ST_NODE_NULL) {
        st_diag_error(doc->diag, (struct st_place){doc->file, 0, 0},
                      "found a second document behind ---, expected one");
    } else {
        fy_parse_document_destroy(parser, second);
        return 0;
    }
    fy_parse_document_destroy(parser, second);
    return ST_ERR_INVALID;
}

static int parse(struct st_document *doc, size_t len)
{
    struct fy_diag_cfg diag_cfg;
    struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_ALLOW_DUPLICATE_KEYS |
                                        FYPCF_DEFAULT_VERSION_1_1 | FYPCF_DISABLE_ACCELERATORS};
    struct fy_parser *parser;
    int rc;

    fy_diag_cfg_default(&diag_cfg);
    diag_cfg.fp = NULL; /* errors are collected, not printed */
    diag_cfg.level = FYET_ERROR;
    cfg.diag = fy_diag_create(&diag_cfg);
    ST_ASSERT(cfg.diag != NULL);
    fy_diag_set_collect_errors(cfg.diag, true);
    parser = fy_parser_create(&cfg);
    ST_ASSERT(parser != NULL);
    rc = load(doc, parser, cfg.diag, len);
    fy_parser_destroy(parser);
    fy_diag_destroy(cfg.diag);
    return rc != 0 ? rc : check_duplicates(doc, st_document_root(doc));
}

/* Takes doc->text over, also when it fails. */
static int parse_owned(struct st_document *doc, size_t len)
{
    int rc = check_characters(doc->file, (struct st_slice){doc->text, len}, doc->diag);

    if (rc == 0)
        rc = parse(doc, len);
    if (rc != 0)
        st_document_close(doc);
    return rc;
}

int st_document_parse(struct st_document *doc, const char *file, struct st_slice text,
                      struct st_config_memory *mem, struct st_diag *diag)
{
    *doc = (struct st_document){.file = file, .mem = mem, .diag = diag};
    doc->text = st_malloc(text.len + 1);
    if (text.len > 0)
        memcpy(doc->text, text.ptr, text.len);
    return parse_owned(doc, text.len);
}

/* All of a file, at most ST_DOCUMENT_MAX_BYTES; its length or a negative errno. */
static ssize_t read_all(int fd, char *text)
{
    size_t len = 0;

    for (;;) {
        ssize_t n = read(fd, text + len, ST_DOCUMENT_MAX_BYTES + 1 - len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        len += (size_t)n;
        if (n == 0)
            return (ssize_t)len;
        if (len > ST_DOCUMENT_MAX_BYTES)
            return -EFBIG;
    }
}

int st_document_open(struct st_document *doc, const char *file, struct st_config_memory *mem,
                     struct st_diag *diag)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -errno : 0;

    *doc = (struct st_document){.file = file, .mem = mem, .diag = diag};
    if (fd >= 0) {
        doc->text = st_malloc(ST_DOCUMENT_MAX_BYTES + 1);
        len = read_all(fd, doc->text);
        close(fd);
    }
    if (len < 0) {
        st_diag_error(diag, (struct st_place){file, 0, 0}, "can't be read: %s",
                      strerror((int)-len));
        st_document_close(doc);
        return ST_ERR_NOTFOUND;
    }
    return parse_owned(doc, (size_t)len);
}

void st_document_close(struct st_document *doc)
{
    fy_document_destroy(doc->fyd);
    free(doc->text);
    doc->fyd = NULL;
    doc->text = NULL;
}
