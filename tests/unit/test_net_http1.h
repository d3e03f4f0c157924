/* What the tests of HTTP/1 share: a rig that is open during each test. */
#ifndef TESTS_UNIT_TEST_NET_HTTP1_H
#define TESTS_UNIT_TEST_NET_HTTP1_H

#include "tests/unit/test_core.h"

#include "tests/support/http1_rig.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK_REPLY "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define OK_CLOSE "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"

static struct h1_rig rig;

static inline int set_up(void **state)
{
    (void)state;
    h1_open(&rig);
    return 0;
}

/* Requests are kept until the test answers them. */
static inline int set_up_keeping(void **state)
{
    set_up(state);
    rig.on_request = h1_keep;
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    h1_close(&rig);
    return 0;
}

static inline void assert_replies(const char *want)
{
    h1_run(&rig);
    h1_receive(&rig);
    assert_string_equal(h1_replies(&rig, NULL), want);
}

#endif
