#include "processor/output.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/loop.h"
#include "processor/core/slab.h"
#include "processor/event.h"
#include "processor/labels.h"
#include "processor/processor.h"

enum { IDLE_EMITS = 1024, TEXT_MAX = 512 };

/* Bytes of one output that may travel between loops. */
#define MAX_COPIED ((uint64_t)64 << 20)

/* A message of an event that its output has; one line of a cache. */
struct st_emit {
    struct st_send send;
    TAILQ_ENTRY(st_emit) link;     /* in open of its loop */
    STAILQ_ENTRY(st_emit) sibling; /* in emits of its event, unless it is kept */
    union {
        struct st_event *ev;
        struct st_keep *keep;
    };
    uint32_t bytes;
    bool kept; /* the event is over, and keep is what it holds */
};

struct st_output_loop {
    struct st_slab emits;
    TAILQ_HEAD(, st_emit) open;
    _Atomic uint64_t messages, bytes; /* in open; other loops read them */
    bool is_open;
};

/* A message on its way to the event's home loop; header array and bytes lie behind the struct. */
struct travel {
    struct st_mail mail;
    struct st_output *output;
    struct st_event *ev;
    size_t size;
    struct st_message m;
};

/* ---- life ---- */

static void register_metrics(struct st_output *o)
{
    struct st_labels labels;

    st_labels_own(&labels, o->processor, NULL);
    st_labels_add(&labels, "output", o->name);
    st_labels_add(&labels, "result", "success");
    o->metrics.ok = st_metric_register(ST_METRIC_EMITS, labels.items);
    labels.items[labels.count - 1].value = "failure";
    o->metrics.failed = st_metric_register(ST_METRIC_EMITS, labels.items);
}

struct st_output *st_output_add(struct st_processor *p, const struct st_output_config *c,
                                void *owned, struct st_error *err)
{
    struct st_output *o = st_calloc(1, c->kind->obj_size);
    struct st_error why = {.code = ST_OK};

    o->magic = ST_OUTPUT_MAGIC;
    o->kind = c->kind;
    o->name = c->name;
    o->options = c->options;
    o->owned = owned;
    o->processor = p;
    o->loops = st_calloc(p->loop_count, sizeof o->loops[0]);
    for (unsigned i = 0; i < p->loop_count; i++) {
        st_slab_init(&o->loops[i].emits, "emit", sizeof(struct st_emit), IDLE_EMITS);
        TAILQ_INIT(&o->loops[i].open);
    }
    register_metrics(o);
    p->outputs = st_realloc(p->outputs, (p->output_count + 1) * sizeof(struct st_output *));
    p->outputs[p->output_count++] = o;
    if (c->kind->init(o, &why) == ST_OK)
        return o;
    st_error_set(err, why.code, "output %s: %s", o->name, why.text);
    return NULL;
}

int st_outputs_make(struct st_processor *p, struct st_error *err)
{
    const struct st_function_config *f = &p->config->function;

    for (size_t i = 0; i < f->output_count; i++)
        if (st_output_add(p, &f->outputs[i], NULL, err) == NULL)
            return err->code;
    return ST_OK;
}

