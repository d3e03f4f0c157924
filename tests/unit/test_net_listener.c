#include "tests/unit/test_core.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "processor/net/http_msg.h"
#include "processor/net/listener.h"
#include "tests/support/net_rig.h"

enum { MAX_CLIENTS = 400 };

static struct net_rig rig;
static struct st_listener listener;
static struct st_error err;
static int accepted[MAX_CLIENTS], clients[MAX_CLIENTS];
static struct st_peer peers[MAX_CLIENTS];
static unsigned accept_count, client_count, stop_after;
static char dir[64], path[128], address[256];

static int set_up(void **state)
{
    (void)state;
    net_rig_open(&rig);
    accept_count = client_count = stop_after = 0;
    strcpy(dir, "/tmp/listener.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/socket", dir);
    snprintf(address, sizeof address, "unix:%s", path);
    listener.fd = -1;
    err.text[0] = '\0';
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < accept_count; i++)
        close(accepted[i]);
    for (unsigned i = 0; i < client_count; i++)
        close(clients[i]);
    st_listener_close(&listener);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
    net_rig_close(&rig);
    return 0;
}

static void on_accept(struct st_listener *l, int fd, const struct st_peer *peer)
{
    assert_ptr_equal(l->arg, &rig);
    assert_true(accept_count < MAX_CLIENTS);
    peers[accept_count] = *peer;
    accepted[accept_count++] = fd;
    if (accept_count == stop_after)
        st_listener_pause(l, ST_PAUSE_FULL);
}

static int must_listen(const char *where, bool is_first)
{
    int fd = st_listen(where, is_first, &err);

    if (fd < 0)
        fail_msg("%s", err.text);
    return fd;
}

static void open_listener(const char *where)
{
    st_listener_open(&listener, net_rig_net(&rig), must_listen(where, true), on_accept, &rig);
}

static int connect_to(const struct sockaddr *addr, socklen_t n)
{
    int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, addr, n) != 0) {
        close(fd);
        return -1;
    }
    if (fd >= 0)
        clients[client_count++] = fd;
    return fd;
}

static int connect_v4(uint16_t port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};

    return connect_to((struct sockaddr *)&addr, sizeof addr);
}

static int connect_v6(uint16_t port)
{
    struct sockaddr_in6 addr = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    return connect_to((struct sockaddr *)&addr, sizeof addr);
}

static int connect_unix(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    strcpy(addr.sun_path, path);
    return connect_to((struct sockaddr *)&addr, sizeof addr);
}

static uint16_t port_of_client(int fd)
{
    return st_listen_port(fd); /* the bound port of any socket */
}

/* ---- Addresses ---- */

static void test_bad_addresses(void **state)
{
    static const char *const bad[] = {
        "",          "8080",       ":",
        "localhost", "localhost:", ":80a",
        ":-1",       ":65536",     ":99999999999999999999",
        "::1:80",    "a:b:80",     ": 80",
        ":+80",      "[::1]",      "[::1:80",
        "::1]:80",   ":0x50",      ":80 ",
        "[::1]80",   "tcp://:80",  "1.2.3.4.5:80",
        "[::g]:80",  "unix:",
    };

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(bad); i++) {
        int fd = st_listen(bad[i], true, &err);

        if (fd >= 0)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_int_equal(fd, ST_ERR_INVALID);
        if (strstr(err.text, bad[i]) == NULL)
            fail_msg("\"%s\": %s", bad[i], err.text);
    }
}

static void test_long_names(void **state)
{
    char text[512];

    (void)state;
    memset(text, 'a', sizeof text);
    memcpy(text + 300, ":80", 4);
    assert_int_equal(st_listen(text, true, &err), ST_ERR_INVALID);
    memset(text, 'a', sizeof text);
    memcpy(text, "unix:/", 6);
    text[5 + sizeof(((struct sockaddr_un *)NULL)->sun_path)] = '\0';
    assert_int_equal(st_listen(text, true, &err), ST_ERR_INVALID);
    assert_non_null(strstr(err.text, "1 to 107 bytes"));
}

static void test_not_our_address(void **state)
{
    (void)state;
    assert_int_equal(st_listen("192.0.2.1:0", true, &err), ST_ERR_SYSTEM);
    assert_int_equal(err.sys_errno, EADDRNOTAVAIL);
    assert_non_null(strstr(err.text, "192.0.2.1:0"));
}

