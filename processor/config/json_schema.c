/* JSON Schema (2020-12, https://json-schema.org) of the two files, from their option tables. It is
 * as strict as `stator check --strict`, and knows canonical names only. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/config/scalar.h"
#include "processor/config/schema.h"
#include "processor/config/value.h"
#include "processor/core/alloc.h"
#include "processor/output.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

static const char duration_pattern[] =
    "^([+]?(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+))?$";
static const char size_pattern[] =
    "^[+]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$";
static const char expand_pattern[] = "\\$\\{";

static json_t *table_schema(const struct st_option *table);

static json_t *text_schema(const char *pattern)
{
    return json_pack("{s:s, s:s*}", "type", "string", "pattern", pattern);
}

static void set_bound(json_t *schema, const char *key, double value)
{
    if (fabs(value) <= 9007199254740992.0)
        json_object_set_new(schema, key, json_integer((json_int_t)value));
}

static json_t *number_schema(const struct st_option *row)
{
    json_t *schema = json_pack("{s:s}", "type", "integer");

    if (row->type == ST_OPT_SIZE || row->min != 0 || row->max != 0) {
        if (row->type != ST_OPT_MILLIS) /* a negative one stands for the default */
            set_bound(schema, "minimum", row->min);
        if (row->max != 0)
            set_bound(schema, "maximum", row->max);
    }
    return schema;
}

static json_t *enum_schema(const struct st_option *row)
{
    json_t *names = json_array();

    for (const char *const *name = row->values; *name != NULL; name++) {
        if (**name != '\0')
            json_array_append_new(names, json_string(*name));
    }
    return json_pack("{s:s, s:o}", "type", "string", "enum", names);
}

/* The value by itself; the words about it are added by row_schema. */
static json_t *value_schema(const struct st_option *row)
{
    switch (row->type) {
    case ST_OPT_STRING:
        return text_schema(NULL);
    case ST_OPT_BOOL:
        return json_pack("{s:s}", "type", "boolean");
    case ST_OPT_INT:
    case ST_OPT_MILLIS:
        return number_schema(row);
    case ST_OPT_SIZE:
        return json_pack("{s:[o, o]}", "anyOf", number_schema(row), text_schema(size_pattern));
    case ST_OPT_DURATION:
        return text_schema(duration_pattern);
    case ST_OPT_ENUM:
        return enum_schema(row);
    case ST_OPT_STRING_LIST:
        return json_pack("{s:s, s:o}", "type", "array", "items", text_schema(NULL));
    case ST_OPT_STRING_MAP:
        return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
                         (row->flags & ST_OPT_SCALARS) != 0
                             ? json_pack("{s:[s, s, s]}", "type", "string", "number", "boolean")
                             : text_schema(NULL));
    case ST_OPT_LIST:
        return json_pack("{s:s, s:o}", "type", "array", "items", table_schema(row->table));
    case ST_OPT_MAP:
        return json_pack("{s:s, s:o}", "type", "object", "additionalProperties",
                         table_schema(row->table));
    case ST_OPT_OBJECT:
        return table_schema(row->table);
    case ST_OPT_NODE:
        return row->table != NULL ? table_schema(row->table) : json_pack("{s:s}", "type", "object");
    case ST_OPT_ANY:
        break;
    }
    return json_object();
}

static json_t *default_list(const char *text)
{
    json_t *list = json_array();

    while (*text != '\0') {
        size_t len = strcspn(text, ",");

        json_array_append_new(list, json_stringn(text, len));
        text += len;
        text += strspn(text, ", ");
    }
    return list;
}

static json_t *default_value(const struct st_option *row)
{
    const char *text = st_value_default_text(row);
    int64_t number;
    bool flag;

    if (text == NULL)
        return NULL;
    if (row->type == ST_OPT_STRING_LIST)
        return default_list(text);
    if (row->type == ST_OPT_BOOL && st_scalar_bool(st_slice_of(text), &flag) == 0)
        return json_boolean(flag);
    if ((row->type == ST_OPT_INT || row->type == ST_OPT_MILLIS || row->type == ST_OPT_SIZE) &&
        st_scalar_int(st_slice_of(text), &number) == 0)
        return json_integer(number);
    return json_string(text);
}

/* help, with what a schema can't say otherwise. */
static json_t *description(const struct st_option *row)
{
    char type[256];

    if (row->flags & ST_OPT_UNSUPPORTED)
        return json_sprintf("%s%sNot supported by this build yet: ignored, with a warning.",
                            row->help != NULL ? row->help : "", row->help != NULL ? " " : "");
    if (row->help == NULL)
        return row->type == ST_OPT_ANY ? json_string("Not read by the processor.") : NULL;
    if (row->type == ST_OPT_DURATION && (row->min != 0 || row->max != 0)) {
        st_value_describe_type(type, sizeof type, row);
        return json_sprintf("%s (%s)", row->help, type);
    }
    return json_string(row->help);
}

static json_t *row_schema(const struct st_option *row)
{
    json_t *schema = value_schema(row), *words = description(row), *value = default_value(row);

    if ((row->flags & ST_OPT_EXPAND) != 0 && row->type != ST_OPT_STRING &&
        row->type != ST_OPT_STRING_LIST)
        schema = json_pack("{s:[o, o]}", "anyOf", schema, text_schema(expand_pattern));
    if (words != NULL)
        json_object_set_new(schema, "description", words);
    if (value != NULL)
        json_object_set_new(schema, "default", value);
    if (row->flags & ST_OPT_SECRET)
        json_object_set_new(schema, "writeOnly", json_true());
    return schema;
}