/* Only the loop that is meant writes; no other one needs to see it at once. */
static void add(_Atomic uint64_t *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void open_add(struct st_output_loop *ol, struct st_emit *e)
{
    TAILQ_INSERT_TAIL(&ol->open, e, link);
    add(&ol->messages, 1);
    add(&ol->bytes, e->bytes);
}

static void open_remove(struct st_output_loop *ol, struct st_emit *e)
{
    TAILQ_REMOVE(&ol->open, e, link);
    add(&ol->messages, (uint64_t)-1);
    add(&ol->bytes, -(uint64_t)e->bytes);
}

/* Ends the hold, after everything else. */
static void emit_end(struct st_output_loop *ol, struct st_emit *e, int status, const char *text)
{
    struct st_emit end = *e;

    open_remove(ol, e);
    if (!end.kept)
        STAILQ_REMOVE(&end.ev->emits, e, st_emit, sibling);
    st_slab_put(&ol->emits, e);
    if (st_likely(end.kept))
        st_keep_unhold(end.keep, status, text);
    else
        st_event_unhold_as(end.ev, status, text);
}

/* What it had not confirmed when it was closed has failed. */
static void give_up(struct st_output *o, struct st_output_loop *ol)
{
    struct st_emit *e;

    while ((e = TAILQ_FIRST(&ol->open)) != NULL) {
        char text[TEXT_MAX];

        snprintf(text, sizeof text, "emit to %s failed: the processor ends", o->name);
        emit_end(ol, e, ST_ERR_CLOSED, text);
    }
}

static void output_free(struct st_output *o)
{
    o->kind->destroy(o);
    for (unsigned i = 0; i < o->processor->loop_count; i++) {
        struct st_output_loop *ol = &o->loops[i];
        struct st_emit *e;

        while ((e = TAILQ_FIRST(&ol->open)) != NULL) { /* never closed: the start failed */
            open_remove(ol, e);
            st_slab_put(&ol->emits, e);
        }
        st_slab_close(&ol->emits);
    }
    free(o->loops);
    o->magic = 0;
    free(o->owned);
    free(o);
}

void st_outputs_free(struct st_processor *p)
{
    for (unsigned i = 0; i < p->output_count; i++)
        output_free(p->outputs[i]);
    free(p->outputs);
    p->outputs = NULL;
    p->output_count = 0;
}

int st_outputs_open(struct st_processor *p, struct st_loop *loop, struct st_error *err)
{
    for (unsigned i = 0; i < p->output_count; i++) {
        struct st_output *o = p->outputs[i];
        struct st_error why = {.code = ST_OK};

        if (o->kind->open(o, loop, &why) != ST_OK)
            return st_error_set(err, why.code, "output %s: %s", o->name, why.text);
        o->loops[loop->index].is_open = true;
    }
    return ST_OK;
}

void st_outputs_close(struct st_processor *p, struct st_loop *loop)
{
    for (unsigned i = 0; i < p->output_count; i++) {
        struct st_output *o = p->outputs[i];
        struct st_output_loop *ol = &o->loops[loop->index];

        if (!ol->is_open)
            continue;
        ol->is_open = false;
        o->kind->close(o, loop);
        give_up(o, ol);
    }
}

struct st_output *st_output_find(struct st_processor *p, struct st_slice name)
{
    for (unsigned i = 0; i < p->output_count; i++)
        if (st_slice_eq(st_slice_of(p->outputs[i]->name), name))
            return p->outputs[i];
    return NULL;
}

static bool is_half(uint64_t n, uint64_t most)
{
    return most != 0 && n >= (most + 1) / 2;
}

bool st_outputs_are_busy(const struct st_processor *p)
{
    for (unsigned i = 0; i < p->output_count; i++) {
        const struct st_output *o = p->outputs[i];
        uint64_t messages = 0, bytes = 0;

        for (unsigned j = 0; j < p->loop_count; j++) {
            messages += atomic_load_explicit(&o->loops[j].messages, memory_order_relaxed);
            bytes += atomic_load_explicit(&o->loops[j].bytes, memory_order_relaxed);
        }
        if (is_half(messages, o->most_messages) || is_half(bytes, o->most_bytes))
            return true;
    }
    return false;
}

/* ---- sending ---- */

int st_output_send(struct st_output *o, struct st_loop *loop, const struct st_message *m,
                   struct st_send *send, struct st_error *err)
{
    int code;

    ST_CHECK(o, ST_OUTPUT_MAGIC);
    send->output = o;
    if (st_likely(o->loops[loop->index].is_open))
        code = o->kind->send(o, loop, m, send, err);
    else
        code = st_error_set(err, ST_ERR_CLOSED, "the output is closed");
    if (st_unlikely(code != ST_OK))
        st_metric_add(loop->metrics, o->metrics.failed, 1);
    return code;
}

void st_send_done(struct st_send *send, struct st_loop *loop, int status, const char *text)
{
    struct st_output *o = send->output;

    st_metric_add(loop->metrics, status == ST_OK ? o->metrics.ok : o->metrics.failed, 1);
    send->done(send, status, text);
}

static void emit_done(struct st_send *send, int status, const char *text)
{
    struct st_emit *e = ST_CONTAINER_OF(send, struct st_emit, send);
    struct st_output *o = send->output;
    const struct st_loop *home = e->kept ? e->keep->home : e->ev->home;
    struct st_output_loop *ol = &o->loops[home->index];
    char why[TEXT_MAX];

    if (st_likely(status == ST_OK)) {
        emit_end(ol, e, ST_OK, "");
        return;
    }
    snprintf(why, sizeof why, "emit to %s failed: %s", o->name, text);
    emit_end(ol, e, status, why);
}

static int check_message(const struct st_message *m, struct st_error *err)
{
    size_t bytes = 0;

    if (m->header_count > ST_MESSAGE_HEADERS)
        return st_error_set(err, ST_ERR_LIMIT, "more than %d headers", ST_MESSAGE_HEADERS);
    for (size_t i = 0; i < m->header_count; i++) {
        if (m->headers[i].name_len == 0)
            return st_error_set(err, ST_ERR_INVALID, "a header without a name");
        bytes += m->headers[i].name_len + (size_t)m->headers[i].value_len;
    }
    if (m->key.len > ST_MESSAGE_KEY_BYTES)
        return st_error_set(err, ST_ERR_LIMIT, "a key of more than %d bytes", ST_MESSAGE_KEY_BYTES);
    if (bytes > ST_MESSAGE_HEADER_BYTES)
        return st_error_set(err, ST_ERR_LIMIT, "headers of more than %d bytes",
                            ST_MESSAGE_HEADER_BYTES);
    return ST_OK;
}

/* On the event's home loop. */
static int emit_here(struct st_output *o, struct st_event *ev, const struct st_message *m,
                     struct st_error *err)
{
    struct st_output_loop *ol = &o->loops[ev->home->index];
    struct st_emit *e;
    int code;

    if (st_unlikely(ev->answered))
        return st_error_set(err, ST_ERR_CLOSED, "the event was answered already");
    e = st_slab_get(&ol->emits);
    e->send.done = emit_done;
    e->ev = ev;
    code = st_output_send(o, ev->home, m, &e->send, err);
    if (st_unlikely(code != ST_OK)) {
        st_slab_put(&ol->emits, e);
        return code;
    }
    e->bytes = (uint32_t)(m->value.len + m->key.len);
    e->kept = false;
    open_add(ol, e);
    STAILQ_INSERT_TAIL(&ev->emits, e, sibling);
    st_event_hold(ev);
    return ST_OK;
}

/* ---- kept ---- */

static uint32_t emits_of(const struct st_event *ev)
{
    const struct st_emit *e;
    uint32_t n = 0;

    STAILQ_FOREACH (e, &ev->emits, sibling)
        n++;
    return n;
}

bool st_outputs_may_keep(const struct st_event *ev)
{
    return st_event_may_go(ev, emits_of(ev));
}

void st_outputs_keep(struct st_event *ev, struct st_keep *keep)
{
    struct st_emit *e;

    STAILQ_FOREACH (e, &ev->emits, sibling) {
        e->kept = true;
        e->keep = keep;
    }
    st_event_go(ev, keep);
    st_event_unref(ev);
}

/* ---- from other threads ---- */

static struct st_slice move(char **at, struct st_slice s)
{
    struct st_slice out = {s.ptr != NULL ? *at : NULL, s.len};

    if (s.ptr != NULL && s.len != 0)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return out;
}

static struct travel *travel_new(struct st_output *o, struct st_event *ev,
                                 const struct st_message *m)
{
    size_t size = m->value.len + m->key.len + m->topic.len;
    struct st_header *headers;
    struct travel *t;
    char *at;

    for (size_t i = 0; i < m->header_count; i++)
        size += m->headers[i].name_len + m->headers[i].value_len;
    size += sizeof *t + m->header_count * sizeof *headers;
    if (atomic_fetch_add_explicit(&o->copied, size, memory_order_relaxed) + size > MAX_COPIED ||
        (t = st_try_malloc(size)) == NULL) {
        atomic_fetch_sub_explicit(&o->copied, size, memory_order_relaxed);
        return NULL;
    }
    *t = (struct travel){.output = o, .ev = ev, .size = size, .m = *m};
    headers = (struct st_header *)(t + 1);
    at = (char *)(headers + m->header_count);
    t->m.value = move(&at, m->value);
    t->m.key = move(&at, m->key);
    t->m.topic = move(&at, m->topic);
    t->m.headers = headers;
    for (size_t i = 0; i < m->header_count; i++) {
        const struct st_header *h = &m->headers[i];

        headers[i] = *h;
        headers[i].name = move(&at, (struct st_slice){h->name, h->name_len}).ptr;
        headers[i].value = move(&at, (struct st_slice){h->value, h->value_len}).ptr;
    }
    return t;
}

/* On the event's home loop. */
static void fail_here(struct st_event *ev, enum st_err status, const char *text)
{
    if (ev->answered)
        return;
    st_event_hold(ev);
    st_event_unhold_as(ev, status, text);
}

static void fail_emit(struct st_output *o, struct st_event *ev, const struct st_error *err)
{
    st_output_fail(ev, err->code, "emit to %s failed: %s", o->name, err->text);
}

static void deliver_travel(struct st_loop *loop, struct st_mail *mail)
{
    struct travel *t = ST_CONTAINER_OF(mail, struct travel, mail);
    struct st_error err = {.code = ST_OK};

    (void)loop;
    if (emit_here(t->output, t->ev, &t->m, &err) != ST_OK)
        fail_emit(t->output, t->ev, &err);
    st_event_unref(t->ev);
    atomic_fetch_sub_explicit(&t->output->copied, t->size, memory_order_relaxed);
    free(t);
}

int st_output_emit(struct st_output *o, struct st_event *ev, const struct st_message *m,
                   struct st_error *err)
{
    struct travel *t;
    int code = check_message(m, err);

    ST_CHECK(ev, ST_EVENT_MAGIC);
    if (code != ST_OK)
        return code;
    if (st_loop_is_current(ev->home))
        return emit_here(o, ev, m, err);
    t = travel_new(o, ev, m);
    if (t == NULL)
        return st_error_set(err, ST_ERR_LIMIT, "too much is under way already");
    st_event_ref(ev);
    st_loop_post(ev->home, &t->mail, deliver_travel);
    return ST_OK;
}

void st_output_publish(struct st_output *o, struct st_event *ev, const struct st_message *m)
{
    struct st_error err = {.code = ST_OK};

    if (st_output_emit(o, ev, m, &err) != ST_OK)
        fail_emit(o, ev, &err);
}

/* A failure on its way to the event's home loop. */
struct failure {
    struct st_mail mail;
    struct st_event *ev;
    enum st_err status;
    char text[TEXT_MAX];
};

static void deliver_failure(struct st_loop *loop, struct st_mail *mail)
{
    struct failure *f = ST_CONTAINER_OF(mail, struct failure, mail);

    (void)loop;
    fail_here(f->ev, f->status, f->text);
    st_event_unref(f->ev);
    free(f);
}

void st_output_fail(struct st_event *ev, enum st_err status, const char *fmt, ...)
{
    struct failure *f = st_malloc(sizeof *f);
    va_list args;

    va_start(args, fmt);
    vsnprintf(f->text, sizeof f->text, fmt, args);
    va_end(args);
    f->ev = ev;
    f->status = status;
    st_event_ref(ev);
    if (st_loop_is_current(ev->home))
        deliver_failure(ev->home, &f->mail);
    else
        st_loop_post(ev->home, &f->mail, deliver_failure);
}
