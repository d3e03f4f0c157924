#include "runtimes/process/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/loop.h"

enum {
    SHIM_ARGS = 16, /* before the command's, with their values */
    NUMBER_TEXT = 24,
    CPUS_TEXT = 4096 /* two of every three of CPU_SETSIZE are less */
};

/* ---- finding parts ---- */

/* Cuts the last name off. */
static void cut_name(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash != NULL)
        *(slash != path ? slash : slash + 1) = '\0';
}

static bool is_part(const char *folder, const char *below, const char *name, char *out, size_t n)
{
    int len = snprintf(out, n, "%s/%s%s", folder, below, name);

    return len > 0 && (size_t)len < n && access(out, F_OK) == 0;
}

bool st_find_part(const char *name, char *out, size_t n)
{
    const char *given = getenv("STATOR_LIBEXEC");
    char folder[PATH_MAX];
    ssize_t len;

    if (given != NULL && given[0] != '\0')
        return is_part(given, "", name, out, n);
    len = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
    if (len <= 0)
        return false;
    folder[len] = '\0';
    cut_name(folder);
    if (is_part(folder, "", name, out, n))
        return true;
    cut_name(folder); /* bin */
    return is_part(folder, "libexec/stator/", name, out, n) ||
           is_part(folder, "lib/stator/", name, out, n);
}

/* ---- the command line of stator-exec ---- */

struct shim {
    char path[PATH_MAX];
    char parent[NUMBER_TEXT], files[NUMBER_TEXT], core[NUMBER_TEXT], uid[NUMBER_TEXT],
        gid[NUMBER_TEXT], cpus[CPUS_TEXT];
    size_t count;
    const char *argv[]; /* with the command's behind */
};

static void shim_add(struct shim *s, const char *option, const char *value)
{
    s->argv[s->count++] = option;
    s->argv[s->count++] = value;
}

static void shim_add_number(struct shim *s, const char *option, char text[NUMBER_TEXT],
                            uint64_t value)
{
    snprintf(text, NUMBER_TEXT, "%" PRIu64, value);
    shim_add(s, option, text);
}

/* "0-3,8" */
static void print_cpus(const cpu_set_t *set, char out[CPUS_TEXT])
{
    size_t len = 0;

    out[0] = '\0';
    for (size_t first = 0, end; first < CPU_SETSIZE; first = end + 1) {
        for (end = first; end < CPU_SETSIZE && CPU_ISSET(end, set);)
            end++;
        if (end == first)
            continue;
        len += (size_t)snprintf(out + len, CPUS_TEXT - len, "%s%zu", len > 0 ? "," : "", first);
        if (end > first + 1)
            len += (size_t)snprintf(out + len, CPUS_TEXT - len, "-%zu", end - 1);
    }
}

/* NULL: stator-exec is not there. The caller frees. */
static struct shim *shim_new(const struct st_spawn_options *opt)
{
    size_t args = 0;
    struct shim *s;

    while (opt->argv[args] != NULL)
        args++;
    s = st_malloc(sizeof(*s) + (SHIM_ARGS + args + 1) * sizeof(s->argv[0]));
    s->count = 0;
    if (!st_find_part("stator-exec", s->path, sizeof(s->path))) {
        free(s);
        return NULL;
    }
    s->argv[s->count++] = s->path;
    shim_add_number(s, "--parent", s->parent, (uint64_t)getpid());
    if (opt->max_files != 0)
        shim_add_number(s, "--files", s->files, opt->max_files);
    shim_add_number(s, "--core", s->core, opt->core_bytes);
    if (opt->cpus != NULL) {
        print_cpus(opt->cpus, s->cpus);
        shim_add(s, "--cpus", s->cpus);
    }
    if (opt->gid >= 0)
        shim_add_number(s, "--gid", s->gid, (uint64_t)opt->gid);
    if (opt->uid >= 0)
        shim_add_number(s, "--uid", s->uid, (uint64_t)opt->uid);
    if (opt->directory != NULL)
        shim_add(s, "--directory", opt->directory);
    s->argv[s->count++] = "--";
    ST_ASSERT(s->count <= SHIM_ARGS);
    memcpy(s->argv + s->count, opt->argv, (args + 1) * sizeof(s->argv[0]));
    return s;
}

/* ---- descriptors ---- */

/* Copies of the sources that lie where a target may be: with all sources behind the targets the
 * order in which they are placed does not matter. 0 or an errno. */
static int raise_sources(const struct st_spawn_options *opt, int source[ST_WIRE_FD_END],
                         int copies[ST_WIRE_FD_END])
{
    for (int i = 0; i < ST_WIRE_FD_END; i++)
        copies[i] = -1;
    for (int i = 0; i < ST_WIRE_FD_END; i++) {
        source[i] = opt->fds[i];
        if (source[i] < 0 || source[i] >= ST_WIRE_FD_END)
            continue;
        source[i] = copies[i] = fcntl(source[i], F_DUPFD_CLOEXEC, ST_WIRE_FD_END);
        if (source[i] < 0)
            return errno;
    }
    return 0;
}

static int place(posix_spawn_file_actions_t *actions, const int source[ST_WIRE_FD_END])
{
    int rc = 0;

    for (int i = 0; i < ST_WIRE_FD_END && rc == 0; i++) {
        if (source[i] >= 0)
            rc = posix_spawn_file_actions_adddup2(actions, source[i], i);
        else if (i <= STDERR_FILENO)
            rc = posix_spawn_file_actions_addopen(actions, i, "/dev/null",
                                                  i == STDIN_FILENO ? O_RDONLY : O_WRONLY, 0);
        else /* which whoever started the processor may have left open */
            rc = posix_spawn_file_actions_addclose(actions, i);
    }
    return rc;
}

