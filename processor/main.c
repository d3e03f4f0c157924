/* The command line: its commands, their options and what wrong usage is told. */
#include <argp.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/cli/cli.h"
#include "processor/cli/usage.h"
#include "processor/command.h"
#include "processor/config/config.h"
#include "processor/config/names.h"
#include "processor/core/alloc.h"
#include "processor/processor.h"
#include "processor/registry.h"
#include "processor/slot.h"
#include "processor/trigger.h"
#include "stator/handler.h"
#include "stator_version.h"

/* What jemalloc reads at its start. Buffers of a broker's answers (megabytes, as large as it likes)
 * are cut from larger ones that are free, not from fresh pages: 74 -> 2 page faults per 1,000
 * messages. MALLOC_CONF in the environment comes after it. */
extern const char *malloc_conf;
__attribute__((used, visibility("default"))) const char *malloc_conf =
    "lg_extent_max_active_fit:12";

enum {
    OPT_CONFIG = 0x100,
    OPT_PLATFORM_CONFIG,
    OPT_PORT,
    OPT_LOOPS,
    OPT_WORKERS,
    OPT_JSON,
    OPT_STRICT,
    OPT_WATCH,
    OPT_MARKDOWN,
    OPT_HELP
};

/* What a command line asks for. */
struct options {
    struct st_config_args config;
    bool json, markdown;
    const char **words; /* arguments of a command that takes several */
    size_t word_count;
};

struct command {
    const char *name;
    const char *synopsis; /* what to type */
    const struct argp argp;
    int (*run)(const struct options *options);
    int (*main)(int argc, char **argv); /* or: reads its options itself */
    bool takes_target;
    const char *takes_words; /* what they are: of such a command, at least one is needed */
};

/* ---- wrong usage: one line, exit 2 ---- */

ST_NORETURN static void ST_PRINTF(2, 3) fail_usage(const struct command *c, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    st_usage_vfail(c != NULL ? c->synopsis : "run DIR, or stator --help", fmt, args);
}

static int64_t parse_number(const struct command *c, const char *option, const char *text,
                            int64_t max)
{
    return st_usage_number(c->synopsis, option, text, 1, max);
}

/* ---- commands ---- */

static const struct command *find_command(const char *name);

struct parse {
    const struct command *command;
    struct options *options;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct parse *parse = state->input;
    const struct command *c = parse->command;
    struct st_config_args *config = &parse->options->config;

