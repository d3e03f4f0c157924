/* librdkafka's consumer on a loop. Each partition has a queue of its own, besides that of the
 * group; when the eventfd says that one of them has something, they are served by callbacks, a
 * whole queue for one lock, in turns. A callback ends its turn by rd_kafka_yield.
 *
 * Back-pressure: nothing is taken while workers are busy and more waits in lanes than they can
 * have; what is taken early only leaves the CPU's caches. The queue of a partition whose window is
 * full is left alone until that has moved: the others go on, the group is heard, and librdkafka
 * fetches no more of it than `prefetch`. */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "triggers/kafka/kafka_int.h"

#define TICK_NS (250 * ST_MSEC)
#define TURN_NS (2 * ST_MSEC)
enum { POLL_MOST = 1024, QUANTUM = 256, CLOCK_EVERY = 32 };

/* ---- windows ---- */

static bool is_over(const struct kafka_partition *p, unsigned eighths)
{
    const struct kafka_attributes *a = kafka_attributes_of(p->kt);

    return (uint64_t)st_watermark_open(&p->wm) * 8 > (uint64_t)a->window * eighths ||
           p->lanes->bytes / 8 > a->window_bytes / 64 * eighths;
}

static bool is_full(const struct kafka_partition *p)
{
    const struct kafka_attributes *a = kafka_attributes_of(p->kt);

    return st_watermark_open(&p->wm) >= (uint64_t)a->window || p->lanes->bytes >= a->window_bytes;
}

void kafka_window_moved(struct kafka_partition *p)
{
    if (st_likely(!p->full) || is_over(p, 7))
        return;
    p->full = false;
    p->kt->yielded = true; /* something may be waiting */
    kafka_pump_later(p->kt);
}

/* ---- queues ---- */

void kafka_queue_open(struct kafka_partition *p)
{
    static const uint64_t one = 1;

    kafka_queue_close(p); /* that of an earlier assignment */
    p->full = p->brimming = false;
    p->mean_bytes = 0; /* nothing brims before something was taken: whereto would it be sought? */
    p->queue = rd_kafka_queue_get_partition(p->kt->rk, p->topic, p->number);
    ST_ASSERT(p->queue != NULL); /* makes what it does not know */
    rd_kafka_queue_forward(p->queue, NULL);
    kafka_queue_empty(p);
    rd_kafka_queue_io_event_enable(p->queue, p->kt->fd, &one, sizeof one);
}

void kafka_queue_close(struct kafka_partition *p)
{
    if (p->queue == NULL)
        return;
    rd_kafka_queue_io_event_enable(p->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(p->queue);
    p->queue = NULL;
}

void kafka_queue_empty(struct kafka_partition *p)
{
    if (p->queue != NULL)
        rd_kafka_queue_poll_callback(p->queue, 0);
}

/* Others on this loop want their turn. */
static bool turn_is_over(struct kafka_trigger *kt)
{
    if (++kt->served % CLOCK_EVERY != 0)
        return false;
    return kt->served >= POLL_MOST || st_clock_mono() >= kt->poll_until_ns;
}

bool kafka_queue_goes_on(struct kafka_partition *p)
{
    struct kafka_trigger *kt = p->kt;

    kt->over = turn_is_over(kt);
    p->full = is_full(p);
    if (st_likely(!kt->over && !p->full && ++kt->served_here < QUANTUM))
        return true;
    kt->yielded |= kt->over || !p->full; /* others have more, or it has */
    return false;
}

/* Where librdkafka has found a queue full, it looks again only after a second (before 2.2, whose
 * fetch.queue.backoff.ms says when). A seek wakes it up, to where it is; there is nothing in the
 * queue that it could throw away. */
static void wake_up(struct kafka_partition *p)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(p->kt->rk, p->topic, NULL);

    p->brimming = false;
    if (topic == NULL)
        return;
    rd_kafka_seek(topic, p->number, (int64_t)p->wm.end, 0);
    rd_kafka_topic_destroy(topic);
}

