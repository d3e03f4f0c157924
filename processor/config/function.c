/* function.yaml: the rules that tables can't express, and the struct that comes out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/config/annotations.h"
#include "processor/config/function_table.h"
#include "processor/config/kinds.h"
#include "processor/config/output_table.h"
#include "processor/config/reader.h"
#include "processor/config/schema.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

static bool names_it(const char *name, const char *const *aliases, struct st_slice wanted)
{
    if (st_slice_eq(st_slice_of(name), wanted))
        return true;
    for (; aliases != NULL && *aliases != NULL; aliases++) {
        if (st_slice_eq(st_slice_of(*aliases), wanted))
            return true;
    }
    return false;
}

const struct st_trigger_kind *st_trigger_kind_find(const struct st_trigger_kind *const *kinds,
                                                   struct st_slice name)
{
    for (; *kinds != NULL; kinds++) {
        if (names_it((*kinds)->name, (*kinds)->aliases, name))
            return *kinds;
    }
    return NULL;
}

const struct st_runtime_kind *st_runtime_kind_find(const struct st_runtime_kind *const *kinds,
                                                   struct st_slice name)
{
    for (; *kinds != NULL; kinds++) {
        if (names_it((*kinds)->name, (*kinds)->aliases, name))
            return *kinds;
    }
    return NULL;
}

/* ---- kinds that are not there ---- */

/* Names that Nuclio gives a meaning; who uses one needs another build, not another spelling. */
static const char *const nuclio_triggers[] = {
    "http",        "cron",           "kafka",     "kafka-cluster",
    "rabbit-mq",   "rabbitMq",       "nats",      "mqtt",
    "iotCoreMqtt", "kinesis",        "pubsub",    "eventhub",
    "v3ioStream",  "v3ioItemPoller", "kickstart", NULL};
static const char *const nuclio_runtimes[] = {"python",     "golang", "nodejs", "java",
                                              "dotnetcore", "ruby",   "shell",  NULL};

/* Of a value that stands in no file. */
static const struct st_node nowhere = {.line = 1, .column = 1};

/* ---- triggers ---- */

static const struct st_option no_options[] = {{.name = NULL}};

/* Fills the struct of a kind from its table; the node may be nothing. */
static void *read_attributes(struct st_reader *r, const struct st_option *table, size_t size,
                             struct st_node node, const struct st_path *path)
{
    void *attributes = st_config_alloc(r->mem, size > 0 ? size : 1);

    st_reader_fill(r, table != NULL ? table : no_options, attributes, node, path);
    return attributes;
}

/* Paths of spec.triggers.<key>.<member> for the reader. */
struct trigger_path {
    struct st_path spec, triggers, trigger, member;
};

static const struct st_path *trigger_path(struct trigger_path *p, const char *key,
                                          const char *member)
{
    p->spec = (struct st_path){.name = ST_SLICE("spec")};
    p->triggers = (struct st_path){.up = &p->spec, .name = ST_SLICE("triggers")};
    p->trigger = (struct st_path){.up = &p->triggers, .name = st_slice_of(key)};
    p->member = (struct st_path){.up = &p->trigger, .name = st_slice_of(member)};
    return &p->member;
}

/* The field of a table's struct by its path, "event.headers" or "names[1]"; NULL: there is none. */
static const void *field_of(const struct st_option *table, const void *base, const char *path)
{
    size_t len = strcspn(path, ".[");
    const struct st_string_list *list;

    for (; table != NULL && table->name != NULL; table++) {
        const char *field = (const char *)base + table->offset;

        if (!st_slice_eq(st_slice_of(table->name), (struct st_slice){path, len}))
            continue;
        if (path[len] == '\0')
            return field;
        if (path[len] == '.' && table->type == ST_OPT_OBJECT)
            return field_of(table->table, field, path + len + 1);
        if (path[len] != '[' || table->type != ST_OPT_STRING_LIST)
            return NULL;
        list = (const struct st_string_list *)(const void *)field;
        return &list->items[strtoul(path + len + 1, NULL, 10)];
    }
    return NULL;
}

/* What the kind itself has to say of values that are fine for its table. */
static void check_trigger(struct st_reader *r, const struct st_raw_trigger *raw)
{
    static const char attributes[] = "attributes.";
    struct st_node place = {.line = raw->c.line, .column = raw->c.column};
    char member[ST_TRIGGER_MEMBER_MAX] = "attributes";
    const void *field = &raw->c.url;
    struct st_error err;

    if (raw->c.kind->check == NULL || raw->c.kind->check(&raw->c, member, &err) == 0)
        return;
    if (strncmp(member, attributes, strlen(attributes)) == 0)
        field = field_of(raw->c.kind->attributes, raw->c.attributes, member + strlen(attributes));
    else if (strcmp(member, "url") != 0)
        field = NULL;
    st_reader_error(r, field, place, "spec.triggers.%s.%s: %s", raw->key, member, err.text);
}

