/* Templates: who is forked by which, and what becomes of requests when one goes or refuses. This
 * program is the template too, in the way that its first argument says. */
#include "tests/unit/test_core.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>

#include "processor/config/config.h"
#include "processor/core/loop.h"
#include "processor/core/metrics.h"
#include "processor/core/process.h"
#include "processor/processor.h"
#include "runtimes/process/process.h"
#include "runtimes/process/template.h"
#include "tests/support/process.h"
#include "worker.pb-c.h"

enum { DESCRIPTORS = 7, REQUESTS = 4 };

static char own[PATH_MAX]; /* path of this program */

/* ---- the template's side ---- */

static void say(Stator__Worker__V1__FromWorker__KindCase kind, void *message)
{
    Stator__Worker__V1__FromWorker msg = STATOR__WORKER__V1__FROM_WORKER__INIT;
    unsigned char bytes[512];
    size_t len;

    msg.kind_case = kind;
    msg.hello = message; /* all members are one pointer */
    len = stator__worker__v1__from_worker__pack(&msg, bytes + 4);
    bytes[0] = (unsigned char)len;
    bytes[1] = (unsigned char)(len >> 8);
    bytes[2] = bytes[3] = 0;
    if (write(ST_WIRE_FD_CONTROL, bytes, len + 4) != (ssize_t)len + 4)
        _exit(9);
}

static void say_hello(void)
{
    Stator__Worker__V1__Hello hello = STATOR__WORKER__V1__HELLO__INIT;

    hello.protocol = ST_WIRE_PROTOCOL;
    hello.template_ = true;
    say(STATOR__WORKER__V1__FROM_WORKER__KIND_HELLO, &hello);
}

static void say_forked(uint32_t worker, pid_t pid, const char *text, bool temporary)
{
    Stator__Worker__V1__Forked forked = STATOR__WORKER__V1__FORKED__INIT;

    forked.worker = worker;
    forked.pid = pid;
    forked.text = (char *)text;
    forked.temporary = temporary;
    say(STATOR__WORKER__V1__FROM_WORKER__KIND_FORKED, &forked);
}

/* Takes n bytes and the descriptors that come with them, which must be as many as a worker's. */
static void take(unsigned char *bytes, size_t n, int fds[DESCRIPTORS])
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int) * DESCRIPTORS)];
    } extra;
    struct iovec iov = {bytes, n};
    struct msghdr packet = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &extra, .msg_controllen = sizeof extra};

    if (n == 0)
        return;
    if (recvmsg(ST_WIRE_FD_CONTROL, &packet, MSG_WAITALL) != (ssize_t)n)
        _exit(0); /* the processor has closed it */
    if (CMSG_FIRSTHDR(&packet) == NULL)
        return;
    if (extra.header.cmsg_len != CMSG_LEN(sizeof(int) * DESCRIPTORS))
        _exit(8);
    memcpy(fds, CMSG_DATA(&extra.header), sizeof(int) * DESCRIPTORS);
}

static Stator__Worker__V1__ToWorker *hear(int fds[DESCRIPTORS])
{
    static unsigned char bytes[4096];
    unsigned char length[4];
    size_t n;

    take(length, 4, fds);
    n = length[0] | (size_t)length[1] << 8;
    take(bytes, n, fds);
    return stator__worker__v1__to_worker__unpack(NULL, n, bytes);
}

static bool has_groups = true; /* orphans have, which then outlive their template */

static ST_NORETURN void be_orphan(int control, int known)
{
    pid_t pid = getpid();
    char byte;

    if (has_groups)
        setpgid(0, 0);
    if (write(known, &pid, sizeof pid) != sizeof pid)
        _exit(7);
    while (read(control, &byte, 1) > 0)
        ;
    _exit(5);
}

/* An orphan, which lives as long as its control socket. */
static pid_t fork_orphan(const int fds[DESCRIPTORS])
{
    pid_t pid = -1, between;
    int known[2];

    if (pipe(known) != 0)
        _exit(7);
    between = fork();
    if (between == 0) {
        if (fork() == 0)
            be_orphan(fds[0], known[1]);
        _exit(0);
    }
    if (read(known[0], &pid, sizeof pid) != sizeof pid || waitpid(between, NULL, 0) != between)
        _exit(7);
    close(known[0]);
    close(known[1]);
    for (int i = 0; i < DESCRIPTORS; i++)
        close(fds[i]);
    return pid;
}

static void answer(const char *mode, unsigned n, uint32_t worker, const int fds[DESCRIPTORS])
{
    if (strcmp(mode, "never") == 0)
        say_forked(worker, 0, "it does not want to", false);
    else if (strcmp(mode, "temporary") == 0 && n == 0)
        say_forked(worker, 0, "not now", true);
    else if (strcmp(mode, "dies") == 0)
        _exit(3);
    else if (strcmp(mode, "lies") == 0)
        say_forked(worker + 1, fork_orphan(fds), "", false);
    else if (strcmp(mode, "twice") == 0 && n > 0)
        say_forked(worker, getpid(), "", false);
    else
        say_forked(worker, fork_orphan(fds), "", false);
}

