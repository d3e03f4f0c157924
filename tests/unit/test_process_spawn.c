#include "tests/unit/test_core.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "processor/core/loop.h"
#include "processor/core/metrics.h"
#include "processor/core/process.h"
#include "tests/support/process.h"

static char own[PATH_MAX];      /* path of this program, which is also the worker */
static char printed[64 * 1024]; /* of the last process */
static char how[128];
static struct st_error err;
static double open_before;

/* ---- the worker's side: prints what it finds ---- */

static int print_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    const struct dirent *entry;
    char link[PATH_MAX];

    while ((entry = readdir(dir)) != NULL) {
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

        if (n >= 0 && atoi(entry->d_name) != dirfd(dir))
            printf("%s %.*s\n", entry->d_name, (int)n, link);
    }
    closedir(dir);
    return 0;
}

static int print_environment(void)
{
    for (char **e = environ; *e != NULL; e++)
        printf("%s\n", *e);
    return 0;
}

static int print_self(void)
{
    int death = 0;
    cpu_set_t set;

    prctl(PR_GET_PDEATHSIG, &death);
    sched_getaffinity(0, sizeof(set), &set);
    printf("pid=%d group=%d session=%d parent=%d death=%d\n", getpid(), getpgid(0), getsid(0),
           getppid(), death);
    printf("cpus=%d", CPU_COUNT(&set));
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((size_t)i, &set))
            printf(" %d", i);
    printf("\n");
    return 0;
}

static int print_part(void)
{
    char path[PATH_MAX] = "";

    printf("%d %s\n", st_find_part("stator-exec", path, sizeof(path)), path);
    return 0;
}

static int probe(const char *what)
{
    return strcmp(what, "fds") == 0    ? print_fds()
           : strcmp(what, "env") == 0  ? print_environment()
           : strcmp(what, "part") == 0 ? print_part()
                                       : print_self();
}

/* ---- the tests' side ---- */

static int before(void **state)
{
    (void)state;
    st_test_find_parts();
    open_before = st_process_open_fds();
    return 0;
}

static int after(void **state)
{
    (void)state;
    assert_true(st_process_open_fds() == open_before);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* there are no children */
    return 0;
}

static void run(const struct st_spawn_options *opt)
{
    if (!st_test_run(opt, printed, sizeof(printed), how, &err))
        fail_msg("%s", err.text);
}

static void run_probe(const char *what, const struct st_spawn_options *more)
{
    const char *argv[] = {own, "probe", what, NULL};
    struct st_spawn_options opt = *more;

    opt.argv = argv;
    run(&opt);
    assert_string_equal(how, "exited with status 0");
}

static struct st_spawn_options shell(const char *script)
{
    static const char *argv[] = {"/bin/sh", "-c", NULL, NULL};

    argv[2] = script;
    return st_test_spawn_options(argv);
}

static void assert_printed(const char *text)
{
    if (strstr(printed, text) == NULL)
        fail_msg("'%s' is not in: %s", text, printed);
}

/* ---- descriptors ---- */

/* A descriptor that tells its name, at a number of our choice. */
static void put_memory(const char *name, int at)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    assert_true(fd >= 0);
    if (fd != at) {
        assert_int_equal(dup3(fd, at, O_CLOEXEC), at);
        close(fd);
    }
}

static void test_descriptors(void **state)
{
    struct st_spawn_options opt = st_test_spawn_options(NULL);
    const char *at;
    int saved[9], stray;

    (void)state;
    for (int i = 3; i <= 8; i++)
        saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 100);
    put_memory("a", 3);
    put_memory("b", 4);
    put_memory("c", 5);
    put_memory("d", 6);
    put_memory("e", 7);
    put_memory("f", 8);
    fcntl(7, F_SETFD, 0);
    stray = fcntl(7, F_DUPFD, 200); /* not close-on-exec either */
    opt.fds[0] = 8;
    opt.fds[3] = 4; /* crosses */
    opt.fds[4] = 3;
    opt.fds[5] = 5; /* is in its place */
    opt.fds[6] = 3; /* twice; 7: nothing, although ours is open */
    run_probe("fds", &opt);
    close(stray);
    for (int i = 3; i <= 8; i++) {
        close(i);
        if (saved[i] >= 0) {
            assert_int_equal(dup3(saved[i], i, O_CLOEXEC), i);
            close(saved[i]);
        }
    }

    at = strstr(printed, "3 /memfd:");
    assert_non_null(at);
    assert_memory_equal(printed, "0 /memfd:f (deleted)\n1 pipe:[", 29);
    assert_non_null(strstr(printed, "\n2 pipe:["));
    assert_string_equal(at, "3 /memfd:b (deleted)\n4 /memfd:a (deleted)\n5 /memfd:c (deleted)\n"
                            "6 /memfd:a (deleted)\n");
}

