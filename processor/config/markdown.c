/* The reference of docs/configuration.md: a section for each option table. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/config/schema.h"
#include "processor/config/value.h"
#include "processor/output.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

enum { MAX_PATH = 128 };

static void print_row(FILE *out, const struct st_option *row)
{
    const char *value = st_value_default_text(row);
    char type[256];

    st_value_describe_type(type, sizeof type, row);
    fprintf(out, "| `%s` | %s | ", row->name, type);
    if (row->flags & ST_OPT_REQUIRED)
        fputs("required", out);
    else if (value != NULL)
        fprintf(out, "`%s`", value);
    fprintf(out, " | %s%s%s |\n", row->help != NULL ? row->help : "",
            row->flags & ST_OPT_EXPAND ? " Expands `${...}`." : "",
            row->flags & ST_OPT_SECRET ? " Secret." : "");
}

/* Names of fields that nothing reads, with or without a warning. */
static void print_names(FILE *out, const struct st_option *table, bool unsupported,
                        const char *words)
{
    bool first = true;

    for (; table->name != NULL; table++) {
        if (table->type != ST_OPT_ANY || ((table->flags & ST_OPT_UNSUPPORTED) != 0) != unsupported)
            continue;
        fprintf(out, "%s`%s`", first ? words : ", ", table->name);
        first = false;
    }
    if (!first)
        fputs(".\n\n", out);
}

static void section(FILE *out, const char *path, const struct st_option *table);

/* Sections of what a table's rows are described by. */
static void subsections(FILE *out, const char *path, const struct st_option *table)
{
    char below[MAX_PATH];

    for (; table->name != NULL; table++) {
        const char *tail = table->type == ST_OPT_LIST  ? "[]"
                           : table->type == ST_OPT_MAP ? ".NAME"
                                                       : "";

        if (table->table == NULL)
            continue;
        if (table->table == st_platform_table) /* has a chapter */
            continue;
        snprintf(below, sizeof below, "%s%s%s%s", path, path[0] != '\0' ? "." : "", table->name,
                 tail);
        section(out, below, table->table);
    }
}

static void section(FILE *out, const char *path, const struct st_option *table)
{
    bool any = false;

    for (const struct st_option *row = table; row->name != NULL; row++)
        any |= row->type != ST_OPT_ANY;
    if (path[0] != '\0')
        fprintf(out, "### `%s`\n\n", path);
    if (any)
        fputs("| Key | Takes | Default | |\n| --- | --- | --- | --- |\n", out);
    for (const struct st_option *row = table; row->name != NULL; row++) {
        if (row->type != ST_OPT_ANY)
            print_row(out, row);
    }
    if (any)
        fputc('\n', out);
    print_names(out, table, true, "Known, but not supported yet (a warning says so): ");
    print_names(out, table, false, "Accepted in silence, for others than the processor: ");
    subsections(out, path, table);
}

static void print_aliases(FILE *out, const char *const *aliases)
{
    if (aliases == NULL || *aliases == NULL)
        return;
    fputs("Other names: ", out);
    for (const char *const *alias = aliases; *alias != NULL; alias++)
        fprintf(out, "%s`%s`", alias != aliases ? ", " : "", *alias);
    fputs(".\n\n", out);
}

char *st_markdown_reference(const struct st_config_env *env)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    ST_ASSERT(out != NULL);
    fputs("## function.yaml\n\n", out);
    section(out, "", st_function_table);
    for (const struct st_trigger_kind *const *kind = env->trigger_kinds; *kind != NULL; kind++) {
        fprintf(out, "## Trigger `%s`\n\n", (*kind)->name);
        print_aliases(out, (*kind)->aliases);
        if ((*kind)->attributes != NULL)
            section(out, "attributes", (*kind)->attributes);
    }
    for (const struct st_runtime_kind *const *kind = env->runtime_kinds; *kind != NULL; kind++) {
        fprintf(out, "## Runtime `%s`\n\n", (*kind)->name);
        print_aliases(out, (*kind)->aliases);
        if ((*kind)->attributes != NULL)
            section(out, "runtimeAttributes", (*kind)->attributes);
        else
            fputs("It has no `runtimeAttributes`.\n\n", out);
    }
    for (const struct st_output_kind *const *kind = env->output_kinds;
         kind != NULL && *kind != NULL; kind++) {
        fprintf(out, "## Output `%s`\n\n", (*kind)->name);
        section(out, "spec.stator.outputs.NAME", (*kind)->options);
    }
    fputs("## platform.yaml\n\n", out);
    section(out, "", st_platform_table);
    ST_ASSERT(fclose(out) == 0);
    /* One newline at the end. */
    if (size > 1 && text[size - 2] == '\n')
        text[size - 1] = '\0';
    return text;
}
