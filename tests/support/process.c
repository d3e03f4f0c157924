#include "tests/support/process.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATIENCE_MS = 60 * 1000 };

void st_test_find_parts(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    ST_ASSERT(n > 0);
    path[n] = '\0';
    for (int i = 0; i < 3; i++) /* the name, "unit", "tests" */
        *strrchr(path, '/') = '\0';
    ST_ASSERT(setenv("STATOR_LIBEXEC", path, 1) == 0);
}

struct st_spawn_options st_test_spawn_options(const char *const *argv)
{
    static const char *const envp[] = {"PATH=/usr/bin:/bin", NULL};

    return (struct st_spawn_options){
        .argv = argv, .envp = envp, .uid = -1, .gid = -1, .fds = {-1, -1, -1, -1, -1, -1, -1, -1}};
}

bool st_test_wait_ended(const struct st_process *p)
{
    struct pollfd poll_fd = {.fd = p->pidfd, .events = POLLIN};

    return poll(&poll_fd, 1, PATIENCE_MS) == 1;
}

static void read_all(int fd, char *text, size_t n)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    char rest[4096];
    size_t len = 0;
    ssize_t got;

    do {
        ST_ASSERT(poll(&poll_fd, 1, PATIENCE_MS) == 1);
        got = len < n - 1 ? read(fd, text + len, n - 1 - len) : read(fd, rest, sizeof(rest));
        if (got > 0 && len < n - 1)
            len += (size_t)got;
    } while (got > 0);
    text[len] = '\0';
}

bool st_test_run(const struct st_spawn_options *opt, char *printed, size_t n, char how[128],
                 struct st_error *err)
{
    struct st_spawn_options with_pipe = *opt;
    struct st_process p;
    int fds[2], rc;

    ST_ASSERT(pipe2(fds, O_CLOEXEC) == 0);
    ST_ASSERT(fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0); /* nobody reads before its end */
    with_pipe.fds[1] = with_pipe.fds[2] = fds[1];
    rc = st_spawn_now(&with_pipe, &p, err);
    close(fds[1]);
    if (rc == ST_OK) {
        ST_ASSERT(st_test_wait_ended(&p));
        st_process_reap(&p, how, 128);
        read_all(fds[0], printed, n);
    }
    close(fds[0]);
    return rc == ST_OK;
}
