/* Starting and ending processes of workers.
 *
 * The parent-death signal follows the thread that forks, so processes are started by the main
 * thread: a request travels to the main loop and comes back. Between lies a small executable,
 * `stator-exec`, which sets limits, user, CPU set and the death signal in the new process, sees
 * that its parent is still the processor, and becomes the command. */
#ifndef RUNTIMES_PROCESS_SPAWN_H
#define RUNTIMES_PROCESS_SPAWN_H

#include <sched.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/mailbox.h"
#include "runtimes/process/wire.h"

struct st_loop;
struct st_spawn;
struct st_template;

struct st_spawn_options {
    const char *const *argv; /* argv[0] is a path; NULL-terminated; borrowed until done */
    const char *const *envp; /* the whole environment; borrowed until done */
    const char *directory;   /* working directory; NULL: the processor's */
    const cpu_set_t *cpus;   /* NULL: as the processor */
    uint64_t max_files;      /* RLIMIT_NOFILE; 0: the processor's */
    uint64_t core_bytes;     /* RLIMIT_CORE */
    int64_t uid, gid;        /* -1: the processor's */
    int fds[ST_WIRE_FD_END]; /* what becomes 0 .. 7; -1: nothing (0, 1, 2: /dev/null) */
};

struct st_process {
    pid_t pid; /* also its process group and session */
    int pidfd; /* readable when it has ended; the owner's to close */
};

/* Asks the main loop to start it; done() runs on `loop` with the process or an error (code not 0).
 * The request is part of the caller's object until then. */
struct st_spawn {
    struct st_mail mail;
    struct st_loop *main_loop, *loop;
    const struct st_spawn_options *options; /* borrowed until done */
    struct st_process process;
    struct st_error error;
    void (*done)(struct st_spawn *spawn);
    atomic_int *pid; /* set as soon as the process is there */

    /* For a template (template.h) */
    struct st_template *template;
    uint32_t number; /* what Fork says */
    TAILQ_ENTRY(st_spawn) link;
};

void st_spawn_start(struct st_spawn *spawn);

/* Its two halves, for the main loop: starts the process or sets the error; gives back. */
void st_spawn_make(struct st_spawn *spawn);
void st_spawn_done(struct st_spawn *spawn);

/* The same at once; main thread. */
int st_spawn_now(const struct st_spawn_options *opt, struct st_process *out,
                 struct st_error *err) ST_MUST_CHECK;

/* Signals the whole group, or a forked process that has none yet. Harmless when it has ended but
 * was not waited for. */
void st_process_signal(const struct st_process *p, int signal);

/* It has ended (pidfd is readable): collects it, ends what is left of its group, closes pidfd.
 * Writes how it ended: "exited with status 3", "was killed by signal 9 (SIGKILL)".
 * Returns the signal, 0 where there was none. */
int st_process_reap(struct st_process *p, char *how, size_t n);

/* Resident bytes of the process, or 0. */
uint64_t st_process_memory(pid_t pid);

/* The same in two parts: pages that other processes have as well, and its own. False: not known.
 * The kernel walks all its pages: milliseconds for gigabytes. */
bool st_process_shares(pid_t pid, uint64_t *shared, uint64_t *private);

/* Where stator-exec and other parts of the installation lie: beside the binary in a build tree, or
 * in libexec (executables) and lib (`sub`: "python") of an installation. False: not there. */
bool st_find_part(const char *name, char *out, size_t n);

#endif