static json_t *table_schema(const struct st_option *table)
{
    json_t *properties = json_object(), *required = json_array();
    json_t *schema = json_pack("{s:s, s:o}", "type", "object", "properties", properties);

    for (; table->name != NULL; table++) {
        json_object_set_new(properties, table->name, row_schema(table));
        if (table->flags & ST_OPT_REQUIRED)
            json_array_append_new(required, json_string(table->name));
    }
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    json_object_set_new(schema, "additionalProperties", json_false());
    return schema;
}

/* ---- kinds ---- */

/* Values of `kind` that mean this one. */
static json_t *names_of(const char *name, const char *const *aliases)
{
    json_t *names = json_pack("[s]", name);

    for (; aliases != NULL && *aliases != NULL; aliases++)
        json_array_append_new(names, json_string(*aliases));
    return names;
}

/* Adds "if the key is this, the object under `member` is that" to an object's schema. */
static void add_case(json_t *schema, const char *key, json_t *is, const char *member,
                     const struct st_option *table)
{
    static const struct st_option none[] = {{.name = NULL}};
    json_t *cases = json_object_get(schema, "allOf");

    if (cases == NULL) {
        cases = json_array();
        json_object_set_new(schema, "allOf", cases);
    }
    json_array_append_new(cases, json_pack("{s:{s:{s:o}, s:[s]}, s:{s:{s:o}}}", "if", "properties",
                                           key, is, "required", key, "then", "properties", member,
                                           table_schema(table != NULL ? table : none)));
}

static json_t *property(json_t *schema, const char *name)
{
    json_t *found = json_object_get(json_object_get(schema, "properties"), name);

    ST_ASSERT(found != NULL);
    return found;
}

static void add_triggers(json_t *item, const struct st_trigger_kind *const *kinds)
{
    json_t *all = json_array();

    for (; *kinds != NULL; kinds++) {
        json_t *names = names_of((*kinds)->name, (*kinds)->aliases);

        json_array_extend(all, names);
        add_case(item, "kind", json_pack("{s:o}", "enum", names), "attributes",
                 (*kinds)->attributes);
    }
    json_object_set_new(property(item, "kind"), "enum", all);
}

/* Any name, each an object whose `kind` decides about the rest. */
static json_t *outputs_schema(const struct st_output_kind *const *kinds)
{
    json_t *choices = json_array();

    for (; kinds != NULL && *kinds != NULL; kinds++) {
        json_t *item = table_schema((*kinds)->options), *required;

        json_object_set_new(json_object_get(item, "properties"), "kind",
                            json_pack("{s:s}", "const", (*kinds)->name));
        required = json_object_get(item, "required");
        if (required == NULL)
            json_object_set_new(item, "required", required = json_array());
        json_array_append_new(required, json_string("kind"));
        json_array_append_new(choices, item);
    }
    if (json_array_size(choices) == 0) {
        json_decref(choices);
        return json_object();
    }
    return json_pack("{s:o}", "oneOf", choices);
}

/* A runtime's names, each perhaps with a version. */
static json_t *runtime_pattern(const char *const *names)
{
    char text[1024] = "^(";
    size_t len = strlen(text);

    for (const char *const *name = names; *name != NULL; name++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", name != names ? "|" : "",
                                *name);
        ST_ASSERT(len < sizeof text);
    }
    return json_sprintf("%s)(:.*)?$", text);
}

enum { MAX_NAMES = 64 };

static void add_runtimes(json_t *spec, const struct st_runtime_kind *const *kinds)
{
    const char *all[MAX_NAMES + 1] = {NULL};
    size_t count = 0;

    for (; *kinds != NULL; kinds++) {
        const char *const *alias = (*kinds)->aliases;
        const char **own = &all[count];

        all[count++] = (*kinds)->name;
        for (; alias != NULL && *alias != NULL && count < MAX_NAMES; alias++)
            all[count++] = *alias;
        all[count] = NULL;
        add_case(spec, "runtime", json_pack("{s:o}", "pattern", runtime_pattern(own)),
                 "runtimeAttributes", (*kinds)->attributes);
        ST_ASSERT(count < MAX_NAMES);
    }
    json_object_set_new(property(spec, "runtime"), "pattern", runtime_pattern(all));
}

static json_t *function_schema(const struct st_config_env *env)
{
    json_t *root = table_schema(st_function_table), *spec = property(root, "spec");
    json_t *triggers = json_incref(property(spec, "triggers"));

    add_triggers(json_object_get(triggers, "additionalProperties"), env->trigger_kinds);
    add_runtimes(spec, env->runtime_kinds);
    json_object_set_new(property(property(spec, "stator"), "outputs"), "additionalProperties",
                        outputs_schema(env->output_kinds));
    json_object_set_new(json_object_get(spec, "properties"), "triggers",
                        json_pack("{s:s}", "$ref", "#/$defs/triggers"));
    json_object_set_new(root, "$defs", json_pack("{s:o}", "triggers", triggers));
    return root;
}

char *st_json_schema(enum st_schema which, const struct st_config_env *env)
{
    bool function = which == ST_SCHEMA_FUNCTION;
    json_t *body = function ? function_schema(env) : table_schema(st_platform_table);
    json_t *root =
        json_pack("{s:s, s:s}", "$schema", "https://json-schema.org/draft/2020-12/schema", "title",
                  function ? "A function of Stator" : "A platform of Stator");
    char *text;
    size_t len;

    json_object_update(root, body);
    json_decref(body);
    text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    ST_ASSERT(text != NULL);
    len = strlen(text);
    text = st_realloc(text, len + 2);
    memcpy(text + len, "\n", 2);
    return text;
}
