#include "triggers/kafka/kafka_oauth.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/core/rand.h"
#include "processor/net/fetch.h"

#define TIMEOUT_NS (10 * ST_SEC)
#define DELAY_MIN_NS (500 * ST_MSEC)
#define DELAY_MAX_NS (10 * ST_SEC)
/* Where the endpoint says nothing of it. */
#define LIFE_S 300
#define LIFE_MOST_S (365 * INT64_C(86400))
enum { REPLY_MAX = 256 * 1024, REASON_MAX = 256 };

struct st_kafka_oauth {
    const struct st_kafka_client_options *options;
    const char *name;
    struct st_loop *loop;
    struct st_fetcher *fetcher;
    struct st_fetch *fetch; /* under way, or NULL */
    struct st_timer retry;
    rd_kafka_t *rk;
    uint64_t delay_ns; /* before the next try; 0: the last one went well */
    bool waiting;      /* for retry */
    bool in_body;      /* the endpoint wants id and secret there, not as a header */
    bool tried_other;  /* way, since the last answer that was none of these */
    bool has_token;
    char url[256]; /* for people */
};

/* ---- the request ---- */

/* As a form has it. */
static void put_escaped(FILE *out, const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text != '\0'; text++)
        fprintf(out, strchr(plain, *text) != NULL ? "%c" : "%%%02X", (unsigned char)*text);
}

static void put_base64(FILE *out, const char *text, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = 0;

        for (size_t j = i; j < i + 3; j++)
            bits = bits << 8 | (j < len ? (unsigned char)text[j] : 0);
        for (size_t j = 0; j < 4; j++)
            fputc(i + j > len ? '=' : digits[bits >> (18 - 6 * j) & 63], out);
    }
}

static void wipe(char *text, size_t len)
{
    explicit_bzero(text, len);
    free(text);
}

static void put_credentials(FILE *out, const struct st_kafka_client_options *o, const char *between)
{
    char *secret = st_kafka_client_secret(o, o->sasl.oauth.client_secret);

    put_escaped(out, o->sasl.oauth.client_id);
    fputs(between, out);
    put_escaped(out, secret);
    wipe(secret, strlen(secret));
}

static size_t make_authorization(const struct st_kafka_client_options *o, char **out)
{
    char *plain;
    size_t plain_len, len;
    FILE *text = open_memstream(&plain, &plain_len);

    ST_ASSERT(text != NULL);
    put_credentials(text, o, ":");
    ST_ASSERT(fclose(text) == 0);
    text = open_memstream(out, &len);
    ST_ASSERT(text != NULL);
    fputs("Basic ", text);
    put_base64(text, plain, plain_len);
    ST_ASSERT(fclose(text) == 0);
    wipe(plain, plain_len);
    return len;
}

static size_t make_body(const struct st_kafka_oauth *a, char **out)
{
    const struct st_string_list *scopes = &a->options->sasl.oauth.scopes;
    size_t len;
    FILE *text = open_memstream(out, &len);

    ST_ASSERT(text != NULL);
    fputs("grant_type=client_credentials", text);
    for (size_t i = 0; i < scopes->count; i++) {
        fputs(i == 0 ? "&scope=" : "%20", text);
        put_escaped(text, scopes->items[i]);
    }
    if (a->in_body) {
        fputs("&client_id=", text);
        put_credentials(text, a->options, "&client_secret=");
    }
    ST_ASSERT(fclose(text) == 0);
    return len;
}

static struct st_header header_of(const char *name, const char *value, size_t len)
{
    return (struct st_header){.name = name,
                              .name_len = (uint16_t)strlen(name),
                              .value = value,
                              .value_len = (uint32_t)len};
}

static void on_reply(void *arg, const struct st_fetch_reply *reply);

static int ask(struct st_kafka_oauth *a, struct st_error *err)
{
    static const char form[] = "application/x-www-form-urlencoded", json[] = "application/json";
    struct st_header headers[3] = {header_of("Content-Type", form, sizeof form - 1),
                                   header_of("Accept", json, sizeof json - 1)};
    struct st_fetch_request request = {.method = "POST",
                                       .url = a->options->sasl.oauth.token_url,
                                       .headers = headers,
                                       .header_count = 2,
                                       .timeout_ns = TIMEOUT_NS,
                                       .max_reply = REPLY_MAX,
                                       .attempts = 1};
    char *authorization = NULL, *body;
    size_t len = 0, body_len = make_body(a, &body);

    if (!a->in_body) {
        len = make_authorization(a->options, &authorization);
        headers[request.header_count++] = header_of("Authorization", authorization, len);
    }
    request.body = (struct st_slice){body, body_len};
    a->fetch = st_fetch_start(a->fetcher, &request, on_reply, a, err);
    wipe(body, body_len);
    if (authorization != NULL)
        wipe(authorization, len);
    return a->fetch != NULL ? ST_OK : err->code;
}

/* ---- the answer ---- */