static int be_template(const char *mode)
{
    Stator__Worker__V1__Failed failed = STATOR__WORKER__V1__FAILED__INIT;
    Stator__Worker__V1__Ready ready = STATOR__WORKER__V1__READY__INIT;
    int fds[DESCRIPTORS];

    has_groups = strcmp(mode, "bare") != 0;
    say_hello();
    if (hear(fds)->kind_case != STATOR__WORKER__V1__TO_WORKER__KIND_CONFIGURE)
        return 6;
    if (strcmp(mode, "fails") == 0) {
        failed.text = (char *)"handler.c:1: it is wrong";
        say(STATOR__WORKER__V1__FROM_WORKER__KIND_FAILED, &failed);
        return 1;
    }
    if (strcmp(mode, "silent") != 0)
        say(STATOR__WORKER__V1__FROM_WORKER__KIND_READY, &ready);
    for (unsigned n = 0;; n++) {
        Stator__Worker__V1__ToWorker *msg = hear(fds);

        if (msg->kind_case == STATOR__WORKER__V1__TO_WORKER__KIND_TERMINATE)
            return 0;
        answer(mode, n, msg->fork->worker, fds);
        stator__worker__v1__to_worker__free_unpacked(msg, NULL);
    }
}

/* ---- the tests' side ---- */

static struct st_config config;
static struct st_processor processor;
static struct st_process_runtime runtime;
static double open_before;

struct request {
    struct st_spawn spawn;
    struct st_spawn_options options;
    int control[2];
    atomic_int pid;
    bool done;
};
static struct request requests[REQUESTS];

static void set_up(const char *mode)
{
    static const char *const envp[] = {"PATH=/usr/bin:/bin", NULL};
    struct st_error err;

    memset(&processor, 0, sizeof processor);
    memset(requests, 0, sizeof requests);
    st_metrics_reset();
    config.function.name = "f";
    config.function.handler = "h";
    processor.config = &config;
    assert_int_equal(st_loop_open(&processor.main_loop, ST_LOOP_MAIN, "main", &err), ST_OK);
    runtime = (struct st_process_runtime){
        .base = {.processor = &processor, .config = &config.function, .code_dir = "/"},
        .argv = {own, mode},
        .envp = (const char **)envp,
        .uid = -1,
        .gid = -1,
        .template_argument = "template"};
    st_orphans_watch(&runtime.orphans, &processor.main_loop);
    runtime.template = st_template_new(&runtime);
}

/* Nothing is left but these orphans, which nobody was told of. */
static void tear_down_with(unsigned orphans)
{
    st_template_free(runtime.template);
    st_orphans_leave(&runtime.orphans);
    st_loop_close(&processor.main_loop);
    st_metrics_reset();
    for (; orphans > 0; orphans--)
        assert_true(waitpid(-1, NULL, 0) > 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* there are no children */
}

static void tear_down(void)
{
    tear_down_with(0);
}

static void on_done(struct st_spawn *spawn)
{
    struct request *r = ST_CONTAINER_OF(spawn, struct request, spawn);

    for (int i = 1; i < ST_WIRE_FD_END; i++)
        close(r->options.fds[i]);
    r->done = true;
}

/* A worker whose control socket is the only descriptor of any use. */
static struct request *ask(unsigned number)
{
    struct request *r = &requests[number];
    static const char *const plain[] = {own, "plain", NULL};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, r->control), 0);
    r->options = st_test_spawn_options(plain);
    for (int i = 1; i < ST_WIRE_FD_END; i++)
        r->options.fds[i] = fcntl(r->control[1], F_DUPFD_CLOEXEC, 20);
    close(r->control[1]);
    r->spawn = (struct st_spawn){.main_loop = &processor.main_loop,
                                 .loop = &processor.main_loop,
                                 .options = &r->options,
                                 .done = on_done,
                                 .pid = &r->pid,
                                 .template = runtime.template,
                                 .number = number};
    st_template_spawn(&r->spawn);
    return r;
}

static void pass_until_done(struct request *r)
{
    while (!r->done)
        st_loop_pass(&processor.main_loop);
}

/* Forked workers stay in the session of their template here. */
static pid_t template_of(const struct request *r)
{
    assert_int_equal(r->spawn.error.code, ST_OK);
    assert_int_equal(r->spawn.process.pid, atomic_load(&r->pid));
    return getsid(r->spawn.process.pid);
}

static void finish(struct request *r, const char *expected)
{
    char how[128];

    close(r->control[0]);
    if (r->spawn.error.code != ST_OK)
        return;
    assert_true(st_test_wait_ended(&r->spawn.process));
    st_process_reap(&r->spawn.process, how, sizeof how);
    assert_string_equal(how, expected);
}

static const char orphan_end[] = "exited with status 5";
static const char plain_end[] = "exited with status 4";

static bool is_there(pid_t pid)
{
    return kill(pid, 0) == 0;
}

