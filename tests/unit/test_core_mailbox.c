#include "tests/unit/test_core.h"

#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>

#include "processor/core/err.h"
#include "processor/core/mailbox.h"

struct letter {
    struct st_mail mail;
    unsigned from, number;
};

static void deliver(struct st_loop *loop, struct st_mail *mail)
{
    (void)loop;
    (void)mail;
}

/* Times that the eventfd was written since the last call. */
static uint64_t signals(struct st_mailbox *m)
{
    uint64_t count;

    if (read(m->fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
        return count;
    assert_int_equal(errno, EAGAIN);
    return 0;
}

static unsigned take_numbers(struct st_mailbox *m, unsigned *out, unsigned max)
{
    struct st_mail_list list;
    struct st_mail *mail;
    unsigned n = 0;

    st_mailbox_take(m, &list);
    STAILQ_FOREACH (mail, &list, link) {
        assert_true(n < max);
        assert_ptr_equal(mail->deliver, deliver);
        out[n++] = ST_CONTAINER_OF(mail, struct letter, mail)->number;
    }
    return n;
}

static void test_order_and_signals(void **state)
{
    struct letter letters[6] = {{.number = 0}};
    struct st_mail_list list = STAILQ_HEAD_INITIALIZER(list);
    struct st_mailbox m;
    unsigned got[8];

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        letters[i].number = i;
        letters[i].mail.deliver = deliver;
    }
    assert_int_equal(st_mailbox_open(&m), ST_OK);
    assert_int_equal(take_numbers(&m, got, 8), 0);
    st_mailbox_post_list(&m, &list); /* empty: no mail, no signal */
    assert_int_equal(signals(&m), 0);

    st_mailbox_post(&m, &letters[0].mail, deliver);
    st_mailbox_post(&m, &letters[1].mail, deliver);
    for (unsigned i = 2; i < 5; i++)
        STAILQ_INSERT_TAIL(&list, &letters[i].mail, link);
    st_mailbox_post_list(&m, &list);
    assert_true(STAILQ_EMPTY(&list));
    st_mailbox_post(&m, &letters[5].mail, deliver);
    assert_int_equal(signals(&m), 1);
    assert_int_equal(take_numbers(&m, got, 8), 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(got[i], i);

    /* Empty again: the next one signals, and a mail may be posted again. */
    assert_int_equal(take_numbers(&m, got, 8), 0);
    for (unsigned i = 3; i < 5; i++)
        STAILQ_INSERT_TAIL(&list, &letters[i].mail, link);
    st_mailbox_post_list(&m, &list);
    assert_int_equal(signals(&m), 1);
    assert_int_equal(take_numbers(&m, got, 8), 2);
    assert_int_equal(got[0], 3);
    st_mailbox_close(&m);
}

/* ---- threads ---- */

enum { POSTERS = 4, LETTERS = 20000, ROUND_TRIPS = 2000 };

static struct st_mailbox box;
static struct letter letters[POSTERS][LETTERS];

static void *poster(void *arg)
{
    struct letter *mine = arg;
    struct st_mail_list list = STAILQ_HEAD_INITIALIZER(list);

    for (unsigned i = 0; i < LETTERS; i++) {
        if (i % 16 != 0) {
            st_mailbox_post(&box, &mine[i].mail, deliver);
            continue;
        }
        mine[i].mail.deliver = deliver;
        STAILQ_INSERT_TAIL(&list, &mine[i].mail, link);
        st_mailbox_post_list(&box, &list);
    }
    return NULL;
}

static int watch(struct st_mailbox *m)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLET};
    int ep = epoll_create1(EPOLL_CLOEXEC);

    assert_true(ep >= 0);
    assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, m->fd, &ev), 0);
    return ep;
}

static unsigned wait_and_take(int ep, struct st_mailbox *m, struct st_mail_list *list)
{
    struct epoll_event ev;
    struct st_mail *mail;
    unsigned n = 0;

    assert_int_equal(epoll_wait(ep, &ev, 1, 10000), 1); /* else a wake-up was lost */
    st_mailbox_take(m, list);
    STAILQ_FOREACH (mail, list, link)
        n++;
    return n;
}

static void test_many_posters(void **state)
{
    unsigned next[POSTERS] = {0}, left = POSTERS * LETTERS;
    pthread_t threads[POSTERS];
    struct st_mail_list list;
    struct st_mail *mail;
    int ep;

    (void)state;
    assert_int_equal(st_mailbox_open(&box), ST_OK);
    ep = watch(&box);
    for (unsigned p = 0; p < POSTERS; p++) {
        for (unsigned i = 0; i < LETTERS; i++) {
            letters[p][i].from = p;
            letters[p][i].number = i;
        }
        assert_int_equal(pthread_create(&threads[p], NULL, poster, letters[p]), 0);
    }
    while (left > 0) {
        left -= wait_and_take(ep, &box, &list);
        STAILQ_FOREACH (mail, &list, link) {
            struct letter *l = ST_CONTAINER_OF(mail, struct letter, mail);

            assert_int_equal(l->number, next[l->from]);
            next[l->from]++;
        }
    }
    for (unsigned p = 0; p < POSTERS; p++) {
        assert_int_equal(next[p], LETTERS);
        pthread_join(threads[p], NULL);
    }
    close(ep);
    st_mailbox_close(&box);
}

static struct st_mailbox there, back;

static void *echo(void *arg)
{
    int ep = watch(&there);

    (void)arg;
    for (unsigned left = ROUND_TRIPS; left > 0;) {
        struct st_mail_list list;

        left -= wait_and_take(ep, &there, &list);
        st_mailbox_post_list(&back, &list);
    }
    close(ep);
    return NULL;
}

/* One mail at a time: every post meets an empty mailbox and must wake a sleeper. */
static void test_ping_pong(void **state)
{
    struct letter l = {.number = 0};
    pthread_t thread;
    int ep;

    (void)state;
    assert_int_equal(st_mailbox_open(&there), ST_OK);
    assert_int_equal(st_mailbox_open(&back), ST_OK);
    ep = watch(&back);
    assert_int_equal(pthread_create(&thread, NULL, echo, NULL), 0);
    for (unsigned i = 0; i < ROUND_TRIPS; i++) {
        struct st_mail_list list;

        st_mailbox_post(&there, &l.mail, deliver);
        while (wait_and_take(ep, &back, &list) == 0)
            ;
        assert_ptr_equal(STAILQ_FIRST(&list), &l.mail);
    }
    pthread_join(thread, NULL);
    close(ep);
    st_mailbox_close(&there);
    st_mailbox_close(&back);
}

static void post_after_close(void)
{
    struct letter l = {.number = 0};
    struct st_mailbox m;

    if (st_mailbox_open(&m) != ST_OK)
        return;
    st_mailbox_close(&m);
    st_mailbox_post(&m, &l.mail, deliver);
}

static void test_post_after_close(void **state)
{
    (void)state;
    assert_panics(post_after_close, "!m->closed");
}

static void test_no_descriptors(void **state)
{
    struct rlimit old, none;
    struct st_mailbox m;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    none = (struct rlimit){0, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(st_mailbox_open(&m), ST_ERR_SYSTEM);
    assert_int_equal(errno, EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_signals), cmocka_unit_test(test_many_posters),
        cmocka_unit_test(test_ping_pong),         cmocka_unit_test(test_post_after_close),
        cmocka_unit_test(test_no_descriptors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