static void fail(struct st_kafka_oauth *a, const char *reason)
{
    uint64_t delay = a->delay_ns == 0 ? DELAY_MIN_NS : 2 * a->delay_ns;

    a->delay_ns = delay < DELAY_MAX_NS ? delay : DELAY_MAX_NS;
    delay = a->delay_ns / 2 + st_rand_below(&a->loop->rand, a->delay_ns / 2);
    ST_LOG(ST_LOG_WARN, "kafka", "No token could be fetched; tried again",
           ST_KV_STR("client", a->name), ST_KV_STR("url", a->url), ST_KV_STR("reason", reason),
           ST_KV_DOUBLE("seconds", (double)delay / (double)ST_SEC));
    a->has_token = false;
    a->waiting = true;
    st_loop_timer_arm(a->loop, &a->retry, delay);
    rd_kafka_oauthbearer_set_token_failure(a->rk, reason);
}

static void try_now(struct st_kafka_oauth *a)
{
    struct st_error err;

    if (ask(a, &err) != ST_OK)
        fail(a, err.text);
}

static void on_retry(struct st_timer *t)
{
    struct st_kafka_oauth *a = ST_CONTAINER_OF(t, struct st_kafka_oauth, retry);

    a->waiting = false;
    try_now(a);
}

/* Seconds that the token is good for: a number, or one in quotes. */
static int64_t life_of(const json_t *root)
{
    const json_t *life = json_object_get(root, "expires_in");
    double seconds =
        json_is_string(life) ? strtod(json_string_value(life), NULL) : json_number_value(life);

    if (!(seconds >= 1))
        return LIFE_S;
    return seconds < LIFE_MOST_S ? (int64_t)seconds : LIFE_MOST_S;
}

static void take_token(struct st_kafka_oauth *a, const json_t *root)
{
    const char *token = json_string_value(json_object_get(root, "access_token"));
    int64_t until = (int64_t)(st_loop_wall(a->loop) / ST_MSEC) + life_of(root) * 1000;
    char why[REASON_MAX];

    if (token == NULL) {
        fail(a, "the answer has no access_token");
        return;
    }
    if (rd_kafka_oauthbearer_set_token(a->rk, token, until, a->options->sasl.oauth.client_id, NULL,
                                       0, why, sizeof why) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fail(a, why);
        return;
    }
    if (a->delay_ns != 0)
        ST_LOG(ST_LOG_INFO, "kafka", "Tokens are fetched again", ST_KV_STR("client", a->name),
               ST_KV_STR("url", a->url));
    a->delay_ns = 0;
    a->has_token = true;
    a->tried_other = false;
}

/* "status 401: invalid_client, no such client" */
static void describe(const json_t *root, unsigned status, char *out, size_t n)
{
    const char *code = json_string_value(json_object_get(root, "error"));
    const char *text = json_string_value(json_object_get(root, "error_description"));

    snprintf(out, n, "status %u%s%.64s%s%.128s", status, code != NULL ? ": " : "",
             code != NULL ? code : "", text != NULL ? ", " : "", text != NULL ? text : "");
}

static void on_reply(void *arg, const struct st_fetch_reply *reply)
{
    struct st_kafka_oauth *a = arg;
    json_t *root = NULL;
    char reason[REASON_MAX];

    a->fetch = NULL;
    if (reply->code != ST_OK) {
        fail(a, reply->error);
        return;
    }
    root = json_loadb(reply->body.ptr != NULL ? reply->body.ptr : "", reply->body.len, 0, NULL);
    if (reply->status == 200) {
        take_token(a, root);
    } else if ((reply->status == 400 || reply->status == 401) && !a->tried_other) {
        a->in_body = !a->in_body; /* servers differ in where they look for id and secret */
        a->tried_other = true;
        try_now(a);
    } else {
        a->tried_other = false;
        describe(root, reply->status, reason, sizeof reason);
        fail(a, reason);
    }
    json_decref(root);
}

/* ---- life ---- */

int st_kafka_oauth_open(struct st_kafka_oauth **out, struct st_loop *loop,
                        const struct st_kafka_client_options *options, const char *name,
                        struct st_error *err)
{
    struct st_kafka_oauth *a;
    int code;

    *out = NULL;
    if (!st_kafka_client_wants_tokens(options))
        return ST_OK;
    a = st_calloc(1, sizeof *a);
    a->options = options;
    a->name = name;
    a->loop = loop;
    st_timer_init(&a->retry, on_retry);
    st_fetch_redact_url(options->sasl.oauth.token_url, a->url, sizeof a->url);
    code = st_fetcher_open(&a->fetcher, loop, err);
    if (code == ST_OK)
        *out = a;
    else
        free(a);
    return code;
}

void st_kafka_oauth_refresh(struct st_kafka_oauth *a, rd_kafka_t *rk)
{
    if (a == NULL || a->fetch != NULL || a->waiting)
        return;
    a->rk = rk;
    a->has_token = false; /* the one that it has ends soon */
    try_now(a);
}

bool st_kafka_oauth_has_token(const struct st_kafka_oauth *a)
{
    return a->has_token;
}

void st_kafka_oauth_close(struct st_kafka_oauth *a)
{
    if (a == NULL)
        return;
    st_loop_timer_cancel(a->loop, &a->retry);
    st_fetcher_close(a->fetcher);
    free(a);
}
