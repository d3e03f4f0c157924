/* For tests of the configuration: a folder of their own, kinds that exist nowhere else, and a
 * loader that keeps what would go to stderr. */
#ifndef TESTS_SUPPORT_CONFIG_KIT_H
#define TESTS_SUPPORT_CONFIG_KIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/config/option.h"
#include "processor/config/schema.h"
#include "processor/core/base.h"
#include "processor/output.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

/* ---- kinds ---- */

struct kit_attributes {
    uint64_t size, timeout_ns, pause_ns;
    int64_t count;
    bool flag;
    int mode;
    const char *text, *password;
    struct st_string_list brokers;
    struct st_string_map headers;
    struct {
        bool enabled;
        struct st_string_list origins;
    } cors;
};

static const char *const kit_modes[] = {"sync", "async", "off", NULL};

#define KIT(member) offsetof(struct kit_attributes, member)
static const struct st_option kit_cors[] = {
    {.name = "enabled", .type = ST_OPT_BOOL, .offset = KIT(cors.enabled) - KIT(cors)},
    {.name = "allowOrigins",
     .type = ST_OPT_STRING_LIST,
     .offset = KIT(cors.origins) - KIT(cors),
     .value = "*"},
    {.name = NULL},
};

static const struct st_option kit_table[] = {
    {.name = "size",
     .type = ST_OPT_SIZE,
     .offset = KIT(size),
     .value = "16Ki",
     .min = 1024,
     .max = 1 << 30},
    {.name = "timeout",
     .type = ST_OPT_DURATION,
     .offset = KIT(timeout_ns),
     .value = "1m30s",
     .max = 3600e9},
    {.name = "pause", .type = ST_OPT_MILLIS, .offset = KIT(pause_ns), .value = "250"},
    {.name = "count", .type = ST_OPT_INT, .offset = KIT(count), .value = "-3"},
    {.name = "flag", .type = ST_OPT_BOOL, .offset = KIT(flag), .value = "true"},
    {.name = "mode",
     .type = ST_OPT_ENUM,
     .offset = KIT(mode),
     .value = "async",
     .values = kit_modes},
    {.name = "text", .type = ST_OPT_STRING, .offset = KIT(text), .value = "none"},
    {.name = "password",
     .type = ST_OPT_STRING,
     .offset = KIT(password),
     .flags = ST_OPT_EXPAND | ST_OPT_SECRET},
    {.name = "brokers",
     .type = ST_OPT_STRING_LIST,
     .offset = KIT(brokers),
     .value = "a:1, b:2",
     .flags = ST_OPT_EXPAND},
    {.name = "headers", .type = ST_OPT_STRING_MAP, .offset = KIT(headers)},
    {.name = "cors", .type = ST_OPT_OBJECT, .offset = KIT(cors), .table = kit_cors},
    {.name = "ingresses", .type = ST_OPT_ANY},
    {.name = NULL},
};
#undef KIT

struct kit_script {
    const char *arguments;
};

static const struct st_option kit_script_table[] = {
    {.name = "arguments",
     .type = ST_OPT_STRING,
     .offset = offsetof(struct kit_script, arguments),
     .value = "-q"},
    {.name = NULL},
};

static const char *const kit_queue_aliases[] = {"line", NULL};
static const char *const kit_so[] = {".so", NULL};
static const char *const kit_scr[] = {".scr", NULL};

static const struct st_trigger_kind kit_http = {
    .name = "http", .attributes = kit_table, .attributes_size = sizeof(struct kit_attributes)};
static const struct st_trigger_kind kit_queue = {.name = "queue", .aliases = kit_queue_aliases};
static const struct st_runtime_kind kit_native = {
    .name = "native", .suffixes = kit_so, .code_dir_env = "STATOR_TEST_CODE"};
static const struct st_runtime_kind kit_scripts = {.name = "script",
                                                   .suffixes = kit_scr,
                                                   .comment = "#",
                                                   .attributes = kit_script_table,
                                                   .attributes_size = sizeof(struct kit_script)};

