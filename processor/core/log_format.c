#include "processor/core/log_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "processor/core/clock.h"

/* Kept free behind line.end for what must follow a cut: `, "...": "..."`, `}` and the newline. */
enum { TAIL_ROOM = 32, CONSOLE_NAME = 25, JSON_NAME_MAX = 128 };

struct line {
    char *at, *end;
    bool cut; /* a marker is in place: only closing characters may follow */
};

/* For text that TAIL_ROOM or an earlier check has room for. */
static void put(struct line *l, const char *text)
{
    size_t n = strlen(text);

    memcpy(l->at, text, n);
    l->at += n;
}

/* A closing character may already lie behind the end. */
static size_t room(const struct line *l)
{
    return l->at < l->end ? (size_t)(l->end - l->at) : 0;
}

static bool try_put(struct line *l, const char *bytes, size_t n)
{
    if (room(l) < n)
        return false;
    memcpy(l->at, bytes, n);
    l->at += n;
    return true;
}

static bool in_range(unsigned char c, unsigned char low, unsigned char high)
{
    return c >= low && c <= high;
}

/* Length of the UTF-8 sequence (RFC 3629 section 4) that begins s; 0: it is not one. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    unsigned char low = 0x80, high = 0xbf; /* of the second byte */
    size_t len = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

    if (!in_range(s[0], 0xc2, 0xf4) || n < len)
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    else if (s[0] == 0xed)
        high = 0x9f;
    else if (s[0] == 0xf0)
        low = 0x90;
    else if (s[0] == 0xf4)
        high = 0x8f;
    if (!in_range(s[1], low, high))
        return 0;
    for (size_t i = 2; i < len; i++)
        if (!in_range(s[i], 0x80, 0xbf))
            return 0;
    return len;
}

static bool is_plain(unsigned char c, bool quoted)
{
    return c >= 0x20 && c < 0x7f && !(quoted && (c == '"' || c == '\\'));
}

enum { WORD = sizeof(uint64_t) };

/* A high bit in each byte of v that is zero (and maybe in higher bytes behind one). */
static uint64_t zero_bytes(uint64_t v)
{
    return (v - 0x0101010101010101u) & ~v & 0x8080808080808080u;
}

/* True: all bytes of a word are plain, quoted or not. False: maybe not. */
static bool word_is_plain(const unsigned char *s)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t v, below;

    memcpy(&v, s, sizeof(v));
    below = (v - ones * 0x20) & ~v; /* bytes below 0x20 */
    return (((v | below | (v + ones)) & (ones * 0x80)) | zero_bytes(v ^ (ones * '"')) |
            zero_bytes(v ^ (ones * '\\'))) == 0;
}

/* How many bytes from the first on are plain. */
static size_t plain_length(const unsigned char *s, size_t n, bool quoted)
{
    size_t i = 0;

    while (n - i >= WORD && word_is_plain(s + i))
        i += WORD;
    while (i < n && is_plain(s[i], quoted))
        i++;
    return i;
}

/* Escape sequence of one code point below U+00A0. */
static size_t escape(unsigned c, char out[8])
{
    static const char named[] = "\bb\ff\nn\rr\tt\"\"\\\\";

    for (const char *p = named; *p != '\0'; p += 2) {
        if ((unsigned char)*p == c) {
            out[0] = '\\';
            out[1] = p[1];
            return 2;
        }
    }
    return (size_t)snprintf(out, 8, "\\u%04x", c);
}

/* What stands for the first character of s, which is not plain; *used is its length there. */
static size_t put_special(const unsigned char *s, size_t n, size_t *used, char out[8])
{
    static const char replacement[] = {'\xef', '\xbf', '\xbd'}; /* U+FFFD */

    *used = 1;
    if (s[0] < 0x80)
        return escape(s[0], out);
    *used = utf8_length(s, n);
    if (*used == 0) {
        *used = 1;
        memcpy(out, replacement, sizeof(replacement));
        return sizeof(replacement);
    }
    /* U+0080 to U+009F are control characters, some terminals act on them. */
    if (s[0] == 0xc2 && s[1] < 0xa0)
        return escape(s[1], out);
    memcpy(out, s, *used);
    return *used;
}

