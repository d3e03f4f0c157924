#include "tests/support/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "processor/core/clock.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/deferred.h"
#include "processor/dispatch.h"
#include "processor/stream.h"
#include "runtimes/native/native.h"

/* ---- The composition root's part ---- */

/* Weak: where the linker brings the real ones, they take over. */
#define WEAK __attribute__((weak))

WEAK void st_processor_notify(struct st_processor *p)
{
    (void)p;
}

WEAK struct st_metrics_shard *st_processor_shard(struct st_processor *p)
{
    for (unsigned i = 0; i < p->loop_count; i++)
        if (st_loop_is_current(&p->loops[i]))
            return p->loops[i].metrics;
    return p->main_loop.metrics;
}

WEAK void st_processor_start_failed(struct st_processor *p, const char *text)
{
    pthread_mutex_lock(&p->start_lock);
    st_error_set(&p->start_error, ST_ERR_INVALID, "%s", text);
    pthread_mutex_unlock(&p->start_lock);
    st_processor_notify(p);
}

WEAK int st_slot_bind_thread(const struct st_slot *slot, struct st_error *err)
{
    (void)slot;
    (void)err;
    return ST_OK;
}

/* ---- The trigger ---- */

static struct rig_event *event_of(struct st_event *ev)
{
    return ST_CONTAINER_OF(ev, struct rig_event, ev);
}

static void keep(struct rig_event *e, const char *bytes, size_t len)
{
    e->answer = realloc(e->answer, e->answer_len + len + 1);
    ST_ASSERT(e->answer != NULL);
    if (len != 0)
        memcpy(e->answer + e->answer_len, bytes, len);
    e->answer_len += len;
    e->answer[e->answer_len] = '\0';
}

static void keep_head(struct rig_event *e, const struct st_result *r)
{
    size_t at = 0;

    e->status = r->status;
    snprintf(e->content_type_text, sizeof e->content_type_text, "%.*s", (int)r->content_type.len,
             r->content_type.ptr != NULL ? r->content_type.ptr : "");
    for (size_t i = 0; i < r->header_count && at < sizeof e->header_text; i++) {
        const struct st_header *h = &r->headers[i];
        int n = snprintf(e->header_text + at, sizeof e->header_text - at, "%.*s: %.*s\n",
                         (int)h->name_len, h->name, (int)h->value_len, h->value);

        ST_ASSERT(n > 0 && h->id == st_header_id_of(h->name, h->name_len));
        at += (size_t)n;
    }
}

static void trigger_complete(struct st_event *ev, const struct st_result *result)
{
    struct rig_event *e = event_of(ev);
    struct rig *rig = e->rig;

    ST_ASSERT(st_loop_is_current(ev->home));
    pthread_mutex_lock(&rig->lock);
    e->completed++;
    e->outcome = result->outcome;
    e->retry_after_ms = result->retry_after_ms;
    e->streamed = result->streamed;
    if (!result->streamed)
        keep_head(e, result);
    if (!result->streamed)
        keep(e, result->body.ptr, result->body.len);
    e->in_place = result->body.len != 0 && result->body.ptr >= ev->body.ptr &&
                  result->body.ptr < ev->body.ptr + ev->body.len;
    rig->completed++;
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
}

static void trigger_release(struct st_event *ev)
{
    struct rig_event *e = event_of(ev);
    struct rig *rig = e->rig;

    ST_ASSERT(st_loop_is_current(ev->home));
    pthread_mutex_lock(&rig->lock);
    e->released++;
    rig->released++;
    pthread_cond_broadcast(&rig->changed);
    pthread_mutex_unlock(&rig->lock);
}

static int trigger_detach(struct st_event *ev)
{
    struct rig_event *e = event_of(ev);
    char *copy = malloc(e->body_len + 1);

    ST_ASSERT(copy != NULL);
    memcpy(copy, e->body_bytes, e->body_len);
    memset(e->body_bytes, 'X', e->body_len); /* whoever reads there now is wrong */
    free(e->body_bytes);
    e->body_bytes = copy;
    ev->body.ptr = copy;
    return ST_OK;
}

static void trigger_stream_head(struct st_event *ev, const struct st_result *head)
{
    struct rig_event *e = event_of(ev);

    pthread_mutex_lock(&e->rig->lock);
    e->heads++;
    keep_head(e, head);
    pthread_cond_broadcast(&e->rig->changed);
    pthread_mutex_unlock(&e->rig->lock);
}

