#include "triggers/kafka/kafka_command.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/cli/usage.h"
#include "triggers/kafka/kafka_command_int.h"
#include "triggers/kafka/kafka_trigger.h"

static const char synopsis[] = "kafka lag|peek|replay-dlq [DIR|FILE] [OPTION...]";

enum verb { VERB_NONE, VERB_LAG = 1, VERB_PEEK = 2, VERB_REPLAY = 4 };

static const struct {
    const char *name;
    enum verb verb;
} verbs[] = {{"lag", VERB_LAG}, {"peek", VERB_PEEK}, {"replay-dlq", VERB_REPLAY}};

enum {
    OPT_CONFIG = 0x100,
    OPT_PLATFORM_CONFIG,
    OPT_TRIGGER,
    OPT_TIMEOUT,
    OPT_JSON,
    OPT_MAX_LAG,
    OPT_TOPIC,
    OPT_PARTITION,
    OPT_FROM,
    OPT_BYTES,
    OPT_MAX,
    OPT_DRY_RUN,
    OPT_HELP
};

static const struct argp_option options[] = {
    {NULL, 0, NULL, 0, "All of them:", 1},
    {"config", OPT_CONFIG, "FILE", 0, "The function's configuration, YAML or JSON", 0},
    {"platform-config", OPT_PLATFORM_CONFIG, "FILE", 0, "The platform's configuration", 0},
    {"trigger", OPT_TRIGGER, "NAME", 0, "Which trigger, where there are several", 0},
    {"timeout", OPT_TIMEOUT, "TIME", 0, "How long to wait for the brokers (10s)", 0},
    {NULL, 0, NULL, 0, "lag and peek:", 2},
    {"json", OPT_JSON, NULL, 0, "Print JSON; peek: one line a message", 0},
    {NULL, 0, NULL, 0, "lag:", 3},
    {"max-lag", OPT_MAX_LAG, "N", 0, "Exit status 1 when more messages than N wait", 0},
    {NULL, 0, NULL, 0, "peek:", 4},
    {"topic", OPT_TOPIC, "NAME", 0, "Another topic than the trigger's", 0},
    {"partition", OPT_PARTITION, "N", 0, "Only this partition", 0},
    {"count", 'n', "N", 0, "How many messages to show (10)", 0},
    {"from", OPT_FROM, "WHERE", 0,
     "committed: what the function gets next (default), beginning, end: the last ones, or an "
     "offset",
     0},
    {"bytes", OPT_BYTES, "N", 0, "How much of a value to show (200); 0: all", 0},
    {NULL, 0, NULL, 0, "replay-dlq:", 5},
    {"max", OPT_MAX, "N", 0, "At most so many dead letters", 0},
    {"dry-run", OPT_DRY_RUN, NULL, 0, "Show them, publish and commit nothing", 0},
    {"help", OPT_HELP, NULL, 0, "Show this help", -1},
    {0},
};

struct parse {
    struct kafka_words words;
    enum verb verb;
    unsigned wanted; /* the verbs that the options so far belong to */
    const char *last;
};

ST_NORETURN static void ST_PRINTF(1, 2) fail_usage(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    st_usage_vfail(synopsis, fmt, args);
}

static void take_word(struct parse *p, char *word)
{
    struct st_config_args *config = &p->words.config;

    for (size_t i = 0; p->verb == VERB_NONE && i < ST_ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, word) == 0) {
            p->verb = verbs[i].verb;
            return;
        }
    }
    if (p->verb == VERB_NONE)
        fail_usage("kafka: there is no \"%s\", expected lag, peek or replay-dlq", word);
    if (config->target != NULL)
        fail_usage("kafka takes one function, found \"%s\" and \"%s\"", config->target, word);
    config->target = word;
}

/* Options that only some verbs have. */
static void belongs(struct parse *p, const char *option, unsigned to)
{
    if ((p->wanted & to) != p->wanted)
        p->last = option;
    p->wanted &= to;
}

static error_t parse_option(int key, char *arg, struct argp_state *state);
static const struct argp command_argp = {
    options,
    parse_option,
    "lag [DIR|FILE]\npeek [DIR|FILE]\nreplay-dlq [DIR|FILE]",
    "Look at what a function's kafka trigger reads, and put dead letters back.\v"
    "lag shows for each partition the position that the group has committed, the end, and how many "
    "messages lie between. peek shows the next messages and commits nothing. replay-dlq publishes "
    "the dead letters to the partitions they came from; one is passed when that is confirmed, in a "
    "group of its own, GROUP-replay, so that a second run goes on where the first one ended.\n\n"
    "DIR, FILE and --config are those of \"stator run\". Exit status 3: the brokers do not answer, "
    "or refuse.",
    NULL,
    NULL,
    NULL};

