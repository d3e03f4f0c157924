/* Which files make up the configuration, and what the command line changes in it. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/config/inline.h"
#include "processor/config/reader.h"
#include "processor/config/scalar.h"
#include "processor/config/schema.h"
#include "processor/config/secrets.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

static const char container_config[] = "/etc/nuclio/config/processor/processor.yaml";
static const char container_platform[] = "/etc/nuclio/config/platform/platform.yaml";
static const char container_code[] = "/opt/nuclio";
static const char http_kind[] = "http";
static const char default_http[] = "default-http"; /* as Nuclio's platform calls it */

/* Everything that loading needs at hand. */
struct load {
    struct st_config *out;
    const struct st_config_args *args;
    const struct st_config_env *env;
    struct st_config_memory *mem;
    struct st_diag diag;
    bool platform_file; /* there is one: what function.yaml has of it does not count */
    bool has_platform;  /* it, or defaults in its place, were read */
};

static const struct st_place nowhere = {NULL, 0, 0};

static bool is_directory(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);

    return a > b && strcmp(text + a - b, end) == 0;
}

static bool is_config_file(const char *path)
{
    return ends_with(path, ".yaml") || ends_with(path, ".yml") || ends_with(path, ".json");
}

/* The runtime that runs such a file without configuration, or NULL. */
static const struct st_runtime_kind *runtime_of_file(const struct load *l, const char *path)
{
    for (const struct st_runtime_kind *const *kind = l->env->runtime_kinds; *kind != NULL; kind++) {
        const char *const *suffix = (*kind)->suffixes;

        for (; suffix != NULL && *suffix != NULL; suffix++) {
            if (ends_with(path, *suffix))
                return *kind;
        }
    }
    return NULL;
}

