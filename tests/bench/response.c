#define _GNU_SOURCE
#include "response.h"

#include <string.h>
#include <strings.h>

struct head {
    int status;
    bool chunked, has_length;
    uint64_t length;
};

/* The last head seen: servers repeat it byte for byte, so most heads cost one memcmp(). */
static struct {
    char bytes[1024];
    size_t len;
    struct head head;
} last;

static bool fail(struct piece *out, const char *why)
{
    out->fault = why;
    return false;
}

/* Decimal or hexadecimal digits up to end; false where there are none, others, or too many. */
static bool parse_number(const char *p, const char *end, unsigned base, uint64_t *value)
{
    if (p == end || end - p > 12)
        return false;
    for (*value = 0; p < end; p++) {
        unsigned digit = *p >= '0' && *p <= '9' ? (unsigned)(*p - '0') : 99;
        if ((*p | 32) >= 'a' && (*p | 32) <= 'f')
            digit = (unsigned)((*p | 32) - 'a') + 10;
        if (digit >= base)
            return false;
        *value = *value * base + digit;
    }
    return true;
}

static bool name_is(const char *p, size_t len, const char *name)
{
    return len == strlen(name) && strncasecmp(p, name, len) == 0;
}

/* One header line without its CRLF. */
static const char *parse_header(const char *p, const char *end, struct head *h)
{
    const char *colon = memchr(p, ':', (size_t)(end - p)), *value;
    uint64_t length;

    if (colon == NULL || colon == p)
        return "header line without a name";
    value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (name_is(p, (size_t)(colon - p), "content-length")) {
        if (!parse_number(value, end, 10, &length) || (h->has_length && h->length != length))
            return "bad Content-Length";
        h->has_length = true;
        h->length = length;
    } else if (name_is(p, (size_t)(colon - p), "transfer-encoding")) {
        if (!name_is(value, (size_t)(end - value), "chunked"))
            return "unknown Transfer-Encoding";
        h->chunked = true;
    }
    return NULL;
}

/* A whole head, its blank line included. Returns the fault, or NULL. */
static const char *parse_head(const char *p, const char *end, struct head *h)
{
    const char *eol = memmem(p, (size_t)(end - p), "\r\n", 2), *why;
    uint64_t status;

    memset(h, 0, sizeof *h);
    if (eol - p < 12 || memcmp(p, "HTTP/1.1 ", 9) != 0 ||
        !parse_number(p + 9, p + 12, 10, &status) || status < 100 || status > 599 ||
        (eol - p > 12 && p[12] != ' '))
        return "bad status line";
    h->status = (int)status;
    for (p = eol + 2; p < end - 2; p = eol + 2) {
        eol = memmem(p, (size_t)(end - p), "\r\n", 2);
        why = parse_header(p, eol, h);
        if (why != NULL)
            return why;
    }
    if (h->chunked && h->has_length)
        return "both Content-Length and chunked";
    if (!h->chunked && !h->has_length) {
        if (h->status >= 200 && h->status != 204 && h->status != 304)
            return "neither Content-Length nor chunked";
        h->length = 0;
    }
    return NULL;
}

static bool read_head(struct response *r, const char *p, size_t n, struct piece *out)
{
    struct head h;
    const char *end, *why;

    if (last.len != 0 && n >= last.len && memcmp(p, last.bytes, last.len) == 0) {
        h = last.head;
        out->used = last.len;
    } else {
        end = memmem(p, n, "\r\n\r\n", 4);
        if (end == NULL)
            return n < 9 || memcmp(p, "HTTP/1.1 ", 9) == 0 || fail(out, "bad status line");
        out->used = (size_t)(end + 4 - p);
        why = parse_head(p, end + 4, &h);
        if (why != NULL)
            return fail(out, why);
        if (out->used <= sizeof last.bytes) {
            memcpy(last.bytes, p, out->used);
            last.len = out->used;
            last.head = h;
        }
    }
    r->status = h.status;
    r->body_seen = 0;
    r->left = h.length;
    if (h.chunked) {
        r->phase = RSP_CHUNK_SIZE;
    } else if (h.length > 0) {
        r->phase = RSP_BODY;
    } else {
        out->complete = h.status >= 200;
    }
    return true;
}

static void read_body(struct response *r, const char *p, size_t n, struct piece *out)
{
    out->body = p;
    out->body_len = n < r->left ? n : (size_t)r->left;
    out->used = out->body_len;
    r->left -= out->body_len;
    r->body_seen += out->body_len;
    if (r->left > 0)
        return;
    out->complete = r->phase == RSP_BODY;
    r->phase = r->phase == RSP_BODY ? RSP_HEAD : RSP_CHUNK_END;
}

/* A line of the chunked framing: a size, the CRLF after a chunk, or a trailer. */
static bool read_line(struct response *r, const char *p, size_t n, struct piece *out)
{
    const char *eol = memmem(p, n, "\r\n", 2), *ext;

    if (eol == NULL)
        return r->phase != RSP_CHUNK_END || n < 2 || fail(out, "chunk without its CRLF");
    out->used = (size_t)(eol + 2 - p);
    if (r->phase == RSP_CHUNK_END) {
        r->phase = RSP_CHUNK_SIZE;
        return eol == p || fail(out, "chunk without its CRLF");
    }
    if (r->phase == RSP_TRAILER) {
        out->complete = eol == p;
        r->phase = eol == p ? RSP_HEAD : RSP_TRAILER;
        return true;
    }
    ext = memchr(p, ';', (size_t)(eol - p));
    if (!parse_number(p, ext != NULL ? ext : eol, 16, &r->left))
        return fail(out, "bad chunk size");
    r->phase = r->left > 0 ? RSP_CHUNK : RSP_TRAILER;
    return true;
}

bool response_next(struct response *r, const char *p, size_t n, struct piece *out)
{
    memset(out, 0, sizeof *out);
    switch (r->phase) {
    case RSP_HEAD:
        return read_head(r, p, n, out);
    case RSP_BODY:
    case RSP_CHUNK:
        read_body(r, p, n, out);
        return true;
    default:
        return read_line(r, p, n, out);
    }
}