static void trigger_stream_write(struct st_event *ev, struct st_buf bytes)
{
    struct rig_event *e = event_of(ev);
    size_t n = bytes.length;
    bool slow;

    pthread_mutex_lock(&e->rig->lock);
    slow = e->rig->options.slow_stream;
    keep(e, st_buf_data(&bytes), n);
    if (slow)
        e->unsent += n;
    pthread_cond_broadcast(&e->rig->changed);
    pthread_mutex_unlock(&e->rig->lock);
    st_buf_drop(&bytes);
    if (!slow)
        st_stream_sent(ev, n);
}

static const struct st_trigger_kind streaming_kind = {
    .name = "rig",
    .event_class = "sync",
    .complete = trigger_complete,
    .detach = trigger_detach,
    .release = trigger_release,
    .stream_head = trigger_stream_head,
    .stream_write = trigger_stream_write,
};

static const struct st_trigger_kind plain_kind = {
    .name = "rig",
    .event_class = "async",
    .complete = trigger_complete,
    .detach = trigger_detach,
    .release = trigger_release,
};

/* ---- Start and stop ---- */

static void deadline(struct timespec *ts)
{
    clock_gettime(CLOCK_REALTIME, ts);
    ts->tv_sec += 30;
}

static void set_up_trigger(struct rig *rig)
{
    struct st_trigger *t = &rig->trigger;

    t->magic = ST_TRIGGER_MAGIC;
    t->kind = rig->options.can_stream ? &streaming_kind : &plain_kind;
    t->name = "rig-trigger";
    t->processor = &rig->processor;
    t->pool = rig->pools[0];
    t->loops = rig->trigger_loops;
    for (unsigned i = 0; i < rig->processor.loop_count; i++) {
        rig->trigger_loops[i].trigger = t;
        rig->trigger_loops[i].loop = &rig->loops[i];
    }
    rig->triggers[0] = t;
    rig->processor.triggers = rig->triggers;
    rig->processor.trigger_count = 1;
}

static void set_up_pool(struct rig *rig, struct st_runtime *rt)
{
    unsigned workers = rig->options.workers;
    struct st_pool_options options = {
        .name = "rig-pool",
        .trigger_kind = "rig",
        .runtime = rt,
        .slots = rig->slots,
        .wait_ns = rig->options.wait_ns != 0 ? rig->options.wait_ns : 10 * ST_SEC,
        .event_timeout_ns = rig->options.event_timeout_ns,
        .max_queue = 8192,
        .batch_size = rig->options.batch_size,
        .batch_wait_ns = rig->options.batch_wait_ns,
    };

    if (workers == 0)
        workers = rt->kind->is_inline(rt) ? rig->processor.loop_count : 1;
    options.workers = workers;
    for (unsigned i = 0; i < ST_ARRAY_LEN(rig->slots); i++) {
        rig->slots[i].index = i;
        snprintf(rig->slots[i].name, sizeof rig->slots[i].name, "cpu%u", i);
        sched_getaffinity(0, sizeof rig->slots[i].cpus, &rig->slots[i].cpus);
    }
    rig->pools[0] = st_pool_new(&rig->processor, &options);
    rig->processor.pools = rig->pools;
    rig->processor.pool_count = 1;
}

static bool load(struct rig *rig)
{
    const struct st_runtime_kind *kind = &st_runtime_native_kind;
    const char *build = getenv("STATOR_BUILD");
    struct st_function_config *f = &rig->config.function;
    struct st_error err = {0};
    static char dir[4096];

    f->name = "rig-function";
    f->namespace_ = "rig";
    f->project = "rig";
    f->handler = rig->options.handler;
    f->runtime = kind;
    f->event_timeout_ns = rig->options.event_timeout_ns;
    rig->processor.config = &rig->config;
    rig->processor.deferred = st_deferred_new();
    rig->processor.runtime = calloc(1, kind->obj_size);
    snprintf(dir, sizeof dir, "%s/tests/handlers", build != NULL ? build : "build");
    rig->processor.runtime->magic = ST_RUNTIME_MAGIC;
    rig->processor.runtime->kind = kind;
    rig->processor.runtime->processor = &rig->processor;
    rig->processor.runtime->config = f;
    rig->processor.runtime->code_dir = dir;
    if (kind->load(rig->processor.runtime, &err) == 0)
        return true;
    snprintf(rig->failure, sizeof rig->failure, "%.500s", err.text);
    free(rig->processor.runtime);
    st_deferred_free(rig->processor.deferred);
    return false;
}