/* The part of a path before its last slash, "." where it has none. */
static const char *directory_of(struct load *l, const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return ".";
    if (slash == path)
        return "/";
    return st_config_text(l->mem, (struct st_slice){path, (size_t)(slash - path)});
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

/* The name of a function that has none: that of its folder. */
static const char *name_of_directory(struct load *l, const char *path)
{
    char *real = realpath(path, NULL);
    const char *name = "function";

    if (real != NULL && base_of(real)[0] != '\0')
        name = st_config_text(l->mem, st_slice_of(base_of(real)));
    free(real);
    return name;
}

/* A variable as the handler will find it: the function's own come before the environment's. */
static const char *variable(const struct st_function_config *f, const char *name)
{
    for (size_t i = f->env_count; i-- > 0;)
        if (f->env[i].value != NULL && strcmp(f->env[i].name, name) == 0)
            return f->env[i].value;
    return getenv(name);
}

/* Where nothing on the command line says it. */
static const char *default_code_dir(struct load *l)
{
    const struct st_function_config *f = &l->out->function;
    const char *path = NULL;

    if (f->runtime != NULL && f->runtime->code_dir_env != NULL)
        path = variable(f, f->runtime->code_dir_env);
    if (path != NULL && path[0] != '\0')
        return is_file(path) ? directory_of(l, path) : st_config_text(l->mem, st_slice_of(path));
    path = st_config_printf(l->mem, "%s%s", l->env->root, container_code);
    return is_directory(path) ? path : ".";
}

/* ---- the function ---- */

/* The value of a key of an object, whatever its case; nothing when there is none. */
static struct st_node member(struct st_document *doc, struct st_node node, const char *name)
{
    struct st_pairs pairs;

    if (st_node_kind(node) == ST_NODE_MAP && st_document_pairs(doc, node, &pairs) == 0) {
        for (size_t i = 0; i < pairs.count; i++) {
            if (st_slice_ieq(pairs.items[i].key, st_slice_of(name)))
                return pairs.items[i].value;
        }
    }
    return (struct st_node){NULL, 0, 0};
}

/* Masked texts are put back when the environment asks for it and the function does not object. */
static int read_secrets(struct load *l, const struct st_function_text *text)
{
    struct st_document *doc = text->doc;
    struct st_node root = text->root.fyn != NULL ? text->root : st_document_root(doc);
    struct st_node node;
    bool disabled = false;

    if (!st_secrets_wanted())
        return 0;
    node = member(doc, member(doc, root, "spec"), "disableSensitiveFieldsMasking");
    if (st_node_kind(node) == ST_NODE_SCALAR &&
        st_scalar_bool(st_node_text(node), &disabled) == 0 && disabled)
        return 0;
    return st_secrets_read(&doc->secrets, l->env->root, l->mem, &l->diag);
}

static const struct st_named_log_sink *log_sink_named(const struct st_platform_config *p,
                                                      const char *name)
{
    static const struct st_named_log_sink standard = {.name = "stdout", .supported = true};

    for (size_t i = 0; i < p->log_sink_count; i++) {
        if (strcmp(p->log_sinks[i].name, name) == 0)
            return &p->log_sinks[i];
    }
    return strcmp(name, standard.name) == 0 ? &standard : NULL;
}

/* spec.loggerSinks: the first that can be served decides about the function's records. */
static int bind_log(struct load *l, const struct st_function_extras *extras)
{
    struct st_log_sink *out = &l->out->platform.log_functions;
    bool bound = false;
    int rc = 0;

    for (size_t i = 0; i < extras->log_binding_count; i++) {
        const struct st_log_binding *b = &extras->log_bindings[i];
        const struct st_named_log_sink *sink = log_sink_named(&l->out->platform, b->sink);

        if (sink == NULL && b->sink[0] != '\0') {
            st_diag_error(&l->diag, (struct st_place){l->out->file, b->line, b->column},
                          "spec.loggerSinks[%zu].sink: found \"%s\", expected a name of the "
                          "platform's logger.sinks, for example \"%s\"",
                          i, b->sink,
                          l->out->platform.log_sink_count > 0 ? l->out->platform.log_sinks[0].name
                                                              : "stdout");
            rc = ST_ERR_INVALID;
        } else if (!bound && (sink == NULL || sink->supported)) {
            out->level = b->level;
            if (sink != NULL)
                out->style = sink->style;
            bound = true;
        }
    }
    return rc;
}

/* Reads the function and what its file says of the platform, and closes the document. */
static int read_function(struct load *l, struct st_function_text *text)
{
    struct st_platform_config *p = &l->out->platform;
    struct st_function_extras extras;
    int secrets_rc = read_secrets(l, text);
    int rc = st_function_read(&l->out->function, &extras, text, l->env);

    st_document_close(text->doc);
    if (extras.has_platform && !l->platform_file)
        *p = extras.platform;
    /* A function that is checked by itself may name sinks of a platform that nobody has shown. */
    if (rc == 0 && (l->has_platform || extras.has_platform))
        rc = bind_log(l, &extras);
    return secrets_rc != 0 ? secrets_rc : rc;
}

static int load_file(struct load *l, const char *file)
{
    struct st_function_config *f = &l->out->function;
    struct st_document doc;
    struct st_function_text text = {.doc = &doc};
    int rc;

    l->out->file = st_config_text(l->mem, st_slice_of(file));
    rc = st_document_open(&doc, l->out->file, l->mem, &l->diag);
    if (rc == 0)
        rc = read_function(l, &text);
    if (rc == 0 && f->name[0] == '\0')
        f->name = name_of_directory(l, directory_of(l, file));
    return rc;
}

/* What a handler's source says in its comments; without a block only defaults. */
static int load_inline(struct load *l, const char *file, const struct st_runtime_kind *runtime)
{
    struct st_function_config *f = &l->out->function;
    struct st_document doc;
    struct st_function_text text = {.doc = &doc, .runtime = runtime};
    int rc = 0;

    if (runtime->comment != NULL)
        rc = st_inline_open(&doc, &text.root, file, runtime->comment, l->mem, &l->diag);
    if (rc != 0)
        return rc;
    if (text.root.fyn != NULL) {
        l->out->file = st_config_text(l->mem, st_slice_of(file));
        return read_function(l, &text);
    }
    st_function_defaults(f, l->mem);
    f->runtime = runtime;
    f->runtime_attributes = st_config_alloc(l->mem, runtime->attributes_size + 1);
    if (runtime->attributes != NULL)
        st_reader_defaults(l->mem, runtime->attributes, f->runtime_attributes);
    return 0;
}

/* A file that a runtime takes as it is: HTTP on :8080, unless its comments say otherwise. */
static int load_handler(struct load *l, const char *file, const struct st_runtime_kind *runtime)
{
    struct st_function_config *f = &l->out->function;
    const char *base = base_of(file);
    int rc;

    if (access(file, R_OK) != 0) {
        st_diag_error(&l->diag, nowhere, "%s can't be read: %s", file, strerror(errno));
        return ST_ERR_NOTFOUND;
    }
    rc = load_inline(l, file, runtime);
    if (rc != 0)
        return rc;
    if (f->handler[0] == '\0')
        f->handler = st_config_text(l->mem, st_slice_of(base));
    if (f->name[0] == '\0')
        f->name = st_config_text(l->mem, (struct st_slice){base, strcspn(base, ".")});
    l->out->code_dir = directory_of(l, file);
    return 0;
}

static int load_target(struct load *l, const char *target)
{
    const struct st_runtime_kind *runtime;
    const char *file;

    if (is_directory(target)) {
        l->out->code_dir = st_config_text(l->mem, st_slice_of(target));
        file = st_config_printf(l->mem, "%s/function.yaml", target);
        return load_file(l, l->args->config != NULL ? l->args->config : file);
    }
    if (l->args->config != NULL) {
        st_diag_error(&l->diag, nowhere, "%s is no directory, expected a directory beside --config",
                      target);
        return ST_ERR_INVALID;
    }
    if (is_config_file(target))
        return load_file(l, target);
    runtime = runtime_of_file(l, target);
    if (runtime != NULL)
        return load_handler(l, target, runtime);
    if (access(target, F_OK) != 0)
        st_diag_error(&l->diag, nowhere, "%s can't be read: %s", target, strerror(errno));
    else
        st_diag_error(&l->diag, nowhere,
                      "%s is no file that this build runs, expected a directory with "
                      "function.yaml, a .yaml file or a handler such as hello.so",
                      target);
    return ST_ERR_INVALID;
}

static int load_function(struct load *l)
{
    const struct st_config_args *args = l->args;
    int rc;

    l->out->file = "";
    if (args->target != NULL)
        rc = load_target(l, args->target);
    else if (args->config != NULL)
        rc = load_file(l, args->config);
    else
        rc = load_file(l, st_config_printf(l->mem, "%s%s", l->env->root, container_config));
    if (l->out->code_dir == NULL)
        l->out->code_dir = default_code_dir(l);
    return rc;
}

/* ---- the platform ---- */

/* Nuclio's paths are read: ports are what probes and scrapers know. */
static bool in_container(const struct load *l)
{
    return l->args->target == NULL && l->args->config == NULL;
}

static int load_platform(struct load *l)
{
    struct st_platform_config *p = &l->out->platform;
    const char *file = l->args->platform_config;
    struct st_document doc;
    int rc;

    if (file == NULL) {
        file = st_config_printf(l->mem, "%s%s", l->env->root, container_platform);
        if (access(file, F_OK) != 0) {
            st_platform_defaults(p, l->mem);
            /* Probes and scrapers know the ports of a container: they can't move. */
            p->web_admin.configured = p->health.configured = p->metrics.configured =
                in_container(l);
            return 0;
        }
    }
    l->platform_file = true;
    rc = st_document_open(&doc, file, l->mem, &l->diag);
    if (rc != 0)
        return rc;
    rc = st_platform_read(p, &doc);
    st_document_close(&doc);
    return rc;
}

/* ---- what the command line says ---- */

/* The address with another port; a socket in the file system gives way to the port. */
static const char *with_port(struct load *l, const char *url, int64_t port)
{
    const char *colon = strrchr(url, ':');
    size_t host = colon != NULL && strncmp(url, "unix:", 5) != 0 ? (size_t)(colon - url) : 0;

    return st_config_printf(l->mem, "%.*s:%lld", (int)host, url, (long long)port);
}

/* Those that somebody else fires. */
static void drop_cron_triggers(struct load *l)
{
    struct st_function_config *f = &l->out->function;
    size_t kept = 0;

    for (size_t i = 0; i < f->trigger_count; i++) {
        const struct st_trigger_config *t = &f->triggers[i];

        if (strcmp(t->kind->name, "cron") != 0)
            f->triggers[kept++] = *t;
        else
            st_diag_warn(&l->diag, (struct st_place){l->out->file, t->line, t->column},
                         "spec.triggers.%s: left to a CronJob of the cluster, as the platform's "
                         "cronTriggerCreationMode says",
                         t->name);
    }
    f->trigger_count = kept;
}

/* Where probes ask for the health path although there is no http trigger, as Nuclio has it. No file
 * can name another port: only in a container it can't move. */
static void answer_health(struct load *l)
{
    l->out->platform.bare_http = (struct st_endpoint_config){
        .enabled = true, .configured = in_container(l), .listen_address = ":8080"};
}

static int apply_args(struct load *l)
{
    struct st_function_config *f = &l->out->function;
    const struct st_config_args *args = l->args;
    bool disabled = f->disable_default_http >= 0 ? f->disable_default_http == 1
                                                 : l->out->platform.disable_default_http;
    struct st_trigger_config *http = NULL;

    if (l->out->platform.cron_mode == ST_CRON_KUBE)
        drop_cron_triggers(l);
    for (size_t i = 0; i < f->trigger_count; i++) {
        if (strcmp(f->triggers[i].kind->name, http_kind) == 0)
            http = &f->triggers[i];
    }
    /* In a cluster the platform adds it; here there is none. */
    if (http == NULL &&
        (args->port > 0 || (args->target != NULL && f->trigger_count == 0 && !disabled))) {
        const struct st_trigger_kind *kind =
            st_trigger_kind_find(l->env->trigger_kinds, st_slice_of(http_kind));

        if (kind == NULL) {
            st_diag_error(&l->diag, nowhere, "this build has no http trigger");
            return ST_ERR_INVALID;
        }
        http = st_function_add_trigger(f, default_http, kind, l->mem);
    }
    if (http != NULL && args->port > 0)
        http->url = with_port(l, http->url, args->port);
    if (http == NULL && disabled)
        answer_health(l);
    l->out->watch = args->watch;
    if (args->loops > 0)
        f->own.loops = args->loops;
    for (size_t i = 0; args->workers > 0 && i < f->trigger_count; i++)
        f->triggers[i].num_workers = args->workers;
    return 0;
}

int st_config_load_env(struct st_config *out, const struct st_config_args *args,
                       const struct st_config_env *env)
{
    struct load l = {.out = out, .args = args, .env = env};
    int rc, platform_rc;

    *out = (struct st_config){0};
    l.mem = st_config_memory_new();
    out->memory = l.mem;
    st_diag_init(&l.diag, env->out);
    l.diag.strict = args->strict;
    /* Both files are read whatever is wrong with the other, the function's last: its log level
     * wins. */
    platform_rc = load_platform(&l);
    l.has_platform = platform_rc == 0;
    st_diag_flush(&l.diag);
    rc = load_function(&l);
    if (rc == 0)
        rc = platform_rc;
    if (rc == 0)
        rc = apply_args(&l);
    st_diag_flush(&l.diag);
    if (rc != 0)
        st_config_free(out);
    return rc;
}

/* ---- one file by itself ---- */

static bool has_key(struct st_pairs pairs, const char *name)
{
    for (size_t i = 0; i < pairs.count; i++) {
        if (st_slice_ieq(pairs.items[i].key, st_slice_of(name)))
            return true;
    }
    return false;
}

/* A key of platform.yaml and none that a function must have. */
static bool is_platform(struct st_document *doc)
{
    struct st_node root = st_document_root(doc);
    struct st_pairs pairs;

    if (st_node_kind(root) != ST_NODE_MAP || st_document_pairs(doc, root, &pairs) != 0 ||
        has_key(pairs, "spec") || has_key(pairs, "metadata"))
        return false;
    for (const struct st_option *row = st_platform_table; row->name != NULL; row++) {
        if (strcmp(row->name, "kind") != 0 && has_key(pairs, row->name))
            return true;
    }
    return false;
}

static int check_file(struct load *l, const char *file)
{
    struct st_document doc;
    struct st_function_text text = {.doc = &doc};
    int rc = st_document_open(&doc, file, l->mem, &l->diag);

    if (rc != 0)
        return rc;
    if (!is_platform(&doc))
        return read_function(l, &text);
    rc = st_platform_read(&l->out->platform, &doc);
    st_document_close(&doc);
    return rc;
}

int st_config_check_env(const char *file, bool strict, const struct st_config_env *env)
{
    struct st_config config = {.file = ""};
    struct load l = {.out = &config, .env = env, .mem = st_config_memory_new()};
    const struct st_runtime_kind *runtime = runtime_of_file(&l, file);
    int rc;

    config.memory = l.mem;
    st_diag_init(&l.diag, env->out);
    l.diag.strict = strict;
    if (is_directory(file))
        rc = check_file(&l, st_config_printf(l.mem, "%s/function.yaml", file));
    else if (runtime != NULL)
        rc = load_handler(&l, file, runtime);
    else
        rc = check_file(&l, file);
    st_diag_flush(&l.diag);
    st_config_free(&config);
    return rc;
}

void st_config_free(struct st_config *config)
{
    st_config_memory_free(config->memory);
    *config = (struct st_config){0};
}
