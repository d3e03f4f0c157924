#include "processor/cli/invoke_print.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "processor/core/alloc.h"
#include "processor/net/http_msg.h"

static const char logs_header[] = "X-Nuclio-Logs";

bool st_invoke_print_body(const struct st_client_response *r)
{
    if (r->status / 100 != 2) {
        struct st_slice reason = st_http_reason(r->status);
        fprintf(stderr, "stator: status %u %.*s\n", r->status, (int)reason.len, reason.ptr);
    }
    return (r->body_len == 0 || fwrite(r->body, 1, r->body_len, stdout) == r->body_len) &&
           fflush(stdout) == 0;
}

/* The array of the header, or NULL. */
static json_t *logs_of(const struct st_client_response *r)
{
    const char *text = st_client_header_value(r, logs_header);
    json_t *logs = text != NULL ? json_loads(text, 0, NULL) : NULL;

    if (json_is_array(logs))
        return logs;
    json_decref(logs);
    return NULL;
}

static const char *text_in(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));

    return text != NULL ? text : "";
}

static void print_record(json_t *record)
{
    static const char *const said[] = {"level", "time", "name", "message"};
    const char *level = text_in(record, "level");
    char *vars;

    fprintf(stderr, "(%c) %s", level[0] != '\0' ? toupper((unsigned char)level[0]) : '?',
            text_in(record, "message"));
    for (size_t i = 0; i < ST_ARRAY_LEN(said); i++)
        json_object_del(record, said[i]);
    vars = json_object_size(record) > 0 ? json_dumps(record, JSON_REAL_PRECISION(15)) : NULL;
    fprintf(stderr, "%s%s\n", vars != NULL ? " " : "", vars != NULL ? vars : "");
    free(vars);
}

void st_invoke_print_logs(const struct st_client_response *r)
{
    json_t *logs = logs_of(r), *record;
    size_t i;

    if (logs == NULL)
        fputs("stator: the answer has no logs: none were asked for by then, or they are too long\n",
              stderr);
    json_array_foreach(logs, i, record) print_record(record);
    json_decref(logs);
}

static json_t *base64(const char *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = st_malloc(n / 3 * 4 + 5), *p = text;
    json_t *value;

    for (size_t i = 0; i < n; i += 3) {
        uint32_t group = 0;
        for (size_t k = 0; k < 3; k++)
            group = group << 8 | (i + k < n ? (unsigned char)bytes[i + k] : 0u);
        for (unsigned k = 0; k < 4; k++)
            *p++ = i + k > n ? '=' : digits[group >> (18 - 6 * k) & 63];
    }
    value = json_stringn(text, (size_t)(p - text));
    free(text);
    return value;
}

/* Text as it came, else what it becomes in UTF-8 when each byte is a character (as HTTP has it). */
static json_t *header_text(const char *text)
{
    json_t *value = json_string(text);
    char *wide, *p;

    if (value != NULL)
        return value;
    p = wide = st_malloc(strlen(text) * 2 + 1);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x80)
            *p++ = (char)(0xc0 | c >> 6);
        *p++ = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
    }
    value = json_stringn(wide, (size_t)(p - wide));
    free(wide);
    return value;
}

/* By name; a name that is repeated has a list. */
static json_t *headers_json(const struct st_client_response *r)
{
    json_t *all = json_object();

    for (size_t i = 0; i < r->header_count; i++) {
        const char *name = r->headers[i].name, *key;
        json_t *value = header_text(r->headers[i].value), *before = NULL, *list;

        json_object_foreach(all, key, before)
        {
            if (strcasecmp(key, name) == 0)
                break;
            before = NULL;
        }
        if (before == NULL) {
            json_object_set_new(all, name, value);
        } else if (json_is_array(before)) {
            json_array_append_new(before, value);
        } else {
            list = json_pack("[O, o]", before, value);
            json_object_set_new(all, key, list);
        }
    }
    return all;
}

static bool print(json_t *object)
{
    bool well = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15)) == 0 &&
                putchar('\n') == '\n' && fflush(stdout) == 0;

    json_decref(object);
    return well;
}

bool st_invoke_print_json(const struct st_invoke_answer *a)
{
    const struct st_client_response *r = &a->response;
    json_t *object = json_object(), *logs = logs_of(r);
    json_t *body = json_stringn(r->body != NULL ? r->body : "", r->body_len);

    json_object_set_new(object, "status", json_integer(r->status));
    json_object_set_new(object, "headers", headers_json(r));
    if (body != NULL)
        json_object_set_new(object, "body", body);
    else
        json_object_set_new(object, "bodyBase64", base64(r->body, r->body_len));
    if (logs != NULL)
        json_object_set_new(object, "logs", logs);
    json_object_set_new(object, "durationMs", json_real((double)a->duration_ns / 1e6));
    json_object_set_new(object, "attempts", json_integer(a->attempts));
    return print(object);
}

bool st_invoke_print_failure(const struct st_invoke_answer *a)
{
    return print(
        json_pack("{s:s, s:I}", "error", a->error.text, "attempts", (json_int_t)a->attempts));
}
