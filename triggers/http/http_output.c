/* Each message is a request of the loop that sends it, by the processor's one HTTP client, which
 * tries again where that may help. What is under way is bounded for all loops together. */
#include "triggers/http/http_output.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/queue.h>

#include "processor/core/alloc.h"
#include "processor/core/loop.h"
#include "processor/net/fetch.h"
#include "processor/processor.h"

enum { MAX_REPLY = 4 * 1024 * 1024, TEXT_MAX = 512, OWN_HEADERS = 3, MAX_CONFIGURED = 64 };

/* ---- options ---- */

struct http_output_options {
    char *url, *method, *content_type;
    struct st_string_map headers;
    uint64_t timeout_ns, backoff_ns, backoff_cap_ns;
    int64_t attempts, max_requests;
    uint64_t max_bytes;
};

#define AT(member) offsetof(struct http_output_options, member)

static const struct st_option options_table[] = {
    {.name = "url",
     .type = ST_OPT_STRING,
     .offset = AT(url),
     .value = "",
     .flags = ST_OPT_REQUIRED | ST_OPT_EXPAND,
     .help = "Where requests go.",
     .example = "http://collector:8080/orders"},
    {.name = "method",
     .type = ST_OPT_STRING,
     .offset = AT(method),
     .value = "POST",
     .flags = ST_OPT_EXPAND,
     .help = "Of the requests.",
     .example = "PUT"},
    {.name = "headers",
     .type = ST_OPT_STRING_MAP,
     .offset = AT(headers),
     .flags = ST_OPT_EXPAND | ST_OPT_SECRET,
     .help = "Headers of each request, before those of the message.",
     .example = "{Authorization: \"Bearer ${TOKEN}\"}"},
    {.name = "contentType",
     .type = ST_OPT_STRING,
     .offset = AT(content_type),
     .value = "application/octet-stream",
     .flags = ST_OPT_EXPAND,
     .help = "Of messages that have no Content-Type among their headers.",
     .example = "application/json"},
    {.name = "timeout",
     .type = ST_OPT_DURATION,
     .offset = AT(timeout_ns),
     .value = "10s",
     .min = 1e6,
     .max = 3600e9,
     .flags = ST_OPT_EXPAND,
     .help = "Of one attempt.",
     .example = "10s"},
    {.name = "attempts",
     .type = ST_OPT_INT,
     .offset = AT(attempts),
     .value = "3",
     .min = 1,
     .max = 100,
     .flags = ST_OPT_EXPAND,
     .help = "How often a request is tried at most.",
     .example = "3"},
    {.name = "backoff",
     .type = ST_OPT_DURATION,
     .offset = AT(backoff_ns),
     .value = "100ms",
     .min = 1e6,
     .max = 3600e9,
     .flags = ST_OPT_EXPAND,
     .help = "Bound of the random wait before the second attempt; each later one doubles it.",
     .example = "100ms"},
    {.name = "backoffCap",
     .type = ST_OPT_DURATION,
     .offset = AT(backoff_cap_ns),
     .value = "5s",
     .min = 1e6,
     .max = 3600e9,
     .flags = ST_OPT_EXPAND,
     .help = "What it grows to.",
     .example = "5s"},
    {.name = "maxRequests",
     .type = ST_OPT_INT,
     .offset = AT(max_requests),
     .value = "1000",
     .min = 1,
     .max = 1e6,
     .flags = ST_OPT_EXPAND,
     .help = "Messages that may be under way; more are refused.",
     .example = "1000"},
    {.name = "maxBytes",
     .type = ST_OPT_SIZE,
     .offset = AT(max_bytes),
     .value = "64Mi",
     .min = 1024,
     .max = 1e15,
     .flags = ST_OPT_EXPAND,
     .help = "Bytes of them that may be under way; more are refused.",
     .example = "64Mi"},
    {.name = NULL}};

static int check_headers(const struct http_output_options *o, struct st_error *err)
{
    if (o->headers.count > MAX_CONFIGURED)
        return st_error_set(err, ST_ERR_INVALID, "found %zu, expected at most %d", o->headers.count,
                            MAX_CONFIGURED);
    for (size_t i = 0; i < o->headers.count; i++) {
        const struct st_string_pair *h = &o->headers.items[i];

        if (strlen(h->name) > UINT16_MAX || !st_http_name_ok(st_slice_of(h->name)) ||
            !st_http_value_ok(st_slice_of(h->value)))
            return st_error_set(err, ST_ERR_INVALID, "\"%.64s\" is no header", h->name);
    }
    return ST_OK;
}