static void test_tcp_v4_only(void **state)
{
    int fd, one = 0, flags;
    socklen_t n = sizeof one;
    uint16_t port;

    (void)state;
    open_listener("127.0.0.1:0");
    port = st_listen_port(listener.fd);
    assert_true(port != 0);
    fd = connect_v4(port);
    assert_true(fd >= 0);
    assert_true(connect_v6(port) < 0);
    NET_RIG_UNTIL(&rig, accept_count > 0);
    assert_int_equal(accept_count, 1);
    assert_string_equal(peers[0].address, "127.0.0.1");
    assert_int_equal(peers[0].port, port_of_client(fd));
    flags = fcntl(accepted[0], F_GETFL);
    assert_true((flags & O_NONBLOCK) != 0);
    assert_true((fcntl(accepted[0], F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(getsockopt(accepted[0], IPPROTO_TCP, TCP_NODELAY, &one, &n), 0);
    assert_true(one != 0);
}

/* Without a host: both families on one socket, IPv4 peers in their own form. */
static void test_tcp_any(void **state)
{
    static const char *const any[] = {":0", "[::]:0"};
    bool v6 = false;

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(any); i++) {
        unsigned before = accept_count;
        uint16_t port;

        open_listener(any[i]);
        port = st_listen_port(listener.fd);
        assert_true(connect_v4(port) >= 0);
        NET_RIG_UNTIL(&rig, accept_count > before);
        assert_int_equal(accept_count, before + 1);
        assert_string_equal(peers[before].address, "127.0.0.1");
        v6 = connect_v6(port) >= 0;
        NET_RIG_UNTIL(&rig, !v6 || accept_count > before + 1);
        if (v6)
            assert_string_equal(peers[before + 1].address, "::1");
        st_listener_close(&listener);
        assert_true(connect_v4(port) < 0);
    }
    if (v6) {
        open_listener("[::1]:0");
        assert_true(connect_v4(st_listen_port(listener.fd)) < 0);
        assert_true(connect_v6(st_listen_port(listener.fd)) >= 0);
    }
}

/* The loops share a port; a second process, which would also set SO_REUSEPORT, is told. */
static void test_port_in_use(void **state)
{
    static const char *const hosts[] = {"127.0.0.1", ""};

    (void)state;
    for (size_t i = 0; i < ST_ARRAY_LEN(hosts); i++) {
        int first, second;

        snprintf(address, sizeof address, "%s:0", hosts[i]);
        first = must_listen(address, true);
        snprintf(address, sizeof address, "%s:%u", hosts[i], st_listen_port(first));
        assert_int_equal(st_listen(address, true, &err), ST_ERR_SYSTEM);
        assert_int_equal(err.sys_errno, EADDRINUSE);
        assert_non_null(strstr(err.text, address));
        assert_non_null(strstr(err.text, "ss -ltnp"));
        second = must_listen(address, false);
        assert_int_equal(st_listen_port(second), st_listen_port(first));
        close(first);
        close(second);
        first = must_listen(address, true); /* free again at once */
        close(first);
    }
}

/* ---- Unix sockets ---- */

static void test_unix(void **state)
{
    (void)state;
    open_listener(address);
    assert_int_equal(st_listen_port(listener.fd), 0);
    assert_true(listener.is_unix);
    assert_true(connect_unix() >= 0);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 1);
    assert_string_equal(peers[0].address, "");
    assert_int_equal(peers[0].port, 0);
    assert_true((fcntl(accepted[0], F_GETFL) & O_NONBLOCK) != 0);
}

static void test_unix_in_use(void **state)
{
    (void)state;
    open_listener(address);
    assert_int_equal(st_listen(address, true, &err), ST_ERR_SYSTEM);
    assert_int_equal(err.sys_errno, EADDRINUSE);
    assert_non_null(strstr(err.text, path));
    assert_true(connect_unix() >= 0); /* the first one is as it was */
    net_rig_pass(&rig);
    assert_true(accept_count >= 1);
}

static void test_unix_stale(void **state)
{
    (void)state;
    close(must_listen(address, true)); /* the file stays */
    assert_int_equal(access(path, F_OK), 0);
    open_listener(address);
    assert_true(connect_unix() >= 0);
}

/* Whoever listens there has no time to accept: that is no stale socket, and no reason to wait. */
static void test_unix_in_use_and_busy(void **state)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), other;

    (void)state;
    strcpy(addr.sun_path, path);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(fd, 0), 0);
    while ((other = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) >= 0 &&
           connect(other, (struct sockaddr *)&addr, sizeof addr) == 0)
        clients[client_count++] = other;
    close(other);
    alarm(20);
    assert_int_equal(st_listen(address, true, &err), ST_ERR_SYSTEM);
    alarm(0);
    assert_int_equal(err.sys_errno, EADDRINUSE);
    assert_int_equal(access(path, F_OK), 0);
    close(fd);
}