/* Until every worker was ready or one has failed. */
static void wait_ready(struct rig *rig)
{
    struct st_processor *p = &rig->processor;
    uint64_t end = st_clock_mono() + 30 * ST_SEC;

    while (!st_pool_was_ready(rig->pools[0]) && rig->failure[0] == '\0') {
        ST_ASSERT(st_clock_mono() < end);
        pthread_mutex_lock(&p->start_lock);
        if (p->start_error.code != ST_OK)
            snprintf(rig->failure, sizeof rig->failure, "%.500s", p->start_error.text);
        pthread_mutex_unlock(&p->start_lock);
        rig_sleep_ms(1);
    }
}

bool rig_start(struct rig *rig, const struct rig_options *options)
{
    struct st_processor *p = &rig->processor;
    struct st_error err;
    char name[16];

    memset(rig, 0, sizeof *rig);
    rig->options = *options;
    pthread_mutex_init(&rig->lock, NULL);
    pthread_cond_init(&rig->changed, NULL);
    pthread_mutex_init(&rig->processor.start_lock, NULL);
    if (!load(rig))
        return false;
    p->loops = rig->loops;
    p->loop_count = options->loops != 0 ? options->loops : 1;
    snprintf(p->instance, sizeof p->instance, "rig");
    ST_ASSERT(st_loop_open(&p->main_loop, ST_LOOP_MAIN, "rig-main", &err) == 0);
    for (unsigned i = 0; i < p->loop_count; i++) {
        snprintf(name, sizeof name, "rig-%u", i);
        ST_ASSERT(st_loop_open(&rig->loops[i], i, name, &err) == 0);
    }
    set_up_pool(rig, p->runtime);
    set_up_trigger(rig);
    for (unsigned i = 0; i < p->loop_count; i++)
        ST_ASSERT(st_loop_start(&rig->loops[i], &err) == 0);
    st_pool_spawn(rig->pools[0]);
    wait_ready(rig);
    if (rig->failure[0] == '\0')
        atomic_store(&p->phase, ST_PHASE_READY);
    return rig->failure[0] == '\0';
}

void rig_stop(struct rig *rig)
{
    struct st_processor *p = &rig->processor;
    uint64_t end = st_clock_mono() + 30 * ST_SEC;
    bool stuck;

    if (rig->pools[0] != NULL && rig->failure[0] == '\0') {
        atomic_store(&p->phase, ST_PHASE_DRAINING);
        st_pool_stop(rig->pools[0]);
        while (!st_pool_is_stopped(rig->pools[0])) {
            ST_ASSERT(st_clock_mono() < end);
            rig_sleep_ms(1);
        }
    }
    if (rig->pools[0] == NULL)
        return;
    p->runtime->kind->unload(p->runtime);
    for (unsigned i = 0; i < p->loop_count; i++)
        st_loop_stop(&rig->loops[i]);
    for (unsigned i = 0; i < p->loop_count; i++)
        st_loop_join(&rig->loops[i]);
    stuck = rig->pools[0]->counts[ST_WORKER_STUCK] != 0;
    /* A worker that did not start is in no state to free. */
    for (int i = 0; i < ST_WORKER_STATES && rig->failure[0] != '\0'; i++) {
        struct st_worker *w;

        while ((w = TAILQ_FIRST(&rig->pools[0]->lists[i])) != NULL) {
            TAILQ_REMOVE(&rig->pools[0]->lists[i], w, link);
            free(w);
        }
    }
    st_metrics_reset();
    st_pool_free(rig->pools[0]);
    for (unsigned i = 0; i < p->loop_count; i++)
        st_loop_close(&rig->loops[i]);
    st_loop_close(&p->main_loop);
    st_deferred_free(p->deferred);
    if (!stuck)
        free(p->runtime);
}

/* ---- Events ---- */

struct rig_event *rig_event_new(struct rig *rig, const char *body)
{
    struct rig_event *e = calloc(1, sizeof *e);

    ST_ASSERT(e != NULL);
    e->rig = rig;
    e->method = "POST";
    e->path = "/";
    e->query = "";
    e->content_type = "";
    e->body = body;
    e->body_len = strlen(body);
    return e;
}