/* Cuts at a character and marks the cut when the line is full. */
static void put_escaped(struct line *l, struct st_slice text, bool quoted)
{
    const unsigned char *s = (const unsigned char *)text.ptr;
    size_t left = text.len, n, used;
    char buf[8];

    while (left > 0 && !l->cut) {
        n = plain_length(s, left, quoted);
        used = n;
        if (n > 0) {
            if (n > room(l))
                n = room(l);
            memcpy(l->at, s, n);
            l->at += n;
            l->cut = n < used;
        } else {
            n = put_special(s, left, &used, buf);
            l->cut = !try_put(l, buf, n);
        }
        s += used;
        left -= used;
    }
    if (l->cut)
        put(l, "...");
}

/* False: no room even to begin. */
static bool put_string(struct line *l, struct st_slice text)
{
    if (!try_put(l, "\"", 1))
        return false;
    put_escaped(l, text, true);
    put(l, "\"");
    return true;
}

static size_t print_double(char out[32], double d)
{
    int n;

    if (!isfinite(d))
        return (size_t)snprintf(out, 32, "null"); /* JSON has no such numbers */
    n = snprintf(out, 32, "%.15g", d);
    if (strtod(out, NULL) != d)
        n = snprintf(out, 32, "%.17g", d);
    return (size_t)n;
}

/* A value that is no text; out has room for it. */
static size_t print_value(char out[32], const struct st_log_var *var)
{
    switch (var->type) {
    case ST_VAR_INT:
        return (size_t)snprintf(out, 32, "%lld", (long long)var->v.i);
    case ST_VAR_UINT:
        return (size_t)snprintf(out, 32, "%llu", (unsigned long long)var->v.u);
    case ST_VAR_DOUBLE:
        return print_double(out, var->v.d);
    case ST_VAR_BOOL:
        return (size_t)snprintf(out, 32, "%s", var->v.b ? "true" : "false");
    case ST_VAR_STR:
    case ST_VAR_SLICE:
    case ST_VAR_JSON:
        break;
    }
    return (size_t)snprintf(out, 32, "null");
}

/* False: it is none. */
static bool text_of(const struct st_log_var *var, struct st_slice *text)
{
    if (var->type == ST_VAR_SLICE) {
        *text = var->v.slice;
        return true;
    }
    if (var->type != ST_VAR_STR || var->v.str == NULL)
        return false;
    *text = st_slice_of(var->v.str);
    return true;
}

/* False: no room for a value that can't be cut. */
static bool put_value(struct line *l, const struct st_log_var *var)
{
    struct st_slice text;
    char buf[32];

    if (var->type == ST_VAR_JSON)
        return try_put(l, var->v.slice.ptr, var->v.slice.len);
    return text_of(var, &text) ? put_string(l, text) : try_put(l, buf, print_value(buf, var));
}

/* first: no separator before it. A variable is there with a value that may be cut, or not at all.
 */
static void put_var(struct line *l, const struct st_log_var *var, bool first, bool spaced)
{
    const char *comma = first ? "" : spaced ? ", " : ",", *colon = spaced ? ": " : ":";
    char *mark = l->at;

    if (try_put(l, comma, strlen(comma)) && put_string(l, st_slice_of(var->key)) && !l->cut &&
        try_put(l, colon, strlen(colon)) && put_value(l, var))
        return;
    l->at = mark;
    l->cut = true;
    put(l, comma);
    put(l, spaced ? "\"...\": \"...\"" : "\"...\":\"...\"");
}

static bool has_vars(const struct st_log_record *rec)
{
    return rec->vars != NULL && rec->vars[0].key != NULL;
}

static void put_vars(struct line *l, const struct st_log_record *rec, bool first, bool spaced)
{
    if (!has_vars(rec))
        return;
    for (const struct st_log_var *var = rec->vars; var->key != NULL && !l->cut; var++) {
        put_var(l, var, first, spaced);
        first = false;
    }
}

/* The end of a name is what tells it from others. */
static struct st_slice name_tail(const char *name, size_t max)
{
    struct st_slice s = st_slice_of(name);

    if (s.len > max)
        s = (struct st_slice){s.ptr + s.len - max, max};
    return s;
}

/* "key=value || key=value", inside of quotes. */
static void put_flat(struct line *l, const struct st_log_var *vars)
{
    struct st_slice text;
    char buf[32];

    for (const struct st_log_var *var = vars; var->key != NULL && !l->cut; var++) {
        if (var != vars)
            put_escaped(l, ST_SLICE(" || "), true);
        if (!l->cut)
            put_escaped(l, st_slice_of(var->key), true);
        if (l->cut)
            break;
        if (var->type == ST_VAR_JSON)
            text = var->v.slice;
        else if (!text_of(var, &text))
            text = (struct st_slice){buf, print_value(buf, var)};
        put_escaped(l, ST_SLICE("="), true);
        if (!l->cut)
            put_escaped(l, text, true);
    }
}

