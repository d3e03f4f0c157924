#include "processor/watch.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/core/tree_watch.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/runtime.h"

/* Editors write a file in several steps, and people several files at once. */
#define SETTLE_NS (200 * ST_MSEC)

struct st_watch {
    struct st_processor *p;
    struct st_tree_watch *tree;
    struct st_timer settle;
    char handler[PATH_MAX], config[PATH_MAX]; /* the files; "": there is none */
    bool code_changed, config_changed;        /* since the last look */
    bool renewing;
    unsigned pool, next; /* the place whose worker is renewed now, and the next one there */
    unsigned renewed;
    uint64_t began_ns;
};

/* What counts */

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);

    return a > b && strcmp(text + a - b, end) == 0;
}

/* A file that workers load: of the runtime's language, a shared object, or the handler itself. */
static bool is_code(const struct st_watch *watch, const char *path)
{
    const char *name = name_of(path), *const *suffix = watch->p->runtime->kind->suffixes;

    if (name[0] == '.')
        return strcmp(name, "..data") == 0; /* all files of a mounted ConfigMap, at once */
    for (; suffix != NULL && *suffix != NULL; suffix++)
        if (ends_with(name, *suffix))
            return true;
    return ends_with(name, ".so") || strcmp(path, watch->handler) == 0;
}

static void on_changed(void *user, const char *path)
{
    struct st_watch *watch = user;
    bool code = path[0] == '\0' || is_code(watch, path);
    bool config = !code && strcmp(path, watch->config) == 0;

    if (!code && !config)
        return;
    watch->code_changed |= code;
    watch->config_changed |= config;
    st_loop_timer_arm(&watch->p->main_loop, &watch->settle, SETTLE_NS);
}

/* Not into what tools keep for themselves, nor into what is installed. */
static bool enter(void *user ST_UNUSED, const char *path)
{
    const char *name = name_of(path);
    char mark[PATH_MAX];

    if (name[0] == '.' || strcmp(name, "__pycache__") == 0 || strcmp(name, "node_modules") == 0)
        return false;
    return snprintf(mark, sizeof mark, "%s/pyvenv.cfg", path) < (int)sizeof mark &&
           access(mark, F_OK) != 0;
}

static const struct st_tree_handler tree_handler = {.enter = enter, .changed = on_changed};

/* One after the other */

static void renew_next(struct st_watch *watch)
{
    struct st_processor *p = watch->p;

    while (watch->pool < p->pool_count && watch->next == p->pools[watch->pool]->worker_count) {
        watch->pool++;
        watch->next = 0;
    }
    if (watch->pool < p->pool_count) {
        st_pool_renew(p->pools[watch->pool], watch->next++);
        return;
    }
    watch->renewing = false;
    ST_LOG(ST_LOG_INFO, "processor.watch", "All workers have the changed code",
           ST_KV_UINT("workers", watch->renewed),
           ST_KV_UINT("milliseconds", (st_loop_now(&p->main_loop) - watch->began_ns) / ST_MSEC));
}

static void renew_all(struct st_watch *watch)
{
    if (watch->renewing)
        st_pool_cancel_renewal(watch->p->pools[watch->pool]);
    ST_LOG(ST_LOG_INFO, "processor.watch", "The code has changed; workers are replaced");
    if (watch->p->runtime->kind->code_changed != NULL)
        watch->p->runtime->kind->code_changed(watch->p->runtime);
    watch->renewing = true;
    watch->pool = watch->next = watch->renewed = 0;
    watch->began_ns = st_loop_now(&watch->p->main_loop);
    renew_next(watch);
}

void st_watch_step(struct st_watch *watch)
{
    char text[ST_POOL_ERROR_MAX];

    if (watch == NULL || !watch->renewing)
        return;
    switch (st_pool_renewal(watch->p->pools[watch->pool], text, sizeof text)) {
    case ST_RENEWAL_GOES_ON:
        break;
    case ST_RENEWAL_DONE:
        watch->renewed++;
        renew_next(watch);
        break;
    case ST_RENEWAL_FAILED:
        watch->renewing = false;
        ST_LOG(ST_LOG_ERROR, "processor.watch",
               "A worker with the changed code did not start; the others go on as they are until "
               "the next change",
               ST_KV_UINT("replaced", watch->renewed), ST_KV_STR("error", text));
        break;
    }
}

