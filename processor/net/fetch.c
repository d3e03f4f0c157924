#include "processor/net/fetch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "processor/core/alloc.h"
#include "processor/net/fetch_curl.h"

enum { MAX_CONNECTIONS = 64, HEAD_MAX = 64 * 1024, BUF_MIN = 1024 };

struct st_fetcher {
    struct st_loop *loop;
    const struct st_curl *curl;
    CURLM *multi;
    struct st_timer timer; /* when libcurl wants to be called */
    struct event kick;     /* the same for "at once": never pending, only active */
    TAILQ_HEAD(, st_fetch) all;
};

struct st_fetch {
    TAILQ_ENTRY(st_fetch) link;
    struct st_fetcher *fetcher;
    st_fetch_fn *fn;
    void *arg;
    CURL *easy;
    struct curl_slist *headers;
    struct st_timer retry;
    uint64_t backoff_ns, backoff_cap_ns;
    unsigned attempts, max_attempts;
    size_t max_reply, head_len;
    char *body;
    size_t body_len, body_room;
    int fault; /* why we broke off: ST_ERR_LIMIT, ST_ERR_NOMEM; or ST_OK */
    char error[CURL_ERROR_SIZE];
};

/* A socket of libcurl's that is watched. */
struct watch {
    struct st_garbage garbage;
    struct st_fetcher *fetcher;
    struct event event;
};

/* ---- URLs ---- */

/* Behind "http://" or "https://"; NULL: another scheme. */
static const char *behind_scheme(const char *url)
{
    if (strncasecmp(url, "http://", 7) == 0)
        return url + 7;
    return strncasecmp(url, "https://", 8) == 0 ? url + 8 : NULL;
}

/* The host and what follows it: behind user and password, if there are any. */
static const char *behind_user(const char *authority)
{
    const char *end = authority + strcspn(authority, "/?#"), *at = end;

    while (at > authority && at[-1] != '@')
        at--;
    return at;
}

static bool port_ok(const char *text, const char *end)
{
    unsigned long port = 0;

    for (; text < end; text++) {
        if (*text < '0' || *text > '9' || port > 65535)
            return false;
        port = port * 10 + (unsigned long)(*text - '0');
    }
    return port > 0 && port <= 65535;
}

static bool host_ok(const char *host)
{
    size_t n = strcspn(host, "/?#");
    const char *end = host + n, *colon;

    if (*host == '[') {
        const char *close = memchr(host, ']', n);
        if (close == NULL || close == host + 1)
            return false;
        colon = close + 1;
    } else {
        colon = memchr(host, ':', n);
        if (colon == NULL)
            colon = end;
        if (colon == host)
            return false;
    }
    return colon == end || (*colon == ':' && port_ok(colon + 1, end));
}

int st_fetch_check_url(const char *url, struct st_error *err)
{
    const char *authority = behind_scheme(url);
    bool ok = authority != NULL && host_ok(behind_user(authority));

    for (const char *p = url; *p != '\0'; p++)
        ok = ok && (unsigned char)*p > ' ' && *p != 0x7f;
    if (ok)
        return ST_OK;
    return st_error_set(err, ST_ERR_INVALID,
                        "expected a URL of http or https, for example \"http://127.0.0.1:9091\"");
}

void st_fetch_redact_url(const char *url, char *out, size_t n)
{
    const char *authority = behind_scheme(url);

    if (authority == NULL)
        snprintf(out, n, "%s", url);
    else
        snprintf(out, n, "%.*s%s", (int)(authority - url), url, behind_user(authority));
}

/* ---- replies ---- */

static size_t on_head(char *bytes, size_t size, size_t count, void *arg)
{
    struct st_fetch *f = arg;
    size_t n = size * count;

    (void)bytes;
    f->head_len += n;
    if (f->head_len <= HEAD_MAX)
        return n;
    f->fault = ST_ERR_LIMIT;
    return 0;
}

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct st_fetch *f = arg;
    size_t n = size * count, room = f->body_room;
    char *more;

    if (n > f->max_reply - f->body_len) {
        f->fault = ST_ERR_LIMIT;
        return 0;
    }
    if (f->body_len + n > room) {
        room = room * 2 > f->body_len + n ? room * 2 : f->body_len + n + BUF_MIN;
        more = st_try_realloc(f->body, room);
        if (more == NULL) {
            f->fault = ST_ERR_NOMEM;
            return 0;
        }
        f->body = more;
        f->body_room = room;
    }
    memcpy(f->body + f->body_len, bytes, n);
    f->body_len += n;
    return n;
}

