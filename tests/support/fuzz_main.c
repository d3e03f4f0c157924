/*
 * main() of a fuzz target that is built without libFuzzer: every argument is a file, or a folder
 * whose files (not its sub-folders) are taken in any order; each goes through
 * LLVMFuzzerTestOneInput() once, after the empty input. A crash or sanitizer report is the failure.
 * An argument that is not there is skipped, since a new target has no corpus yet.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);

static unsigned replayed;

static void fail(const char *path, const char *what)
{
    fprintf(stderr, "fuzz replay: %s: %s\n", path, what);
    exit(1);
}

/* The input is copied to a block of exactly its size, so that a sanitizer sees a read past it. */
static void replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail(path, strerror(errno));
    uint8_t *data = malloc(size > 0 ? size : 1);
    if (data == NULL)
        fail(path, "out of memory");
    if (fread(data, 1, size, file) != size)
        fail(path, "short read");
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    replayed++;
}

static void replay(const char *path, int depth)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno != ENOENT)
            fail(path, strerror(errno));
        return;
    }
    if (S_ISREG(st.st_mode)) {
        replay_file(path, (size_t)st.st_size);
        return;
    }
    if (!S_ISDIR(st.st_mode) || depth > 0)
        return;
    DIR *dir = opendir(path);
    if (dir == NULL)
        fail(path, strerror(errno));
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char child[4096];
        if (entry->d_name[0] == '.')
            continue;
        int n = snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        if (n < 0 || (size_t)n >= sizeof(child))
            fail(path, "path too long");
        replay(child, depth + 1);
    }
    closedir(dir);
}

int main(int argc, char **argv)
{
    if (LLVMFuzzerInitialize != NULL)
        LLVMFuzzerInitialize(&argc, &argv);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++)
        replay(argv[i], 0);
    printf("fuzz replay: %u inputs\n", replayed);
    return 0;
}
