#include "processor/cli/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/config/names.h"
#include "processor/config/scalar.h"

enum { EXIT_USAGE = 2 };

void st_usage_vfail(const char *synopsis, const char *fmt, va_list args)
{
    fputs("stator: ", stderr);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "; type: stator %s\n", synopsis);
    exit(EXIT_USAGE);
}

void st_usage_fail(const char *synopsis, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    st_usage_vfail(synopsis, fmt, args);
}

/* A heading has no name. */
static bool is_row(const struct argp_option *option)
{
    return option->name != NULL || option->doc != NULL;
}

ST_NORETURN static void bad_short(const char *command, const char *synopsis,
                                  const struct argp_option *options, const char *word)
{
    for (; is_row(options); options++) {
        if (options->name != NULL && word[0] == '-' && word[1] == options->key &&
            options->arg != NULL)
            st_usage_fail(synopsis, "%s: -%c needs a value", command, options->key);
    }
    st_usage_fail(synopsis, "%s: there is no option %s", command, word);
}

void st_usage_bad_option(const char *command, const char *synopsis,
                         const struct argp_option *options, const struct argp_state *state)
{
    const char *word =
        state->next > 0 && state->next <= state->argc ? state->argv[state->next - 1] : "";
    size_t len = strcspn(word, "=");
    struct st_nearest nearest;

    if (strncmp(word, "--", 2) != 0)
        bad_short(command, synopsis, options, word);
    st_nearest_init(&nearest, (struct st_slice){word + 2, len - 2});
    for (; is_row(options); options++) {
        if (options->name == NULL)
            continue;
        if (strlen(options->name) == len - 2 && strncmp(options->name, word + 2, len - 2) == 0) {
            if (options->arg == NULL)
                st_usage_fail(synopsis, "%s: --%s takes no value", command, options->name);
            st_usage_fail(synopsis, "%s: --%s needs a value", command, options->name);
        }
        st_nearest_try(&nearest, options->name);
    }
    if (nearest.name != NULL)
        st_usage_fail(synopsis, "%s: there is no option %.*s, did you mean --%s", command, (int)len,
                      word, nearest.name);
    st_usage_fail(synopsis, "%s: there is no option %.*s", command, (int)len, word);
}

int64_t st_usage_number(const char *synopsis, const char *option, const char *text, int64_t min,
                        int64_t max)
{
    char *end;
    long long value = strtoll(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0' || value < min || value > max)
        st_usage_fail(synopsis, "%s needs a number from %lld to %lld, found \"%s\"", option,
                      (long long)min, (long long)max, text);
    return value;
}

uint64_t st_usage_duration(const char *synopsis, const char *option, const char *text)
{
    int64_t ns;

    if (st_scalar_duration(st_slice_of(text), &ns) != 0 || ns < (int64_t)ST_MSEC)
        st_usage_fail(synopsis, "%s needs a duration such as 10s or 500ms, found \"%s\"", option,
                      text);
    return (uint64_t)ns;
}