static void serve(struct kafka_partition *p)
{
    struct kafka_trigger *kt = p->kt;
    uint64_t enough = kafka_attributes_of(kt)->prefetch_bytes / 4 * 3;
    size_t messages = rd_kafka_queue_length(p->queue);

    kt->served_here = 0;
    rd_kafka_queue_poll_callback(p->queue, 0);
    if (st_unlikely(messages * p->mean_bytes >= enough && messages > 0))
        p->brimming = true;
    if (st_unlikely(p->brimming) && !p->full && rd_kafka_queue_length(p->queue) == 0)
        wake_up(p);
}

static struct kafka_partition *after(const struct kafka_partition *p)
{
    return LIST_NEXT(p, link) != NULL ? LIST_NEXT(p, link) : LIST_FIRST(&p->kt->partitions);
}

/* Each in turn, from where the last turn ended. */
static void serve_partitions(struct kafka_trigger *kt)
{
    struct kafka_partition *first = kt->next != NULL ? kt->next : LIST_FIRST(&kt->partitions);
    struct kafka_partition *p = first;

    if (first == NULL)
        return;
    kt->over = false;
    do {
        if (p->assigned && !p->full)
            serve(p);
        p = after(p);
        kt->sated = kafka_is_sated(kt);
    } while (p != first && !kt->over && !kt->sated);
    kt->next = p;
}

/* ---- polling ---- */

void kafka_poll(struct kafka_trigger *kt)
{
    if (kt->state == KAFKA_OFF || kt->state >= KAFKA_LEAVING || kt->queue == NULL)
        return;
    kt->yielded = false;
    kt->served = 0;
    kt->poll_until_ns = st_clock_mono() + TURN_NS;
    rd_kafka_queue_poll_callback(kt->queue, 0);
    kt->sated = kafka_is_sated(kt);
    if (kafka_is_flowing(kt) && !kt->sated)
        serve_partitions(kt);
    if (st_unlikely(kt->broker_trouble) && kt->served > 0) {
        kt->broker_trouble = false;
        kafka_trouble(kt, KAFKA_TROUBLE_BROKER, "");
    }
    kafka_pump_later(kt);
}

static void on_fd(evutil_socket_t fd ST_UNUSED, short what ST_UNUSED, void *arg)
{
    kafka_poll(arg);
}

static void on_tick(struct st_timer *t)
{
    struct kafka_trigger *kt = ST_CONTAINER_OF(t, struct kafka_trigger, tick);
    struct kafka_partition *p;

    st_loop_timer_arm(kt->loop, &kt->tick, TICK_NS);
    LIST_FOREACH (p, &kt->partitions, link) {
        if (!p->assigned) {
            kafka_queue_empty(p);
            continue;
        }
        kafka_window_moved(p); /* its bytes shrink, too, behind a message that does not end */
        kafka_publish(p);
    }
    kafka_poll(kt);
}

static void on_retry(struct st_timer *t)
{
    kafka_pump_later(ST_CONTAINER_OF(t, struct kafka_trigger, retry_timer));
}

/* ---- committing ---- */

static void on_commit_timer(struct st_timer *t)
{
    struct kafka_trigger *kt = ST_CONTAINER_OF(t, struct kafka_trigger, commit_timer);

    st_loop_timer_arm(kt->loop, &kt->commit_timer, kafka_attributes_of(kt)->commit_ns);
    if (kafka_is_flowing(kt))
        (void)kafka_commit(kt);
}

