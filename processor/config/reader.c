#include "processor/config/reader.h"

#include <stdarg.h>

#include "processor/config/names.h"
#include "processor/config/value.h"

struct st_seen {
    struct st_seen *next;
    const void *field;
    struct st_node node;
};

void st_reader_init(struct st_reader *r, struct st_document *doc)
{
    *r = (struct st_reader){.doc = doc, .mem = doc->mem, .diag = doc->diag};
}

static struct st_place place_of(const struct st_reader *r, struct st_node node)
{
    return (struct st_place){r->doc->file, node.line, node.column};
}

static void mark_set(struct st_reader *r, const void *field, struct st_node node)
{
    struct st_seen *seen = st_config_alloc(r->mem, sizeof(*seen));

    *seen = (struct st_seen){r->seen, field, node};
    r->seen = seen;
}

bool st_reader_was_set(const struct st_reader *r, const void *field, struct st_node *node)
{
    for (const struct st_seen *s = r->seen; s != NULL; s = s->next) {
        if (s->field != field)
            continue;
        if (node != NULL)
            *node = s->node;
        return true;
    }
    return false;
}

void st_reader_error(struct st_reader *r, const void *field, struct st_node node, const char *fmt,
                     ...)
{
    va_list args;

    st_reader_was_set(r, field, &node);
    va_start(args, fmt);
    st_diag_vadd(r->diag, false, place_of(r, node), fmt, args);
    va_end(args);
}

void st_reader_warn(struct st_reader *r, const void *field, struct st_node node, const char *fmt,
                    ...)
{
    va_list args;

    st_reader_was_set(r, field, &node);
    va_start(args, fmt);
    st_diag_vadd(r->diag, true, place_of(r, node), fmt, args);
    va_end(args);
}

/* ---- paths ---- */

static bool is_plain_name(struct st_slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = (char)(name.ptr[i] | 0x20);

        if (!((c >= 'a' && c <= 'z') || (name.ptr[i] >= '0' && name.ptr[i] <= '9') ||
              name.ptr[i] == '_' || name.ptr[i] == '-'))
            return false;
    }
    return name.len > 0;
}

/* "spec.triggers.http.url", "spec.env[0].name", "metadata.labels[\"a/b\"]" */
static const char *path_text(struct st_reader *r, const struct st_path *path)
{
    const char *up = path->up != NULL ? path_text(r, path->up) : "";

    if (path->name.ptr == NULL)
        return st_config_printf(r->mem, "%s[%zu]", up, path->index);
    if (!is_plain_name(path->name))
        return st_config_printf(r->mem, "%s[\"%.*s\"]", up, (int)path->name.len, path->name.ptr);
    return st_config_printf(r->mem, "%s%s%.*s", up, path->up != NULL ? "." : "",
                            (int)path->name.len, path->name.ptr);
}

static void complain(struct st_reader *r, struct st_node node, const struct st_path *path,
                     const char *text)
{
    st_diag_error(r->diag, place_of(r, node), "%s: %s", path_text(r, path), text);
}

/* "found X, expected Y, for example Z" about a value that is not the row's kind at all. */
static void complain_type(struct st_reader *r, const struct st_option *row, struct st_node node,
                          const struct st_path *path)
{
    char text[512];

    st_value_describe_fault(text, sizeof(text), row, st_value_found(r->mem, row, node), node);
    complain(r, node, path, text);
}

/* ---- values ---- */

static void read_scalar(struct st_reader *r, const struct st_option *row, void *base,
                        struct st_node node, const struct st_path *path)
{
    char fault[512];

    if (st_value_read(r->doc, row, base, node, fault, sizeof(fault)) != 0)
        complain(r, node, path, fault);
    else
        mark_set(r, (char *)base + row->offset, node);
}

static void read_string_list(struct st_reader *r, const struct st_option *row, void *base,
                             struct st_node node, const struct st_path *path)
{
    struct st_option item = *row;
    struct st_string_list list = {NULL, 0};
    size_t count;
    struct st_node *nodes = st_document_items(r->doc, node, &count);