static void on_settled(struct st_timer *t)
{
    struct st_watch *watch = ST_CONTAINER_OF(t, struct st_watch, settle);

    if (st_processor_phase(watch->p) == ST_PHASE_STARTING) { /* who knows what they have loaded */
        st_loop_timer_arm(&watch->p->main_loop, t, SETTLE_NS);
        return;
    }
    if (st_processor_phase(watch->p) != ST_PHASE_READY)
        return;
    if (watch->config_changed)
        ST_LOG(ST_LOG_WARN, "processor.watch",
               "The configuration has changed; it is read at the next start only",
               ST_KV_STR("file", watch->config));
    if (watch->code_changed)
        renew_all(watch);
    watch->code_changed = watch->config_changed = false;
}

/* Life */

/* The folder of a file, unless it is watched anyway. */
static int add_folder_of(struct st_watch *watch, const char *file, struct st_error *err)
{
    char folder[PATH_MAX];

    if (file[0] == '\0')
        return ST_OK;
    snprintf(folder, sizeof folder, "%.*s", (int)(name_of(file) - file - 1), file);
    return st_tree_watch_add(watch->tree, folder, false, err);
}

/* Where they are, if they are files at all. */
static void find_files(struct st_watch *watch)
{
    const struct st_config *config = watch->p->config;
    const char *handler = config->function.handler;
    char path[PATH_MAX];
    int len = (int)strcspn(handler, ":");

    if (handler[0] == '/')
        snprintf(path, sizeof path, "%.*s", len, handler);
    else
        snprintf(path, sizeof path, "%s/%.*s", config->code_dir, len, handler);
    if (realpath(path, watch->handler) == NULL)
        watch->handler[0] = '\0';
    if (realpath(config->file, watch->config) == NULL)
        watch->config[0] = '\0';
}

static int add_all(struct st_watch *watch, struct st_error *err)
{
    char code[PATH_MAX];
    size_t folders;
    bool all;
    int rc;

    find_files(watch);
    if (realpath(watch->p->config->code_dir, code) == NULL)
        return st_error_set(err, ST_ERR_NOTFOUND, "The code directory %s is not there",
                            watch->p->config->code_dir);
    if ((rc = st_tree_watch_add(watch->tree, code, true, err)) != ST_OK ||
        (rc = add_folder_of(watch, watch->handler, err)) != ST_OK ||
        (rc = add_folder_of(watch, watch->config, err)) != ST_OK)
        return rc;
    folders = st_tree_watch_count(watch->tree, &all);
    ST_LOG(ST_LOG_INFO, "processor.watch", "Watching the code", ST_KV_STR("directory", code),
           ST_KV_UINT("folders", folders));
    if (!all)
        ST_LOG(ST_LOG_WARN, "processor.watch", "There are more folders than can be watched",
               ST_KV_STR("directory", code), ST_KV_UINT("watched", folders));
    return ST_OK;
}

int st_watch_open(struct st_watch **out, struct st_processor *p, struct st_error *err)
{
    struct st_watch *watch;

    *out = NULL;
    if (!p->config->watch)
        return ST_OK;
    if (!p->runtime->kind->isolates)
        return st_error_set(err, ST_ERR_INVALID,
                            "--watch needs workers that are processes: set spec.stator.isolation: "
                            "process, or start without --watch, and again after each change");
    *out = watch = st_calloc(1, sizeof *watch);
    watch->p = p;
    st_timer_init(&watch->settle, on_settled);
    watch->tree = st_tree_watch_open(&p->main_loop, &tree_handler, watch, err);
    return watch->tree != NULL ? add_all(watch, err) : err->code;
}

void st_watch_close(struct st_watch *watch)
{
    if (watch == NULL)
        return;
    st_loop_timer_cancel(&watch->p->main_loop, &watch->settle);
    st_tree_watch_close(watch->tree);
    free(watch);
}
