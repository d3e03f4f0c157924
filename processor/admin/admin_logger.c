/* /logger/level: {"system": LEVEL, "functions": LEVEL}. */
#include "processor/admin/admin_int.h"
#include "processor/core/log.h"

static const char *const level_names[] = {"debug", "info", "warn", "error", "off"};

static json_t *levels(void)
{
    return json_pack("{s:s, s:s}", "system", level_names[st_log_threshold], "functions",
                     level_names[st_log_function_threshold]);
}

void st_admin_level_get(struct admin_exchange *ax)
{
    st_admin_answer_json(ax, 200, levels());
}

/* The level that a value names, or -1. */
static int level_of(const json_t *value)
{
    const char *name = json_string_value(value);

    for (size_t i = 0; name != NULL && i < ST_ARRAY_LEN(level_names); i++)
        if (strcmp(name, level_names[i]) == 0)
            return (int)i;
    return -1;
}

static void refuse(struct admin_exchange *ax, const char *found)
{
    st_admin_answer_json(
        ax, 400,
        json_pack("{s:o}", "error",
                  json_sprintf("found %s, expected an object with a level (debug, info, warn, "
                               "error, off) for system, functions or both, for example "
                               "{\"system\": \"warn\"}",
                               found)));
}

void st_admin_level_put(struct admin_exchange *ax)
{
    json_t *body =
        json_loadb(ax->x.body.ptr != NULL ? ax->x.body.ptr : "", ax->x.body.len, 0, NULL);
    json_t *system = json_object_get(body, "system");
    json_t *functions = json_object_get(body, "functions");
    int system_level = level_of(system), function_level = level_of(functions);

    if (!json_is_object(body)) {
        refuse(ax, "no JSON object");
    } else if (json_object_size(body) != (size_t)(system != NULL) + (functions != NULL) ||
               json_object_size(body) == 0) {
        refuse(ax, "other keys");
    } else if ((system != NULL && system_level < 0) || (functions != NULL && function_level < 0)) {
        refuse(ax, "an unknown level");
    } else {
        if (system != NULL)
            st_log_threshold = (enum st_log_level)system_level;
        if (functions != NULL)
            st_log_function_threshold = (enum st_log_level)function_level;
        ST_LOG(ST_LOG_INFO, "processor.admin", "Log levels were changed",
               ST_KV_STR("system", level_names[st_log_threshold]),
               ST_KV_STR("functions", level_names[st_log_function_threshold]));
        st_admin_answer_json(ax, 200, levels());
    }
    json_decref(body);
}