/* Options that mean something only where a source keeps messages until they are acknowledged. */
static void warn_of_delivery(struct st_reader *r, const struct st_raw_trigger *raw)
{
    const struct st_delivery_config *d = &raw->c.delivery;
    const struct {
        const char *name;
        const void *field;
        bool means, is_block;
    } options[] = {{"ordering", &d->ordering, true, false},
                   {"lanes", &d->lanes, true, false},
                   {"retry", &d->retry, d->retry.given, true},
                   {"deadLetter", &d->dead_letter, d->dead_letter.given, true},
                   {"explicitAckMode", &d->ack_mode, d->ack_mode != ST_ACK_IMPLICIT, false}};

    for (size_t i = 0; i < ST_ARRAY_LEN(options); i++) {
        struct st_node place = {.line = raw->c.line, .column = raw->c.column};
        bool set = st_reader_was_set(r, options[i].field, &place);

        if (options[i].means && (set || options[i].is_block))
            st_diag_warn(r->diag, (struct st_place){r->doc->file, place.line, place.column},
                         "spec.triggers.%s.%s: a trigger of kind %s has nothing to acknowledge and "
                         "ignores it",
                         raw->key, options[i].name, raw->c.kind->name);
    }
}

static void finish_trigger(struct st_reader *r, struct st_raw_trigger *raw,
                           struct st_node annotations, const struct st_config_env *env)
{
    struct st_kind_choice choice = {.known = nuclio_triggers};
    struct trigger_path path;
    struct st_node place = {0};
    unsigned errors;

    st_reader_was_set(r, raw, &place);
    raw->c.line = place.line;
    raw->c.column = place.column;
    raw->c.name = raw->name != NULL && raw->name[0] != '\0' ? raw->name : raw->key;
    if (!st_reader_was_set(r, &raw->c.num_workers, NULL))
        raw->c.num_workers = raw->max_workers;
    if (!st_reader_was_set(r, &raw->kind, NULL))
        return; /* told as missing */
    raw->c.kind = st_trigger_kind_find(env->trigger_kinds, st_slice_of(raw->kind));
    if (raw->c.kind == NULL) {
        for (; choice.count < ST_KINDS_MAX && env->trigger_kinds[choice.count] != NULL;
             choice.count++)
            choice.names[choice.count] = env->trigger_kinds[choice.count]->name;
        st_kind_unknown(r, &raw->kind, nowhere,
                        st_config_printf(r->mem, "spec.triggers.%s.kind", raw->key),
                        st_slice_of(raw->kind), &choice);
        return;
    }
    errors = r->diag->errors;
    if (!raw->c.kind->acknowledges)
        warn_of_delivery(r, raw);
    raw->c.attributes =
        read_attributes(r, raw->c.kind->attributes, raw->c.kind->attributes_size, raw->attributes,
                        trigger_path(&path, raw->key, "attributes"));
    st_annotations_read(r, annotations, raw);
    if (r->diag->errors == errors)
        check_trigger(r, raw);
}

static bool is_http(const struct st_trigger_kind *kind)
{
    return kind != NULL && strcmp(kind->name, "http") == 0;
}

/* Rules between triggers: one http trigger, names once. */
static void check_triggers(struct st_reader *r, const struct st_raw_function *raw)
{
    const struct st_raw_trigger *http = NULL;

    for (size_t i = 0; i < raw->trigger_count; i++) {
        const struct st_raw_trigger *t = &raw->triggers[i];
        struct st_node place = {.line = t->c.line, .column = t->c.column};

        if (is_http(t->c.kind) && http != NULL)
            st_reader_error(r, &t->kind, place,
                            "spec.triggers.%s.kind: found a second http trigger, expected one "
                            "(the first is \"%s\")",
                            t->key, http->key);
        else if (is_http(t->c.kind))
            http = t;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(raw->triggers[j].c.name, t->c.name) == 0) {
                st_reader_error(r, &t->name, place,
                                "spec.triggers.%s.name: found \"%s\" a second time, expected "
                                "another name",
                                t->key, t->c.name);
                break;
            }
        }
    }
}

static void finish_triggers(struct st_reader *r, struct st_raw_function *raw,
                            const struct st_config_env *env)
{
    struct st_function_config *f = &raw->f;

    f->triggers = st_config_alloc(r->mem, raw->trigger_count * sizeof(f->triggers[0]));
    f->trigger_count = raw->trigger_count;
    for (size_t i = 0; i < raw->trigger_count; i++) {
        finish_trigger(r, &raw->triggers[i], raw->annotations, env);
        f->triggers[i] = raw->triggers[i].c;
    }
    check_triggers(r, raw);
}

