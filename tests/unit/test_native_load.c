/* Finding and opening handlers, and what people are told when that fails. */
#include "tests/unit/native.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtimes/native/native_int.h"

static struct st_native_handler handler;
static struct st_error err;
static char dir[64];

/* Each shared object stays open; that is what the runtime does too. */
static int load(const char *name, const char *code_dir)
{
    char path[PATH_MAX];
    int rc;

    free((char *)handler.file);
    memset(&handler, 0, sizeof handler);
    memset(&err, 0, sizeof err);
    rc = st_native_find(path, name, code_dir, &err);
    return rc == 0 ? st_native_open(&handler, path, &err) : rc;
}

static void refused(const char *name, int code, const char *why)
{
    int rc = load(name, handlers_dir());

    assert_int_equal(rc, code);
    assert_null(handler.dl);
    assert_null(handler.handle);
    assert_null(strchr(err.text, '\n'));
    /* Every message names the file and says what to do. */
    assert_non_null(strstr(err.text, name));
    if (strstr(err.text, why) == NULL)
        fail_msg("%s: expected \"%s\" in: %s", name, why, err.text);
}

static void loads(const char *name, const char *says)
{
    int rc = load(name, handlers_dir());

    if (rc != 0)
        fail_msg("%s: %s", name, err.text);
    assert_non_null(handler.handle);
    assert_string_equal(handler.name, says);
    assert_non_null(strstr(handler.file, name));
}

static void test_good(void **state)
{
    (void)state;
    loads("hello.so", "hello");
    assert_int_equal(handler.flags, STATOR_NONBLOCKING);
    assert_null(handler.init);
    loads("sleep.so", "sleep");
    assert_int_equal(handler.flags, 0);
    loads("count", "count");
    assert_non_null(handler.init);
    assert_non_null(handler.fini);
}

static void test_versions(void **state)
{
    (void)state;
    loads("abi_v1_0.so", "abi-1.0");
    assert_non_null(handler.fini);
    loads("newer_minor.so", "future");
    loads("old_size.so", "small");
    assert_null(handler.fini); /* behind its size */
    refused("bad_newer_symbol.so", ST_ERR_INVALID, "needs version 2 of the handler ABI");
    refused("bad_newer_abi.so", ST_ERR_INVALID, "needs version 3 of the handler ABI");
}

static void test_faults(void **state)
{
    (void)state;
    refused("bad_no_symbol.so", ST_ERR_INVALID, "does not export stator_handler_v1");
    refused("bad_abi.so", ST_ERR_INVALID, "set it to STATOR_ABI");
    refused("bad_size.so", ST_ERR_INVALID, "set it to sizeof stator_handler_v1");
    refused("bad_no_handle.so", ST_ERR_INVALID, "handle is NULL");
    refused("bad_undefined.so", ST_ERR_INVALID, "function_that_nobody_wrote");
    refused("no_such_file.so", ST_ERR_NOTFOUND, "no such file");
    assert_int_equal(load("", handlers_dir()), ST_ERR_INVALID);
    assert_non_null(strstr(err.text, "spec.handler is empty"));
    assert_int_equal(load(NULL, NULL), ST_ERR_INVALID);
}

static void write_file(const char *path, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, len), (ssize_t)len);
    close(fd);
}

static void test_not_shared_object(void **state)
{
    char path[128], bytes[4096];
    ssize_t n;
    int fd;

    (void)state;
    snprintf(path, sizeof path, "%s/text.so", dir);
    write_file(path, "int main;\n", 10);
    refused(path, ST_ERR_INVALID, "not a shared object");
    write_file(path, "", 0);
    refused(path, ST_ERR_INVALID, "not a shared object");

    fd = open("/proc/self/exe", O_RDONLY);
    n = read(fd, bytes, sizeof bytes);
    close(fd);
    assert_int_equal(n, sizeof bytes);
    bytes[16] = 1; /* ET_REL */
    write_file(path, bytes, sizeof bytes);
    refused(path, ST_ERR_INVALID, "an object file");
    bytes[18] = 8; /* EM_MIPS */
    write_file(path, bytes, sizeof bytes);
    refused(path, ST_ERR_INVALID, "another CPU (ELF machine 8");
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(path, ST_ERR_NOTFOUND, "no such file");
    rmdir(path);
}

/* Absolute; in the code directory; in the working directory; never the library path. */
static void test_where(void **state)
{
    char path[PATH_MAX + 16], from[PATH_MAX], real[PATH_MAX];

    (void)state;
    assert_non_null(realpath(handlers_dir(), real));
    snprintf(path, sizeof path, "%s/hello.so", real);
    assert_int_equal(load(path, "/nowhere"), 0);
    assert_string_equal(handler.file, path);
    snprintf(path, sizeof path, "%s/hello", real);
    assert_int_equal(load(path, NULL), 0);

    assert_non_null(getcwd(from, sizeof from));
    assert_int_equal(chdir(real), 0);
    assert_int_equal(load("hello.so", "/nowhere"), 0);
    assert_int_equal(load("hello.so", "."), 0);
    assert_int_equal(load("hello.so", ""), 0);
    assert_int_equal(load("hello.so", NULL), 0);
    assert_int_equal(load("hello", NULL), 0);
    assert_int_equal(load("libc.so.6", "/nowhere"), ST_ERR_NOTFOUND);
    assert_non_null(strstr(err.text, "/nowhere or the working directory"));
    assert_int_equal(chdir(from), 0);
}

static void test_long_path(void **state)
{
    char *name = malloc(2 * PATH_MAX);

    (void)state;
    memset(name, 'a', 2 * PATH_MAX);
    name[2 * PATH_MAX - 1] = '\0';
    assert_int_equal(load(name, handlers_dir()), ST_ERR_NOTFOUND);
    name[0] = '/';
    assert_int_equal(load(name, NULL), ST_ERR_NOTFOUND);
    free(name);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/stator-load-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int teardown(void **state)
{
    (void)state;
    free((char *)handler.file);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),   cmocka_unit_test(test_versions),
        cmocka_unit_test(test_faults), cmocka_unit_test(test_not_shared_object),
        cmocka_unit_test(test_where),  cmocka_unit_test(test_long_path),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