    item.type = ST_OPT_STRING;
    item.offset = 0;
    item.example = NULL; /* the row's is a whole list */
    list.items = st_config_alloc(r->mem, count * sizeof(list.items[0]));
    list.count = count;
    for (size_t i = 0; i < count; i++) {
        struct st_path at = {.up = path, .index = i};

        if (st_node_kind(nodes[i]) == ST_NODE_SCALAR)
            read_scalar(r, &item, &list.items[i], nodes[i], &at);
        else
            complain_type(r, &item, nodes[i], &at);
    }
    memcpy((char *)base + row->offset, &list, sizeof(list));
}

static void read_string_map(struct st_reader *r, const struct st_option *row, void *base,
                            struct st_node node, const struct st_path *path)
{
    struct st_option item = *row;
    struct st_string_map map = {NULL, 0};
    struct st_pairs pairs;

    if (st_document_pairs(r->doc, node, &pairs) != 0)
        return;
    item.type = ST_OPT_STRING;
    item.offset = 0;
    item.example = NULL;
    map.items = st_config_alloc(r->mem, pairs.count * sizeof(map.items[0]));
    for (size_t i = 0; i < pairs.count; i++) {
        struct st_path at = {.up = path, .name = pairs.items[i].key};
        struct st_string_pair *pair = &map.items[map.count];

        if (st_node_kind(pairs.items[i].value) == ST_NODE_NULL)
            continue; /* as absent */
        pair->name = st_config_text(r->mem, pairs.items[i].key);
        pair->value = "";
        map.count++;
        if (st_node_kind(pairs.items[i].value) != ST_NODE_SCALAR)
            complain_type(r, &item, pairs.items[i].value, &at);
        else if ((row->flags & ST_OPT_SCALARS) != 0)
            pair->value = st_config_text(r->mem, st_node_text(pairs.items[i].value));
        else
            read_scalar(r, &item, &pair->value, pairs.items[i].value, &at);
    }
    memcpy((char *)base + row->offset, &map, sizeof(map));
}

/* The pair of members of LIST and MAP. */
static void set_items(const struct st_option *row, void *base, void *items, size_t count)
{
    memcpy((char *)base + row->offset, &items, sizeof(items));
    memcpy((char *)base + row->offset + sizeof(items), &count, sizeof(count));
}

static void fill(struct st_reader *r, const struct st_option *table, void *base,
                 struct st_node node, const struct st_path *path);

/* An item of LIST or MAP, already zeroed; key is NULL in lists. */
static void read_item(struct st_reader *r, const struct st_option *row, char *item, const char *key,
                      struct st_node node, const struct st_path *path)
{
    st_reader_defaults(r->mem, row->table, item);
    if (key != NULL)
        memcpy(item, &key, sizeof(key));
    mark_set(r, item, node);
    if (st_node_kind(node) != ST_NODE_MAP) {
        struct st_option object = {.type = ST_OPT_OBJECT, .example = row->example};

        complain_type(r, &object, node, path);
        return;
    }
    fill(r, row->table, item, node, path);
}

static void read_list(struct st_reader *r, const struct st_option *row, void *base,
                      struct st_node node, const struct st_path *path)
{
    size_t count;
    struct st_node *nodes = st_document_items(r->doc, node, &count);
    char *items = st_config_alloc(r->mem, count * row->item_size);

    for (size_t i = 0; i < count; i++) {
        struct st_path at = {.up = path, .index = i};

        read_item(r, row, items + i * row->item_size, NULL, nodes[i], &at);
    }
    set_items(row, base, items, count);
}

static void read_map(struct st_reader *r, const struct st_option *row, void *base,
                     struct st_node node, const struct st_path *path)
{
    struct st_pairs pairs;
    char *items;

    if (st_document_pairs(r->doc, node, &pairs) != 0)
        return;
    items = st_config_alloc(r->mem, pairs.count * row->item_size);
    for (size_t i = 0; i < pairs.count; i++) {
        const struct st_pair *pair = &pairs.items[i];
        struct st_path at = {.up = path, .name = pair->key};
        struct st_node place = pair->value;

        /* Whatever the value is, the place of an item is its key. */
        if (st_node_kind(place) != ST_NODE_SCALAR) {
            place.line = pair->key_node.line;
            place.column = pair->key_node.column;
        }
        read_item(r, row, items + i * row->item_size, st_config_text(r->mem, pair->key), place,
                  &at);
    }
    set_items(row, base, items, pairs.count);
}