/* ---- starting ---- */

static int run_shim(const struct st_spawn_options *opt, struct shim *s,
                    const int source[ST_WIRE_FD_END], pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    int rc;

    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
    rc = place(&actions, source);
    if (rc == 0)
        rc = posix_spawn(pid, s->path, &actions, &attr, (char *const *)s->argv,
                         (char *const *)opt->envp);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

static int start_failed(struct st_error *err, int rc, const char *what)
{
    int code = st_error_sys(err, rc, "can't start %s", what);

    if (err != NULL)
        err->retriable = rc == EAGAIN || rc == ENOMEM || rc == EMFILE || rc == ENFILE;
    return code;
}

int st_spawn_now(const struct st_spawn_options *opt, struct st_process *out, struct st_error *err)
{
    int source[ST_WIRE_FD_END], copies[ST_WIRE_FD_END], rc;
    struct shim *s = shim_new(opt);

    /* The death signal comes when the thread ends that started the process. */
    ST_ASSERT(gettid() == getpid());
    if (s == NULL)
        return st_error_set(err, ST_ERR_NOTFOUND,
                            "can't start %s: stator-exec is not there; it belongs beside the "
                            "program or in ../libexec/stator: install Stator as a whole, or name "
                            "its folder in STATOR_LIBEXEC",
                            opt->argv[0]);
    rc = raise_sources(opt, source, copies);
    if (rc == 0)
        rc = run_shim(opt, s, source, &out->pid);
    for (int i = 0; i < ST_WIRE_FD_END; i++)
        if (copies[i] >= 0)
            close(copies[i]);
    free(s);
    if (rc != 0)
        return start_failed(err, rc, opt->argv[0]);
    out->pidfd = pidfd_open(out->pid, 0);
    if (out->pidfd >= 0)
        return ST_OK;
    rc = errno;
    kill(-out->pid, SIGKILL);
    while (waitpid(out->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    return start_failed(err, rc, opt->argv[0]);
}

static void on_back(struct st_loop *loop, struct st_mail *mail)
{
    struct st_spawn *spawn = ST_CONTAINER_OF(mail, struct st_spawn, mail);

    (void)loop;
    spawn->done(spawn);
}

static void on_request(struct st_loop *loop, struct st_mail *mail)
{
    struct st_spawn *spawn = ST_CONTAINER_OF(mail, struct st_spawn, mail);

    (void)loop;
    st_spawn_make(spawn);
    st_spawn_done(spawn);
}

void st_spawn_make(struct st_spawn *spawn)
{
    spawn->error.code = ST_OK;
    if (st_spawn_now(spawn->options, &spawn->process, &spawn->error) != ST_OK)
        spawn->process = (struct st_process){.pid = 0, .pidfd = -1};
}

void st_spawn_done(struct st_spawn *spawn)
{
    if (spawn->pid != NULL)
        atomic_store_explicit(spawn->pid, (int)spawn->process.pid, memory_order_relaxed);
    st_loop_post(spawn->loop, &spawn->mail, on_back);
}

void st_spawn_start(struct st_spawn *spawn)
{
    st_loop_post(spawn->main_loop, &spawn->mail, on_request);
}

/* ---- a process ---- */

void st_process_signal(const struct st_process *p, int signal)
{
    if (p->pid <= 1) /* 0 and 1 would be this process's group, and everybody */
        return;
    if (kill(-p->pid, signal) != 0 && errno == ESRCH)
        pidfd_send_signal(p->pidfd, signal, NULL, 0);
}

static void describe(const siginfo_t *info, char *how, size_t n)
{
    const char *name;

    if (info->si_code == CLD_EXITED) {
        snprintf(how, n, "exited with status %d", info->si_status);
        return;
    }
    name = sigabbrev_np(info->si_status);
    if (name != NULL)
        snprintf(how, n, "was killed by signal %d (SIG%s)", info->si_status, name);
    else
        snprintf(how, n, "was killed by signal %d", info->si_status);
}

int st_process_reap(struct st_process *p, char *how, size_t n)
{
    siginfo_t info = {.si_code = CLD_EXITED};
    int rc;

    /* Before it is collected: until then no other group can have its number. */
    st_process_signal(p, SIGKILL);
    do
        rc = waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED);
    while (rc != 0 && errno == EINTR);
    if (rc == 0)
        describe(&info, how, n);
    else
        snprintf(how, n, "ended, but how is not known: %s", strerror(errno));
    close(p->pidfd);
    *p = (struct st_process){.pid = 0, .pidfd = -1};
    return info.si_code != CLD_EXITED ? info.si_status : 0;
}

uint64_t st_process_memory(pid_t pid)
{
    char path[32], text[128];
    const char *at;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    at = strchr(text, ' '); /* all, resident, ... */
    return at != NULL ? strtoull(at, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

bool st_process_shares(pid_t pid, uint64_t *shared, uint64_t *private)
{
    char path[40], line[128];
    FILE *f;

    *shared = *private = 0;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    f = fopen(path, "re");
    if (f == NULL)
        return false;
    while (fgets(line, sizeof(line), f) != NULL) {
        const char *at = strchr(line, ':');

        if (at != NULL && strncmp(line, "Shared_", 7) == 0)
            *shared += strtoull(at + 1, NULL, 10) * 1024;
        else if (at != NULL && strncmp(line, "Private_", 8) == 0)
            *private += strtoull(at + 1, NULL, 10) * 1024;
    }
    fclose(f);
    return *shared + *private > 0; /* a process that has ended has none */
}