/* A file that is no socket is somebody's data. */
static void test_unix_other_file(void **state)
{
    struct stat st;
    FILE *f = fopen(path, "w");

    (void)state;
    assert_non_null(f);
    fputs("precious", f);
    fclose(f);
    assert_int_equal(st_listen(address, true, &err), ST_ERR_SYSTEM);
    assert_int_equal(err.sys_errno, EADDRINUSE);
    assert_int_equal(stat(path, &st), 0);
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_size, 8);
}

static void test_unix_no_folder(void **state)
{
    (void)state;
    snprintf(address, sizeof address, "unix:%s/none/socket", dir);
    assert_int_equal(st_listen(address, true, &err), ST_ERR_SYSTEM);
    assert_int_equal(err.sys_errno, ENOENT);
}

/* ---- Accepting ---- */

static void test_pause_and_resume(void **state)
{
    (void)state;
    open_listener(address);
    stop_after = 2;
    for (int i = 0; i < 5; i++)
        assert_true(connect_unix() >= 0);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 2); /* it stops in the middle of a batch */
    net_rig_pass(&rig);
    st_listener_fd_freed(&listener); /* not starved: still paused */
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 2);
    st_listener_resume(&listener, ST_PAUSE_FULL);
    st_listener_resume(&listener, ST_PAUSE_FULL);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 5);
    st_listener_pause(&listener, ST_PAUSE_FULL);
    st_listener_pause(&listener, ST_PAUSE_FULL);
    assert_true(connect_unix() >= 0);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 5);
    st_listener_resume(&listener, ST_PAUSE_OWNER); /* not its reason */
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 5);
}

/* The owner's pause outlasts others: connections that close, descriptors that become free. */
static void test_paused_for_two_reasons(void **state)
{
    (void)state;
    open_listener(address);
    stop_after = 1;
    for (int i = 0; i < 3; i++)
        assert_true(connect_unix() >= 0);
    net_rig_pass(&rig);
    st_listener_pause(&listener, ST_PAUSE_OWNER);
    st_listener_fd_freed(&listener);
    st_listener_resume(&listener, ST_PAUSE_FULL);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 1);
    st_listener_pause(&listener, ST_PAUSE_FULL);
    st_listener_resume(&listener, ST_PAUSE_OWNER);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 1);
    st_listener_resume(&listener, ST_PAUSE_FULL);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 3);
}

static void test_many_clients(void **state)
{
    struct rlimit limit;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < 2 * 300 + 100)
        skip();
    open_listener(address);
    for (int i = 0; i < 300; i++)
        assert_true(connect_unix() >= 0);
    net_rig_pass(&rig);
    assert_true(accept_count >= 1 && accept_count < 300); /* others have their turn, too */
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 300);
}

/* Drain: everybody who has connected is served, even where accepting was paused. */
static void test_drain(void **state)
{
    (void)state;
    open_listener(address);
    for (int i = 0; i < 5; i++)
        assert_true(connect_unix() >= 0);
    st_listener_pause(&listener, ST_PAUSE_OWNER);
    st_listener_drain(&listener);
    assert_int_equal(accept_count, 5);
    assert_int_equal(listener.fd, -1);
    assert_true(connect_unix() < 0);
    st_listener_resume(&listener, ST_PAUSE_OWNER); /* harmless */
    st_listener_close(&listener);
    net_rig_pass(&rig);
}

/* ---- Out of descriptors ---- */

static int fillers[4096];
static unsigned filler_count;
static struct rlimit old_limit;