static const struct st_trigger_kind *const kit_triggers[] = {&kit_http, &kit_queue, NULL};
static const struct st_runtime_kind kit_native_isolated = {.name = "native", .isolates = true};
static const struct st_runtime_kind *const kit_isolated[] = {&kit_native_isolated, NULL};
static const struct st_runtime_kind *const kit_runtimes[] = {&kit_native, &kit_scripts, NULL};

struct kit_sink {
    const char *to, *secret;
};

static const struct st_option kit_sink_table[] = {
    {.name = "to",
     .type = ST_OPT_STRING,
     .offset = offsetof(struct kit_sink, to),
     .flags = ST_OPT_REQUIRED | ST_OPT_EXPAND,
     .help = "Where to.",
     .example = "a"},
    {.name = "secret",
     .type = ST_OPT_STRING,
     .offset = offsetof(struct kit_sink, secret),
     .value = "",
     .flags = ST_OPT_EXPAND | ST_OPT_SECRET},
    {.name = NULL},
};

static int kit_sink_check(const void *options, const char **member, struct st_error *err)
{
    const struct kit_sink *sink = options;

    *member = "to";
    if (strcmp(sink->to, "nowhere") != 0)
        return ST_OK;
    return st_error_set(err, ST_ERR_INVALID, "found \"nowhere\", expected a place");
}

static const struct st_output_kind kit_sinks = {.name = "sink",
                                                .options = kit_sink_table,
                                                .options_size = sizeof(struct kit_sink),
                                                .check = kit_sink_check};
static const struct st_output_kind *const kit_outputs[] = {&kit_sinks, NULL};

/* ---- the folder ---- */

static char kit_root[64];

/* Makes the folder and goes there. */
static int ST_UNUSED kit_setup(void **state)
{
    (void)state;
    strcpy(kit_root, "/tmp/stator-config-XXXXXX");
    if (mkdtemp(kit_root) == NULL || chdir(kit_root) != 0)
        return -1;
    return 0;
}

static int ST_UNUSED kit_teardown(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", kit_root);
    return chdir("/") != 0 || system(command) != 0 ? -1 : 0;
}

/* Writes a file below the folder, with the folders it lies in; a leading slash is ignored. */
static void ST_UNUSED kit_write_bytes(const char *path, const char *bytes, size_t len)
{
    char name[512];
    FILE *file;

    snprintf(name, sizeof(name), "%s/%s", kit_root, path);
    for (char *slash = name + strlen(kit_root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(name, 0755);
        *slash = '/';
    }
    file = fopen(name, "w");
    ST_ASSERT(file != NULL);
    ST_ASSERT(fwrite(bytes, 1, len, file) == len);
    ST_ASSERT(fclose(file) == 0);
}

static void ST_UNUSED kit_write(const char *path, const char *text)
{
    kit_write_bytes(path, text, strlen(text));
}

/* ---- loading ---- */

/* st_config_load with the kinds above and the folder as "/"; *told is the text, freed by the
 * caller. */
static int ST_UNUSED kit_load(struct st_config *out, const struct st_config_args *args, char **told)
{
    size_t size;
    FILE *stream = open_memstream(told, &size);
    struct st_config_env env = {kit_triggers, kit_runtimes, kit_root,
                                stream,       kit_isolated, kit_outputs};
    int rc;

    ST_ASSERT(stream != NULL);
    rc = st_config_load_env(out, args, &env);
    ST_ASSERT(fclose(stream) == 0);
    return rc;
}

/* The same for the text of a function.yaml, which lies in f.yaml. */
static int ST_UNUSED kit_load_text(struct st_config *out, const char *yaml, char **told)
{
    struct st_config_args args = {.config = "f.yaml"};

    kit_write("f.yaml", yaml);
    return kit_load(out, &args, told);
}

#endif