static void test_missing_descriptors(void **state)
{
    struct st_spawn_options opt = shell("all=$(ls -l /proc/$$/fd); echo \"$all\" >&3; "
                                        "echo lost; echo lost >&2; cat");
    struct st_process p;
    char text[1024];
    ssize_t n;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    opt.fds[3] = fds[1];
    assert_int_equal(st_spawn_now(&opt, &p, &err), ST_OK);
    close(fds[1]);
    assert_true(st_test_wait_ended(&p));
    st_process_reap(&p, how, sizeof(how));
    assert_string_equal(how, "exited with status 0"); /* all could be read and written */
    assert_int_equal(p.pidfd, -1);
    n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_non_null(strstr(text, "0 -> /dev/null\n"));
    assert_non_null(strstr(text, "1 -> /dev/null\n"));
    assert_non_null(strstr(text, "2 -> /dev/null\n"));
    close(fds[0]);
}

/* ---- what the process is ---- */

static void test_environment(void **state)
{
    const char *const envp[] = {"A=1", "B=x y=z", "LD_LIBRARY_PATH=/nowhere", NULL};
    struct st_spawn_options opt = st_test_spawn_options(NULL);

    (void)state;
    setenv("STATOR_SECRET", "x", 1);
    opt.envp = envp;
    run_probe("env", &opt);
    unsetenv("STATOR_SECRET");
    assert_string_equal(printed, "A=1\nB=x y=z\nLD_LIBRARY_PATH=/nowhere\n");
}

static void test_directory(void **state)
{
    struct st_spawn_options opt = shell("pwd");

    (void)state;
    opt.directory = "/proc/sys";
    run(&opt);
    assert_string_equal(printed, "/proc/sys\n");
    opt.directory = "/nowhere/at/all";
    run(&opt);
    assert_string_equal(how, "exited with status 126");
    assert_string_equal(printed, "stator-exec: can't go to the working directory /nowhere/at/all: "
                                 "No such file or directory; make it, and let the worker's user "
                                 "enter\n");
}

static void test_session(void **state)
{
    struct st_spawn_options opt = st_test_spawn_options(NULL);
    int pid, group, session, parent, death;

    (void)state;
    run_probe("self", &opt);
    assert_int_equal(sscanf(printed, "pid=%d group=%d session=%d parent=%d death=%d", &pid, &group,
                            &session, &parent, &death),
                     5);
    assert_int_equal(group, pid);
    assert_int_equal(session, pid);
    assert_int_equal(parent, getpid());
    assert_int_equal(death, SIGKILL);
}

static void test_signals(void **state)
{
    const char *argv[] = {"/bin/cat", "/proc/self/status", NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);
    sigset_t all, old;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    run(&opt);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    assert_printed("SigBlk:\t0000000000000000\n");
    assert_printed("SigIgn:\t0000000000000000\n");
}

/* A line of /proc/PID/limits: what the kernel says, sanitizers change their own limits. */
static void assert_limit(const char *name, rlim_t soft, rlim_t hard, const char *unit)
{
    char value[2][32], line[128];
    const rlim_t values[2] = {soft, hard};

    for (int i = 0; i < 2; i++) {
        snprintf(value[i], sizeof(value[i]), "%llu", (unsigned long long)values[i]);
        if (values[i] == RLIM_INFINITY)
            strcpy(value[i], "unlimited");
    }
    snprintf(line, sizeof(line), "%-25s %-20s %-20s %-10s\n", name, value[0], value[1], unit);
    assert_printed(line);
}

static void test_limits(void **state)
{
    const char *argv[] = {"/bin/cat", "/proc/self/limits", NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);
    struct rlimit files, core;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    assert_int_equal(getrlimit(RLIMIT_CORE, &core), 0);
    run(&opt);
    assert_limit("Max open files", files.rlim_cur, files.rlim_max, "files");
    assert_limit("Max core file size", 0, 0, "bytes");

    opt.max_files = 77;
    opt.core_bytes = UINT64_MAX;
    run(&opt);
    assert_limit("Max open files", 77, 77, "files");
    assert_limit("Max core file size", core.rlim_max, core.rlim_max, "bytes");

    opt.max_files = UINT64_MAX - 1; /* at most the hard limit */
    opt.core_bytes = 4096;
    run(&opt);
    assert_limit("Max open files", files.rlim_max, files.rlim_max, "files");
    assert_limit("Max core file size", 4096, 4096, "bytes");
}

