#include "processor/config/config.h"

#include <stdio.h>

#include "processor/config/schema.h"
#include "processor/registry.h"

int st_config_load(struct st_config *out, const struct st_config_args *args)
{
    struct st_config_env env = {st_trigger_kinds, st_runtime_kinds, "", stderr};

    return st_config_load_env(out, args, &env);
}