/* The variables, as keys or in their group. */
static void put_group(struct line *l, const struct st_log_record *rec,
                      const struct st_log_style *style)
{
    char *mark = l->at;

    if (style->group_name == NULL || style->group_name[0] == '\0') {
        put_vars(l, rec, false, false);
        return;
    }
    if (!has_vars(rec) || l->cut)
        return;
    if (!try_put(l, ",", 1) || !put_string(l, st_slice_of(style->group_name)) || l->cut ||
        !try_put(l, style->flattened ? ":\"" : ":{", 2)) {
        l->at = mark;
        l->cut = true;
        put(l, ",\"...\":\"...\"");
        return;
    }
    if (style->flattened)
        put_flat(l, rec->vars);
    else
        put_vars(l, rec, true, false);
    put(l, style->flattened ? "\"" : "}");
}

/* Milliseconds with three decimals. Every record has them: printf takes longer than the rest of it.
 */
static void put_millis(struct line *l, uint64_t us)
{
    char text[24], *p = text + sizeof(text);

    for (int i = 0; i < 5 || us > 0; i++) {
        if (i == 3) {
            *--p = '.';
            continue;
        }
        *--p = (char)('0' + us % 10);
        us /= 10;
    }
    memcpy(l->at, p, (size_t)(text + sizeof(text) - p));
    l->at += text + sizeof(text) - p;
}

static void put_time(struct line *l, uint64_t wall_ns, enum st_log_time form)
{
    char text[32];

    if (form == ST_LOG_ISO8601) {
        st_clock_iso8601(wall_ns, text);
        put_string(l, st_slice_of(text));
        return;
    }
    put_millis(l, wall_ns / 1000);
}

static void format_json(struct line *l, const struct st_log_record *rec,
                        const struct st_log_style *style)
{
    static const char *const levels[] = {"debug", "info", "warn", "error", "error"};
    bool named = style->time_name != NULL && style->time_name[0] != '\0';

    put(l, "{\"level\":\"");
    put(l, levels[rec->level]);
    put(l, "\",");
    put_string(l, name_tail(named ? style->time_name : "time", JSON_NAME_MAX));
    put(l, ":");
    put_time(l, rec->wall_ns, style->time);
    put(l, ",\"name\":");
    put_string(l, name_tail(rec->name, JSON_NAME_MAX));
    put(l, ",\"message\":");
    put_string(l, st_slice_of(rec->text));
    put_group(l, rec, style);
    put(l, "}");
}

static void format_console(struct line *l, const struct st_log_record *rec, bool colour)
{
    static const char *const levels[] = {"(D) ", "(I) ", "(W) ", "(E) ", "(E) "};
    static const char *const colours[] = {"\x1b[36m", "\x1b[32m", "\x1b[33m", "\x1b[31m",
                                          "\x1b[31m"};
    struct st_slice name = name_tail(rec->name, CONSOLE_NAME);
    char date[ST_ISO8601_LEN + 1];

    st_clock_iso8601(rec->wall_ns, date);
    date[4] = date[7] = '.';
    date[10] = ' ';
    date[23] = ' '; /* was Z */
    put(l, date + 2);
    if (colour)
        put(l, colours[rec->level]);
    put(l, levels[rec->level]);
    if (colour)
        put(l, "\x1b[0m");
    for (size_t i = name.len; i < CONSOLE_NAME; i++)
        put(l, " ");
    put_escaped(l, name, false);
    put(l, " ");
    put_escaped(l, st_slice_of(rec->text), false);
    if (!has_vars(rec) || l->cut || !try_put(l, " {", 2))
        return;
    put_vars(l, rec, true, true);
    put(l, "}");
}

size_t st_log_format(char out[ST_LOG_RECORD_MAX], const struct st_log_record *rec,
                     const struct st_log_style *style, bool colour)
{
    struct line l = {out, out + ST_LOG_RECORD_MAX - TAIL_ROOM, false};

    if (style->encoding == ST_LOG_JSON)
        format_json(&l, rec, style);
    else
        format_console(&l, rec, colour);
    put(&l, "\n");
    return (size_t)(l.at - out);
}