static void test_forks(void **state)
{
    struct request *a, *b;

    (void)state;
    set_up("good");
    a = ask(0);
    b = ask(1);
    pass_until_done(a);
    pass_until_done(b);
    assert_int_equal(template_of(a), template_of(b));
    assert_int_not_equal(a->spawn.process.pid, b->spawn.process.pid);
    finish(a, orphan_end);
    finish(b, orphan_end);
    tear_down();
}

/* A process without a group of its own can be signalled too. */
static void test_signal(void **state)
{
    struct request *a;
    char how[128];

    (void)state;
    set_up("bare");
    a = ask(0);
    pass_until_done(a);
    st_process_signal(&a->spawn.process, SIGTERM);
    assert_true(st_test_wait_ended(&a->spawn.process));
    assert_int_equal(st_process_reap(&a->spawn.process, how, sizeof how), SIGTERM);
    close(a->control[0]);
    tear_down();
}

static void test_code_changed(void **state)
{
    struct request *a, *b, *c;
    pid_t old;

    (void)state;
    set_up("good");
    a = ask(0);
    b = ask(1);
    pass_until_done(a);
    old = template_of(a);
    st_process_code_changed(&runtime.base); /* b was asked of the old one */
    c = ask(2);
    pass_until_done(b);
    pass_until_done(c);
    assert_int_equal(template_of(b), old);
    assert_int_not_equal(template_of(c), old);
    while (is_there(old))
        st_loop_pass(&processor.main_loop);
    finish(a, orphan_end);
    finish(b, orphan_end);
    finish(c, orphan_end);
    tear_down();
}

/* One that imports old code still is given up at once. */
static void test_code_changed_early(void **state)
{
    struct request *a;

    (void)state;
    set_up("silent");
    a = ask(0);
    st_loop_pass(&processor.main_loop);
    st_process_code_changed(&runtime.base);
    st_template_cancel(&a->spawn);
    pass_until_done(a);
    assert_int_equal(a->spawn.error.code, ST_ERR_CLOSED);
    finish(a, "");
    tear_down();
}

static void test_cancel(void **state)
{
    struct request *a, *b;

    (void)state;
    set_up("good");
    a = ask(0);
    b = ask(1);
    st_loop_pass(&processor.main_loop);
    st_template_cancel(&b->spawn);
    pass_until_done(b);
    assert_int_equal(b->spawn.error.code, ST_ERR_CLOSED);
    pass_until_done(a);
    st_template_cancel(&a->spawn); /* too late */
    template_of(a);
    finish(a, orphan_end);
    finish(b, "");
    tear_down();
}

static void test_failed(void **state)
{
    struct request *a, *b;

    (void)state;
    set_up("fails");
    a = ask(0);
    b = ask(1);
    pass_until_done(a);
    pass_until_done(b);
    assert_string_equal(a->spawn.error.text, "handler.c:1: it is wrong");
    assert_string_equal(b->spawn.error.text, "handler.c:1: it is wrong");
    finish(a, "");
    finish(b, "");
    tear_down();
}

static void test_temporary(void **state)
{
    struct request *a, *b;

    (void)state;
    set_up("temporary");
    a = ask(0);
    b = ask(1);
    pass_until_done(a);
    pass_until_done(b);
    assert_string_equal(a->spawn.error.text, "not now");
    template_of(b);
    finish(a, "");
    finish(b, orphan_end);
    tear_down();
}

/* Templates that refuse, end or lie: workers start without one, each on its own. */
static void test_without(void **state)
{
    static const struct {
        const char *mode;
        unsigned orphans;
    } cases[] = {{"never", 0}, {"dies", 0}, {"lies", 3}};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(cases); i++) {
        struct request *a, *b;

        set_up(cases[i].mode);
        a = ask(0);
        b = ask(1);
        pass_until_done(a);
        pass_until_done(b);
        assert_int_equal(template_of(a), a->spawn.process.pid);
        assert_int_equal(template_of(b), b->spawn.process.pid);
        finish(a, plain_end);
        finish(b, plain_end);
        tear_down_with(cases[i].orphans);
    }
}

/* It gives its own process as a worker: that is not believed, the next one forks. */
static void test_own_process(void **state)
{
    struct request *a, *b;

    (void)state;
    set_up("twice");
    a = ask(0);
    b = ask(1);
    pass_until_done(a);
    pass_until_done(b);
    assert_int_not_equal(template_of(a), template_of(b));
    finish(a, orphan_end);
    finish(b, orphan_end);
    tear_down();
}

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
    return 0;
}

static int be_plain(void)
{
    char byte;

    while (read(ST_WIRE_FD_CONTROL, &byte, 1) > 0)
        ;
    return 4;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forks),        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_code_changed), cmocka_unit_test(test_code_changed_early),
        cmocka_unit_test(test_cancel),       cmocka_unit_test(test_failed),
        cmocka_unit_test(test_temporary),    cmocka_unit_test(test_without),
        cmocka_unit_test(test_own_process),
    };

    if (argc == 3)
        _exit(be_template(argv[1]));
    if (argc == 2)
        _exit(be_plain());
    if (realpath(argv[0], own) == NULL)
        return 1;
    return cmocka_run_group_tests(tests, before, after);
}
