#include "runtimes/python/python.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "runtimes/process/process.h"

static const char default_python[] = "/usr/bin/python3";

struct python_attributes {
    const char *python;
};

struct python {
    struct st_process_runtime base;
    char program[PATH_MAX];
};

/* The interpreter: runtimeAttributes.python, else NUCLIO_PYTHON_EXE_PATH, else Debian's. */
static int find_interpreter(struct python *py, struct st_error *err)
{
    const struct python_attributes *attributes = py->base.base.attributes;
    const char *given = getenv("NUCLIO_PYTHON_EXE_PATH"), *from = "runtimeAttributes.python";

    if (attributes->python[0] != '\0') {
        given = attributes->python;
    } else if (given != NULL && given[0] != '\0') {
        from = "NUCLIO_PYTHON_EXE_PATH";
    } else {
        given = default_python;
        from = "the default";
    }
    snprintf(py->program, sizeof py->program, "%s", given);
    if (given[0] == '/' && access(given, X_OK) == 0)
        return ST_OK;
    return st_error_set(
        err, ST_ERR_NOTFOUND,
        "The Python interpreter %s (%s) %s, expected the path of a program: install "
        "python3, or set spec.runtimeAttributes.python",
        given, from, given[0] == '/' ? "can't be run" : "is no absolute path");
}

/* The handler's folder first, then what NUCLIO_PYTHON_PATH adds, then ours. */
static int make_path(struct python *py, char *out, size_t n, struct st_error *err)
{
    const char *more = getenv("NUCLIO_PYTHON_PATH");
    char code[PATH_MAX], ours[PATH_MAX];
    bool has_more = more != NULL && more[0] != '\0';

    if (realpath(py->base.base.code_dir, code) == NULL)
        return st_error_set(err, ST_ERR_NOTFOUND, "The code directory %s is not there",
                            py->base.base.code_dir);
    if (!st_find_part("python", ours, sizeof ours))
        return st_error_set(
            err, ST_ERR_NOTFOUND,
            "Stator's Python packages are not beside the program: install it whole, "
            "or set STATOR_LIBEXEC to the folder that has python/ in it");
    snprintf(out, n, "PYTHONPATH=%s:%s%s%s", code, has_more ? more : "", has_more ? ":" : "", ours);
    return ST_OK;
}

static int python_load(struct st_runtime *rt, struct st_error *err)
{
    struct python *py = ST_CONTAINER_OF(rt, struct python, base.base);
    char path[3 * PATH_MAX];
    const char *const more[] = {path, "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1", NULL};
    int code;

    if ((code = find_interpreter(py, err)) != ST_OK ||
        (code = make_path(py, path, sizeof path, err)) != ST_OK)
        return code;
    py->base.argv[0] = py->program;
    py->base.argv[1] = "-u";
    py->base.argv[2] = "-m";
    py->base.argv[3] = "stator._worker";
    py->base.template_argument = "--template";
    py->base.version_remedy =
        "set spec.runtimeAttributes.python to an interpreter of that version, "
        "or spec.runtime to this one";
    return st_process_load(&py->base, more, err);
}

static void python_unload(struct st_runtime *rt)
{
    st_process_unload(ST_CONTAINER_OF(rt, struct st_process_runtime, base));
}

static const struct st_option attributes[] = {
    {.name = "python",
     .type = ST_OPT_STRING,
     .offset = offsetof(struct python_attributes, python),
     .value = "",
     .flags = ST_OPT_EXPAND,
     .help = "Path of the interpreter; empty: NUCLIO_PYTHON_EXE_PATH, or /usr/bin/python3.",
     .example = "/opt/venv/bin/python3"},
    {.name = NULL}};

static const char *const suffixes[] = {".py", NULL};

const struct st_runtime_kind st_runtime_python_kind = {
    .name = "python",
    .suffixes = suffixes,
    .comment = "#",
    .code_dir_env = "NUCLIO_PYTHON_PATH",
    .default_content_type = "text/plain",
    .attributes = attributes,
    .attributes_size = sizeof(struct python_attributes),
    .obj_size = sizeof(struct python),
    .isolates = true,
    .preforks = true,
    .load = python_load,
    .is_inline = st_process_is_inline,
    .spawn = st_process_worker_spawn,
    .invoke = st_process_worker_invoke,
    .invoke_batch = st_process_worker_invoke_batch,
    .cancel = st_process_worker_cancel,
    .restart = st_process_worker_restart,
    .stop = st_process_worker_stop,
    .code_changed = st_process_code_changed,
    .unload = python_unload,
};