static int check(const void *options, const char **member, struct st_error *err)
{
    const struct http_output_options *o = options;
    int code;

    *member = "url";
    if ((code = st_fetch_check_url(o->url, err)) != ST_OK)
        return code;
    *member = "method";
    if (!st_http_name_ok(st_slice_of(o->method)))
        return st_error_set(err, ST_ERR_INVALID,
                            "found \"%.32s\", expected a method, for example "
                            "\"POST\"",
                            o->method);
    *member = "contentType";
    if (!st_http_value_ok(st_slice_of(o->content_type)))
        return st_error_set(err, ST_ERR_INVALID, "found a text that no header may have");
    *member = "headers";
    return check_headers(o, err);
}

/* ---- the output ---- */

struct http_output;

/* What belongs to one of the loops that send. */
struct http_sender {
    struct http_output *ho;
    struct st_loop *loop;
    struct st_fetcher *fetcher; /* NULL: not open, or closed */
    TAILQ_HEAD(, http_request) requests;
};

struct http_request {
    TAILQ_ENTRY(http_request) link;
    struct http_sender *sender;
    struct st_send *send;
    size_t bytes;
};

struct http_output {
    struct st_output base;
    struct http_sender *senders; /* one a loop */
    _Atomic int64_t requests;    /* under way, all loops */
    _Atomic uint64_t bytes;
};

static struct http_output *output_of(struct st_output *o)
{
    return ST_CONTAINER_OF(o, struct http_output, base);
}

static const struct http_output_options *options_of(const struct http_output *ho)
{
    return ho->base.options;
}

static struct http_request *request_new(struct http_sender *sender, size_t bytes)
{
    struct http_output *ho = sender->ho;
    const struct http_output_options *o = options_of(ho);
    struct http_request *r;
    int64_t requests = atomic_fetch_add_explicit(&ho->requests, 1, memory_order_relaxed);
    uint64_t before = atomic_fetch_add_explicit(&ho->bytes, bytes, memory_order_relaxed);

    if (requests >= o->max_requests || before + bytes > o->max_bytes ||
        (r = st_try_malloc(sizeof *r)) == NULL) {
        atomic_fetch_sub_explicit(&ho->requests, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&ho->bytes, bytes, memory_order_relaxed);
        return NULL;
    }
    r->sender = sender;
    r->bytes = bytes;
    TAILQ_INSERT_TAIL(&sender->requests, r, link);
    return r;
}

static void request_free(struct http_request *r)
{
    struct http_output *ho = r->sender->ho;

    atomic_fetch_sub_explicit(&ho->requests, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&ho->bytes, r->bytes, memory_order_relaxed);
    TAILQ_REMOVE(&r->sender->requests, r, link);
    free(r);
}

static void on_reply(void *arg, const struct st_fetch_reply *reply)
{
    struct http_request *r = arg;
    struct st_send *send = r->send;
    struct st_loop *loop = r->sender->loop;
    char text[TEXT_MAX] = "";
    int status = reply->code;

    if (reply->code != ST_OK) {
        snprintf(text, sizeof text, "%s (attempt %u)", reply->error, reply->attempts);
    } else if (reply->status < 200 || reply->status > 299) {
        status = reply->status == 429 || reply->status >= 500 ? ST_ERR_CLOSED : ST_ERR_INVALID;
        snprintf(text, sizeof text, "the server answered %u (attempt %u)", reply->status,
                 reply->attempts);
    }
    request_free(r);
    st_send_done(send, loop, status, text);
}

/* Headers of one request. */
struct head {
    size_t count;
    bool has_type;
    struct st_header items[];
};

/* What frames the message, or names the peer, is the client's own to say. */
static bool is_refused(struct st_slice name)
{
    uint8_t id = st_header_id_of(name.ptr, name.len);

    return (id != ST_HDR_CONTENT_TYPE && st_header_is_ours(id)) ||
           st_slice_ieq(name, ST_SLICE("Host")) || st_slice_ieq(name, ST_SLICE("Expect"));
}

static void add(struct head *head, struct st_slice name, struct st_slice value)
{
    if (is_refused(name))
        return;
    head->has_type |= st_slice_ieq(name, ST_SLICE("Content-Type"));
    head->items[head->count++] = (struct st_header){.name = name.ptr,
                                                    .name_len = (uint16_t)name.len,
                                                    .value = value.ptr,
                                                    .value_len = (uint32_t)value.len};
}

/* The caller frees it. NULL with *err. */
static struct head *head_new(const struct http_output_options *o, const struct st_message *m,
                             struct st_error *err)
{
    size_t most = o->headers.count + m->header_count + OWN_HEADERS;
    struct head *head = st_malloc(sizeof *head + most * sizeof head->items[0]);

