/* stator invoke: one request to a function, for people and scripts. */
#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "processor/cli/cli.h"
#include "processor/cli/client.h"
#include "processor/cli/invoke_print.h"
#include "processor/cli/usage.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/net/http_msg.h"

enum { OPT_URL = 0x100, OPT_PORT, OPT_LOGS, OPT_TIMEOUT, OPT_RETRY, OPT_JSON, OPT_HELP };

enum { EXIT_NO_CONNECTION = 3, MAX_HEADERS = 100, FIRST_PAUSE_MS = 100, LONGEST_PAUSE_MS = 2000 };

struct invoke {
    const char *url;
    int64_t port, retry;
    const char *method, *data;
    struct st_client_header headers[MAX_HEADERS];
    size_t header_count;
    bool logs, json;
    uint64_t timeout_ns;
};

static const struct argp_option options[] = {
    {"url", OPT_URL, "URL", 0, "Where to ask: http://HOST:PORT/PATH or unix:/PATH", 0},
    {"port", OPT_PORT, "N", 0, "Short for --url http://127.0.0.1:N/; 8080 if neither is given", 0},
    {"method", 'X', "METHOD", 0, "GET by default, POST with -d", 0},
    {"header", 'H', "NAME:VALUE", 0, "A request header; may be repeated", 0},
    {"data", 'd', "DATA|@FILE|-", 0, "The body: the text itself, a file, or standard input", 0},
    {"logs", OPT_LOGS, NULL, 0, "Show on stderr what the function logs meanwhile", 0},
    {"timeout", OPT_TIMEOUT, "DURATION", 0, "For each attempt, from connecting to the end, 10s", 0},
    {"retry", OPT_RETRY, "N", 0, "Try N more times: no connection, or status 503", 0},
    {"json", OPT_JSON, NULL, 0, "Print one JSON object: status, headers, body ...", 0},
    {"help", OPT_HELP, NULL, 0, "Show this help", -1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state);

static const struct argp parser = {
    options,
    parse,
    "",
    "Send a request to a function and print the body of the answer.\v"
    "The status is 0 for 2xx, 1 for any other, 3 when there was no connection or no whole answer "
    "in time, 2 for wrong usage. Attempts are 0.1 s apart, then twice as long each, at most 2 s.",
    NULL,
    NULL,
    NULL};

ST_NORETURN static void ST_PRINTF(1, 2) fail(const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    st_usage_vfail(ST_CLI_INVOKE_SYNOPSIS, fmt, args);
}

/* "Name: value", changed in place. */
static void add_header(struct invoke *v, char *text)
{
    static const char *const ours[] = {"Content-Length", "Transfer-Encoding", "Connection"};
    char *colon = strchr(text, ':'), *value;

    if (colon == NULL)
        fail("-H needs NAME:VALUE, found \"%s\"", text);
    if (v->header_count == MAX_HEADERS)
        fail("at most %d headers", (int)MAX_HEADERS);
    *colon = '\0';
    value = colon + 1 + strspn(colon + 1, " \t");
    if (!st_http_name_ok(st_slice_of(text)) || text[0] == '\0')
        fail("\"%s\" is no name of a header", text);
    if (!st_http_value_ok(st_slice_of(value)))
        fail("the value of %s has a character that no header may have", text);
    for (size_t i = 0; i < ST_ARRAY_LEN(ours); i++)
        if (strcasecmp(text, ours[i]) == 0)
            fail("%s is set by invoke itself", text);
    v->headers[v->header_count++] = (struct st_client_header){text, value};
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct invoke *v = state->input;

    switch (key) {
    case OPT_URL:
        v->url = arg;
        return 0;
    case OPT_PORT:
        v->port = st_usage_number(ST_CLI_INVOKE_SYNOPSIS, "--port", arg, 1, 65535);
        return 0;
    case 'X':
        if (arg[0] == '\0' || !st_http_name_ok(st_slice_of(arg)))
            fail("\"%s\" is no method", arg);
        v->method = arg;
        return 0;
    case 'H':
        add_header(v, arg);
        return 0;
    case 'd':
        v->data = arg;
        return 0;
    case OPT_LOGS:
        v->logs = true;
        return 0;
    case OPT_TIMEOUT:
        v->timeout_ns = st_usage_duration(ST_CLI_INVOKE_SYNOPSIS, "--timeout", arg);
        return 0;
    case OPT_RETRY:
        v->retry = st_usage_number(ST_CLI_INVOKE_SYNOPSIS, "--retry", arg, 0, 1000000);
        return 0;
    case OPT_JSON:
        v->json = true;
        return 0;
    case OPT_HELP:
        argp_help(&parser, stdout, ARGP_HELP_LONG | ARGP_HELP_USAGE | ARGP_HELP_DOC, state->name);
        exit(EXIT_SUCCESS);
    case ARGP_KEY_ARG:
        fail("invoke takes no argument, found \"%s\"", arg);
    case ARGP_KEY_ERROR:
        st_usage_bad_option("invoke", ST_CLI_INVOKE_SYNOPSIS, options, state);
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* All of a stream; NULL with errno. */
static char *read_all(FILE *in, size_t *len)
{
    size_t room = (size_t)64 * 1024;
    char *text = st_malloc(room);

    *len = 0;
    while (!feof(in) && !ferror(in)) {
        if (*len == room) {
            room *= 2;
            text = st_realloc(text, room);
        }
        *len += fread(text + *len, 1, room - *len, in);
    }
    if (!ferror(in))
        return text;
    free(text);
    return NULL;
}

/* What -d names; *owned is to be freed. */
static struct st_slice read_data(const char *data, char **owned)
{
    struct st_slice body = st_slice_of(data);
    bool is_stdin = strcmp(data, "-") == 0;
    FILE *in;

    *owned = NULL;
    if (!is_stdin && data[0] != '@')
        return body;
    in = is_stdin ? stdin : fopen(data + 1, "rbe");
    if (in != NULL)
        *owned = read_all(in, &body.len);
    if (*owned == NULL)
        fail("-d: %s can't be read: %s", is_stdin ? "standard input" : data + 1, strerror(errno));
    if (!is_stdin)
        fclose(in);
    body.ptr = *owned;
    return body;
}

static bool has_header(const struct invoke *v, const char *name)
{
    for (size_t i = 0; i < v->header_count; i++)
        if (strcasecmp(v->headers[i].name, name) == 0)
            return true;
    return false;
}

static void pause_before(int64_t attempt)
{
    int64_t ms = attempt > 5 ? LONGEST_PAUSE_MS : FIRST_PAUSE_MS << (attempt - 1);
    struct timespec ts;

    if (ms > LONGEST_PAUSE_MS)
        ms = LONGEST_PAUSE_MS;
    ts = (struct timespec){ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
        ;
}

/* Asks until there is an answer that is worth showing. */
static int ask(struct st_invoke_answer *a, const struct st_client_request *request, int64_t retry)
{
    int rc;

    for (a->attempts = 1;; a->attempts++) {
        uint64_t start = st_clock_mono();
        bool again = a->attempts <= retry;

        rc = st_client_ask(&a->response, request, &a->error);
        a->duration_ns = st_clock_mono() - start;
        if (!again || (rc != ST_ERR_CLOSED && !(rc == ST_OK && a->response.status == 503)))
            return rc;
        st_client_response_free(&a->response);
        pause_before(a->attempts);
    }
}

static int invoke(const struct invoke *v, struct st_client_request *request, bool *shown_ok)
{
    struct st_invoke_answer a = {.attempts = 0};
    int rc = ask(&a, request, v->retry), status;

    if (rc != ST_OK) {
        if (v->json)
            *shown_ok = st_invoke_print_failure(&a);
        fprintf(stderr, "stator: %s\n", a.error.text);
        return EXIT_NO_CONNECTION;
    }
    if (v->logs && !v->json)
        st_invoke_print_logs(&a.response);
    *shown_ok = v->json ? st_invoke_print_json(&a) : st_invoke_print_body(&a.response);
    status = a.response.status / 100 == 2 ? EXIT_SUCCESS : EXIT_FAILURE;
    st_client_response_free(&a.response);
    return status;
}

int st_cli_invoke(int argc, char **argv)
{
    struct invoke v = {.timeout_ns = 10 * ST_SEC};
    struct st_client_address address;
    struct st_client_request request = {.address = &address};
    struct st_error err;
    char url[64], *owned = NULL;
    bool shown = true;
    int status;

    if (argp_parse(&parser, argc, argv, ARGP_NO_ERRS | ARGP_NO_HELP, NULL, &v) != 0)
        fail("invoke: wrong usage");
    if (v.url != NULL && v.port != 0)
        fail("invoke: --url or --port, not both");
    snprintf(url, sizeof url, "http://127.0.0.1:%lld/", (long long)(v.port != 0 ? v.port : 8080));
    if (st_client_address_parse(&address, &request.target, v.url != NULL ? v.url : url, &err) != 0)
        fail("invoke: %s", err.text);
    if (v.data != NULL)
        request.body = read_data(v.data, &owned);
    request.has_body = v.data != NULL;
    request.method = v.method != NULL ? v.method : v.data != NULL ? "POST" : "GET";
    if (v.logs && v.header_count < MAX_HEADERS && !has_header(&v, "X-Nuclio-Log-Level"))
        v.headers[v.header_count++] = (struct st_client_header){"X-Nuclio-Log-Level", "debug"};
    request.headers = v.headers;
    request.header_count = v.header_count;
    request.timeout_ns = v.timeout_ns;
    status = invoke(&v, &request, &shown);
    free(owned);
    if (!shown) {
        fprintf(stderr, "stator: the answer can't be written: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    return status;
}
