/* Life of one: in use; failed, until its successor is made after a delay; retired, until no sender
 * has it and its reports are in; ending, on a thread, because librdkafka's end waits for its own
 * threads. */
#include "triggers/kafka/kafka_producer.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "triggers/kafka/kafka_oauth.h"

#define DELAY_MIN_NS ST_SEC
#define DELAY_MAX_NS (60 * ST_SEC)
#define SWEEP_NS (100 * ST_MSEC)
enum { WHY_MAX = 512 };

static void purge(struct st_kafka_producer *p)
{
    rd_kafka_purge(p->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT |
                              RD_KAFKA_PURGE_F_NON_BLOCKING);
}

/* ---- one producer ---- */

static void on_queue(evutil_socket_t fd, short what, void *arg)
{
    struct st_kafka_producer *p = arg;
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof count) < 0)
        ST_ASSERT(errno == EAGAIN);
    if (p->all->poll(p))
        event_active(&p->event, EV_READ, 0);
}

static void on_token_wanted(rd_kafka_t *rk, const char *config ST_UNUSED, void *opaque)
{
    struct st_kafka_producer *p = opaque;

    st_kafka_oauth_refresh(p->oauth, rk);
}

/* Nobody polls it any more. Home loop, or no loop runs; again is allowed. */
static void quiet(struct st_kafka_producer *p)
{
    st_kafka_oauth_close(p->oauth);
    p->oauth = NULL;
    if (!p->watched)
        return;
    p->watched = false;
    rd_kafka_queue_io_event_enable(p->queue, -1, NULL, 0);
    event_del(&p->event);
}

/* What is ours of it. */
static void let_go(struct st_kafka_producer *p)
{
    quiet(p);
    if (p->queue != NULL)
        rd_kafka_queue_destroy(p->queue);
    p->queue = NULL;
    if (p->topic != NULL)
        rd_kafka_topic_destroy(p->topic);
    p->topic = NULL;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

static void producer_free(struct st_kafka_producer *p)
{
    if (p->ending) {
        pthread_join(p->thread, NULL);
    } else {
        let_go(p);
        if (p->rk != NULL) {
            purge(p);
            rd_kafka_destroy(p->rk);
        }
    }
    free(p);
}

static int make_client(struct st_kafka_producer *p, struct st_error *err)
{
    struct st_kafka_producers *all = p->all;
    rd_kafka_conf_t *conf = rd_kafka_conf_dup(all->conf);
    char why[WHY_MAX];

    rd_kafka_conf_set_opaque(conf, p);
    rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, on_token_wanted);
    p->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (p->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        return st_error_set(err, ST_ERR_INVALID, "librdkafka: %s", why);
    }
    st_kafka_client_started(p->rk);
    if (all->topic[0] == '\0')
        return ST_OK;
    p->topic = rd_kafka_topic_new(p->rk, all->topic, NULL);
    if (p->topic != NULL)
        return ST_OK;
    return st_error_set(err, ST_ERR_INVALID, "librdkafka: %s",
                        rd_kafka_err2str(rd_kafka_last_error()));
}

/* So that the home loop polls it. */
static int watch(struct st_kafka_producer *p, struct st_error *err)
{
    static const uint64_t one = 1;

    p->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (p->fd < 0)
        return st_error_sys(err, errno, "eventfd");
    event_assign(&p->event, p->all->home->base, p->fd, EV_READ | EV_PERSIST, on_queue, p);
    ST_ASSERT(event_add(&p->event, NULL) == 0);
    p->queue = rd_kafka_queue_get_main(p->rk);
    rd_kafka_queue_io_event_enable(p->queue, p->fd, &one, sizeof one);
    event_active(&p->event, EV_READ, 0); /* what came before */
    p->watched = true;
    return ST_OK;
}

static void on_sweep(struct st_timer *t);

static struct st_kafka_producer *producer_new(struct st_kafka_producers *all, struct st_error *err)
{
    struct st_kafka_producer *p = st_calloc(1, sizeof *p);

    p->all = all;
    p->fd = -1;
    st_timer_init(&p->sweep, on_sweep);
    if (make_client(p, err) == ST_OK && watch(p, err) == ST_OK &&
        st_kafka_oauth_open(&p->oauth, all->home, all->client, all->name, err) == ST_OK)
        return p;
    producer_free(p);
    return NULL;
}

/* ---- the end of one that failed ---- */

static void *end(void *arg)
{
    struct st_kafka_producer *p = arg;

    rd_kafka_destroy(p->rk);
    atomic_store_explicit(&p->ended, true, memory_order_release);
    return NULL;
}

/* A sender that has just left may have left a message behind: reports are all in only when they are
 * with nobody using it. */
static bool is_done(struct st_kafka_producer *p)
{
    return atomic_load_explicit(&p->users, memory_order_acquire) == 0 &&
           rd_kafka_outq_len(p->rk) == 0;
}

