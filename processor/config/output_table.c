#include "processor/config/output_table.h"

#include <string.h>

#include "processor/config/kinds.h"
#include "processor/config/memory.h"
#include "processor/config/show.h"
#include "processor/output.h"

static const char kind_key[] = "kind";

/* The kind's table with a row for `kind` in front, which has been read already. */
static const struct st_option *whole_table(struct st_config_memory *mem,
                                           const struct st_output_kind *kind)
{
    struct st_option *table;
    size_t count = 0;

    while (kind->options[count].name != NULL)
        count++;
    table = st_config_alloc(mem, (count + 2) * sizeof(table[0]));
    table[0] = (struct st_option){.name = kind_key, .type = ST_OPT_ANY};
    memcpy(&table[1], kind->options, (count + 1) * sizeof(table[0]));
    return table;
}

static const struct st_output_kind *find_kind(const struct st_output_kind *const *kinds,
                                              struct st_slice name)
{
    for (; kinds != NULL && *kinds != NULL; kinds++)
        if (st_slice_eq(st_slice_of((*kinds)->name), name))
            return *kinds;
    return NULL;
}

/* The kind that the object names; NULL when a fault was told. */
static const struct st_output_kind *read_kind(struct st_reader *r, const struct st_pair *output,
                                              const char *path,
                                              const struct st_output_kind *const *kinds)
{
    struct st_kind_choice choice = {.count = 0};
    struct st_slice name = {NULL, 0};
    struct st_node place = output->key_node;
    const struct st_output_kind *kind;
    struct st_pairs pairs;

    if (st_node_kind(output->value) != ST_NODE_MAP) {
        st_reader_error(r, NULL, place, "%s: found no object, expected one, for example %s", path,
                        "{kind: kafka, brokers: [kafka:9092], topic: orders}");
        return NULL;
    }
    if (st_document_pairs(r->doc, output->value, &pairs) != 0)
        return NULL;
    for (size_t i = 0; i < pairs.count; i++) {
        if (!st_slice_ieq(pairs.items[i].key, ST_SLICE("kind")) ||
            st_node_kind(pairs.items[i].value) != ST_NODE_SCALAR)
            continue;
        name = st_node_text(pairs.items[i].value);
        place = pairs.items[i].value;
    }
    kind = find_kind(kinds, name);
    if (kind != NULL)
        return kind;
    for (; kinds != NULL && kinds[choice.count] != NULL; choice.count++)
        choice.names[choice.count] = kinds[choice.count]->name;
    st_kind_unknown(r, NULL, place, st_config_printf(r->mem, "%s.%s", path, kind_key), name,
                    &choice);
    return NULL;
}

static void check_output(struct st_reader *r, const struct st_output_config *o, const char *path,
                         struct st_node place)
{
    const char *member = kind_key;
    struct st_error err;

    if (o->kind->check != NULL && o->kind->check(o->options, &member, &err) != ST_OK)
        st_reader_error(r, NULL, place, "%s.%s: %s", path, member, err.text);
}

static void read_output(struct st_reader *r, struct st_output_config *o,
                        const struct st_pair *output, const struct st_path *up,
                        const struct st_output_kind *const *kinds)
{
    struct st_path at = {.up = up, .name = output->key};
    unsigned errors = r->diag->errors;
    const char *path;

    o->name = st_config_text(r->mem, output->key);
    path = st_config_printf(r->mem, "spec.stator.outputs.%s", o->name);
    o->kind = read_kind(r, output, path, kinds);
    if (o->kind == NULL)
        return;
    o->options = st_config_alloc(r->mem, o->kind->options_size);
    st_reader_fill(r, whole_table(r->mem, o->kind), o->options, output->value, &at);
    if (r->diag->errors == errors)
        check_output(r, o, path, output->key_node);
}

void st_outputs_read(struct st_reader *r, struct st_function_config *f, struct st_node node,
                     const struct st_output_kind *const *kinds)
{
    static const struct st_path spec = {.name = ST_SLICE("spec")};
    static const struct st_path own = {.up = &spec, .name = ST_SLICE("stator")};
    static const struct st_path path = {.up = &own, .name = ST_SLICE("outputs")};
    struct st_pairs pairs;

    if (st_node_kind(node) != ST_NODE_MAP || st_document_pairs(r->doc, node, &pairs) != 0)
        return;
    f->outputs = st_config_alloc(r->mem, pairs.count * sizeof(f->outputs[0]));
    f->output_count = pairs.count;
    for (size_t i = 0; i < pairs.count; i++)
        read_output(r, &f->outputs[i], &pairs.items[i], &path, kinds);
}

json_t *st_output_show(const struct st_output_config *config)
{
    json_t *out = st_config_show(config->kind->options, config->options);

    json_object_set_new(out, kind_key, json_string(config->kind->name));
    return out;
}
