#include "processor/registry.h"

#include <stddef.h>

#include "runtimes/native/native.h"
#include "triggers/http/http_trigger.h"

const struct st_trigger_kind *const st_trigger_kinds[] = {
    &st_trigger_http_kind,
    NULL,
};

const struct st_runtime_kind *const st_runtime_kinds[] = {
    &st_runtime_native_kind,
    NULL,
};