static void test_cpus(void **state)
{
    struct st_spawn_options opt = st_test_spawn_options(NULL);
    cpu_set_t mine, set;
    char text[128];
    int last = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET((size_t)i, &mine))
            last = i;
    CPU_ZERO(&set);
    CPU_SET((size_t)last, &set);
    opt.cpus = &set;
    run_probe("self", &opt);
    snprintf(text, sizeof(text), "cpus=1 %d\n", last);
    assert_printed(text);

    memset(&set, 0xff, sizeof(set)); /* the kernel takes those that exist */
    run_probe("self", &opt);
    assert_printed("cpus=");

    /* As many pieces of text as there can be, but no CPU of ours. */
    CPU_ZERO(&set);
    for (int i = last + 1; i < CPU_SETSIZE; i++)
        if (i % 3 != 0)
            CPU_SET((size_t)i, &set);
    opt = shell("exit 0");
    opt.cpus = &set;
    run(&opt);
    assert_string_equal(how, "exited with status 126");
    assert_printed("stator-exec: can't run on CPUs ");
}

static void test_user(void **state)
{
    const char *argv[] = {"/bin/cat", "/proc/self/status", NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);

    (void)state;
    opt.uid = (int64_t)geteuid();
    opt.gid = (int64_t)getegid();
    run(&opt);
    assert_string_equal(how, "exited with status 0"); /* whoever we are */
    if (geteuid() == 0) {
        opt.uid = 65534;
        opt.gid = 65533;
        run(&opt);
        assert_printed("Uid:\t65534\t65534\t65534\t65534\n");
        assert_printed("Gid:\t65533\t65533\t65533\t65533\n");
        assert_printed("Groups:\t \n");
        assert_printed("CapEff:\t0000000000000000\n");
    } else {
        opt.uid = 0;
        run(&opt);
        assert_string_equal(how, "exited with status 126");
        assert_printed("stator-exec: can't become user 0, group ");
    }
}

/* ---- the parent's end ---- */

/* A process whose worker sleeps; returns a pidfd of the worker. */
static int start_parent(pid_t *parent, int64_t uid)
{
    const char *argv[] = {"/bin/sleep", "1000", NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);
    struct st_process p = {0, -1};
    int fds[2], pidfd;

    opt.uid = uid;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    fflush(NULL);
    *parent = fork();
    if (*parent == 0) {
        char name[64], text[16] = "";

        if (st_spawn_now(&opt, &p, &err) != ST_OK)
            _exit(1);
        /* It has asked for the signal once it is the command. */
        snprintf(name, sizeof(name), "/proc/%d/comm", p.pid);
        while (memcmp(text, "sleep\n", 6) != 0) {
            int fd = open(name, O_RDONLY | O_CLOEXEC);

            usleep(1000);
            if (read(fd, text, sizeof(text) - 1) < 0)
                _exit(1);
            close(fd);
        }
        if (write(fds[1], &p.pid, sizeof(p.pid)) == sizeof(p.pid))
            pause();
        _exit(1);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &p.pid, sizeof(p.pid)), sizeof(p.pid));
    close(fds[0]);
    pidfd = pidfd_open(p.pid, 0);
    assert_true(pidfd >= 0);
    return pidfd;
}

static void test_parent_ends(void **state)
{
    (void)state;
    for (int i = 0; i < (geteuid() == 0 ? 2 : 1); i++) {
        pid_t parent;
        struct st_process p = {0, start_parent(&parent, i == 0 ? -1 : 65534)};

        kill(parent, SIGKILL);
        assert_int_equal(waitpid(parent, NULL, 0), parent);
        assert_true(st_test_wait_ended(&p));
        close(p.pidfd);
    }
}

