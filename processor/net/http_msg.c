#include "processor/net/http_msg.h"

struct name_row {
    const char *name;
    uint8_t len, id;
};

#define NAME_ROW(id, name) {name, sizeof(name) - 1, ST_HDR_##id},
static const struct name_row names[] = {ST_HTTP_HEADER_TABLE(NAME_ROW)};
#undef NAME_ROW

enum { MAX_NAME = 20 };

static uint64_t load64(const char *p)
{
    uint64_t v;

    memcpy(&v, p, sizeof v);
    return v | 0x2020202020202020u;
}

static uint32_t load32(const char *p)
{
    uint32_t v;

    memcpy(&v, p, sizeof v);
    return v | 0x20202020u;
}

/* Equality with a lower-case name. Setting bit 5 folds letters; other characters of a token that
 * it changes ("^" and "_") are in no name of the table. */
static bool equals_folded(const char *text, const char *lower, size_t len)
{
    if (len >= 8) {
        for (size_t i = 0; i + 8 < len; i += 8)
            if (load64(text + i) != load64(lower + i))
                return false;
        return load64(text + len - 8) == load64(lower + len - 8);
    }
    if (len >= 4)
        return load32(text) == load32(lower) && load32(text + len - 4) == load32(lower + len - 4);
    for (size_t i = 0; i < len; i++)
        if ((text[i] | 0x20) != lower[i])
            return false;
    return true;
}

/* First letter and length leave one or two candidates. */
static int candidates(size_t len, char first, uint8_t out[2])
{
    int n = 0;

    for (size_t i = 0; i < ST_ARRAY_LEN(names) && n < 2; i++)
        if (names[i].len == len && names[i].name[0] == first)
            out[n++] = (uint8_t)i;
    return n;
}

static uint8_t first_of[MAX_NAME + 1][32][2]; /* index + 1 in names, by length and letter */

__attribute__((constructor)) static void index_names(void)
{
    for (size_t len = 1; len <= MAX_NAME; len++) {
        for (unsigned letter = 1; letter <= 26; letter++) {
            uint8_t found[2];
            int n = candidates(len, (char)('a' + letter - 1), found);
            for (int i = 0; i < n; i++)
                first_of[len][letter][i] = (uint8_t)(found[i] + 1);
        }
    }
}

uint8_t st_header_id_of(const char *name, size_t len)
{
    const uint8_t *slots;

    if (len == 0 || len > MAX_NAME)
        return ST_HDR_OTHER;
    slots = first_of[len][(unsigned char)name[0] & 31u];
    for (int i = 0; i < 2 && slots[i] != 0; i++) {
        const struct name_row *row = &names[slots[i] - 1];
        if (equals_folded(name, row->name, len))
            return row->id;
    }
    return ST_HDR_OTHER;
}

const struct st_header *st_headers_find(const struct st_headers *h, struct st_slice name)
{
    uint8_t id = st_header_id_of(name.ptr, name.len);

    if (id != ST_HDR_OTHER) {
        for (uint32_t i = h->count; st_unlikely(i > UINT8_MAX); i--)
            if (h->items[i - 1].id == id)
                return &h->items[i - 1];
        return st_headers_known(h, id);
    }
    for (uint32_t i = h->count; i-- > 0;) {
        const struct st_header *it = &h->items[i];
        if (st_slice_ieq((struct st_slice){it->name, it->name_len}, name))
            return it;
    }
    return NULL;
}

bool st_http_has_token(struct st_slice value, const char *token)
{
    struct st_slice want = st_slice_of(token);
    const char *p = value.ptr, *end = p + value.len;

    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p)), *stop = comma ? comma : end;
        struct st_slice item = {p, (size_t)(stop - p)};
        while (item.len > 0 && (item.ptr[0] == ' ' || item.ptr[0] == '\t')) {
            item.ptr++;
            item.len--;
        }
        while (item.len > 0 && (item.ptr[item.len - 1] == ' ' || item.ptr[item.len - 1] == '\t'))
            item.len--;
        if (st_slice_ieq(item, want))
            return true;
        p = comma ? comma + 1 : end;
    }
    return false;
}

