#include "processor/admin/metric_push.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "processor/config/name_template.h"
#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/core/metrics.h"
#include "processor/labels.h"
#include "processor/net/fetch.h"
#include "processor/processor.h"

#define TIMEOUT_NS (10 * ST_SEC)
#define LAST_TIMEOUT_NS (2 * ST_SEC)
#define WARN_NS (60 * ST_SEC) /* between warnings of one sink */

enum { REPLY_MAX = 4096, REPLY_SHOWN = 200 };

struct push_sink {
    struct st_metric_push *push;
    const struct st_metric_push_config *config;
    char *url;             /* of the group of this processor */
    char *shown;           /* the gateway's without a password */
    struct st_fetch *busy; /* a push is under way */
    struct st_timer timer; /* for the next one */
    uint64_t failures;     /* since the last that went well */
    uint64_t warned_ns;
    st_metric ok, failed;
};

struct st_metric_push {
    struct st_processor *p;
    struct st_fetcher *fetcher;
    void (*done)(void *arg); /* NULL: there are more to come */
    void *arg;
    unsigned left; /* last pushes that have not ended */
    size_t count;
    struct push_sink sinks[];
};

/* ---- the group's URL ---- */

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~", c) != NULL);
}

static void write_percent(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (is_unreserved(*value))
            putc(*value, out);
        else
            fprintf(out, "%%%02X", (unsigned)(unsigned char)*value);
    }
}

/* RFC 4648 section 5, without padding but for nothing at all, which the gateway wants as "=". */
static void write_base64(FILE *out, const char *value)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const unsigned char *b = (const unsigned char *)value;
    size_t n = strlen(value);

    if (n == 0)
        putc('=', out);
    for (; n > 0; n -= n < 3 ? n : 3, b += 3) {
        unsigned bits =
            (unsigned)b[0] << 16 | (n > 1 ? (unsigned)b[1] << 8 : 0) | (n > 2 ? (unsigned)b[2] : 0);
        for (size_t i = 0; i <= (n < 3 ? n : 3); i++)
            putc(digits[bits >> (18 - 6 * i) & 63], out);
    }
}

/* A label and its value as two segments of the path. A value with a slash, or none, can't be one:
 * it goes encoded, as the gateway's API has it. */
static void write_label(FILE *out, const char *name, const char *value)
{
    if (value[0] != '\0' && strchr(value, '/') == NULL) {
        fprintf(out, "/%s/", name);
        write_percent(out, value);
    } else {
        fprintf(out, "/%s@base64/", name);
        write_base64(out, value);
    }
}

static char *group_url(const char *gateway, const char *job, const char *instance)
{
    size_t n = strlen(gateway), size;
    char *url = NULL;
    FILE *out = open_memstream(&url, &size);

    ST_ASSERT(out != NULL);
    while (n > 0 && gateway[n - 1] == '/')
        n--;
    fprintf(out, "%.*s/metrics", (int)n, gateway);
    write_label(out, "job", job);
    write_label(out, "instance", instance);
    fclose(out);
    ST_ASSERT(url != NULL);
    return url;
}

/* ---- pushes ---- */

static void end_one(struct st_metric_push *push)
{
    if (push->done != NULL && --push->left == 0)
        push->done(push->arg);
}

/* The first line of what the gateway has to say. */
static struct st_slice complaint(const struct st_fetch_reply *reply)
{
    size_t n = reply->body.len < REPLY_SHOWN ? reply->body.len : REPLY_SHOWN;
    const char *end = n > 0 ? memchr(reply->body.ptr, '\n', n) : NULL;

    if (reply->code != ST_OK)
        return st_slice_of(reply->error);
    return (struct st_slice){reply->body.ptr, end != NULL ? (size_t)(end - reply->body.ptr) : n};
}

static void note_failure(struct push_sink *s, const struct st_fetch_reply *reply)
{
    uint64_t now = st_loop_now(&s->push->p->main_loop);

    s->failures++;
    st_metric_add(s->push->p->main_loop.metrics, s->failed, 1);
    if (s->failures > 1 && now - s->warned_ns < WARN_NS)
        return;
    s->warned_ns = now;
    ST_LOG(ST_LOG_WARN, "processor.metrics", "Metrics could not be pushed",
           ST_KV_STR("sink", s->config->name), ST_KV_STR("url", s->shown),
           ST_KV_UINT("status", reply->status), ST_KV_SLICE("error", complaint(reply)),
           ST_KV_UINT("failures", s->failures));
}