static void fetch_free(struct st_fetch *f)
{
    const struct st_curl *curl = f->fetcher->curl;

    TAILQ_REMOVE(&f->fetcher->all, f, link);
    st_loop_timer_cancel(f->fetcher->loop, &f->retry);
    curl->multi_remove_handle(f->fetcher->multi, f->easy); /* no effect between attempts */
    curl->easy_cleanup(f->easy);
    curl->slist_free_all(f->headers);
    free(f->body);
    free(f);
}

void st_fetch_cancel(struct st_fetch *fetch)
{
    fetch_free(fetch);
}

/* ---- attempts ---- */

static void attempt(struct st_fetch *f)
{
    CURLMcode code;

    f->attempts++;
    f->body_len = f->head_len = 0;
    f->fault = ST_OK;
    f->error[0] = '\0';
    code = f->fetcher->curl->multi_add_handle(f->fetcher->multi, f->easy);
    ST_ASSERT(code == CURLM_OK);
}

static void on_retry(struct st_timer *t)
{
    attempt(ST_CONTAINER_OF(t, struct st_fetch, retry));
}

static int code_of(const struct st_fetch *f, CURLcode result)
{
    if (result == CURLE_OK)
        return ST_OK;
    if (f->fault != ST_OK)
        return f->fault;
    if (result == CURLE_OUT_OF_MEMORY)
        return ST_ERR_NOMEM;
    return result == CURLE_OPERATION_TIMEDOUT ? ST_ERR_TIMEOUT : ST_ERR_CLOSED;
}

static bool may_try_again(const struct st_fetch *f, int code, long status)
{
    if (f->attempts >= f->max_attempts)
        return false;
    if (code == ST_OK)
        return status == 408 || status == 429 || (status >= 500 && status != 501);
    return code == ST_ERR_TIMEOUT || code == ST_ERR_CLOSED;
}

/* Full jitter: servers that come back are not hit by everybody at once. */
static uint64_t backoff(struct st_fetch *f)
{
    uint64_t bound = f->backoff_ns;

    for (unsigned i = 1; i < f->attempts && bound < f->backoff_cap_ns; i++)
        bound *= 2;
    if (bound > f->backoff_cap_ns)
        bound = f->backoff_cap_ns;
    return st_rand_below(&f->fetcher->loop->rand, bound + 1);
}

static const char *error_text(const struct st_fetch *f, CURLcode result)
{
    if (result == CURLE_OK)
        return "";
    if (f->fault == ST_ERR_LIMIT)
        return "the reply is too large";
    return f->error[0] != '\0' ? f->error : f->fetcher->curl->easy_strerror(result);
}

static void attempt_done(struct st_fetch *f, CURLcode result)
{
    const struct st_curl *curl = f->fetcher->curl;
    struct st_fetch_reply reply = {.code = code_of(f, result), .attempts = f->attempts};
    long status = 0;

    if (result == CURLE_OK)
        curl->easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    curl->multi_remove_handle(f->fetcher->multi, f->easy);
    if (may_try_again(f, reply.code, status)) {
        st_loop_timer_arm(f->fetcher->loop, &f->retry, backoff(f));
        return;
    }
    reply.status = (unsigned)status;
    reply.body = (struct st_slice){f->body, result == CURLE_OK ? f->body_len : 0};
    reply.error = error_text(f, result);
    f->fn(f->arg, &reply);
    fetch_free(f);
}

/* ---- libcurl on the loop ---- */

static void take_results(struct st_fetcher *fetcher)
{
    CURLMsg *msg;
    int left;

    while ((msg = fetcher->curl->multi_info_read(fetcher->multi, &left)) != NULL) {
        CURLcode result = msg->data.result;
        char *f = NULL;

        if (msg->msg != CURLMSG_DONE)
            continue;
        fetcher->curl->easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &f);
        attempt_done((struct st_fetch *)(void *)f, result);
    }
}

static void act(struct st_fetcher *fetcher, curl_socket_t fd, int mask)
{
    int running;

    fetcher->curl->multi_socket_action(fetcher->multi, fd, mask, &running);
    take_results(fetcher);
}

