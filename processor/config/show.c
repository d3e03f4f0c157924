#include "processor/config/show.h"

#include <stdio.h>

#include "processor/config/function_table.h"
#include "processor/config/schema.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/trigger.h"

static json_t *show_text(const char *text, unsigned flags)
{
    const char *begin, *at, *end;
    json_t *out;

    if (text == NULL || text[0] == '\0')
        return json_string("");
    if ((flags & ST_OPT_SECRET) != 0)
        return json_string(ST_CONFIG_REDACTED);
    /* RFC 3986 section 3.2: userinfo is what stands before the @ of the authority. */
    begin = strstr(text, "://");
    if (begin != NULL) {
        begin += 3;
        end = begin + strcspn(begin, "/?#");
        at = memrchr(begin, '@', (size_t)(end - begin));
        if (at != NULL)
            return json_sprintf("%.*s" ST_CONFIG_REDACTED "%s", (int)(begin - text), text, at);
    }
    out = json_string(text);
    return out != NULL ? out : json_string("(not UTF-8)");
}

/* "1.5": so many of unit, all decimals but no zeros at the end. unit is a power of ten up to
 * ST_SEC. */
static void write_decimal(char *text, size_t n, uint64_t ns, uint64_t unit)
{
    int len = snprintf(text, n, "%llu", (unsigned long long)(ns / unit));

    ns %= unit;
    if (ns != 0)
        text[len++] = '.';
    for (; ns != 0 && len < (int)n - 1; ns %= unit) {
        unit /= 10;
        text[len++] = (char)('0' + ns / unit);
    }
    text[len] = '\0';
}

/* Go's time.Duration.String(). */
static json_t *show_duration(uint64_t ns)
{
    unsigned long long seconds = ns / ST_SEC, hours = seconds / 3600, minutes = seconds / 60 % 60;
    char text[32];

    if (ns == 0)
        return json_string("0s");
    if (ns < ST_SEC) {
        write_decimal(text, sizeof(text), ns, ns < 1000 ? 1 : ns < ST_MSEC ? 1000 : ST_MSEC);
        return json_sprintf("%s%s", text, ns < 1000 ? "ns" : ns < ST_MSEC ? "\xc2\xb5s" : "ms");
    }
    write_decimal(text, sizeof(text), ns % (60 * ST_SEC), ST_SEC);
    if (hours > 0)
        return json_sprintf("%lluh%llum%ss", hours, minutes, text);
    return minutes > 0 ? json_sprintf("%llum%ss", minutes, text) : json_sprintf("%ss", text);
}

static json_t *show_strings(const struct st_string_list *list, unsigned flags)
{
    json_t *out = json_array();

    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(out, show_text(list->items[i], flags));
    return out;
}

static json_t *show_pairs(const struct st_string_map *map, unsigned flags)
{
    json_t *out = json_object();

    for (size_t i = 0; i < map->count; i++)
        json_object_set_new(out, map->items[i].name, show_text(map->items[i].value, flags));
    return out;
}

/* ST_OPT_LIST as an array, ST_OPT_MAP as an object by its items' keys. Both are a pointer and a
 * count. */
static json_t *show_items(const struct st_option *row, const char *field)
{
    json_t *out = row->type == ST_OPT_MAP ? json_object() : json_array();
    const char *items, *key;
    size_t count;

    memcpy(&items, field, sizeof(items));
    memcpy(&count, field + sizeof(items), sizeof(count));
    for (size_t i = 0; i < count; i++) {
        const char *item = items + i * row->item_size;
        json_t *shown = st_config_show(row->table, item);

        if (row->type == ST_OPT_LIST) {
            json_array_append_new(out, shown);
        } else {
            memcpy(&key, item, sizeof(key));
            json_object_set_new(out, key, shown);
        }
    }
    return out;
}

#define FIELD(type) (*(const type *)(const void *)field)

/* NULL: nothing to show. */
static json_t *show_field(const struct st_option *row, const char *field)
{
    switch (row->type) {
    case ST_OPT_STRING:
        return show_text(FIELD(char *), row->flags);
    case ST_OPT_BOOL:
        return json_boolean(FIELD(bool));
    case ST_OPT_INT:
        return json_integer((json_int_t)FIELD(int64_t));
    case ST_OPT_SIZE:
        return json_integer((json_int_t)FIELD(uint64_t));
    case ST_OPT_DURATION:
        return show_duration(FIELD(uint64_t));
    case ST_OPT_MILLIS:
        return json_integer((json_int_t)(FIELD(uint64_t) / ST_MSEC));
    case ST_OPT_STRING_LIST:
        return show_strings((const struct st_string_list *)(const void *)field, row->flags);
    case ST_OPT_STRING_MAP:
        return show_pairs((const struct st_string_map *)(const void *)field, row->flags);
    case ST_OPT_ENUM:
        return json_string(row->values[FIELD(int)]);
    case ST_OPT_OBJECT:
        return st_config_show(row->table, field);
    case ST_OPT_LIST:
    case ST_OPT_MAP:
        return show_items(row, field);
    case ST_OPT_ANY:
    case ST_OPT_NODE:
        break;
    }
    return NULL;
}

json_t *st_config_show(const struct st_option *table, const void *base)
{
    json_t *out = json_object(), *value;

    ST_ASSERT(out != NULL);
    for (const struct st_option *row = table; row != NULL && row->name != NULL; row++) {
        value = show_field(row, (const char *)base + row->offset);
        if (value != NULL)
            json_object_set_new(out, row->name, value);
    }
    return out;
}

static const struct st_option *row_named(const struct st_option *table, const char *name)
{
    while (strcmp(table->name, name) != 0)
        table++;
    return table;
}

json_t *st_trigger_show(const struct st_trigger_config *config)
{
    const struct st_option *spec = row_named(st_function_table, "spec")->table;
    struct st_raw_trigger raw = {.key = config->name,
                                 .name = config->name,
                                 .kind = config->kind->name,
                                 .max_workers = config->num_workers,
                                 .c = *config};
    json_t *out = st_config_show(row_named(spec, "triggers")->table, &raw);

    json_object_set_new(out, "class", json_string(config->kind->event_class));
    json_object_set_new(out, "attributes",
                        st_config_show(config->kind->attributes, config->attributes));
    return out;
}