    head->count = 0;
    head->has_type = false;
    for (size_t i = 0; i < o->headers.count; i++)
        add(head, st_slice_of(o->headers.items[i].name), st_slice_of(o->headers.items[i].value));
    for (size_t i = 0; i < m->header_count; i++)
        add(head, (struct st_slice){m->headers[i].name, m->headers[i].name_len},
            (struct st_slice){m->headers[i].value, m->headers[i].value_len});
    if (!head->has_type && o->content_type[0] != '\0')
        add(head, ST_SLICE("Content-Type"), st_slice_of(o->content_type));
    if (m->is_tombstone)
        add(head, ST_SLICE("X-Stator-No-Value"), ST_SLICE("true"));
    if (m->key.ptr != NULL && !st_http_value_ok(m->key)) {
        st_error_set(err, ST_ERR_INVALID, "the key has bytes that no header may have");
        free(head);
        return NULL;
    }
    if (m->key.ptr != NULL)
        add(head, ST_SLICE("X-Stator-Key"), m->key);
    return head;
}

static int start(struct http_sender *sender, const struct st_fetch_request *request,
                 struct st_send *send, size_t bytes, struct st_error *err)
{
    const struct http_output_options *o = options_of(sender->ho);
    struct http_request *r = request_new(sender, bytes);

    if (r == NULL)
        return st_error_set(err, ST_ERR_LIMIT,
                            "too much is under way (maxRequests %lld, maxBytes %llu)",
                            (long long)o->max_requests, (unsigned long long)o->max_bytes);
    r->send = send;
    if (st_fetch_start(sender->fetcher, request, on_reply, r, err) != NULL)
        return ST_OK;
    request_free(r);
    return ST_ERR_INVALID;
}

static int http_send(struct st_output *base, struct st_loop *loop, const struct st_message *m,
                     struct st_send *send, struct st_error *err)
{
    struct http_output *ho = output_of(base);
    struct http_sender *sender = &ho->senders[loop->index];
    const struct http_output_options *o = options_of(ho);
    struct st_fetch_request request = {.method = o->method,
                                       .url = o->url,
                                       .body = m->is_tombstone ? (struct st_slice){0} : m->value,
                                       .timeout_ns = o->timeout_ns,
                                       .max_reply = MAX_REPLY,
                                       .attempts = (unsigned)o->attempts,
                                       .backoff_ns = o->backoff_ns,
                                       .backoff_cap_ns = o->backoff_cap_ns};
    struct head *head;
    int code;

    if (m->topic.len != 0)
        return st_error_set(err, ST_ERR_INVALID, "an output of kind http has no topics");
    head = head_new(o, m, err);
    if (head == NULL)
        return err->code;
    request.headers = head->items;
    request.header_count = head->count;
    code = start(sender, &request, send, m->value.len + m->key.len, err);
    free(head);
    return code;
}

/* ---- life ---- */

static int init(struct st_output *base, struct st_error *err)
{
    struct http_output *ho = output_of(base);
    const struct http_output_options *o = base->options;
    const char *member;

    base->most_messages = (uint64_t)o->max_requests;
    base->most_bytes = o->max_bytes;
    ho->senders = st_calloc(base->processor->loop_count, sizeof ho->senders[0]);
    for (unsigned i = 0; i < base->processor->loop_count; i++) {
        ho->senders[i].ho = ho;
        TAILQ_INIT(&ho->senders[i].requests);
    }
    return check(base->options, &member, err);
}

static int http_open(struct st_output *base, struct st_loop *loop, struct st_error *err)
{
    struct http_sender *sender = &output_of(base)->senders[loop->index];

    sender->loop = loop;
    return st_fetcher_open(&sender->fetcher, loop, err);
}

static void sender_close(struct http_sender *sender)
{
    struct http_request *next;

    st_fetcher_close(sender->fetcher);
    sender->fetcher = NULL;
    for (struct http_request *r = TAILQ_FIRST(&sender->requests); r != NULL; r = next) {
        next = TAILQ_NEXT(r, link);
        request_free(r);
    }
}

static void http_close(struct st_output *base, struct st_loop *loop)
{
    sender_close(&output_of(base)->senders[loop->index]);
}

static void destroy(struct st_output *base)
{
    struct http_output *ho = output_of(base);

    for (unsigned i = 0; i < base->processor->loop_count; i++) {
        if (ho->senders[i].fetcher == NULL)
            continue;
        sender_close(&ho->senders[i]);
        st_loop_settle(ho->senders[i].loop);
    }
    free(ho->senders);
}

const struct st_output_kind st_output_http_kind = {
    .name = "http",
    .options = options_table,
    .options_size = sizeof(struct http_output_options),
    .obj_size = sizeof(struct http_output),
    .check = check,
    .init = init,
    .open = http_open,
    .send = http_send,
    .close = http_close,
    .destroy = destroy,
};
