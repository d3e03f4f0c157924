/* Cross-origin requests (the CORS protocol of the Fetch standard, https://fetch.spec.whatwg.org),
 * with Nuclio's options and its answers: preflights are answered here, other requests need an
 * allowed origin, and their replies say so. */
#include <stdio.h>
#include <stdlib.h>

#include "processor/core/loop.h"
#include "triggers/http/http_int.h"

enum { MAX_REPLY_HEADERS = 4 };

#define AT(member) offsetof(struct http_cors_options, member)
const struct st_option http_cors_table[] = {
    {.name = "enabled",
     .type = ST_OPT_BOOL,
     .offset = AT(enabled),
     .help = "Answer preflights, and refuse requests without an allowed Origin.",
     .example = "true"},
    {.name = "allowOrigins",
     .type = ST_OPT_STRING_LIST,
     .offset = AT(allow_origins),
     .value = "*",
     .help = "Origins that may call; \"*\" allows each.",
     .example = "[\"https://example.com\"]"},
    {.name = "allowMethods",
     .type = ST_OPT_STRING_LIST,
     .offset = AT(allow_methods),
     .value = "HEAD,GET,POST,PUT,DELETE,OPTIONS,PATCH",
     .help = "Methods that a preflight may ask for.",
     .example = "[GET, POST]"},
    {.name = "allowHeaders",
     .type = ST_OPT_STRING_LIST,
     .offset = AT(allow_headers),
     .value = "Accept,Content-Length,Content-Type,Authorization,X-Nuclio-Log-Level",
     .help = "Request headers that a preflight may ask for.",
     .example = "[Content-Type, Authorization]"},
    {.name = "allowCredentials",
     .type = ST_OPT_BOOL,
     .offset = AT(allow_credentials),
     .help = "Let pages send cookies and the like.",
     .example = "true"},
    {.name = "exposeHeaders",
     .type = ST_OPT_STRING_LIST,
     .offset = AT(expose_headers),
     .help = "Headers of the reply that pages may read.",
     .example = "[X-Request-Id]"},
    {.name = "preflightMaxAgeSeconds",
     .type = ST_OPT_INT,
     .offset = AT(preflight_max_age),
     .value = "5",
     .min = -1,
     .max = 86400.0 * 365,
     .help = "How long a browser may remember the answer to a preflight; -1: not at all.",
     .example = "600"},
    {.name = NULL},
};
#undef AT

struct http_cors {
    const struct http_cors_options *options;
    bool any_origin;
    char *methods, *headers, *expose; /* as lists of a header */
    char max_age[24];
};

/* The items as the value of one header. */
static char *join(const struct st_string_list *list)
{
    size_t size = 1;
    char *text, *p;

    for (size_t i = 0; i < list->count; i++)
        size += strlen(list->items[i]) + 2;
    text = p = malloc(size);
    ST_ASSERT(text != NULL);
    *text = '\0';
    for (size_t i = 0; i < list->count; i++)
        p += snprintf(p, size - (size_t)(p - text), "%s%s", i > 0 ? ", " : "", list->items[i]);
    return text;
}

static bool contains(const struct st_string_list *list, struct st_slice wanted)
{
    for (size_t i = 0; i < list->count; i++)
        if (st_slice_ieq(st_slice_of(list->items[i]), wanted))
            return true;
    return false;
}

/* What browsers send as Origin (RFC 6454 section 7): scheme, host and maybe a port, or null. */
static bool is_origin(const char *text)
{
    const char *host = strstr(text, "://");

    if (strcmp(text, "*") == 0 || strcmp(text, "null") == 0)
        return true;
    if (host == NULL || host == text || host[3] == '\0' || host[strcspn(host, "*")] != '\0')
        return false;
    return strpbrk(host + 3, "/?#@, \t") == NULL && st_http_value_ok(st_slice_of(text));
}

static bool is_token(const char *text)
{
    return st_http_name_ok(st_slice_of(text));
}

static int check_list(const struct st_string_list *list, const char *name,
                      bool (*is_ok)(const char *text), const char *expected, char *member,
                      struct st_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        if (is_ok(list->items[i]))
            continue;
        snprintf(member, ST_TRIGGER_MEMBER_MAX, "attributes.cors.%s[%zu]", name, i);
        return st_error_set(err, ST_ERR_INVALID, "found \"%s\", expected %s", list->items[i],
                            expected);
    }
    return ST_OK;
}

int http_cors_check(const struct http_cors_options *options, char *member, struct st_error *err)
{
    static const char header_expected[] = "the name of a header, for example \"Content-Type\"";
    int code;

    if (!options->enabled)
        return ST_OK;
    code = check_list(&options->allow_origins, "allowOrigins", is_origin,
                      "\"*\" or scheme, host and port as browsers send them, for example "
                      "\"https://example.com\"",
                      member, err);
    if (code == ST_OK)
        code = check_list(&options->allow_methods, "allowMethods", is_token,
                          "a method, for example \"GET\"", member, err);
    if (code == ST_OK)
        code = check_list(&options->allow_headers, "allowHeaders", is_token, header_expected,
                          member, err);
    if (code == ST_OK)
        code = check_list(&options->expose_headers, "exposeHeaders", is_token, header_expected,
                          member, err);
    return code;
}

struct http_cors *http_cors_new(const struct http_cors_options *options)
{
    struct http_cors *cors;