struct st_slice st_http_reason(unsigned status)
{
    static const struct {
        unsigned status;
        const char *reason;
    } rows[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {203, "Non-Authoritative Information"},
        {204, "No Content"},
        {205, "Reset Content"},
        {206, "Partial Content"},
        {207, "Multi-Status"},
        {300, "Multiple Choices"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {303, "See Other"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {402, "Payment Required"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {407, "Proxy Authentication Required"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {418, "I'm a teapot"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Content"},
        {423, "Locked"},
        {425, "Too Early"},
        {426, "Upgrade Required"},
        {428, "Precondition Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {451, "Unavailable For Legal Reasons"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {507, "Insufficient Storage"},
    };

    for (size_t i = 0; i < ST_ARRAY_LEN(rows); i++)
        if (rows[i].status == status)
            return st_slice_of(rows[i].reason);
    return (struct st_slice){"", 0};
}

/* RFC 9110 section 5.6.2 */
static bool is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

bool st_http_name_ok(struct st_slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (!is_token_char((unsigned char)name.ptr[i]))
            return false;
    return name.len > 0;
}

bool st_http_value_ok(struct st_slice value)
{
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] == '\r' || value.ptr[i] == '\n' || value.ptr[i] == '\0')
            return false;
    return true;
}

static void split_query(struct st_slice rest, struct st_slice *path, struct st_slice *query)
{
    const char *p = rest.ptr, *end = p + rest.len, *hash;

    while (p < end && *p != '?' && *p != '#')
        p++;
    *path = (struct st_slice){rest.ptr, (size_t)(p - rest.ptr)};
    *query = (struct st_slice){NULL, 0};
    if (p < end && *p == '?') {
        hash = memchr(p, '#', (size_t)(end - p));
        *query = (struct st_slice){p + 1, (size_t)((hash != NULL ? hash : end) - p - 1)};
    }
}

bool st_http_split_target(struct st_slice target, struct st_slice *scheme,
                          struct st_slice *authority, struct st_slice *path, struct st_slice *query)
{
    const char *end = target.ptr + target.len, *p;

    *scheme = *authority = *query = (struct st_slice){NULL, 0};
    *path = target;
    if (target.len == 0)
        return false;
    if (st_likely(target.ptr[0] == '/')) {
        if (target.len > 1)
            split_query(target, path, query);
        return true;
    }
    if (target.len == 1 && target.ptr[0] == '*')
        return true;
    p = memmem(target.ptr, target.len, "://", 3);
    if (p == NULL || p == target.ptr)
        return false;
    *scheme = (struct st_slice){target.ptr, (size_t)(p - target.ptr)};
    p += 3;
    authority->ptr = p;
    while (p < end && *p != '/' && *p != '?' && *p != '#')
        p++;
    authority->len = (size_t)(p - authority->ptr);
    split_query((struct st_slice){p, (size_t)(end - p)}, path, query);
    if (path->len == 0)
        *path = ST_SLICE("/");
    return authority->len > 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_plain_path(struct st_slice raw)
{
    static const bool special[256] = {['%'] = true, ['/'] = true, ['.'] = true};
    const char *p = raw.ptr, *end = p + raw.len;

    for (; p < end; p++) {
        if (st_likely(!special[(unsigned char)*p]))
            continue;
        if (*p == '%' || (p > raw.ptr && p[-1] == '/'))
            return false;
    }
    return true;
}

static size_t percent_decode(struct st_slice raw, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < raw.len; i++) {
        int hi, lo;
        if (raw.ptr[i] == '%' && i + 2 < raw.len && (hi = hex_value(raw.ptr[i + 1])) >= 0 &&
            (lo = hex_value(raw.ptr[i + 2])) >= 0) {
            out[n++] = (char)(hi << 4 | lo);
            i += 2;
        } else {
            out[n++] = raw.ptr[i];
        }
    }
    return n;
}

/* Removes empty, "." and ".." segments in place (RFC 3986 section 5.2.4, and fasthttp's "//"). */
static size_t remove_dots(char *s, size_t len)
{
    size_t out = 0, i = 0;

    while (i < len) {
        size_t start, seg;
        bool last;
        while (i < len && s[i] == '/')
            i++;
        start = i;
        while (i < len && s[i] != '/')
            i++;
        seg = i - start;
        last = i == len;
        if (seg == 0 || (seg == 1 && s[start] == '.')) {
            if (last)
                s[out++] = '/';
        } else if (seg == 2 && s[start] == '.' && s[start + 1] == '.') {
            while (out > 0 && s[--out] != '/')
                ;
            if (last)
                s[out++] = '/';
        } else {
            s[out++] = '/';
            memmove(s + out, s + start, seg);
            out += seg;
        }
    }
    if (out == 0)
        s[out++] = '/';
    return out;
}

struct st_slice st_http_decode_path(struct st_arena *arena, struct st_slice raw)
{
    char *out;
    size_t n;

    if (raw.len <= 1 || raw.ptr[0] != '/' || is_plain_path(raw))
        return raw;
    out = st_arena_alloc(arena, raw.len + 1);
    n = percent_decode(raw, out);
    n = remove_dots(out, n);
    return (struct st_slice){out, n};
}