static void on_timer(struct st_timer *t)
{
    act(ST_CONTAINER_OF(t, struct st_fetcher, timer), CURL_SOCKET_TIMEOUT, 0);
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

/* libcurl says when it wants to be called; it may not be called from here. */
static int on_timeout(CURLM *multi, long ms, void *arg)
{
    struct st_fetcher *fetcher = arg;

    (void)multi;
    st_loop_timer_cancel(fetcher->loop, &fetcher->timer);
    if (ms == 0)
        event_active(&fetcher->kick, EV_TIMEOUT, 0);
    else if (ms > 0)
        st_loop_timer_arm(fetcher->loop, &fetcher->timer, (uint64_t)ms * ST_MSEC);
    return 0;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct watch *w = arg;
    int mask = ((what & EV_READ) != 0 ? CURL_CSELECT_IN : 0) |
               ((what & EV_WRITE) != 0 ? CURL_CSELECT_OUT : 0);

    act(w->fetcher, fd, mask);
}

static void watch_free(struct st_garbage *g)
{
    free(ST_CONTAINER_OF(g, struct watch, garbage));
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket_arg)
{
    struct st_fetcher *fetcher = arg;
    struct watch *w = socket_arg;
    short flags = EV_PERSIST;

    (void)easy;
    if (w != NULL)
        event_del(&w->event);
    if (what == CURL_POLL_REMOVE) {
        if (w != NULL)
            st_loop_free_later(fetcher->loop, &w->garbage, watch_free);
        return 0;
    }
    if (w == NULL) {
        w = st_calloc(1, sizeof *w);
        w->fetcher = fetcher;
        fetcher->curl->multi_assign(fetcher->multi, fd, w);
    }
    if ((what & CURL_POLL_IN) != 0)
        flags |= EV_READ;
    if ((what & CURL_POLL_OUT) != 0)
        flags |= EV_WRITE;
    event_assign(&w->event, fetcher->loop->base, fd, flags, on_event, w);
    ST_ASSERT(event_add(&w->event, NULL) == 0);
    return 0;
}

int st_fetcher_open(struct st_fetcher **out, struct st_loop *loop, struct st_error *err)
{
    const struct st_curl *curl = st_curl_get(err);
    struct st_fetcher *fetcher;

    *out = NULL;
    if (curl == NULL)
        return ST_ERR_NOTFOUND;
    fetcher = st_calloc(1, sizeof *fetcher);
    fetcher->loop = loop;
    fetcher->curl = curl;
    fetcher->multi = curl->multi_init();
    ST_ASSERT(fetcher->multi != NULL);
    TAILQ_INIT(&fetcher->all);
    st_timer_init(&fetcher->timer, on_timer);
    event_assign(&fetcher->kick, loop->base, -1, 0, on_kick, fetcher);
    curl->multi_setopt(fetcher->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl->multi_setopt(fetcher->multi, CURLMOPT_SOCKETDATA, fetcher);
    curl->multi_setopt(fetcher->multi, CURLMOPT_TIMERFUNCTION, on_timeout);
    curl->multi_setopt(fetcher->multi, CURLMOPT_TIMERDATA, fetcher);
    curl->multi_setopt(fetcher->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)MAX_CONNECTIONS);
    *out = fetcher;
    return ST_OK;
}

void st_fetcher_close(struct st_fetcher *fetcher)
{
    struct st_fetch *next;

    if (fetcher == NULL)
        return;
    for (struct st_fetch *f = TAILQ_FIRST(&fetcher->all); f != NULL; f = next) {
        next = TAILQ_NEXT(f, link);
        fetch_free(f);
    }
    fetcher->curl->multi_cleanup(fetcher->multi);
    st_loop_timer_cancel(fetcher->loop, &fetcher->timer);
    event_del(&fetcher->kick);
    free(fetcher);
}

/* ---- requests ---- */

static int check_request(const struct st_fetch_request *r, struct st_error *err)
{
    if (!st_http_name_ok(st_slice_of(r->method))) /* a token, too (RFC 9110 section 9.1) */
        return st_error_set(err, ST_ERR_INVALID, "\"%.32s\" is no method", r->method);
    for (size_t i = 0; i < r->header_count; i++) {
        const struct st_header *h = &r->headers[i];

        if (!st_http_name_ok((struct st_slice){h->name, h->name_len}) ||
            !st_http_value_ok((struct st_slice){h->value, h->value_len}))
            return st_error_set(err, ST_ERR_INVALID, "\"%.*s\" is no header",
                                h->name_len < 64 ? (int)h->name_len : 64, h->name);
    }
    return st_fetch_check_url(r->url, err);
}

static struct curl_slist *add_line(const struct st_curl *curl, struct curl_slist *list,
                                   const char *line)
{
    struct curl_slist *more = curl->slist_append(list, line);

    ST_ASSERT(more != NULL);
    return more;
}

/* libcurl's headers: "Name: value", "Name;" for an empty value, "Name:" to send none. */
static struct curl_slist *header_lines(const struct st_curl *curl, const struct st_fetch_request *r)
{
    struct curl_slist *list = add_line(curl, NULL, "Expect:");
    bool has_type = false;

    for (size_t i = 0; i < r->header_count; i++) {
        const struct st_header *h = &r->headers[i];
        char *line = NULL;
        int n = h->value_len == 0 ? asprintf(&line, "%.*s;", (int)h->name_len, h->name)
                                  : asprintf(&line, "%.*s: %.*s", (int)h->name_len, h->name,
                                             (int)h->value_len, h->value);

        ST_ASSERT(n >= 0);
        list = add_line(curl, list, line);
        free(line);
        has_type |= st_slice_ieq((struct st_slice){h->name, h->name_len}, ST_SLICE("Content-Type"));
    }
    return has_type ? list : add_line(curl, list, "Content-Type:");
}

static void set_method(struct st_fetch *f, const struct st_fetch_request *r)
{
    const struct st_curl *curl = f->fetcher->curl;

    if (strcmp(r->method, "HEAD") == 0) {
        curl->easy_setopt(f->easy, CURLOPT_NOBODY, 1L);
        return;
    }
    if (strcmp(r->method, "GET") != 0 || r->body.len > 0) {
        curl->easy_setopt(f->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
        curl->easy_setopt(f->easy, CURLOPT_COPYPOSTFIELDS, r->body.len > 0 ? r->body.ptr : "");
    }
    curl->easy_setopt(f->easy, CURLOPT_CUSTOMREQUEST, r->method);
}

static void set_options(struct st_fetch *f, const struct st_fetch_request *r)
{
    const struct st_curl *curl = f->fetcher->curl;
    long ms = (long)((r->timeout_ns + ST_MSEC - 1) / ST_MSEC);

    curl->easy_setopt(f->easy, CURLOPT_PRIVATE, f);
    curl->easy_setopt(f->easy, CURLOPT_ERRORBUFFER, f->error);
    curl->easy_setopt(f->easy, CURLOPT_NOSIGNAL, 1L);
    /* A name server that hangs must not keep a cancelled request's thread waited for. */
    curl->easy_setopt(f->easy, CURLOPT_QUICK_EXIT, 1L);
    curl->easy_setopt(f->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl->easy_setopt(f->easy, CURLOPT_USERAGENT, "stator");
    curl->easy_setopt(f->easy, CURLOPT_TIMEOUT_MS, ms);
    curl->easy_setopt(f->easy, CURLOPT_CONNECTTIMEOUT_MS, ms);
    curl->easy_setopt(f->easy, CURLOPT_URL, r->url);
    curl->easy_setopt(f->easy, CURLOPT_HTTPHEADER, f->headers);
    curl->easy_setopt(f->easy, CURLOPT_HEADERFUNCTION, on_head);
    curl->easy_setopt(f->easy, CURLOPT_HEADERDATA, f);
    curl->easy_setopt(f->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl->easy_setopt(f->easy, CURLOPT_WRITEDATA, f);
    set_method(f, r);
}

struct st_fetch *st_fetch_start(struct st_fetcher *fetcher, const struct st_fetch_request *request,
                                st_fetch_fn *fn, void *arg, struct st_error *err)
{
    struct st_fetch *f;

    ST_ASSERT(request->timeout_ns > 0);
    if (check_request(request, err) != ST_OK)
        return NULL;
    f = st_calloc(1, sizeof *f);
    f->fetcher = fetcher;
    f->fn = fn;
    f->arg = arg;
    f->max_attempts = request->attempts > 0 ? request->attempts : 1;
    f->backoff_ns = request->backoff_ns;
    f->backoff_cap_ns = request->backoff_cap_ns;
    f->max_reply = request->max_reply;
    st_timer_init(&f->retry, on_retry);
    TAILQ_INSERT_TAIL(&fetcher->all, f, link);
    f->easy = fetcher->curl->easy_init();
    ST_ASSERT(f->easy != NULL);
    f->headers = header_lines(fetcher->curl, request);
    set_options(f, request);
    attempt(f);
    return f;
}