    if (!options->enabled)
        return NULL;
    cors = calloc(1, sizeof *cors);
    ST_ASSERT(cors != NULL);
    cors->options = options;
    cors->any_origin = contains(&options->allow_origins, ST_SLICE("*"));
    cors->methods = join(&options->allow_methods);
    cors->headers = join(&options->allow_headers);
    cors->expose = join(&options->expose_headers);
    snprintf(cors->max_age, sizeof cors->max_age, "%lld", (long long)options->preflight_max_age);
    return cors;
}

void http_cors_free(struct http_cors *cors)
{
    if (cors == NULL)
        return;
    free(cors->methods);
    free(cors->headers);
    free(cors->expose);
    free(cors);
}

/* Requests */

static struct st_slice value_of(const struct http_event *he, struct st_slice name)
{
    const struct st_header *h = st_headers_find(&he->x.headers, name);

    return h != NULL ? (struct st_slice){h->value, h->value_len} : (struct st_slice){NULL, 0};
}

static struct st_slice origin_of(const struct http_event *he)
{
    return value_of(he, ST_SLICE("Origin"));
}

static bool origin_ok(const struct http_cors *cors, struct st_slice origin)
{
    return origin.len > 0 && (cors->any_origin || contains(&cors->options->allow_origins, origin));
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Every item of the list is allowed. Blanks around commas are free: browsers send none. */
static bool headers_allowed(const struct http_cors *cors, struct st_slice list)
{
    const char *p = list.ptr, *end = p + list.len;

    while (list.len > 0) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma != NULL ? comma : end;
        while (p < stop && is_blank(*p))
            p++;
        while (stop > p && is_blank(stop[-1]))
            stop--;
        if (!contains(&cors->options->allow_headers, (struct st_slice){p, (size_t)(stop - p)}))
            return false;
        if (comma == NULL)
            break;
        p = comma + 1;
    }
    return true;
}

static bool preflight_ok(const struct http_cors *cors, const struct http_event *he,
                         struct st_slice method)
{
    return origin_ok(cors, origin_of(he)) &&
           (st_slice_eq(method, ST_SLICE("OPTIONS")) ||
            contains(&cors->options->allow_methods, method)) &&
           headers_allowed(cors, value_of(he, ST_SLICE("Access-Control-Request-Headers")));
}

static struct st_header header(const char *name, struct st_slice value)
{
    return (struct st_header){.name = name,
                              .name_len = (uint16_t)strlen(name),
                              .value = value.ptr,
                              .value_len = (uint32_t)value.len};
}

static void count(const struct http_event *he, bool well)
{
    const struct st_trigger *t = &he->hl->trigger->base;

    st_metric_add(he->hl->loop->metrics, well ? t->metrics.ok : t->metrics.failed, 1);
}

static void answer_preflight(struct http_event *he, struct st_slice method)
{
    const struct http_cors *cors = he->hl->cors;
    struct st_header items[8] = {
        header("Vary", ST_SLICE("Origin")),
        header("Vary", ST_SLICE("Access-Control-Request-Method")),
        header("Vary", ST_SLICE("Access-Control-Request-Headers")),
    };
    struct st_http_response r = {.status = 400, .headers = items, .header_count = 3};

    if (preflight_ok(cors, he, method)) {
        r.status = 200;
        items[r.header_count++] = header("Access-Control-Allow-Origin", origin_of(he));
        if (cors->options->allow_credentials)
            items[r.header_count++] = header("Access-Control-Allow-Credentials", ST_SLICE("true"));
        items[r.header_count++] = header("Access-Control-Max-Age", st_slice_of(cors->max_age));
        items[r.header_count++] =
            header("Access-Control-Allow-Methods", st_slice_of(cors->methods));
        items[r.header_count++] =
            header("Access-Control-Allow-Headers", st_slice_of(cors->headers));
    }
    count(he, r.status == 200);
    http_answer(he, &r);
}

bool http_cors_request(struct http_event *he, bool is_health)
{
    struct st_slice method = {NULL, 0};
    struct st_header vary = header("Vary", ST_SLICE("Origin"));
    struct st_http_response r = {.status = 200, .headers = &vary, .header_count = 1};

    if (st_slice_eq(he->x.method, ST_SLICE("OPTIONS")))
        method = value_of(he, ST_SLICE("Access-Control-Request-Method"));
    if (method.len > 0) {
        answer_preflight(he, method);
        return true;
    }
    if (is_health || origin_ok(he->hl->cors, origin_of(he)))
        return false;
    count(he, false);
    http_answer(he, &r);
    return true;
}

/* Replies */

/* Adds the header unless the first `given` ones, the handler's, have its name. */
static void add(struct st_header *items, size_t *n, size_t given, struct st_header more)
{
    struct st_slice name = {more.name, more.name_len};

    for (size_t i = 0; i < given; i++)
        if (st_slice_ieq((struct st_slice){items[i].name, items[i].name_len}, name))
            return;
    items[(*n)++] = more;
}

void http_cors_reply(struct http_event *he, struct st_http_response *r)
{
    const struct http_cors *cors = he->hl->cors;
    size_t given = r->header_count, n = given;
    struct st_header *items;

    http_own_headers(&he->hl->room, r, MAX_REPLY_HEADERS);
    items = he->hl->room.items;
    items[n++] = header("Vary", ST_SLICE("Origin")); /* beside what the handler varies by */
    add(items, &n, given, header("Access-Control-Allow-Origin", origin_of(he)));
    if (cors->options->allow_credentials)
        add(items, &n, given, header("Access-Control-Allow-Credentials", ST_SLICE("true")));
    if (cors->expose[0] != '\0')
        add(items, &n, given, header("Access-Control-Expose-Headers", st_slice_of(cors->expose)));
    r->header_count = n;
}