    switch (key) {
    case OPT_CONFIG:
        config->config = arg;
        return 0;
    case OPT_PLATFORM_CONFIG:
        config->platform_config = arg;
        return 0;
    case OPT_PORT:
        config->port = parse_number(c, "--port", arg, 65535);
        return 0;
    case OPT_LOOPS:
        config->loops = parse_number(c, "--loops", arg, 64);
        return 0;
    case OPT_WORKERS:
        config->workers = parse_number(c, "--workers", arg, 100000);
        return 0;
    case OPT_JSON:
        parse->options->json = true;
        return 0;
    case OPT_MARKDOWN:
        parse->options->markdown = true;
        return 0;
    case OPT_STRICT:
        config->strict = true;
        return 0;
    case OPT_WATCH:
        config->watch = true;
        return 0;
    case OPT_HELP:
        argp_help(&c->argp, stdout, ARGP_HELP_LONG | ARGP_HELP_USAGE | ARGP_HELP_DOC, state->name);
        exit(EXIT_SUCCESS);
    case ARGP_KEY_ARG:
        if (c->takes_words != NULL) {
            parse->options->words[parse->options->word_count++] = arg;
            return 0;
        }
        if (!c->takes_target)
            fail_usage(c, "%s takes no argument, found \"%s\"", c->name, arg);
        if (config->target != NULL)
            fail_usage(c, "%s takes one argument, found \"%s\" and \"%s\"", c->name, config->target,
                       arg);
        config->target = arg;
        return 0;
    case ARGP_KEY_NO_ARGS:
        if (c->takes_words != NULL)
            fail_usage(c, "%s needs %s", c->name, c->takes_words);
        return 0;
    case ARGP_KEY_ERROR:
        st_usage_bad_option(c->name, c->synopsis, c->argp.options, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int run_run(const struct options *options)
{
    struct st_config config;
    int rc = st_config_load(&config, &options->config);

    if (rc != 0)
        return EXIT_FAILURE;
    rc = st_processor_run(&config);
    st_config_free(&config);
    return rc;
}

/* Every file, whatever is wrong with those before it. */
static int run_check(const struct options *options)
{
    int status = EXIT_SUCCESS;

    for (size_t i = 0; i < options->word_count; i++) {
        if (st_config_check(options->words[i], options->config.strict) == 0)
            printf("%s: ok\n", options->words[i]);
        else
            status = EXIT_FAILURE;
    }
    return status;
}

static int run_schema(const struct options *options)
{
    const char *target = options->config.target;
    enum st_schema which = ST_SCHEMA_MARKDOWN;
    char *text;

    if (!options->markdown) {
        const struct command *c = find_command("schema");

        if (target == NULL)
            fail_usage(c, "schema needs the name of a file");
        if (strcmp(target, "function") != 0 && strcmp(target, "platform") != 0)
            fail_usage(c, "schema takes function or platform, found \"%s\"", target);
        which = strcmp(target, "function") == 0 ? ST_SCHEMA_FUNCTION : ST_SCHEMA_PLATFORM;
    }
    text = st_config_schema(which);
    fputs(text, stdout);
    free(text);
    return EXIT_SUCCESS;
}

static int run_version(const struct options *options)
{
    (void)options;
    printf("stator %s\ncommit %s\nbuild %s\nabi %u.%u\n", STATOR_VERSION, STATOR_COMMIT,
           STATOR_BUILD_TYPE, (unsigned)STATOR_ABI_MAJOR, (unsigned)STATOR_ABI_MINOR);
    return EXIT_SUCCESS;
}

/* ---- slots ---- */

static json_t *topology_json(const struct st_topology *t)
{
    char cpus[128];

    st_cpu_list(&t->cpus, cpus, sizeof(cpus));
    return json_pack("{s:s, s:i, s:f, s:I, s:i, s:i}", "cpus", cpus, "cpuCount", (int)t->cpu_count,
                     "cpuQuota", t->cpu_quota, "memoryLimit", (json_int_t)t->memory_limit,
                     "numaNodes", (int)t->numa_count, "loops", (int)st_topology_loops(t));
}

static int print_json(const struct st_slots *slots)
{
    json_t *list = json_array(), *root;
    char *text;

    for (unsigned i = 0; i < slots->count; i++) {
        const struct st_slot *s = &slots->items[i];

        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:i}", "name", s->name, "cpus",
                                              s->cpu_list, "pinned", (int)s->pinned, "numaNode",
                                              s->numa_node));
    }
    root = json_pack("{s:o, s:b, s:o}", "topology", topology_json(&slots->topology), "exclusive",
                     (int)slots->exclusive, "slots", list);
    text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    ST_ASSERT(text != NULL);
    puts(text);
    free(text);
    json_decref(root);
    return EXIT_SUCCESS;
}

static int print_text(const struct st_slots *slots)
{
    const struct st_topology *t = &slots->topology;
    char cpus[128];

    st_cpu_list(&t->cpus, cpus, sizeof(cpus));
    printf("CPUs %s (%u)\n", cpus, t->cpu_count);
    if (t->cpu_quota > 0)
        printf("CPU quota %.2f\n", t->cpu_quota);
    else
        puts("CPU quota none");
    printf("memory limit %.0f MiB\nNUMA nodes %u\nI/O loops %u\n",
           (double)t->memory_limit / (1024.0 * 1024.0), t->numa_count, st_topology_loops(t));
    for (unsigned i = 0; i < slots->count; i++) {
        const struct st_slot *s = &slots->items[i];

        printf("slot %s: CPUs %s%s", s->name, s->cpu_list, s->pinned ? ", pinned" : "");
        if (s->numa_node >= 0)
            printf(", NUMA node %d", s->numa_node);
        putchar('\n');
    }
    return EXIT_SUCCESS;
}

