/* Finds the shared object of a handler, opens it and reads its struct, or says what to do. */
#include "runtimes/native/load.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processor/core/alloc.h"

/* What every version of the struct has. */
#define HANDLER_MIN_SIZE \
    (offsetof(struct stator_handler_v1, handle) + sizeof(((struct stator_handler_v1 *)0)->handle))

static bool is_file(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool ends_in_so(const char *name)
{
    size_t len = strlen(name);

    return len > 3 && strcmp(name + len - 3, ".so") == 0;
}

/* dir/name in out, with ".so" where it is missing and the file without it does not exist. */
static bool look_at(char out[PATH_MAX], const char *dir, const char *name)
{
    const char *slash = dir[0] != '\0' ? "/" : "";
    int n = snprintf(out, PATH_MAX, "%s%s%s", dir, slash, name);

    if (n > 0 && n < PATH_MAX && ends_in_so(name) && is_file(out))
        return true;
    n = snprintf(out, PATH_MAX, "%s%s%s.so", dir, slash, name);
    if (n > 0 && n < PATH_MAX && !ends_in_so(name) && is_file(out))
        return true;
    n = snprintf(out, PATH_MAX, "%s%s%s", dir, slash, name);
    return n > 0 && n < PATH_MAX && is_file(out);
}

static int look_for(char out[PATH_MAX], const char *handler, const char *code_dir,
                    struct st_error *err)
{
    bool has_dir = code_dir != NULL && code_dir[0] != '\0' && strcmp(code_dir, ".") != 0;

    if (handler == NULL || handler[0] == '\0')
        return st_error_set(err, ST_ERR_INVALID,
                            "spec.handler is empty: name the shared object, for instance hello.so");
    if (handler[0] == '/') {
        if (look_at(out, "", handler))
            return 0;
        return st_error_set(err, ST_ERR_NOTFOUND,
                            "handler %s: no such file: build it with cc -shared -fPIC, or correct "
                            "spec.handler",
                            handler);
    }
    if (has_dir && look_at(out, code_dir, handler))
        return 0;
    /* With a slash: dlopen must not search the library path. */
    if (look_at(out, ".", handler))
        return 0;
    return st_error_set(err, ST_ERR_NOTFOUND,
                        "handler %s: no such file in %s%sthe working directory: build it with cc "
                        "-shared -fPIC, or correct spec.handler",
                        handler, has_dir ? code_dir : "", has_dir ? " or " : "");
}

/* The machine that this program was built for, as ELF calls it. */
static unsigned own_machine(void)
{
    static const Elf64_Half machine =
#if defined(__x86_64__)
        EM_X86_64;
#elif defined(__aarch64__)
        EM_AARCH64;
#else
        EM_NONE;
#endif
    return machine;
}

/* dlopen's own messages about foreign files don't help people. */
static int check_file(const char *path, struct st_error *err)
{
    unsigned char head[sizeof(Elf64_Ehdr)];
    Elf64_Ehdr elf;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return st_error_sys(err, errno, "handler %s: cannot be read", path);
    n = read(fd, head, sizeof head);
    close(fd);
    if (n < (ssize_t)sizeof head || memcmp(head, ELFMAG, SELFMAG) != 0)
        return st_error_set(err, ST_ERR_INVALID,
                            "handler %s: not a shared object: build it with cc -shared -fPIC",
                            path);
    memcpy(&elf, head, sizeof elf);
    if (own_machine() != EM_NONE && elf.e_machine != own_machine())
        return st_error_set(err, ST_ERR_INVALID,
                            "handler %s: built for another CPU (ELF machine %u, this one is %u): "
                            "rebuild it for this machine",
                            path, (unsigned)elf.e_machine, own_machine());
    if (elf.e_type != ET_DYN)
        return st_error_set(err, ST_ERR_INVALID,
                            "handler %s: not a shared object (an object file or a program): build "
                            "it with cc -shared -fPIC",
                            path);
    return 0;
}

static int newer(struct st_error *err, const char *path, unsigned major)
{
    return st_error_set(err, ST_ERR_INVALID,
                        "handler %s: needs version %u of the handler ABI, this processor has %u: "
                        "use a newer processor, or build it with this one's stator/handler.h",
                        path, major, (unsigned)STATOR_ABI_MAJOR);
}

static int no_symbol(struct st_error *err, const char *path, void *dl)
{
    for (unsigned major = STATOR_ABI_MAJOR + 1; major < STATOR_ABI_MAJOR + 9; major++) {
        char name[32];

        snprintf(name, sizeof name, "stator_handler_v%u", major);
        if (dlsym(dl, name) != NULL)
            return newer(err, path, major);
    }
    return st_error_set(err, ST_ERR_INVALID,
                        "handler %s: does not export stator_handler_v1: define it with "
                        "STATOR_EXPORT, as stator/handler.h shows",
                        path);
}

static int read_struct(struct st_native_handler *out, const char *path,
                       const struct stator_handler_v1 *h, struct st_error *err)
{
    if (h->abi >> 16 > STATOR_ABI_MAJOR)
        return newer(err, path, h->abi >> 16);
    if (h->abi >> 16 != STATOR_ABI_MAJOR)
        return st_error_set(err, ST_ERR_INVALID,
                            "handler %s: stator_handler_v1.abi is 0x%x: set it to STATOR_ABI", path,
                            (unsigned)h->abi);
    if (h->size < HANDLER_MIN_SIZE)
        return st_error_set(err, ST_ERR_INVALID,
                            "handler %s: stator_handler_v1.size is %zu, at least %zu expected: set "
                            "it to sizeof stator_handler_v1",
                            path, h->size, HANDLER_MIN_SIZE);
    if (h->handle == NULL)
        return st_error_set(err, ST_ERR_INVALID,
                            "handler %s: stator_handler_v1.handle is NULL: set it to the function "
                            "that handles events",
                            path);
    out->name = h->name != NULL ? h->name : "";
    out->flags = h->flags;
    out->init = h->init;
    out->handle = h->handle;
    if (STATOR_HAS(h, struct stator_handler_v1, handle_batch))
        out->handle_batch = h->handle_batch;
    if (STATOR_HAS(h, struct stator_handler_v1, fini))
        out->fini = h->fini;
    return 0;
}

int st_native_find(char out[PATH_MAX], const char *handler, const char *code_dir,
                   struct st_error *err)
{
    int rc = look_for(out, handler, code_dir, err);

    return rc == 0 ? check_file(out, err) : rc;
}

int st_native_open(struct st_native_handler *out, const char *path, struct st_error *err)
{
    const struct stator_handler_v1 *h;
    int rc;

    memset(out, 0, sizeof *out);
    out->dl = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (out->dl == NULL)
        return st_error_set(err, ST_ERR_INVALID,
                            "handler %s: cannot be loaded: %s: link what it needs into it, or put "
                            "the library beside it",
                            path, dlerror());
    h = dlsym(out->dl, "stator_handler_v1");
    rc = h != NULL ? read_struct(out, path, h, err) : no_symbol(err, path, out->dl);
    if (rc != 0) {
        dlclose(out->dl);
        memset(out, 0, sizeof *out);
        return rc;
    }
    out->file = st_strdup(path);
    return 0;
}