/* ---- the function ---- */

static void finish_runtime(struct st_reader *r, struct st_raw_function *raw,
                           const struct st_runtime_kind *fallback, const struct st_config_env *env)
{
    struct st_path spec = {.name = ST_SLICE("spec")};
    struct st_path path = {.up = &spec, .name = ST_SLICE("runtimeAttributes")};
    struct st_kind_choice choice = {.known = nuclio_runtimes};
    const char *colon = strchr(raw->runtime, ':');
    struct st_slice name = st_slice_of(raw->runtime);
    const struct st_runtime_kind *kind = fallback;
    bool named = st_reader_was_set(r, &raw->runtime, NULL);

    if (!named && fallback == NULL)
        return; /* told as missing */
    if (colon != NULL)
        name.len = (size_t)(colon - raw->runtime);
    if (colon != NULL && colon[1] != '\0')
        raw->f.runtime_version = colon + 1;
    if (named)
        kind = st_runtime_kind_find(env->runtime_kinds, name);
    raw->f.runtime = kind;
    if (kind == NULL) {
        for (; choice.count < ST_KINDS_MAX && env->runtime_kinds[choice.count] != NULL;
             choice.count++)
            choice.names[choice.count] = env->runtime_kinds[choice.count]->name;
        st_kind_unknown(r, &raw->runtime, nowhere, "spec.runtime", name, &choice);
        return;
    }
    raw->f.runtime_attributes =
        read_attributes(r, kind->attributes, kind->attributes_size, raw->runtime_attributes, &path);
}

static const char *project_of(const struct st_raw_function *raw)
{
    for (size_t i = 0; i < raw->labels.count; i++) {
        if (strcmp(raw->labels.items[i].name, "nuclio.io/project-name") == 0)
            return raw->labels.items[i].value;
    }
    return "default";
}

static bool same_batch(const struct st_trigger_config *a, const struct st_trigger_config *b)
{
    return a->batch.mode == b->batch.mode &&
           (a->batch.mode == ST_BATCH_DISABLE ||
            (a->batch.size == b->batch.size && a->batch.timeout_ns == b->batch.timeout_ns));
}

/* Batches need a runtime that takes them; triggers of one pool share its batches. */
static void check_batches(struct st_reader *r, const struct st_raw_function *raw)
{
    for (size_t i = 0; i < raw->trigger_count; i++) {
        const struct st_raw_trigger *t = &raw->triggers[i];
        struct st_node place = {.line = t->c.line, .column = t->c.column};

        if (t->c.batch.mode == ST_BATCH_ENABLE && raw->f.runtime != NULL &&
            raw->f.runtime->invoke_batch == NULL)
            st_reader_error(r, &t->c.batch.mode, place,
                            "spec.triggers.%s.batch.mode: found \"enable\", which runtime %s does "
                            "not support, expected disable",
                            t->key, raw->f.runtime->name);
        for (size_t j = 0; j < i; j++) {
            const struct st_raw_trigger *first = &raw->triggers[j];

            if (t->c.allocator_name[0] == '\0' ||
                strcmp(t->c.allocator_name, first->c.allocator_name) != 0)
                continue;
            if (!same_batch(&first->c, &t->c))
                st_reader_error(
                    r, &t->c.batch, place,
                    "spec.triggers.%s.batch: found another one than trigger \"%s\" has, "
                    "expected the same, because they share the workers \"%s\"",
                    t->key, first->key, t->c.allocator_name);
            break;
        }
    }
}

/* isolation must be what the runtime can do, or what another kind does for it. */
static void choose_isolation(struct st_reader *r, struct st_raw_function *raw,
                             const struct st_config_env *env)
{
    bool wants = raw->f.own.isolation == ST_ISOLATION_PROCESS;
    const struct st_runtime_kind *isolated;

    if (raw->f.runtime != NULL && wants && !raw->f.runtime->isolates &&
        env->isolated_kinds != NULL) {
        isolated = st_runtime_kind_find(env->isolated_kinds, st_slice_of(raw->f.runtime->name));
        if (isolated != NULL)
            raw->f.runtime = isolated;
    }
    if (raw->f.runtime == NULL || raw->f.own.isolation == ST_ISOLATION_DEFAULT ||
        wants == raw->f.runtime->isolates)
        return;
    st_reader_error(
        r, &raw->f.own.isolation, (struct st_node){.line = 1, .column = 1},
        wants ? "spec.stator.isolation: found \"process\", which this build does not "
                "support yet for runtime %s, expected none"
              : "spec.stator.isolation: found \"none\", but handlers of runtime %s always "
                "run in processes of their own, expected process",
        raw->f.runtime->name);
}

