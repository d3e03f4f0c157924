/* A handler's shared object: where it is, and what it exports. Plain C, without the processor: the
 * executable that hosts isolated handlers uses it too. */
#ifndef RUNTIMES_NATIVE_LOAD_H
#define RUNTIMES_NATIVE_LOAD_H

#include <limits.h>
#include <stator/handler.h>

#include "processor/core/base.h"
#include "processor/core/err.h"

/* The shared object's struct, as far as its `size` reaches: what lies behind is NULL. */
struct st_native_handler {
    const char *file; /* path that was opened */
    const char *name;
    void *dl;
    uint32_t flags;
    int (*init)(const struct stator_host_v1 *, const struct stator_worker_v1 *, void **);
    int (*handle)(const struct stator_host_v1 *, void *, stator_event *);
    void (*handle_batch)(const struct stator_host_v1 *, void *, stator_event *const *, int *,
                         size_t);
    void (*fini)(const struct stator_host_v1 *, void *);
};

/* Finds the file of spec.handler and sees that it is a shared object for this machine. The code
 * directory may be NULL. */
int st_native_find(char out[PATH_MAX], const char *handler, const char *code_dir,
                   struct st_error *err) ST_MUST_CHECK;

/* Opens such a file and checks the handler. *out is empty on failure; its file is the caller's to
 * free. */
int st_native_open(struct st_native_handler *out, const char *path,
                   struct st_error *err) ST_MUST_CHECK;

#endif