static void on_sweep(struct st_timer *t)
{
    struct st_kafka_producer *p = ST_CONTAINER_OF(t, struct st_kafka_producer, sweep);

    if (p->ending && atomic_load_explicit(&p->ended, memory_order_acquire)) {
        LIST_REMOVE(p, link);
        producer_free(p);
        return;
    }
    if (!p->ending && is_done(p)) {
        let_go(p);
        p->ending = pthread_create(&p->thread, NULL, end, p) == 0;
    } else if (!p->ending) {
        purge(p);
    }
    st_loop_timer_arm(p->all->home, &p->sweep, SWEEP_NS);
}

/* ---- its successor ---- */

/* How long to wait for the next one: longer and longer while none of them lasts. */
static uint64_t next_delay(struct st_kafka_producers *all)
{
    uint64_t now = st_loop_now(all->home), delay = 2 * all->delay_ns;

    if (all->delay_ns == 0 || now - all->tried_ns > DELAY_MAX_NS)
        delay = DELAY_MIN_NS;
    all->delay_ns = delay < DELAY_MAX_NS ? delay : DELAY_MAX_NS;
    return all->delay_ns / 2 + st_rand_below(&all->home->rand, all->delay_ns / 2);
}

static void renew_later(struct st_kafka_producers *all, const char *message, const char *reason)
{
    uint64_t delay = next_delay(all);

    ST_LOG(ST_LOG_ERROR, "kafka", message, ST_KV_STR("output", all->name),
           ST_KV_STR("reason", reason), ST_KV_DOUBLE("seconds", (double)delay / (double)ST_SEC));
    st_loop_timer_arm(all->home, &all->renewal, delay);
}

static void on_renewal(struct st_timer *t)
{
    struct st_kafka_producers *all = ST_CONTAINER_OF(t, struct st_kafka_producers, renewal);
    struct st_kafka_producer *old = all->current, *p;
    struct st_error err = {.code = ST_OK};

    all->tried_ns = st_loop_now(all->home);
    p = producer_new(all, &err);
    if (p == NULL) {
        renew_later(all, "No other producer could be made; tried again", err.text);
        return;
    }
    pthread_mutex_lock(&all->lock);
    all->current = p;
    pthread_mutex_unlock(&all->lock);
    LIST_INSERT_HEAD(&all->retired, old, link);
    all->renewed(p);
    purge(old); /* what is in flight had this long */
    st_loop_timer_arm(all->home, &old->sweep, SWEEP_NS);
    ST_LOG(ST_LOG_INFO, "kafka", "Another producer took the place of one that failed",
           ST_KV_STR("output", all->name));
}

void st_kafka_producer_failed(struct st_kafka_producer *p, const char *reason)
{
    if (p->failed)
        return;
    p->failed = true;
    renew_later(p->all, "The producer can't go on; another one will take its place", reason);
}

/* ---- all of them ---- */

void st_kafka_producers_init(struct st_kafka_producers *all)
{
    pthread_mutex_init(&all->lock, NULL);
    LIST_INIT(&all->retired);
    st_timer_init(&all->renewal, on_renewal);
}

int st_kafka_producers_open(struct st_kafka_producers *all, struct st_loop *home,
                            struct st_error *err)
{
    struct st_kafka_producer *p;

    all->home = home;
    all->tried_ns = st_loop_now(home);
    p = producer_new(all, err);
    pthread_mutex_lock(&all->lock);
    all->current = p;
    pthread_mutex_unlock(&all->lock);
    return p != NULL ? ST_OK : err->code;
}

struct st_kafka_producer *st_kafka_producers_take(struct st_kafka_producers *all)
{
    struct st_kafka_producer *p;

    pthread_mutex_lock(&all->lock);
    p = all->current;
    st_kafka_producer_ref(p);
    pthread_mutex_unlock(&all->lock);
    return p;
}

int st_kafka_producers_waiting(struct st_kafka_producers *all)
{
    int count = 0;

    pthread_mutex_lock(&all->lock); /* it is not freed while it is the current one */
    if (all->current != NULL)       /* what lies in the queue counts too, log lines among it */
        count =
            rd_kafka_outq_len(all->current->rk) - (int)rd_kafka_queue_length(all->current->queue);
    pthread_mutex_unlock(&all->lock);
    return count;
}

void st_kafka_producers_close(struct st_kafka_producers *all)
{
    struct st_kafka_producer *p;

    if (all->current == NULL)
        return;
    st_loop_timer_cancel(all->home, &all->renewal);
    quiet(all->current);
    LIST_FOREACH (p, &all->retired, link) {
        st_loop_timer_cancel(all->home, &p->sweep);
        quiet(p);
    }
}

void st_kafka_producers_free(struct st_kafka_producers *all)
{
    struct st_kafka_producer *p;

    st_kafka_producers_close(all);
    while ((p = LIST_FIRST(&all->retired)) != NULL) {
        LIST_REMOVE(p, link);
        producer_free(p);
    }
    if (all->current != NULL)
        producer_free(all->current);
    if (all->conf != NULL)
        rd_kafka_conf_destroy(all->conf);
    pthread_mutex_destroy(&all->lock);
}