/* The kind of node that a type of option is written as. */
static enum st_node_kind kind_wanted(enum st_option_type type)
{
    switch (type) {
    case ST_OPT_STRING_LIST:
    case ST_OPT_LIST:
        return ST_NODE_LIST;
    case ST_OPT_OBJECT:
    case ST_OPT_STRING_MAP:
    case ST_OPT_MAP:
    case ST_OPT_NODE:
        return ST_NODE_MAP;
    default:
        return ST_NODE_SCALAR;
    }
}

/* Nothing, an empty text, or the word that the row has for "off". */
static bool asks_nothing(const struct st_option *row, struct st_node node)
{
    struct st_slice text;

    if (st_node_kind(node) != ST_NODE_SCALAR)
        return st_node_kind(node) == ST_NODE_NULL;
    text = st_node_text(node);
    return text.len == 0 || (row->value != NULL && st_slice_eq(text, st_slice_of(row->value)));
}

static void read_value(struct st_reader *r, const struct st_option *row, void *base,
                       struct st_node node, const struct st_path *path)
{
    void *field = (char *)base + row->offset;

    if (row->type == ST_OPT_ANY) {
        if ((row->flags & ST_OPT_UNSUPPORTED) && !asks_nothing(row, node))
            st_diag_warn(r->diag, place_of(r, node),
                         "%s: this build does not support it yet and ignores it",
                         path_text(r, path));
        return;
    }
    if (st_node_kind(node) == ST_NODE_NULL && !(row->flags & ST_OPT_REQUIRED))
        return; /* as absent */
    if (st_node_kind(node) != kind_wanted(row->type)) {
        complain_type(r, row, node, path);
        return;
    }
    if (row->type != ST_OPT_OBJECT && row->type != ST_OPT_NODE &&
        kind_wanted(row->type) != ST_NODE_SCALAR)
        mark_set(r, field, node);
    switch (row->type) {
    case ST_OPT_STRING_LIST:
        read_string_list(r, row, base, node, path);
        break;
    case ST_OPT_STRING_MAP:
        read_string_map(r, row, base, node, path);
        break;
    case ST_OPT_LIST:
        read_list(r, row, base, node, path);
        break;
    case ST_OPT_MAP:
        read_map(r, row, base, node, path);
        break;
    case ST_OPT_OBJECT:
        if (row->flags & ST_OPT_GIVEN)
            *(bool *)field = true;
        fill(r, row->table, field, node, path);
        break;
    case ST_OPT_NODE:
        memcpy(field, &node, sizeof(node));
        break;
    default:
        read_scalar(r, row, base, node, path);
        break;
    }
}

/* ---- tables ---- */

static const struct st_option *row_of(const struct st_option *table, struct st_slice key)
{
    const struct st_option *folded = NULL;

    for (; table->name != NULL; table++) {
        if (st_slice_eq(st_slice_of(table->name), key))
            return table;
        if (st_slice_ieq(st_slice_of(table->name), key))
            folded = table;
    }
    return folded;
}

static void tell_unknown(struct st_reader *r, const struct st_option *table,
                         const struct st_pair *pair, const struct st_path *path)
{
    struct st_nearest nearest;

    st_nearest_init(&nearest, pair->key);
    for (; table->name != NULL; table++)
        st_nearest_try(&nearest, table->name);
    if (r->diag->strict && nearest.name != NULL)
        st_diag_error(r->diag, place_of(r, pair->key_node), "%s: unknown key, did you mean \"%s\"?",
                      path_text(r, path), nearest.name);
    else if (r->diag->strict)
        st_diag_error(r->diag, place_of(r, pair->key_node), "%s: unknown key", path_text(r, path));
    else if (nearest.name != NULL)
        st_diag_warn(r->diag, place_of(r, pair->key_node),
                     "%s: unknown key, did you mean \"%s\"? It is ignored", path_text(r, path),
                     nearest.name);
    else
        st_diag_warn(r->diag, place_of(r, pair->key_node), "%s: unknown key, it is ignored",
                     path_text(r, path));
}

