#include "processor/config/annotations.h"

#include <string.h>

#include "processor/config/names.h"
#include "processor/trigger.h"

static const char attributes[] = "attributes.";

/* The row of a table by its path, "sasl.user"; *base becomes that of the row's own table. */
static const struct st_option *row_of(const struct st_option *table, const char *path, char **base)
{
    size_t len = strcspn(path, ".");

    for (; table->name != NULL; table++) {
        if (!st_slice_eq(st_slice_of(table->name), (struct st_slice){path, len}))
            continue;
        if (path[len] == '\0')
            return table;
        *base += table->offset;
        return row_of(table->table, path + len + 1, base);
    }
    return NULL;
}

static void read_one(struct st_reader *r, const struct st_annotation *a, struct st_node node,
                     const struct st_path *path, struct st_raw_trigger *raw)
{
    bool is_attribute = strncmp(a->option, attributes, strlen(attributes)) == 0;
    char *base = is_attribute ? raw->c.attributes : (void *)raw;
    const struct st_option *row =
        is_attribute ? row_of(raw->c.kind->attributes, a->option + strlen(attributes), &base)
                     : row_of(st_trigger_table, a->option, &base);

    ST_ASSERT(row != NULL);
    if (a->wins || !st_reader_was_set(r, base + row->offset, NULL))
        st_reader_set_text(r, row, base, node, path);
}

static void tell_unknown(struct st_reader *r, const struct st_trigger_kind *kind,
                         const struct st_pair *pair, const struct st_path *path)
{
    struct st_nearest nearest;
    const char *text = "unknown annotation, it is ignored";

    st_nearest_init(&nearest, pair->key);
    for (const struct st_annotation *a = kind->annotations; a->name != NULL; a++)
        st_nearest_try(&nearest, a->name);
    if (nearest.name != NULL)
        text = st_config_printf(r->mem, "unknown annotation, did you mean \"%s\"? It is ignored",
                                nearest.name);
    st_reader_warn_at(r, pair->key_node, path, text);
}

static void read_pair(struct st_reader *r, const struct st_pair *pair, struct st_raw_trigger *raw)
{
    static const struct st_path metadata = {.name = ST_SLICE("metadata")};
    static const struct st_path annotations = {.up = &metadata, .name = ST_SLICE("annotations")};
    const struct st_trigger_kind *kind = raw->c.kind;
    const struct st_annotation *a = kind->annotations;
    struct st_path path = {.up = &annotations, .name = pair->key};

    while (a->name != NULL && !st_slice_eq(st_slice_of(a->name), pair->key))
        a++;
    if (a->name != NULL && a->option != NULL)
        read_one(r, a, pair->value, &path, raw);
    else if (a->name == NULL && kind->annotation_prefix != NULL &&
             pair->key.len > strlen(kind->annotation_prefix) &&
             strncmp(pair->key.ptr, kind->annotation_prefix, strlen(kind->annotation_prefix)) == 0)
        tell_unknown(r, kind, pair, &path);
}

void st_annotations_read(struct st_reader *r, struct st_node annotations,
                         struct st_raw_trigger *raw)
{
    struct st_pairs pairs;

    if (raw->c.kind->annotations == NULL || st_node_kind(annotations) != ST_NODE_MAP ||
        st_document_pairs(r->doc, annotations, &pairs) != 0)
        return;
    for (size_t i = 0; i < pairs.count; i++)
        read_pair(r, &pairs.items[i], raw);
}