static void on_committed(rd_kafka_t *rk ST_UNUSED, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *list, void *opaque)
{
    struct kafka_trigger *kt = opaque;

    if (kt->state >= KAFKA_LEAVING)
        return; /* late, and in the thread that leaves */
    kt->commit_under_way = false;
    st_metric_observe(kt->loop->metrics, kt->metrics.commit, st_clock_mono() - kt->commit_began_ns,
                      1);
    for (int i = 0; list != NULL && i < list->cnt; i++) {
        const rd_kafka_topic_partition_t *tp = &list->elems[i];
        struct kafka_partition *p = kafka_partition_find(kt, tp->topic, tp->partition);

        if (p != NULL && (code != RD_KAFKA_RESP_ERR_NO_ERROR || tp->err != 0))
            p->sent_ends = p->wm.ends - 1; /* again with the next one */
    }
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && kt->broker_trouble) {
        kt->broker_trouble = false;
        kafka_trouble(kt, KAFKA_TROUBLE_BROKER, "");
    }
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__NO_OFFSET)
        ST_LOG_LIMITED(
            ST_LOG_WARN, "processor.kafka", "Offsets could not be committed; tried again",
            ST_KV_STR("trigger", kt->base.name), ST_KV_STR("error", rd_kafka_err2str(code)));
    if (!kafka_is_flowing(kt))
        kafka_pump_later(kt);
}

/* The list frees the text. */
static void describe_position(rd_kafka_topic_partition_t *tp, struct kafka_partition *p,
                              uint64_t offset)
{
    char text[ST_DONE_SET_TEXT + 1];
    size_t len;

    if (p->before.count > 0 && p->wm.end >= st_done_set_end(&p->before))
        st_done_set_free(&p->before);
    len = st_done_set_write(&p->wm, &p->before, text);
    tp->offset = (int64_t)offset;
    if (len == 0)
        return;
    tp->metadata = st_strdup(text);
    tp->metadata_size = len;
}

bool kafka_commit(struct kafka_trigger *kt)
{
    rd_kafka_topic_partition_list_t *list = NULL;
    struct kafka_partition *p;
    rd_kafka_resp_err_t code;

    if (kt->commit_under_way)
        return false;
    LIST_FOREACH (p, &kt->partitions, link) {
        uint64_t offset;

        if (!p->assigned || p->wm.ends == p->sent_ends || !st_watermark_position(&p->wm, &offset))
            continue;
        if (list == NULL)
            list = rd_kafka_topic_partition_list_new(8);
        describe_position(rd_kafka_topic_partition_list_add(list, p->topic, p->number), p, offset);
        p->sent_ends = p->wm.ends;
    }
    if (list == NULL)
        return false;
    kt->commit_began_ns = st_clock_mono();
    code = rd_kafka_commit_queue(kt->rk, list, kt->queue, on_committed, kt);
    rd_kafka_topic_partition_list_destroy(list);
    kt->commit_under_way = code == RD_KAFKA_RESP_ERR_NO_ERROR;
    if (st_likely(kt->commit_under_way))
        return true;
    LIST_FOREACH (p, &kt->partitions, link)
        if (p->assigned)
            p->sent_ends = p->wm.ends - 1; /* with the next one */
    return false;
}

/* ---- life ---- */

static void on_error(rd_kafka_t *rk, int code, const char *text, void *opaque)
{
    struct kafka_trigger *kt = opaque;
    bool is_fatal = code == RD_KAFKA_RESP_ERR__FATAL;
    char fatal[200];

    if (is_fatal) {
        code = rd_kafka_fatal_error(rk, fatal, sizeof fatal);
        text = fatal;
    }
    ST_LOG_LIMITED(ST_LOG_WARN, "processor.kafka", "The broker can't be used just now",
                   ST_KV_STR("trigger", kt->base.name),
                   ST_KV_STR("error", rd_kafka_err2name((rd_kafka_resp_err_t)code)),
                   ST_KV_STR("detail", text));
    /* Why the last one went says more than that none is left. */
    if (code != RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN || !kt->broker_trouble)
        kafka_trouble(kt, KAFKA_TROUBLE_BROKER, text);
    kt->broker_trouble = true;
    if (is_fatal)
        kafka_member_failed(kt);
}

static void on_token_wanted(rd_kafka_t *rk, const char *config ST_UNUSED, void *opaque)
{
    struct kafka_trigger *kt = opaque;

    st_kafka_oauth_refresh(kt->oauth, rk);
}