static void check_prefork(struct st_reader *r, const struct st_raw_function *raw)
{
    if (raw->f.own.prefork && raw->f.runtime != NULL && !raw->f.runtime->preforks)
        st_reader_warn(r, &raw->f.own.prefork, (struct st_node){.line = 1, .column = 1},
                       "spec.stator.prefork: has no effect for handlers of runtime %s",
                       raw->f.runtime->name);
}

static void apply_rules(struct st_reader *r, struct st_raw_function *raw,
                        const struct st_runtime_kind *fallback, const struct st_config_env *env)
{
    finish_runtime(r, raw, fallback, env);
    finish_triggers(r, raw, env);
    st_outputs_read(r, &raw->f, raw->outputs, env->output_kinds);
    raw->f.project = project_of(raw);
    raw->f.disable_default_http =
        st_reader_was_set(r, &raw->disable_default_http, NULL) ? raw->disable_default_http : -1;
    choose_isolation(r, raw, env);
    check_prefork(r, raw);
    check_batches(r, raw);
}

static void finish_extras(struct st_reader *r, const struct st_raw_function *raw,
                          struct st_function_extras *extras)
{
    static const struct st_path path = {.name = ST_SLICE("PlatformConfig")};

    extras->log_bindings =
        st_config_alloc(r->mem, raw->log_sink_count * sizeof(extras->log_bindings[0]));
    extras->log_binding_count = raw->log_sink_count;
    for (size_t i = 0; i < raw->log_sink_count; i++) {
        const struct st_raw_sink *sink = &raw->log_sinks[i];
        struct st_node place = {.line = 1, .column = 1};

        st_reader_was_set(r, &sink->sink, &place);
        extras->log_bindings[i] =
            (struct st_log_binding){.level = (enum st_log_level)st_log_level_of(sink->level),
                                    .sink = sink->sink,
                                    .line = place.line,
                                    .column = place.column};
    }
    extras->has_platform = raw->platform.fyn != NULL;
    if (extras->has_platform)
        st_platform_read_node(&extras->platform, r, raw->platform, &path);
}

int st_function_read(struct st_function_config *f, struct st_function_extras *extras,
                     const struct st_function_text *text, const struct st_config_env *env)
{
    struct st_raw_function raw = {.runtime = ""};
    struct st_document *doc = text->doc;
    struct st_node root = text->root.fyn != NULL ? text->root : st_document_root(doc);
    unsigned errors = doc->diag->errors;
    struct st_reader r;

    *extras = (struct st_function_extras){.has_platform = false};
    st_reader_init(&r, doc);
    r.partial = text->runtime != NULL;
    if (st_node_kind(root) == ST_NODE_MAP) {
        st_reader_fill(&r, st_function_table, &raw, root, NULL);
        apply_rules(&r, &raw, text->runtime, env);
        finish_extras(&r, &raw, extras);
    } else {
        st_diag_error(doc->diag, (struct st_place){doc->file, root.line, root.column},
                      "found %s, expected an object, for example {spec: {runtime: native}}",
                      st_node_kind(root) == ST_NODE_LIST ? "a list" : "text");
    }
    *f = raw.f;
    return doc->diag->errors == errors ? 0 : ST_ERR_INVALID;
}

void st_function_defaults(struct st_function_config *f, struct st_config_memory *mem)
{
    struct st_raw_function raw = {.runtime = ""};

    st_reader_defaults(mem, st_function_table, &raw);
    *f = raw.f;
    f->project = "default";
    f->disable_default_http = -1;
}

struct st_trigger_config *st_function_add_trigger(struct st_function_config *f, const char *name,
                                                  const struct st_trigger_kind *kind,
                                                  struct st_config_memory *mem)
{
    struct st_raw_trigger raw = {.key = name};
    struct st_trigger_config *more;
    size_t size = kind->attributes_size;

    st_reader_defaults(mem, st_trigger_table, &raw);
    raw.c.name = name;
    raw.c.kind = kind;
    raw.c.attributes = st_config_alloc(mem, size > 0 ? size : 1);
    if (kind->attributes != NULL)
        st_reader_defaults(mem, kind->attributes, raw.c.attributes);
    more = st_config_alloc(mem, (f->trigger_count + 1) * sizeof(more[0]));
    if (f->trigger_count > 0)
        memcpy(more, f->triggers, f->trigger_count * sizeof(more[0]));
    more[f->trigger_count] = raw.c;
    f->triggers = more;
    return &f->triggers[f->trigger_count++];
}
