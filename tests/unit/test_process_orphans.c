/* Children that nobody waits for: this process adopts them as the first one of a container does. */
#include "tests/unit/test_core.h"

#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtimes/process/orphans.h"

/* A child that leaves a grandchild behind, which ends when `fd` closes; returns when the child has
 * ended and was collected. */
static void leave_orphan(int fds[2])
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        char c;

        setsid();
        if (fork() == 0) {
            close(fds[1]);
            _exit(read(fds[0], &c, 1) == 0 ? 0 : 1);
        }
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static unsigned collect_within(unsigned ms)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ms && n == 0; i++) {
        n = st_orphans_collect();
        usleep(1000);
    }
    return n;
}

static void test_orphan(void **state)
{
    int fds[2];

    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_int_equal(pipe(fds), 0);
    leave_orphan(fds);
    assert_int_equal(st_orphans_collect(), 0); /* it lives */
    close(fds[1]);
    assert_int_equal(collect_within(10000), 1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left */
    close(fds[0]);
}

/* A worker's end is its owner's to see. */
static void test_worker(void **state)
{
    int fds[2], status;
    pid_t child;
    char c;

    (void)state;
    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        setsid();
        _exit(7);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 0); /* it has ended */
    for (int i = 0; i < 20; i++) {
        assert_int_equal(st_orphans_collect(), 0);
        usleep(1000);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), 7);
    close(fds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orphan),
        cmocka_unit_test(test_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