static error_t parse_number(struct parse *p, int key, const char *arg)
{
    struct kafka_words *w = &p->words;

    switch (key) {
    case OPT_MAX_LAG:
        belongs(p, "--max-lag", VERB_LAG);
        w->max_lag = st_usage_number(synopsis, "--max-lag", arg, 0, INT64_MAX);
        return 0;
    case OPT_PARTITION:
        belongs(p, "--partition", VERB_PEEK);
        w->partition = st_usage_number(synopsis, "--partition", arg, 0, INT32_MAX);
        return 0;
    case 'n':
        belongs(p, "--count", VERB_PEEK);
        w->count = st_usage_number(synopsis, "--count", arg, 1, INT32_MAX);
        return 0;
    case OPT_BYTES:
        belongs(p, "--bytes", VERB_PEEK);
        w->bytes = st_usage_number(synopsis, "--bytes", arg, 0, INT32_MAX);
        return 0;
    case OPT_MAX:
        belongs(p, "--max", VERB_REPLAY);
        w->max = st_usage_number(synopsis, "--max", arg, 1, INT64_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct parse *p = state->input;
    struct kafka_words *w = &p->words;

    switch (key) {
    case OPT_CONFIG:
        w->config.config = arg;
        return 0;
    case OPT_PLATFORM_CONFIG:
        w->config.platform_config = arg;
        return 0;
    case OPT_TRIGGER:
        w->trigger = arg;
        return 0;
    case OPT_TIMEOUT:
        w->timeout_ns = st_usage_duration(synopsis, "--timeout", arg);
        return 0;
    case OPT_JSON:
        belongs(p, "--json", VERB_LAG | VERB_PEEK);
        w->json = true;
        return 0;
    case OPT_TOPIC:
        belongs(p, "--topic", VERB_PEEK);
        w->topic = arg;
        return 0;
    case OPT_FROM:
        belongs(p, "--from", VERB_PEEK);
        if (!kafka_peek_is_place(arg))
            fail_usage("--from needs committed, beginning, end or an offset, found \"%s\"", arg);
        w->from = arg;
        return 0;
    case OPT_DRY_RUN:
        belongs(p, "--dry-run", VERB_REPLAY);
        w->dry_run = true;
        return 0;
    case OPT_HELP:
        argp_help(&command_argp, stdout, ARGP_HELP_LONG | ARGP_HELP_USAGE | ARGP_HELP_DOC,
                  state->name);
        exit(EXIT_SUCCESS);
    case ARGP_KEY_ARG:
        take_word(p, arg);
        return 0;
    case ARGP_KEY_ERROR:
        st_usage_bad_option("kafka", synopsis, options, state);
    default:
        return parse_number(p, key, arg);
    }
}

/* The trigger by name, or the only one; NULL: it was told. */
static const struct st_trigger_config *choose(const struct st_config *c, const char *name)
{
    const struct st_trigger_config *found = NULL;
    size_t count = 0;

    for (size_t i = 0; i < c->function.trigger_count; i++) {
        const struct st_trigger_config *t = &c->function.triggers[i];

        if (t->kind != &st_trigger_kafka_kind || (name != NULL && strcmp(t->name, name) != 0))
            continue;
        found = t;
        count++;
    }
    if (count == 1)
        return found;
    if (name != NULL)
        fprintf(stderr, "stator: kafka: the function has no kafka trigger \"%s\"\n", name);
    else if (count == 0)
        fputs("stator: kafka: the function has no kafka trigger\n", stderr);
    else
        fputs("stator: kafka: the function has several kafka triggers: name one by --trigger\n",
              stderr);
    return NULL;
}

static int work(enum verb verb, const struct kafka_words *w)
{
    const struct st_trigger_config *t;
    struct st_config config;
    int status = EXIT_FAILURE;

    if (st_config_load(&config, &w->config) != 0)
        return EXIT_FAILURE;
    t = choose(&config, w->trigger);
    if (t != NULL && verb == VERB_LAG)
        status = kafka_command_lag(w, t);
    else if (t != NULL && verb == VERB_PEEK)
        status = kafka_command_peek(w, t);
    else if (t != NULL)
        status = kafka_command_replay(w, &config, t);
    st_config_free(&config);
    return status;
}

static int run(int argc, char **argv)
{
    struct parse p = {
        .wanted = VERB_LAG | VERB_PEEK | VERB_REPLAY,
        .words = {.timeout_ns = 10 * ST_SEC,
                  .from = "committed",
                  .count = 10,
                  .max = -1,
                  .max_lag = -1,
                  .partition = -1,
                  .bytes = 200},
    };

    if (argp_parse(&command_argp, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &p) != 0)
        fail_usage("kafka: wrong usage");
    if (p.verb == VERB_NONE)
        fail_usage("kafka: a word is missing: lag, peek or replay-dlq");
    if ((p.wanted & p.verb) == 0)
        fail_usage("kafka: %s is no option of this", p.last);
    return work(p.verb, &p.words);
}

const struct st_command st_kafka_command = {.name = "kafka", .run = run};
