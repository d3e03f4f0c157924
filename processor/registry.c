#include "processor/registry.h"

#include <stddef.h>

#include "runtimes/native/native.h"
#include "runtimes/native_process/native_process.h"
#include "runtimes/python/python.h"
#include "runtimes/python/python_command.h"
#include "triggers/cron/cron_command.h"
#include "triggers/cron/cron_trigger.h"
#include "triggers/http/http_output.h"
#include "triggers/http/http_trigger.h"
#include "triggers/kafka/kafka_command.h"
#include "triggers/kafka/kafka_output.h"
#include "triggers/kafka/kafka_trigger.h"

const struct st_trigger_kind *const st_trigger_kinds[] = {
    &st_trigger_http_kind,
    &st_trigger_cron_kind,
    &st_trigger_kafka_kind,
    NULL,
};

const struct st_runtime_kind *const st_runtime_kinds[] = {
    &st_runtime_native_kind,
    &st_runtime_python_kind,
    NULL,
};

const struct st_runtime_kind *const st_isolated_runtime_kinds[] = {
    &st_runtime_native_process_kind,
    NULL,
};

const struct st_output_kind *const st_output_kinds[] = {
    &st_output_http_kind,
    &st_output_kafka_kind,
    NULL,
};

const struct st_command *const st_kind_commands[] = {
    &st_cron_command,
    &st_kafka_command,
    &st_python_command,
    NULL,
};