/* Of the workers of a function. */
static int plan_function(struct st_slots *slots, const struct st_config *config,
                         struct st_error *err)
{
    struct st_error handler;
    int rc = st_processor_plan_slots(slots, config, &handler, err);

    if (rc == 0 && handler.code != ST_OK)
        fprintf(stderr, "stator: planned as if workers were threads: %s\n", handler.text);
    return rc;
}

/* Without a function: one worker a loop. */
static int plan_machine(struct st_slots *slots, struct st_error *err)
{
    struct st_topology topology;
    int rc = st_topology_read(&topology, "", err);

    return rc != 0
               ? rc
               : st_slots_plan(slots, &topology, st_topology_loops(&topology), ST_PIN_AUTO, err);
}

static int run_slots(const struct options *options)
{
    struct st_slots slots = {.items = NULL};
    struct st_config config = {.memory = NULL};
    struct st_error err;
    int rc;

    if (options->config.config == NULL)
        rc = plan_machine(&slots, &err);
    else if (st_config_load(&config, &options->config) != 0)
        return EXIT_FAILURE;
    else
        rc = plan_function(&slots, &config, &err);
    if (rc != 0)
        fprintf(stderr, "stator: %s\n", err.text);
    else
        rc = options->json ? print_json(&slots) : print_text(&slots);
    st_slots_free(&slots);
    st_config_free(&config);
    return rc == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- tables ---- */

#define HELP_OPTION                                     \
    {                                                   \
        "help", OPT_HELP, NULL, 0, "Show this help", -1 \
    }

static const struct argp_option run_options[] = {
    {"config", OPT_CONFIG, "FILE", 0, "The function's configuration, YAML or JSON", 0},
    {"platform-config", OPT_PLATFORM_CONFIG, "FILE", 0, "The platform's configuration", 0},
    {"port", OPT_PORT, "N", 0, "Port of the http trigger", 0},
    {"loops", OPT_LOOPS, "N", 0, "I/O loops; by default one for each CPU of the limit", 0},
    {"workers", OPT_WORKERS, "N", 0, "Workers of each trigger", 0},
    {"strict", OPT_STRICT, NULL, 0, "Refuse unknown keys in the configuration", 0},
    {"watch", OPT_WATCH, NULL, 0, "Replace workers when the handler's code changes", 0},
    HELP_OPTION,
    {0},
};

static const struct argp_option check_options[] = {
    {"strict", OPT_STRICT, NULL, 0, "Unknown keys are faults too", 0},
    HELP_OPTION,
    {0},
};

static const struct argp_option schema_options[] = {
    {"markdown", OPT_MARKDOWN, NULL, OPTION_HIDDEN, "Print the reference of the documentation", 0},
    HELP_OPTION,
    {0},
};

static const struct argp_option slots_options[] = {
    {"config", OPT_CONFIG, "FILE", 0, "Plan the slots of this function's workers", 0},
    {"json", OPT_JSON, NULL, 0, "Print JSON", 0},
    HELP_OPTION,
    {0},
};

static const struct argp_option version_options[] = {HELP_OPTION, {0}};

static const struct command commands[] = {
    {.name = "run",
     .synopsis = "run [DIR|FILE] [--config FILE] [--platform-config FILE] [--port N] [--loops N] "
                 "[--workers N] [--strict] [--watch]",
     .argp = {run_options, parse_option, "[DIR|FILE]",
              "Serve a function until SIGTERM.\v"
              "DIR holds function.yaml and the handler; FILE is a configuration (.yaml) or a "
              "handler (.so), which is served on port 8080 without configuration. With neither, "
              "/etc/nuclio/config/processor/processor.yaml is read.",
              NULL, NULL, NULL},
     .run = run_run,
     .takes_target = true},
    {.name = "check",
     .synopsis = "check [--strict] FILE...",
     .argp = {check_options, parse_option, "FILE...",
              "Check configurations and start nothing.\v"
              "FILE is a function.yaml, a platform.yaml, or a directory with a function.yaml. All "
              "faults are shown at once; the status is 0 when there are none, otherwise 1.",
              NULL, NULL, NULL},
     .run = run_check,
     .takes_words = "a file"},
    {.name = "schema",
     .synopsis = "schema function|platform",
     .argp = {schema_options, parse_option, "function|platform",
              "Print the JSON Schema (2020-12) of function.yaml or of platform.yaml.", NULL, NULL,
              NULL},
     .run = run_schema,
     .takes_target = true},
    {.name = "invoke", .synopsis = ST_CLI_INVOKE_SYNOPSIS, .main = st_cli_invoke},
    {.name = "health", .synopsis = ST_CLI_HEALTH_SYNOPSIS, .main = st_cli_health},
    {.name = "slots",
     .synopsis = "slots [--config FILE] [--json]",
     .argp = {slots_options, parse_option, "",
              "Show the CPUs and memory that the processor may use, and the slots of workers.",
              NULL, NULL, NULL},
     .run = run_slots},
    {.name = "version",
     .synopsis = "version",
     .argp = {version_options, parse_option, "", "Show version, commit, build and handler ABI.",
              NULL, NULL, NULL},
     .run = run_version},
};

static const char main_help[] =
    "Usage: stator COMMAND [OPTION...]\n"
    "\n"
    "  run [DIR|FILE]   serve a function until SIGTERM\n"
    "  check FILE...    check configurations, start nothing\n"
    "  schema NAME      print the JSON Schema of function.yaml or platform.yaml\n"
    "  cron next EXPR   show when a schedule of the cron trigger comes next\n"
    "  kafka lag        show how far a kafka trigger is behind; also peek, replay-dlq\n"
    "  invoke           send a request to a function\n"
    "  health           ask a processor on this machine whether it is ready\n"
    "  python build     make the add-on of Python workers for another interpreter\n"
    "  slots            show CPUs, memory and the slots of workers\n"
    "  version          show version, commit, build and handler ABI\n"
    "\n"
    "stator COMMAND --help shows the options of a command.\n";

static const struct command *find_command(const char *name)
{
    struct st_nearest nearest;

    st_nearest_init(&nearest, st_slice_of(name));
    for (size_t i = 0; i < ST_ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
        st_nearest_try(&nearest, commands[i].name);
    }
    for (size_t i = 0; st_kind_commands[i] != NULL; i++)
        st_nearest_try(&nearest, st_kind_commands[i]->name);
    if (nearest.name != NULL)
        fail_usage(NULL, "there is no command \"%s\", did you mean \"%s\"", name, nearest.name);
    fail_usage(NULL, "there is no command \"%s\"", name);
}

static const struct st_command *find_kind_command(const char *name)
{
    for (size_t i = 0; st_kind_commands[i] != NULL; i++)
        if (strcmp(st_kind_commands[i]->name, name) == 0)
            return st_kind_commands[i];
    return NULL;
}

int main(int argc, char **argv)
{
    const struct st_command *of_kind;
    struct options options = {.json = false};
    struct parse parse = {.options = &options};
    char name[64];
    int status;

    if (argc < 2)
        fail_usage(NULL, "a command is missing");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        fputs(main_help, stdout);
        return EXIT_SUCCESS;
    }
    if ((of_kind = find_kind_command(argv[1])) != NULL) {
        snprintf(name, sizeof(name), "stator %s", of_kind->name);
        argv[1] = name;
        return of_kind->run(argc - 1, argv + 1);
    }
    parse.command =
        strcmp(argv[1], "--version") == 0 ? find_command("version") : find_command(argv[1]);
    /* argp names the program by argv[0] in its help. */
    snprintf(name, sizeof(name), "stator %s", parse.command->name);
    argv[1] = name;
    if (parse.command->main != NULL)
        return parse.command->main(argc - 1, argv + 1);
    options.words = st_calloc((size_t)argc, sizeof(options.words[0]));
    if (argp_parse(&parse.command->argp, argc - 1, argv + 1, ARGP_NO_ERRS | ARGP_NO_HELP, NULL,
                   &parse) != 0)
        fail_usage(parse.command, "%s: wrong usage", parse.command->name);
    status = parse.command->run(&options);
    free(options.words);
    return status;
}