static void on_pushed(void *arg, const struct st_fetch_reply *reply)
{
    struct push_sink *s = arg;

    s->busy = NULL;
    if (reply->code != ST_OK || reply->status < 200 || reply->status > 299) {
        note_failure(s, reply);
    } else {
        st_metric_add(s->push->p->main_loop.metrics, s->ok, 1);
        if (s->failures > 0)
            ST_LOG(ST_LOG_INFO, "processor.metrics", "Metrics are pushed again",
                   ST_KV_STR("sink", s->config->name), ST_KV_UINT("failures", s->failures));
        s->failures = 0;
    }
    end_one(s->push);
}

static void push_now(struct push_sink *s, uint64_t timeout_ns)
{
    static const struct st_header type = {.name = "Content-Type",
                                          .name_len = 12,
                                          .value = "text/plain; version=0.0.4; charset=utf-8",
                                          .value_len = 40};
    struct st_fetch_request request = {.method = "PUT",
                                       .url = s->url,
                                       .headers = &type,
                                       .header_count = 1,
                                       .timeout_ns = timeout_ns,
                                       .max_reply = REPLY_MAX};
    struct st_error err;
    char *text = NULL;
    FILE *out = open_memstream(&text, &request.body.len);

    ST_ASSERT(out != NULL);
    st_metrics_write(out);
    fclose(out);
    request.body.ptr = text;
    s->busy = st_fetch_start(s->push->fetcher, &request, on_pushed, s, &err);
    ST_ASSERT(s->busy != NULL); /* the configuration has checked the URL */
    free(text);
}

static void on_interval(struct st_timer *t)
{
    struct push_sink *s = ST_CONTAINER_OF(t, struct push_sink, timer);
    uint64_t interval = s->config->interval_ns;

    st_loop_timer_arm(&s->push->p->main_loop, t, interval);
    if (s->busy == NULL)
        push_now(s, interval < TIMEOUT_NS ? interval : TIMEOUT_NS);
}

void st_metric_push_last(struct st_metric_push *push, void (*done)(void *arg), void *arg)
{
    if (push == NULL) {
        done(arg);
        return;
    }
    push->done = done;
    push->arg = arg;
    push->left = (unsigned)push->count;
    for (size_t i = 0; i < push->count; i++) {
        struct push_sink *s = &push->sinks[i];

        st_loop_timer_cancel(&push->p->main_loop, &s->timer);
        if (s->busy != NULL)
            st_fetch_cancel(s->busy);
        push_now(s, LAST_TIMEOUT_NS);
    }
}

/* ---- life ---- */

static st_metric register_result(struct push_sink *s, const char *result)
{
    struct st_labels labels;

    st_labels_own(&labels, s->push->p, NULL);
    st_labels_add(&labels, "sink", s->config->name);
    st_labels_add(&labels, "result", result);
    return st_metric_register(ST_METRIC_METRIC_PUSHES, labels.items);
}

static void sink_open(struct push_sink *s)
{
    struct st_processor *p = s->push->p;
    const struct st_function_config *f = &p->config->function;
    size_t size = strlen(s->config->url) + 1;
    char job[256];

    st_name_template_expand(s->config->job, f->name, f->namespace_, job, sizeof job);
    s->url = group_url(s->config->url, job, p->instance);
    s->shown = st_malloc(size);
    st_fetch_redact_url(s->config->url, s->shown, size);
    s->ok = register_result(s, "success");
    s->failed = register_result(s, "failure");
    st_timer_init(&s->timer, on_interval);
    st_loop_timer_arm(&p->main_loop, &s->timer, s->config->interval_ns);
    ST_LOG(ST_LOG_INFO, "processor.metrics", "Metrics will be pushed",
           ST_KV_STR("sink", s->config->name), ST_KV_STR("url", s->shown), ST_KV_STR("job", job),
           ST_KV_STR("instance", p->instance),
           ST_KV_DOUBLE("seconds", (double)s->config->interval_ns / 1e9));
}

int st_metric_push_open(struct st_metric_push **out, struct st_processor *p, struct st_error *err)
{
    const struct st_platform_config *c = &p->config->platform;
    struct st_metric_push *push;

    *out = NULL;
    if (c->push_count == 0)
        return ST_OK;
    push = st_calloc(1, sizeof *push + c->push_count * sizeof push->sinks[0]);
    push->p = p;
    *out = push;
    if (st_fetcher_open(&push->fetcher, &p->main_loop, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < c->push_count; i++) {
        push->sinks[i].push = push;
        push->sinks[i].config = &c->pushes[i];
        push->count = i + 1;
        sink_open(&push->sinks[i]);
    }
    return ST_OK;
}

void st_metric_push_close(struct st_metric_push *push)
{
    if (push == NULL)
        return;
    for (size_t i = 0; i < push->count; i++) {
        st_loop_timer_cancel(&push->p->main_loop, &push->sinks[i].timer);
        free(push->sinks[i].url);
        free(push->sinks[i].shown);
    }
    st_fetcher_close(push->fetcher);
    free(push);
}