static int subscribe(struct kafka_trigger *kt, struct st_error *err)
{
    const struct st_string_list *topics = &kafka_attributes_of(kt)->topics;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)topics->count);
    rd_kafka_resp_err_t code;

    for (size_t i = 0; i < topics->count; i++)
        rd_kafka_topic_partition_list_add(list, topics->items[i], RD_KAFKA_PARTITION_UA);
    code = rd_kafka_subscribe(kt->rk, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return st_error_set(err, ST_ERR_INVALID, "trigger %s: attributes.topics: %s", kt->base.name,
                            rd_kafka_err2str(code));
    return ST_OK;
}

int kafka_consumer_open(struct kafka_trigger *kt, struct st_error *err)
{
    static const uint64_t one = 1;
    rd_kafka_conf_t *conf;
    char text[256];

    kafka_member_choose_id(kt);
    conf = kafka_consumer_conf(kt, err);
    if (conf == NULL)
        return ST_ERR_INVALID;
    rd_kafka_conf_set_opaque(conf, kt);
    rd_kafka_conf_set_rebalance_cb(conf, kafka_on_rebalance);
    rd_kafka_conf_set_consume_cb(conf, kafka_on_message);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_stats_cb(conf, kafka_on_stats);
    rd_kafka_conf_set_oauthbearer_token_refresh_cb(conf, on_token_wanted);
    kt->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (kt->fd < 0) {
        rd_kafka_conf_destroy(conf);
        return st_error_sys(err, errno, "trigger %s: eventfd", kt->base.name);
    }
    kt->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (kt->rk == NULL) {
        rd_kafka_conf_destroy(conf);
        close(kt->fd);
        kt->fd = -1;
        return st_error_set(err, ST_ERR_INVALID, "trigger %s: %s", kt->base.name, text);
    }
    st_kafka_client_started(kt->rk);
    rd_kafka_poll_set_consumer(kt->rk);
    kt->queue = rd_kafka_queue_get_consumer(kt->rk);
    rd_kafka_queue_io_event_enable(kt->queue, kt->fd, &one, sizeof one);
    /* Edge-triggered, never read: each write is a new edge, and a full window makes no noise. */
    event_assign(&kt->fd_event, kt->loop->base, kt->fd, EV_READ | EV_PERSIST | EV_ET, on_fd, kt);
    event_add(&kt->fd_event, NULL);
    st_timer_init(&kt->tick, on_tick);
    st_timer_init(&kt->commit_timer, on_commit_timer);
    st_timer_init(&kt->retry_timer, on_retry);
    st_timer_init(&kt->drain_timer, kafka_group_expire);
    st_timer_init(&kt->renewal, kafka_member_renew);
    st_loop_timer_arm(kt->loop, &kt->tick, TICK_NS);
    st_loop_timer_arm(kt->loop, &kt->commit_timer, kafka_attributes_of(kt)->commit_ns);
    if (st_kafka_oauth_open(&kt->oauth, kt->loop, &kafka_attributes_of(kt)->client, kt->base.name,
                            err) != ST_OK)
        return err->code;
    return subscribe(kt, err);
}

void kafka_consumer_close(struct kafka_trigger *kt)
{
    struct kafka_partition *p;

    st_loop_timer_cancel(kt->loop, &kt->tick);
    st_loop_timer_cancel(kt->loop, &kt->commit_timer);
    st_loop_timer_cancel(kt->loop, &kt->retry_timer);
    st_loop_timer_cancel(kt->loop, &kt->drain_timer);
    st_loop_timer_cancel(kt->loop, &kt->renewal);
    st_kafka_oauth_close(kt->oauth);
    kt->oauth = NULL;
    if (kt->queue == NULL)
        return;
    event_del(&kt->fd_event);
    LIST_FOREACH (p, &kt->partitions, link)
        kafka_queue_close(p);
    rd_kafka_queue_io_event_enable(kt->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(kt->queue);
    kt->queue = NULL;
    close(kt->fd);
    kt->fd = -1;
}
