#include "processor/config/config.h"

#include <stdio.h>

#include "processor/config/schema.h"
#include "processor/registry.h"

static const struct st_config_env *real_env(struct st_config_env *env)
{
    *env = (struct st_config_env){st_trigger_kinds, st_runtime_kinds,          "",
                                  stderr,           st_isolated_runtime_kinds, st_output_kinds};
    return env;
}

int st_config_load(struct st_config *out, const struct st_config_args *args)
{
    struct st_config_env env;

    return st_config_load_env(out, args, real_env(&env));
}

int st_config_check(const char *file, bool strict)
{
    struct st_config_env env;

    return st_config_check_env(file, strict, real_env(&env));
}

char *st_config_schema(enum st_schema which)
{
    struct st_config_env env;

    real_env(&env);
    return which == ST_SCHEMA_MARKDOWN ? st_markdown_reference(&env) : st_json_schema(which, &env);
}