static void add_headers(struct rig_event *e)
{
    struct st_headers *h = &e->ev.headers;

    h->items = e->header_items;
    for (size_t i = 0; e->headers != NULL && e->headers[i] != NULL; i += 2) {
        struct st_header *item = &h->items[h->count++];

        item->name = e->headers[i];
        item->name_len = (uint16_t)strlen(item->name);
        item->value = e->headers[i + 1];
        item->value_len = (uint32_t)strlen(item->value);
        item->id = st_header_id_of(item->name, item->name_len);
        if (item->id != ST_HDR_OTHER)
            h->last[item->id] = (uint8_t)h->count;
    }
}

static void deliver_event(struct st_loop *loop, struct st_mail *mail)
{
    struct rig_event *e = ST_CONTAINER_OF(mail, struct rig_event, mail);
    struct st_event *ev = &e->ev;

    st_event_init(ev, &e->rig->trigger, loop, e->space, sizeof e->space);
    ev->method = st_slice_of(e->method);
    ev->target = ev->path = st_slice_of(e->path);
    ev->query = st_slice_of(e->query);
    ev->content_type = st_slice_of(e->content_type);
    ev->body = (struct st_slice){e->body_bytes, e->body_len};
    if (e->borrow)
        ev->flags |= ST_EVENT_BORROWS;
    add_headers(e);
    st_dispatch(ev);
}

void rig_send(struct rig_event *e)
{
    e->body_bytes = malloc(e->body_len + 1);
    ST_ASSERT(e->body_bytes != NULL);
    memcpy(e->body_bytes, e->body, e->body_len);
    st_loop_post(&e->rig->loops[e->loop], &e->mail, deliver_event);
}

bool rig_wait_for(struct rig_event *e, const unsigned *count)
{
    struct timespec ts;
    bool done;
    int rc = 0;

    deadline(&ts);
    pthread_mutex_lock(&e->rig->lock);
    while (*count == 0 && rc == 0)
        rc = pthread_cond_timedwait(&e->rig->changed, &e->rig->lock, &ts);
    done = *count != 0;
    pthread_mutex_unlock(&e->rig->lock);
    return done;
}

unsigned rig_now(struct rig_event *e, const unsigned *count)
{
    unsigned n;

    pthread_mutex_lock(&e->rig->lock);
    n = *count;
    pthread_mutex_unlock(&e->rig->lock);
    return n;
}

unsigned rig_workers(struct rig *rig, enum st_worker_state state)
{
    unsigned n;

    pthread_mutex_lock(&rig->pools[0]->lock);
    n = rig->pools[0]->counts[state];
    pthread_mutex_unlock(&rig->pools[0]->lock);
    return n;
}

bool rig_wait(struct rig_event *e)
{
    return rig_wait_for(e, &e->completed);
}

bool rig_wait_released(struct rig_event *e)
{
    return rig_wait_for(e, &e->released);
}

void rig_event_free(struct rig_event *e)
{
    free(e->answer);
    free(e->body_bytes);
    free(e);
}

void rig_run(struct rig_event *e)
{
    rig_send(e);
    ST_ASSERT(rig_wait(e) && rig_wait_released(e));
}

static void cancel(struct st_loop *loop, void *arg)
{
    struct rig_event *e = arg;

    (void)loop;
    if (rig_now(e, &e->released) == 0)
        st_event_cancel(&e->ev);
}

void rig_cancel(struct rig_event *e)
{
    st_loop_call(&e->rig->loops[e->loop], cancel, e);
}

static void go(struct st_loop *loop, void *arg)
{
    struct rig_event *e = arg;
    size_t n;

    (void)loop;
    pthread_mutex_lock(&e->rig->lock);
    e->rig->options.slow_stream = false;
    n = e->unsent;
    e->unsent = 0;
    pthread_mutex_unlock(&e->rig->lock);
    if (rig_now(e, &e->released) == 0)
        st_stream_sent(&e->ev, n);
}

void rig_stream_go(struct rig_event *e)
{
    st_loop_call(&e->rig->loops[e->loop], go, e);
}

void rig_sleep_ms(unsigned ms)
{
    struct timespec ts = {ms / 1000, (long)(ms % 1000) * 1000000};

    nanosleep(&ts, NULL);
}