static void use_up_descriptors(void)
{
    struct rlimit few;
    int fd;

    filler_count = 0;
    getrlimit(RLIMIT_NOFILE, &old_limit);
    few = old_limit;
    few.rlim_cur = 200;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    while ((fd = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
        fillers[filler_count++] = fd;
    assert_int_equal(errno, EMFILE);
}

static void free_descriptors(unsigned n)
{
    while (n-- > 0)
        close(fillers[--filler_count]);
}

static void restore_descriptors(void)
{
    free_descriptors(filler_count);
    setrlimit(RLIMIT_NOFILE, &old_limit);
}

static void assert_refused(int fd)
{
    char text[512];
    ssize_t n = recv(fd, text, sizeof text - 1, MSG_DONTWAIT), rest;

    if (n < 0)
        fail_msg("no reply: %s", strerror(errno));
    text[n] = '\0';
    assert_memory_equal(text, "HTTP/1.1 503 ", 13);
    assert_non_null(strstr(text, "\r\nConnection: close\r\n"));
    assert_string_equal(text + n - 4, "\r\n\r\n");
    rest = recv(fd, text, sizeof text, MSG_DONTWAIT);
    assert_int_equal(rest, 0);
}

static bool is_waiting(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void test_out_of_descriptors(void **state)
{
    (void)state;
    open_listener(address);
    for (int i = 0; i < 4; i++)
        assert_true(connect_unix() >= 0);
    use_up_descriptors();
    net_rig_pass(&rig);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 0);
    assert_int_equal(listener.paused, ST_PAUSE_STARVED);
    assert_refused(clients[0]); /* one is told, the others wait */
    for (int i = 1; i < 4; i++)
        assert_true(is_waiting(clients[i]));
    free_descriptors(1);
    st_listener_fd_freed(&listener);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 1); /* the next one */
    assert_int_equal(listener.paused, ST_PAUSE_STARVED);
    assert_refused(clients[2]);
    assert_true(is_waiting(clients[3]));
    restore_descriptors();
    st_listener_fd_freed(&listener);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 2);
    assert_int_equal(listener.paused, 0);
    assert_true(net_rig_net(&rig)->spare_fd >= 0);
}

/* Descriptors become free elsewhere, on another loop for instance: nobody tells this listener. */
static void test_out_of_descriptors_nobody_tells(void **state)
{
    (void)state;
    open_listener(address);
    for (int i = 0; i < 2; i++)
        assert_true(connect_unix() >= 0);
    use_up_descriptors();
    net_rig_pass(&rig);
    assert_refused(clients[0]);
    restore_descriptors();
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 0);
    net_rig_advance(&rig, 1000);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 1);
    assert_int_equal(listener.paused, 0);
}

/* Somebody else took the descriptor that the spare one had. */
static void test_spare_descriptor_lost(void **state)
{
    struct st_net *net = net_rig_net(&rig);

    (void)state;
    open_listener(address);
    assert_true(connect_unix() >= 0);
    close(net->spare_fd);
    net->spare_fd = -1;
    use_up_descriptors();
    net_rig_pass(&rig);
    assert_int_equal(listener.paused, ST_PAUSE_STARVED);
    assert_true(is_waiting(clients[0]));
    restore_descriptors();
    st_listener_fd_freed(&listener);
    assert_true(net->spare_fd >= 0);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 1);
}

/* Paused for another reason meanwhile: a free descriptor doesn't end that. */
static void test_paused_while_starved(void **state)
{
    (void)state;
    open_listener(address);
    for (int i = 0; i < 2; i++)
        assert_true(connect_unix() >= 0);
    use_up_descriptors();
    net_rig_pass(&rig);
    st_listener_pause(&listener, ST_PAUSE_OWNER);
    restore_descriptors();
    st_listener_fd_freed(&listener);
    net_rig_advance(&rig, 5000);
    assert_int_equal(accept_count, 0);
    st_listener_resume(&listener, ST_PAUSE_OWNER);
    net_rig_pass(&rig);
    assert_int_equal(accept_count, 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_bad_addresses),
        TEST(test_long_names),
        TEST(test_not_our_address),
        TEST(test_tcp_v4_only),
        TEST(test_tcp_any),
        TEST(test_port_in_use),
        TEST(test_unix),
        TEST(test_unix_in_use),
        TEST(test_unix_stale),
        TEST(test_unix_in_use_and_busy),
        TEST(test_unix_other_file),
        TEST(test_unix_no_folder),
        TEST(test_pause_and_resume),
        TEST(test_paused_for_two_reasons),
        TEST(test_many_clients),
        TEST(test_drain),
        TEST(test_out_of_descriptors),
        TEST(test_out_of_descriptors_nobody_tells),
        TEST(test_spare_descriptor_lost),
        TEST(test_paused_while_starved),
    };

    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