/* Once a spelling, however many triggers share it. */
static void warn_spelling(struct st_reader *r, const struct st_option *row,
                          const struct st_pair *pair, const struct st_path *path)
{
    char **more;

    for (size_t i = 0; i < r->told.count; i++) {
        if (st_slice_eq(st_slice_of(r->told.items[i]), pair->key))
            return;
    }
    more = st_config_alloc(r->mem, (r->told.count + 1) * sizeof(more[0]));
    if (r->told.count > 0)
        memcpy(more, r->told.items, r->told.count * sizeof(more[0]));
    more[r->told.count++] = st_config_text(r->mem, pair->key);
    r->told.items = more;
    st_diag_warn(r->diag, place_of(r, pair->key_node), "%s: the name of this key is \"%s\"",
                 path_text(r, path), row->name);
}

static void complain_required(struct st_reader *r, const struct st_option *row, struct st_node node,
                              const struct st_path *path)
{
    char text[512];
    struct st_path at = {.up = path, .name = st_slice_of(row->name)};

    st_value_describe_fault(text, sizeof(text), row, "nothing", (struct st_node){0});
    complain(r, node, &at, text);
}

static void fill(struct st_reader *r, const struct st_option *table, void *base,
                 struct st_node node, const struct st_path *path)
{
    unsigned seen_line[ST_READER_MAX_ROWS] = {0};
    struct st_pairs pairs = {NULL, 0};

    if (st_node_kind(node) == ST_NODE_MAP && st_document_pairs(r->doc, node, &pairs) != 0)
        return;
    for (size_t i = 0; i < pairs.count; i++) {
        const struct st_pair *pair = &pairs.items[i];
        const struct st_option *row = row_of(table, pair->key);
        struct st_path at = {.up = path, .name = pair->key};
        size_t index = row != NULL ? (size_t)(row - table) : 0;

        if (row == NULL) {
            tell_unknown(r, table, pair, &at);
            continue;
        }
        ST_ASSERT(index < ST_READER_MAX_ROWS);
        if (!st_slice_eq(st_slice_of(row->name), pair->key))
            warn_spelling(r, row, pair, &at);
        if (seen_line[index] != 0) {
            /* Own keys come first: a merged one gives way, in any case of letters. */
            if (!pair->merged)
                st_diag_error(r->diag, place_of(r, pair->key_node),
                              "%s: found \"%s\" a second time, expected it once (first on line %u)",
                              path_text(r, &at), row->name, seen_line[index]);
            continue;
        }
        seen_line[index] = pair->key_node.line;
        at.name = st_slice_of(row->name);
        read_value(r, row, base, pair->value, &at);
    }
    for (size_t i = 0; table[i].name != NULL; i++) {
        if ((table[i].flags & ST_OPT_REQUIRED) && seen_line[i] == 0 &&
            !(r->partial && (path == NULL || path->up == NULL)))
            complain_required(r, &table[i], node, path);
    }
}

void st_reader_defaults(struct st_config_memory *mem, const struct st_option *table, void *base)
{
    for (; table->name != NULL; table++) {
        if (table->type == ST_OPT_ANY)
            continue;
        if (table->type == ST_OPT_OBJECT)
            st_reader_defaults(mem, table->table, (char *)base + table->offset);
        else if (table->value != NULL)
            st_value_default(mem, table, base);
    }
}

void st_reader_fill(struct st_reader *r, const struct st_option *table, void *base,
                    struct st_node node, const struct st_path *up)
{
    st_reader_defaults(r->mem, table, base);
    fill(r, table, base, node, up);
}

void st_reader_set_text(struct st_reader *r, const struct st_option *row, void *base,
                        struct st_node node, const struct st_path *path)
{
    char fault[512];

    if (st_node_kind(node) == ST_NODE_NULL)
        return; /* as absent */
    if (st_node_kind(node) != ST_NODE_SCALAR)
        complain_type(r, row, node, path);
    else if (st_value_read_text(r->doc, row, base, node, fault, sizeof(fault)) != 0)
        complain(r, node, path, fault);
    else
        mark_set(r, (char *)base + row->offset, node);
}

void st_reader_warn_at(struct st_reader *r, struct st_node node, const struct st_path *path,
                       const char *text)
{
    st_diag_warn(r->diag, place_of(r, node), "%s: %s", path_text(r, path), text);
}
