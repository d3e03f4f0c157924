/* A template's fork: the new process becomes the processor's child, as if that had started it.
 *
 * A process between the two forks and ends at once, so that the processor, which adopts orphans of
 * its own (PR_SET_CHILD_SUBREAPER), becomes the parent. It is made by vfork: it lives in the
 * template's memory, so page tables are copied once only, and the C library's fork runs whole, with
 * the handlers of other libraries. clone(CLONE_PARENT) would go round those. */
#include "runtimes/python/ext/ext_int.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* As fork(), but the child is an orphan. */
static pid_t fork_orphan(void)
{
    volatile pid_t child = -1;
    volatile int why = 0;
    pid_t between = vfork(); /* NOLINT: the usual rules are for an exec; see above */

    if (between == 0) {
        child = fork(); /* NOLINT: the same */
        if (child == 0) {
            return 0; /* in memory of its own */
        }
        why = errno;
        _exit(0);
    }
    if (between < 0) {
        return -1;
    }
    while (waitpid(between, NULL, 0) < 0 && errno == EINTR) {
    }
    errno = why;
    return child;
}

/* Waits until the template has told who this is; then an own session, and the same end as that of
 * every other worker whose processor dies. The template sees by the closed socket that it is so. */
static void settle(int go, pid_t processor)
{
    char byte;
    ssize_t n;

    do {
        n = read(go, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n != 1) {
        _exit(1); /* the template died: nobody knows of this process */
    }
    setsid();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != processor) {
        _exit(1);
    }
    close(go);
}

PyObject *py_fork_worker(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    pid_t processor = getppid(), child;
    int go[2], why;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, go) != 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyOS_BeforeFork();
    child = fork_orphan();
    if (child == 0) {
        PyOS_AfterFork_Child();
        close(go[1]);
        settle(go[0], processor);
        return Py_BuildValue("ii", 0, -1);
    }
    why = errno;
    PyOS_AfterFork_Parent();
    close(go[0]);
    if (child < 0) {
        close(go[1]);
        errno = why;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("ii", (int)child, go[1]);
}
