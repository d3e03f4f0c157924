/* What a crash of a handler leaves behind: a report on stderr and the signal's exit status. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/rig.h"
#include "tests/unit/native.h"

static char report[65536];

/* A sanitizer writes its own report behind ours and ends the process in its own way. */
static bool is_sanitized(void)
{
    const char *sanitizer = getenv("STATOR_SANITIZER");

    return sanitizer != NULL && sanitizer[0] != '\0';
}

/* Runs the handler with that body in a child, whose stderr comes back in `report`. Returns how the
 * child ended. */
static int crash(const char *handler, const char *body)
{
    size_t len = 0;
    int fds[2], status;
    ssize_t n;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static const int signals[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
        const struct rlimit no_core = {0, 0};
        static struct rig rig;

        /* cmocka's handlers would take the signal for a failed test. */
        for (size_t i = 0; !is_sanitized() && i < ST_ARRAY_LEN(signals); i++)
            signal(signals[i], SIG_DFL);
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(fds[1], STDERR_FILENO);
        if (!rig_start(&rig, &(struct rig_options){.handler = handler, .workers = 1}))
            _exit(3);
        rig_run(rig_event_new(&rig, body));
        _exit(0);
    }
    close(fds[1]);
    while (len < sizeof report - 1 && (n = read(fds[0], report + len, sizeof report - 1 - len)) > 0)
        len += (size_t)n;
    report[len] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void has(const char *text)
{
    if (strstr(report, text) == NULL)
        fail_msg("\"%s\" is not in:\n%s", text, report);
}

static void dies(const char *handler, const char *body, int number, const char *name)
{
    int status = crash(handler, body);
    char line[64];

    snprintf(line, sizeof line, "stator: crash: signal %d (%s)", number, name);
    has(line);
    has(handler);
    has(", worker 0 of rig-pool, event 0");
    has("handlers/crash"); /* the backtrace goes through the shared object */
    if (is_sanitized())
        return;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), number);
}

static void test_inline(void **state)
{
    (void)state;
    dies("crash.so", "segv", SIGSEGV, "SIGSEGV");
    has(" at address 0x40\n");
    dies("crash.so", "abort", SIGABRT, "SIGABRT");
    dies("crash.so", "fpe", SIGFPE, "SIGFPE");
    dies("crash.so", "bus", SIGBUS, "SIGBUS");
}

static void test_thread(void **state)
{
    (void)state;
    dies("crash_blocking.so", "segv", SIGSEGV, "SIGSEGV");
    has(" at address 0x40\n");
    dies("crash_blocking.so", "abort", SIGABRT, "SIGABRT");
}

/* The report needs a stack of its own when the handler has used up its. */
static void test_stack_overflow(void **state)
{
    (void)state;
    dies("crash.so", "stack", SIGSEGV, "SIGSEGV");
    dies("crash_blocking.so", "stack", SIGSEGV, "SIGSEGV");
}

static void test_alive(void **state)
{
    int status;

    (void)state;
    status = crash("crash.so", "nothing");
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inline),
        cmocka_unit_test(test_thread),
        cmocka_unit_test(test_stack_overflow),
        cmocka_unit_test(test_alive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
