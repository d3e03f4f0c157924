/* Reports of fatal signals, written with async-signal-safe calls only (signal-safety(7)). */
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "processor/core/base.h"
#include "runtimes/native/native_int.h"

enum { STACK_SIZE = 64 * 1024, MAX_FRAMES = 64, MAX_LINE = 512 };

static const struct {
    int number;
    const char *name;
} fatal[] = {
    {SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGABRT, "SIGABRT"},
    {SIGFPE, "SIGFPE"},   {SIGILL, "SIGILL"},
};

static char handler_file[256];
static struct sigaction previous[ST_ARRAY_LEN(fatal)];
static atomic_bool reporting;
static _Thread_local bool mine; /* the report that is being written */
static bool installed;

/* A line in the making; what doesn't fit is cut. */
struct line {
    char bytes[MAX_LINE];
    size_t len;
};

static void add(struct line *l, const char *text)
{
    while (*text != '\0' && l->len < sizeof l->bytes - 1)
        l->bytes[l->len++] = *text++;
}

static void add_number(struct line *l, uint64_t n, unsigned base)
{
    char digits[24];
    size_t i = sizeof digits;

    digits[--i] = '\0';
    do
        digits[--i] = "0123456789abcdef"[n % base];
    while ((n /= base) != 0);
    add(l, digits + i);
}

static void put(struct line *l)
{
    const char *at = l->bytes;
    ssize_t n;

    l->bytes[l->len++] = '\n';
    for (; l->len > 0; l->len -= (size_t)n, at += n) {
        n = write(STDERR_FILENO, at, l->len);
        if (n <= 0)
            break;
    }
}

static void describe(struct line *l, const siginfo_t *info, size_t which)
{
    add(l, "stator: crash: signal ");
    add_number(l, (unsigned)fatal[which].number, 10);
    add(l, " (");
    add(l, fatal[which].name);
    add(l, ")");
    /* A positive code is the kernel's and comes with an address; others come from kill(2). */
    if (info->si_code > 0 && fatal[which].number != SIGABRT) {
        add(l, " at address 0x");
        add_number(l, (uintptr_t)info->si_addr, 16);
    }
}

static void report(const siginfo_t *info, size_t which)
{
    const struct st_native_context *context = &st_native_context;
    struct line l = {.len = 0};
    void *frames[MAX_FRAMES];
    char id[37];

    describe(&l, info, which);
    put(&l);
    l.len = 0;
    add(&l, "stator: handler ");
    add(&l, handler_file);
    if (context->worker == NULL) {
        add(&l, " was not running on this thread");
    } else {
        add(&l, ", worker ");
        add_number(&l, context->worker->index, 10);
        add(&l, " of ");
        add(&l, context->worker->pool_name);
    }
    if (context->ev != NULL) {
        st_uuid_text(context->ev->id, id);
        add(&l, ", event ");
        add(&l, id);
    }
    if (st_native_batch_count != 0) {
        add(&l, ", the first of a batch of ");
        add_number(&l, st_native_batch_count, 10);
    }
    put(&l);
    backtrace_symbols_fd(frames, backtrace(frames, MAX_FRAMES), STDERR_FILENO);
}

static void on_signal(int number, siginfo_t *info, void *ucontext ST_UNUSED)
{
    int saved = errno;
    size_t which = 0;

    while (which + 1 < ST_ARRAY_LEN(fatal) && fatal[which].number != number)
        which++;
    /* One report, of the thread that was first: the others wait for the end. */
    while (!mine && atomic_exchange(&reporting, true))
        pause();
    /* Not again when the report itself crashes. */
    if (!mine) {
        mine = true;
        report(info, which);
    }
    sigaction(number, &previous[which], NULL);
    /* A fault happens again when this returns, at the same place and with the address; what was
     * sent must be sent again, and arrives when this returns. */
    if (info->si_code <= 0 || number == SIGABRT)
        raise(number);
    errno = saved;
}

void st_native_crash_install(const char *file)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    void *frame;
    size_t len = strlen(file);

    if (len >= sizeof handler_file)
        file += len - (sizeof handler_file - 1);
    memcpy(handler_file, file, strlen(file) + 1);
    if (installed)
        return;
    installed = true;
    /* The first call loads libgcc, which a signal handler must not do. */
    (void)backtrace(&frame, 1);
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ST_ARRAY_LEN(fatal); i++)
        sigaction(fatal[i].number, &action, &previous[i]);
}

void st_native_crash_stack(struct st_native_worker *nw)
{
    /* Above the smallest size of CPUs with wide registers; the report needs some KiB itself. */
    stack_t stack = {.ss_size = STACK_SIZE};

    /* Sanitizers bring a stack of their own. */
    if (sigaltstack(NULL, &nw->old_stack) != 0 || (nw->old_stack.ss_flags & SS_DISABLE) == 0)
        return;
    stack.ss_sp = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack.ss_sp == MAP_FAILED)
        return;
    if (sigaltstack(&stack, NULL) != 0)
        munmap(stack.ss_sp, STACK_SIZE);
    else
        nw->stack = stack;
}

void st_native_crash_stack_end(struct st_native_worker *nw)
{
    if (nw->stack.ss_sp == NULL)
        return;
    sigaltstack(&nw->old_stack, NULL);
    munmap(nw->stack.ss_sp, STACK_SIZE);
    nw->stack.ss_sp = NULL;
}