static void test_parent_has_ended(void **state)
{
    char path[PATH_MAX];
    int status;
    pid_t pid;

    (void)state;
    assert_true(st_find_part("stator-exec", path, sizeof(path)));
    pid = fork();
    if (pid == 0) {
        execl(path, path, "--parent", "1", "--", "/bin/sh", "-c", "exit 0", (char *)NULL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 126);
}

/* ---- commands that can't be run ---- */

static void write_file(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void assert_refused(const char *path, int status, const char *why)
{
    const char *argv[] = {path, NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);
    char expected[512];

    run(&opt);
    snprintf(expected, sizeof(expected), "exited with status %d", status);
    assert_string_equal(how, expected);
    snprintf(expected, sizeof(expected), "stator-exec: can't execute %s: %s\n", path, why);
    assert_string_equal(printed, expected);
}

static void test_no_command(void **state)
{
    char folder[] = "/tmp/stator-test-XXXXXX", path[64];

    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/command", folder);
    assert_refused(path, 127, "there is no such file; install it, or correct the path");
    write_file(path, "#!/nowhere/python3\n", 0755);
    assert_refused(path, 127,
                   "the interpreter that it names (#! or the dynamic loader) does not exist; "
                   "install that");
    unlink(path);
    write_file(path, "#!/bin/sh\n", 0644);
    assert_refused(path, 126,
                   "Permission denied; give it and the folders above it the permission (chmod "
                   "a+rx) on a file system without noexec");
    unlink(path);
    write_file(path, "no program\n", 0755);
    assert_refused(path, 126,
                   "it is no program for this machine; build it for this architecture, or give a "
                   "script its #! line");
    unlink(path);
    rmdir(folder);
}

static void test_no_shim(void **state)
{
    struct st_spawn_options opt = shell("exit 0");

    (void)state;
    setenv("STATOR_LIBEXEC", "/nowhere", 1);
    assert_false(st_test_run(&opt, printed, sizeof(printed), how, &err));
    assert_int_equal(err.code, ST_ERR_NOTFOUND);
    assert_non_null(strstr(err.text, "can't start /bin/sh: stator-exec is not there; it belongs"));
}

/* Descriptors are all in use: the process that is there already ends. */
static void test_no_descriptor(void **state)
{
    struct st_spawn_options opt = shell("exit 0");
    int fds[64], count = 0, null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct rlimit old, low;
    struct st_process p;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    low = (struct rlimit){64, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    while (count < 64 && (fds[count] = fcntl(null, F_DUPFD_CLOEXEC, 8)) >= 0)
        count++;
    for (int i = 0; i < 3; i++)
        opt.fds[i] = fds[0];
    /* Numbers below 8 may be free: let nothing be free. */
    while (count < 64 && (fds[count] = fcntl(null, F_DUPFD_CLOEXEC, 0)) >= 0)
        count++;
    assert_int_equal(st_spawn_now(&opt, &p, &err), ST_ERR_SYSTEM);
    assert_int_equal(err.sys_errno, EMFILE);
    assert_true(err.retriable);
    while (count-- > 0)
        close(fds[count]);
    close(null);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

/* ---- the end ---- */

static void test_ways_to_end(void **state)
{
    static const struct {
        const char *script, *how;
    } cases[] = {
        {"exit 0", "exited with status 0"},
        {"exit 3", "exited with status 3"},
        {"kill -KILL $$", "was killed by signal 9 (SIGKILL)"},
        {"kill -SEGV $$", "was killed by signal 11 (SIGSEGV)"},
        {"kill -40 $$", "was killed by signal 40"},
        {"(sleep 1000; echo late) & (sleep 1000; echo late) & exit 5", "exited with status 5"},
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct st_spawn_options opt = shell(cases[i].script);

        run(&opt); /* also waits until nobody has the pipe */
        assert_string_equal(how, cases[i].how);
        assert_string_equal(printed, "");
    }
}

static void test_group_signal(void **state)
{
    struct st_spawn_options opt = shell("sleep 1000 & sleep 1000 & echo go >&3; wait");
    struct pollfd ended;
    struct st_process p;
    char text[8];
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    opt.fds[3] = fds[1];
    assert_int_equal(st_spawn_now(&opt, &p, &err), ST_OK);
    close(fds[1]);
    assert_int_equal(read(fds[0], text, sizeof(text)), 3);
    st_process_signal(&p, SIGTERM);
    ended = (struct pollfd){.fd = fds[0], .events = POLLIN};
    assert_int_equal(poll(&ended, 1, 60 * 1000), 1); /* nobody has the pipe any more */
    assert_int_equal(read(fds[0], text, sizeof(text)), 0);
    close(fds[0]);
    assert_true(st_test_wait_ended(&p));
    st_process_signal(&p, SIGTERM); /* harmless */
    st_process_reap(&p, how, sizeof(how));
    assert_string_equal(how, "was killed by signal 15 (SIGTERM)");
    st_process_signal(&p, SIGTERM); /* it is nobody now, not our own group */
}

static void test_memory(void **state)
{
    const char *argv[] = {"/bin/sleep", "1000", NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);
    struct st_process p;
    pid_t pid;

    (void)state;
    assert_int_equal(st_spawn_now(&opt, &p, &err), ST_OK);
    pid = p.pid;
    assert_in_range(st_process_memory(pid), 4096, 1 << 30);
    assert_in_range(st_process_memory(getpid()), 100 * 1024, UINT64_MAX);
    st_process_signal(&p, SIGKILL);
    assert_true(st_test_wait_ended(&p));
    st_process_reap(&p, how, sizeof(how));
    assert_int_equal(st_process_memory(pid), 0);
}

/* ---- from another loop ---- */

static struct st_loop main_loop, other;

static void on_started(struct st_spawn *spawn)
{
    assert_ptr_equal(spawn->loop, &other);
    assert_true(st_loop_is_current(&other));
    st_loop_stop(&main_loop);
}

static void test_request(void **state)
{
    struct st_spawn_options opt = shell("exit 4");
    struct st_spawn spawn = {
        .main_loop = &main_loop, .loop = &other, .options = &opt, .done = on_started};

    (void)state;
    assert_int_equal(st_loop_open(&main_loop, ST_LOOP_MAIN, "main", &err), ST_OK);
    assert_int_equal(st_loop_open(&other, 0, "other", &err), ST_OK);
    assert_int_equal(st_loop_start(&other, &err), ST_OK);
    st_spawn_start(&spawn);
    st_loop_run(&main_loop);
    assert_int_equal(spawn.error.code, ST_OK);
    assert_true(st_test_wait_ended(&spawn.process));
    st_process_reap(&spawn.process, how, sizeof(how));
    assert_string_equal(how, "exited with status 4");

    setenv("STATOR_LIBEXEC", "/nowhere", 1);
    st_spawn_start(&spawn);
    st_loop_run(&main_loop);
    assert_int_equal(spawn.error.code, ST_ERR_NOTFOUND);
    assert_int_equal(spawn.process.pidfd, -1);
    st_loop_stop(&other);
    st_loop_join(&other);
    st_loop_close(&other);
    st_loop_close(&main_loop);
    st_metrics_reset();
}

/* ---- where parts are ---- */

static void copy_own(const char *to)
{
    int in = open(own, O_RDONLY | O_CLOEXEC), out;
    char bytes[64 * 1024];
    ssize_t n;

    out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(out, bytes, (size_t)n), n);
    close(in);
    close(out);
}

static void assert_part(const char *root, const char *folder)
{
    char program[128], path[128], expected[160];
    const char *argv[] = {program, "probe", "part", NULL};
    struct st_spawn_options opt = st_test_spawn_options(argv);

    snprintf(program, sizeof(program), "%s/bin/program", root);
    snprintf(path, sizeof(path), "%s/%s", root, folder);
    if (folder[0] == 'l' && strchr(folder, '/') != NULL) { /* its parent is not there yet */
        *strrchr(path, '/') = '\0';
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof(path), "%s/%s", root, folder);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    strcat(path, "/stator-exec");
    write_file(path, "", 0755);
    run(&opt);
    unlink(path);
    snprintf(expected, sizeof(expected), "1 %s\n", path);
    assert_string_equal(printed, expected);
    while (strlen(path) > strlen(root) && strstr(path, "/bin/") == NULL) {
        *strrchr(path, '/') = '\0';
        if (strlen(path) > strlen(root))
            assert_int_equal(rmdir(path), 0);
    }
}

static void test_parts(void **state)
{
    char root[] = "/tmp/stator-test-XXXXXX", path[128];

    (void)state;
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof(path), "%s/bin", root);
    assert_int_equal(mkdir(path, 0755), 0);
    snprintf(path, sizeof(path), "%s/bin/program", root);
    copy_own(path);
    assert_part(root, "bin");
    assert_part(root, "libexec/stator");
    assert_part(root, "lib/stator");
    unlink(path);
    *strrchr(path, '/') = '\0';
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(root), 0);
    assert_false(st_find_part("stator-exec-2", path, sizeof(path)));
    assert_false(st_find_part("stator-exec", path, 8)); /* no room */
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, before, after)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_descriptors),
        TEST(test_missing_descriptors),
        TEST(test_environment),
        TEST(test_directory),
        TEST(test_session),
        TEST(test_signals),
        TEST(test_limits),
        TEST(test_cpus),
        TEST(test_user),
        TEST(test_parent_ends),
        TEST(test_parent_has_ended),
        TEST(test_no_command),
        TEST(test_no_shim),
        TEST(test_no_descriptor),
        TEST(test_ways_to_end),
        TEST(test_group_signal),
        TEST(test_memory),
        TEST(test_request),
        TEST(test_parts),
    };
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (argc > 2)
        return probe(argv[2]);
    return n > 0 ? cmocka_run_group_tests(tests, NULL, NULL) : 1;
}
