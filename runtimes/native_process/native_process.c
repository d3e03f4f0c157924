#include "runtimes/native_process/native_process.h"

#include <stdlib.h>

#include "processor/config/config.h"
#include "processor/core/base.h"
#include "runtimes/native/load.h"
#include "runtimes/process/process.h"

struct native_process {
    struct st_process_runtime base;
    char program[PATH_MAX];
    char file[PATH_MAX]; /* of the handler: the worker's working directory is another one */
};

/* The shared object is not opened here: its constructors run in the workers. */
static int native_process_load(struct st_runtime *rt, struct st_error *err)
{
    struct native_process *np = ST_CONTAINER_OF(rt, struct native_process, base.base);
    char path[PATH_MAX];
    int code = st_native_find(path, rt->config->handler, rt->code_dir, err);

    if (code != ST_OK)
        return code;
    if (realpath(path, np->file) == NULL)
        return st_error_set(err, ST_ERR_NOTFOUND, "handler %s: no such file", path);
    if (!st_find_part("stator-native-host", np->program, sizeof np->program))
        return st_error_set(err, ST_ERR_NOTFOUND,
                            "stator-native-host is not beside the program: install Stator whole, "
                            "or set STATOR_LIBEXEC to the folder that has it");
    np->base.argv[0] = np->program;
    np->base.argv[1] = np->file;
    return st_process_load(&np->base, NULL, err);
}

static void native_process_unload(struct st_runtime *rt)
{
    st_process_unload(ST_CONTAINER_OF(rt, struct st_process_runtime, base));
}

/* Files without configuration, and the folder of the code, are the native kind's. */
const struct st_runtime_kind st_runtime_native_process_kind = {
    .name = "native",
    .code_dir_env = "NUCLIO_GOLANG_HANDLER_PLUGIN_PATH",
    .default_content_type = "text/plain; charset=utf-8",
    .obj_size = sizeof(struct native_process),
    .isolates = true,
    .load = native_process_load,
    .is_inline = st_process_is_inline,
    .spawn = st_process_worker_spawn,
    .invoke = st_process_worker_invoke,
    .invoke_batch = st_process_worker_invoke_batch,
    .cancel = st_process_worker_cancel,
    .restart = st_process_worker_restart,
    .stop = st_process_worker_stop,
    .unload = native_process_unload,
};
