/* stator-exec: what lies between the processor and a worker's command. In the new process it sets
 * what posix_spawn can't, sees that the processor is still the parent, closes what the worker must
 * not have and becomes the command.
 *
 *   stator-exec --parent PID [--files N] [--core BYTES] [--cpus LIST] [--gid N] [--uid N]
 *               [--directory DIR] -- COMMAND [ARGUMENT]...
 *
 * Faults are one line on stderr, which is the worker's log. Exit status as of a shell: 127 where
 * the command does not exist, else 126. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FIRST_FOREIGN_FD = 8, LAST_SIGNAL = 64, EXIT_CANNOT = 126, EXIT_NOT_FOUND = 127 };

static void fail(int status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

static void fail(int status, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    dprintf(STDERR_FILENO, "stator-exec: %s\n", text);
    _exit(status);
}

/* A number that ends at one of the characters in `ends`, or at the text's end; *at goes on there.
 */
static uint64_t number(const char *option, const char **at, const char *ends)
{
    char *end = NULL;
    uint64_t n;

    errno = 0;
    n = strtoull(*at, &end, 10);
    if (**at < '0' || **at > '9' || errno != 0 || (*end != '\0' && strchr(ends, *end) == NULL))
        fail(EXIT_CANNOT, "--%s: '%s' is no number; only the processor calls this program", option,
             *at);
    *at = end;
    return n;
}

/* Never above the hard limit: only privileged processes may raise it. */
static void limit(const char *option, const char *text, __rlimit_resource_t resource)
{
    uint64_t want = number(option, &text, "");
    struct rlimit now;

    if (getrlimit(resource, &now) == 0) {
        if (want < now.rlim_max)
            now.rlim_max = want;
        now.rlim_cur = now.rlim_max;
        if (setrlimit(resource, &now) == 0)
            return;
    }
    fail(EXIT_CANNOT, "can't set the limit --%s to %" PRIu64 ": %s", option, want, strerror(errno));
}

/* "0-3,8" */
static void bind_cpus(const char *list)
{
    const char *at = list;
    cpu_set_t set;

    CPU_ZERO(&set);
    for (;;) {
        uint64_t first = number("cpus", &at, "-,"), last = first;

        if (*at == '-') {
            at++;
            last = number("cpus", &at, ",");
        }
        if (last < first || last >= CPU_SETSIZE)
            fail(EXIT_CANNOT, "--cpus: '%s' is no list of CPUs below %d", list, CPU_SETSIZE);
        for (uint64_t cpu = first; cpu <= last; cpu++)
            CPU_SET((size_t)cpu, &set);
        if (*at == '\0')
            break;
        at++;
    }
    if (sched_setaffinity(0, sizeof(set), &set) != 0)
        fail(EXIT_CANNOT,
             "can't run on CPUs %s: %s; the container's CPU set may have changed: restart the "
             "processor",
             list, strerror(errno));
}

static uint32_t id(const char *option, const char *text)
{
    uint64_t n = number(option, &text, "");

    if (n >= UINT32_MAX)
        fail(EXIT_CANNOT, "--%s: %" PRIu64 " is too large", option, n);
    return (uint32_t)n;
}

/* NULL: as it is. Nothing is done where nothing would change, so that an unprivileged processor may
 * name its own user. */
static void become(const char *uid_text, const char *gid_text)
{
    gid_t gid = gid_text != NULL ? id("gid", gid_text) : getegid();
    uid_t uid = uid_text != NULL ? id("uid", uid_text) : geteuid();

    if (uid == geteuid() && gid == getegid())
        return;
    if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0)
        fail(EXIT_CANNOT,
             "can't become user %u, group %u: %s; run the processor as root (with CAP_SETUID and "
             "CAP_SETGID), or let workers have its user",
             uid, gid, strerror(errno));
}

/* Nothing is blocked and nothing is ignored, whatever the processor does; that is what programs
 * expect at their start. The bare call: libc's refuses the two signals of its own, which its
 * posix_spawn leaves ignored. */
static void reset_signals(void)
{
    const uint64_t standard[4] = {0}; /* the kernel's struct: handler, flags, restorer, mask */
    sigset_t none;

    for (int i = 1; i <= LAST_SIGNAL; i++)
        syscall(SYS_rt_sigaction, i, standard, NULL, sizeof(standard[3]));
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A change of user clears the signal, so it comes after that. A parent that is gone already can't
 * send it; nobody reads a message then. */
static void tie_to_parent(const char *text)
{
    pid_t parent = (pid_t)number("parent", &text, "");

    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        fail(EXIT_CANNOT, "can't ask for a signal at the processor's end: %s", strerror(errno));
    if (getppid() != parent)
        _exit(EXIT_CANNOT);
}

static void close_foreign(void)
{
    /* The call, not libc's function: that is younger than some libraries. */
    if (syscall(SYS_close_range, FIRST_FOREIGN_FD, ~0u, 0) != 0)
        fail(EXIT_CANNOT, "can't close other descriptors: %s; Linux 5.9 or newer is needed",
             strerror(errno));
}

static void run(char **command)
{
    int why;

    execv(command[0], command);
    why = errno;
    if (why == ENOENT && access(command[0], F_OK) == 0)
        fail(EXIT_NOT_FOUND,
             "can't execute %s: the interpreter that it names (#! or the dynamic loader) does not "
             "exist; install that",
             command[0]);
    if (why == ENOENT || why == ENOTDIR)
        fail(EXIT_NOT_FOUND,
             "can't execute %s: there is no such file; install it, or correct "
             "the path",
             command[0]);
    if (why == EACCES)
        fail(EXIT_CANNOT,
             "can't execute %s: %s; give it and the folders above it the permission (chmod a+rx) "
             "on a file system without noexec",
             command[0], strerror(why));
    if (why == ENOEXEC)
        fail(EXIT_CANNOT,
             "can't execute %s: it is no program for this machine; build it for this "
             "architecture, or give a script its #! line",
             command[0]);
    fail(EXIT_CANNOT, "can't execute %s: %s", command[0], strerror(why));
}

enum { PARENT, FILES, CORE, CPUS, GID, UID, DIRECTORY, OPTIONS };

static const struct option known[] = {{"parent", required_argument, NULL, PARENT},
                                      {"files", required_argument, NULL, FILES},
                                      {"core", required_argument, NULL, CORE},
                                      {"cpus", required_argument, NULL, CPUS},
                                      {"gid", required_argument, NULL, GID},
                                      {"uid", required_argument, NULL, UID},
                                      {"directory", required_argument, NULL, DIRECTORY},
                                      {NULL, 0, NULL, 0}};

int main(int argc, char **argv)
{
    const char *given[OPTIONS] = {NULL};
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "+", known, NULL)) >= 0 && option < OPTIONS)
        given[option] = optarg;
    if (option >= 0 || optind == argc || given[PARENT] == NULL)
        fail(EXIT_CANNOT, "wrong usage; only the processor calls this program");
    if (given[FILES] != NULL)
        limit("files", given[FILES], RLIMIT_NOFILE);
    if (given[CORE] != NULL)
        limit("core", given[CORE], RLIMIT_CORE);
    if (given[CPUS] != NULL)
        bind_cpus(given[CPUS]);
    become(given[UID], given[GID]);
    if (given[DIRECTORY] != NULL && chdir(given[DIRECTORY]) != 0)
        fail(EXIT_CANNOT,
             "can't go to the working directory %s: %s; make it, and let the worker's user enter",
             given[DIRECTORY], strerror(errno));
    reset_signals();
    tie_to_parent(given[PARENT]);
    close_foreign();
    run(argv + optind);
}
