/* Files that change below a folder, on a real file system. */
#include "tests/unit/test_core.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#include "processor/core/loop.h"
#include "processor/core/metrics.h"
#include "processor/core/tree_watch.h"

static struct st_loop loop;
static struct st_tree_watch *tw;
static char root[64];
static char told[4096]; /* "path " for everything that was told, without the root */

static const char *at(const char *path)
{
    static char whole[4][PATH_MAX];
    static unsigned next;
    char *out = whole[next++ % 4];

    snprintf(out, PATH_MAX, "%s/%s", root, path);
    return out;
}

static bool on_enter(void *user, const char *path)
{
    assert_ptr_equal(user, &loop);
    return strstr(path, "closed") == NULL;
}

static void on_changed(void *user, const char *path)
{
    size_t len = strlen(told), skip = strlen(root) + 1;

    assert_ptr_equal(user, &loop);
    snprintf(told + len, sizeof told - len, "%s ", strlen(path) > skip ? path + skip : path);
}

static const struct st_tree_handler handler = {.enter = on_enter, .changed = on_changed};

static void write_file(const char *path)
{
    FILE *file = fopen(at(path), "w");

    assert_non_null(file);
    fputs("x", file);
    fclose(file);
}

static void make_folder(const char *path)
{
    assert_int_equal(mkdir(at(path), 0700), 0);
}

/* Everything that has happened, and nothing else. The kernel queues events at once. */
static void assert_told(const char *expected)
{
    for (unsigned i = 0; i < 4; i++)
        assert_true(event_base_loop(loop.base, EVLOOP_NONBLOCK) >= 0);
    assert_string_equal(told, expected);
    told[0] = '\0';
}

static int open_tree(void **state)
{
    struct st_error err;

    (void)state;
    strcpy(root, "/tmp/st-tree-XXXXXX");
    assert_non_null(mkdtemp(root));
    make_folder("a");
    make_folder("a/b");
    make_folder("closed");
    told[0] = '\0';
    assert_int_equal(st_loop_open(&loop, 3, "test", &err), 0);
    tw = st_tree_watch_open(&loop, &handler, &loop, &err);
    assert_non_null(tw);
    return 0;
}

static int close_tree(void **state)
{
    char command[128];

    (void)state;
    st_tree_watch_close(tw);
    st_loop_close(&loop);
    st_metrics_reset();
    snprintf(command, sizeof command, "rm -rf --one-file-system %s", root);
    return system(command);
}

static void add(const char *path, bool deep, size_t count)
{
    struct st_error err;
    bool all;

    assert_int_equal(st_tree_watch_add(tw, path, deep, &err), ST_OK);
    assert_int_equal(st_tree_watch_count(tw, &all), count);
    assert_true(all);
}

static void test_files(void **state)
{
    (void)state;
    add(root, true, 3);
    assert_told("");
    write_file("one");
    write_file("a/b/two");
    write_file("closed/three");
    assert_told("one a/b/two ");
    assert_int_equal(rename(at("one"), at("a/one")), 0);
    assert_told("one a/one ");
    assert_int_equal(unlink(at("a/one")), 0);
    assert_int_equal(symlink("b/two", at("a/link")), 0);
    assert_told("a/one a/link ");
}

/* Not before it is whole. */
static void test_file_that_is_being_written(void **state)
{
    FILE *file;

    (void)state;
    add(root, true, 3);
    file = fopen(at("slow"), "w");
    assert_non_null(file);
    fputs("begin", file);
    fflush(file);
    assert_told("");
    fclose(file);
    assert_told("slow ");
}

static void test_new_folders(void **state)
{
    bool all;

    (void)state;
    add(root, true, 3);
    make_folder("c");
    make_folder("c/d");
    write_file("c/d/early"); /* before anybody could watch it */
    make_folder("c/closed");
    assert_told("c/d/early ");
    assert_int_equal(st_tree_watch_count(tw, &all), 5);
    write_file("c/d/late");
    write_file("c/closed/late");
    assert_told("c/d/late ");
}

static void test_folders_that_go(void **state)
{
    bool all;

    (void)state;
    write_file("a/b/x");
    add(root, true, 3);
    assert_int_equal(rename(at("a"), at("closed/a")), 0);
    assert_told("");
    write_file("closed/a/b/x");
    assert_told("");
    assert_int_equal(st_tree_watch_count(tw, &all), 1);
    assert_int_equal(rename(at("closed/a"), at("back")), 0); /* its files are new here */
    assert_told("back/b/x ");
    assert_int_equal(unlink(at("back/b/x")), 0);
    assert_int_equal(rmdir(at("back/b")), 0);
    assert_told("back/b/x ");
    assert_int_equal(st_tree_watch_count(tw, &all), 2);
}

/* One folder only; and the same again, with what is below it. */
static void test_shallow(void **state)
{
    (void)state;
    add(root, false, 1);
    write_file("a/one");
    make_folder("c");
    assert_told("");
    write_file("two");
    assert_told("two ");
    add(at("a"), true, 3);
    add(at("a"), false, 3);
    write_file("a/b/three");
    assert_told("a/b/three ");
}

static void test_too_many(void **state)
{
    struct st_error err;
    char path[32];
    bool all;

    (void)state;
    for (unsigned i = 0; i < ST_TREE_FOLDERS_MAX; i++) {
        snprintf(path, sizeof path, "a/b/%u", i);
        make_folder(path);
    }
    assert_int_equal(st_tree_watch_add(tw, root, true, &err), ST_OK);
    assert_int_equal(st_tree_watch_count(tw, &all), ST_TREE_FOLDERS_MAX);
    assert_false(all);
    write_file("a/b/x");
    assert_told("a/b/x ");
}

static void test_no_such_folder(void **state)
{
    struct st_error err;

    (void)state;
    assert_int_equal(st_tree_watch_add(tw, at("nowhere"), true, &err), ST_ERR_SYSTEM);
    assert_non_null(strstr(err.text, "nowhere"));
    assert_int_equal(err.sys_errno, ENOENT);
}

#define TREE_TEST(name) cmocka_unit_test_setup_teardown(name, open_tree, close_tree)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TREE_TEST(test_files),          TREE_TEST(test_file_that_is_being_written),
        TREE_TEST(test_new_folders),    TREE_TEST(test_folders_that_go),
        TREE_TEST(test_shallow),        TREE_TEST(test_too_many),
        TREE_TEST(test_no_such_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
