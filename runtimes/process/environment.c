/* What worker processes find in their environment: chosen variables of the processor's, so that its
 * secrets stay with it, and the function's own. NUCLIO_FUNCTION_* are already in the former. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/processor.h"
#include "runtimes/process/metric.h"
#include "runtimes/process/process.h"
#include "runtimes/process/template.h"

/* Where things are, which language and zone, how to reach the world, what the hardware is. */
static const char *const usual[] = {
    "PATH",         "HOME",         "USER",          "LOGNAME",
    "SHELL",        "LANG",         "LANGUAGE",      "LC_*",
    "TZ",           "TMPDIR",       "HOSTNAME",      "LD_LIBRARY_PATH",
    "HTTP_PROXY",   "HTTPS_PROXY",  "NO_PROXY",      "http_proxy",
    "https_proxy",  "no_proxy",     "SSL_CERT_FILE", "SSL_CERT_DIR",
    "NUCLIO_*",     "NVIDIA_*",     "CUDA_*",        "OMP_*",
    "KUBERNETES_*", "MALLOC_*",     "ASAN_OPTIONS",  "UBSAN_OPTIONS",
    "LSAN_OPTIONS", "TSAN_OPTIONS",
};

struct env {
    const char **items; /* NULL-terminated; each is allocated */
    size_t count;
};

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");

    return n == strcspn(b, "=") && memcmp(a, b, n) == 0;
}

/* The last one of a name wins. */
static void put(struct env *env, const char *text)
{
    for (size_t i = 0; i < env->count; i++) {
        if (same_name(env->items[i], text)) {
            free((char *)env->items[i]);
            env->items[i] = st_strdup(text);
            return;
        }
    }
    env->items = st_realloc(env->items, (env->count + 2) * sizeof env->items[0]);
    env->items[env->count++] = st_strdup(text);
    env->items[env->count] = NULL;
}

static void put_pair(struct env *env, const char *name, const char *value)
{
    size_t n = strlen(name) + strlen(value) + 2;
    char *text = st_malloc(n);

    snprintf(text, n, "%s=%s", name, value);
    put(env, text);
    free(text);
}

static bool matches(const char *pattern, const char *variable)
{
    size_t n = strcspn(variable, "="), p = strlen(pattern);

    if (p > 0 && pattern[p - 1] == '*')
        return n >= p - 1 && memcmp(pattern, variable, p - 1) == 0;
    return n == p && memcmp(pattern, variable, n) == 0;
}

static bool is_chosen(const struct st_function_config *f, const char *variable)
{
    for (size_t i = 0; i < ST_ARRAY_LEN(usual); i++)
        if (matches(usual[i], variable))
            return true;
    for (size_t i = 0; i < f->own.worker_env.count; i++)
        if (matches(f->own.worker_env.items[i], variable))
            return true;
    return false;
}

/* "uid" or "uid:gid". */
static int read_user(struct st_process_runtime *rt, const char *text, struct st_error *err)
{
    char *end;

    rt->uid = rt->gid = -1;
    if (text == NULL || text[0] == '\0')
        return ST_OK;
    errno = 0;
    rt->uid = rt->gid = strtol(text, &end, 10);
    if (end != text && *end == ':') {
        text = end + 1;
        rt->gid = strtol(text, &end, 10);
    }
    if (errno != 0 || end == text || *end != '\0' || rt->uid < 0 || rt->gid < 0)
        return st_error_set(err, ST_ERR_INVALID,
                            "spec.stator.workerUser: found \"%s\", expected numbers, for example "
                            "1000:1000",
                            rt->base.config->own.worker_user);
    return ST_OK;
}

int st_process_load(struct st_process_runtime *rt, const char *const *more, struct st_error *err)
{
    const struct st_function_config *f = rt->base.config;
    struct env env = {.items = NULL};
    int code = read_user(rt, f->own.worker_user, err);

    if (code != ST_OK)
        return code;
    for (char **variable = environ; *variable != NULL; variable++)
        if (is_chosen(f, *variable))
            put(&env, *variable);
    for (; more != NULL && *more != NULL; more++)
        put(&env, *more);
    for (size_t i = 0; i < f->env_count; i++) {
        const char *given = f->env[i].value;
        const char *value = given != NULL ? given : getenv(f->env[i].name);

        if (value != NULL)
            put_pair(&env, f->env[i].name, value);
    }
    rt->envp = env.items;
    rt->metrics = st_handler_metrics_new(f->name != NULL ? f->name : "");
    st_orphans_watch(&rt->orphans, &rt->base.processor->main_loop);
    if (f->own.prefork && rt->template_argument != NULL)
        rt->template = st_template_new(rt);
    return ST_OK;
}

void st_process_unload(struct st_process_runtime *rt)
{
    for (size_t i = 0; rt->envp != NULL && rt->envp[i] != NULL; i++)
        free((char *)rt->envp[i]);
    free(rt->envp);
    rt->envp = NULL;
    st_template_free(rt->template);
    rt->template = NULL;
    st_handler_metrics_free(rt->metrics);
    rt->metrics = NULL;
    st_orphans_leave(&rt->orphans);
}
