#include "processor/config/value.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "processor/config/expand.h"
#include "processor/config/names.h"
#include "processor/config/scalar.h"
#include "processor/config/secrets.h"

enum { SHOWN = 60 }; /* characters of a value that a message quotes */

/* A scalar on its way into a field. */
struct scalar {
    struct st_slice text;
    enum st_scalar_type type; /* TEXT when quoted */
    struct st_slice source;   /* before expansion; ptr NULL: nothing was expanded */
    bool quoted, hidden;
};

/* ---- messages ---- */

static void print(char **at, char *end, const char *fmt, ...) ST_PRINTF(3, 4);

static void print(char **at, char *end, const char *fmt, ...)
{
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(*at, (size_t)(end - *at), fmt, args);
    va_end(args);
    *at = n < end - *at ? *at + n : end - 1;
}

/* "text" on one line, cut where it is long. */
static const char *quote(struct st_config_memory *mem, struct st_slice text)
{
    size_t len = text.len <= SHOWN ? text.len : SHOWN;
    char *out = st_config_alloc(mem, len * 4 + 8), *at = out;

    while (len > 0 && len < text.len && (text.ptr[len] & 0xc0) == 0x80)
        len--; /* not within a character */
    *at++ = '"';
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if (c < 0x20 || c == 0x7f) {
            at += snprintf(at, 5, c == '\n' ? "\\n" : "\\x%02x", c);
            continue;
        }
        if (c == '"' || c == '\\')
            *at++ = '\\';
        *at++ = (char)c;
    }
    if (len < text.len) {
        memcpy(at, "...", 3);
        at += 3;
    }
    *at++ = '"';
    *at = '\0';
    return out;
}

static const char *found_scalar(struct st_config_memory *mem, const struct scalar *s)
{
    static const char *const hidden[] = {"nothing", "a boolean", "a number", "a number",
                                         "some text"};

    if (s->hidden)
        return hidden[s->type];
    if (s->source.ptr != NULL)
        return st_config_printf(mem, "%s (from %.*s)", quote(mem, s->text), (int)s->source.len,
                                s->source.ptr);
    switch (s->type) {
    case ST_SCALAR_NULL:
        return "nothing";
    case ST_SCALAR_BOOL:
        return st_config_printf(mem, "the boolean %.*s", (int)s->text.len, s->text.ptr);
    case ST_SCALAR_INT:
    case ST_SCALAR_FLOAT:
        return st_config_printf(mem, "the number %.*s",
                                (int)(s->text.len <= SHOWN ? s->text.len : SHOWN), s->text.ptr);
    case ST_SCALAR_TEXT:
        break;
    }
    if (s->quoted && st_scalar_resolve(s->text) != ST_SCALAR_TEXT)
        return st_config_printf(mem, "%s in quotes", quote(mem, s->text));
    return quote(mem, s->text);
}

static const char *type_words(enum st_option_type type)
{
    static const char *const words[] = {
        [ST_OPT_STRING] = "text",
        [ST_OPT_BOOL] = "a boolean",
        [ST_OPT_INT] = "a whole number",
        [ST_OPT_SIZE] = "a size in bytes",
        [ST_OPT_DURATION] = "a duration",
        [ST_OPT_MILLIS] = "a number of milliseconds",
        [ST_OPT_STRING_LIST] = "a list of texts",
        [ST_OPT_ENUM] = "one of",
        [ST_OPT_OBJECT] = "an object",
        [ST_OPT_ANY] = "a value",
        [ST_OPT_STRING_MAP] = "an object of texts",
        [ST_OPT_LIST] = "a list of objects",
        [ST_OPT_MAP] = "an object of objects",
        [ST_OPT_NODE] = "an object",
    };

    return words[type];
}

/* A bound in the unit in which people write it. */
static const char *bound(const struct st_option *row, double value, char *text, size_t n)
{
    static const struct {
        double ns;
        const char *unit;
    } units[] = {{3600e9, "h"}, {60e9, "m"}, {1e9, "s"}, {1e6, "ms"}, {1e3, "us"}};
    size_t i = 0;

    if (row->type != ST_OPT_DURATION || value == 0) {
        snprintf(text, n, "%.0f", value);
        return text;
    }
    while (i < ST_ARRAY_LEN(units) && fmod(value, units[i].ns) != 0)
        i++;
    if (i == ST_ARRAY_LEN(units))
        snprintf(text, n, "%.0fns", value);
    else
        snprintf(text, n, "%.0f%s", value / units[i].ns, units[i].unit);
    return text;
}

static bool has_bounds(const struct st_option *row)
{
    return row->min != 0 || row->max != 0;
}

static void print_type(char **at, char *end, const struct st_option *row)
{
    char min[64], max[64];

    print(at, end, "%s", type_words(row->type));
    if (row->type == ST_OPT_ENUM) {
        bool first = true;

        for (const char *const *name = row->values; *name != NULL; name++) {
            if (**name != '\0') {
                print(at, end, "%s%s", first ? " " : ", ", *name);
                first = false;
            }
        }
    } else if (has_bounds(row) && isinf(row->max)) {
        print(at, end, " of at least %s", bound(row, row->min, min, sizeof(min)));
    } else if (has_bounds(row)) {
        print(at, end, " from %s to %s", bound(row, row->min, min, sizeof(min)),
              bound(row, row->max, max, sizeof(max)));
    }
}

static const char *example_of(const struct st_option *row)
{
    static const char *const examples[] = {
        [ST_OPT_STRING] = "text",
        [ST_OPT_BOOL] = "true",
        [ST_OPT_INT] = "1",
        [ST_OPT_SIZE] = "64Mi",
        [ST_OPT_DURATION] = "10s",
        [ST_OPT_MILLIS] = "10000",
        [ST_OPT_STRING_LIST] = "[a, b]",
        [ST_OPT_OBJECT] = "{key: value}",
        [ST_OPT_STRING_MAP] = "{name: text}",
        [ST_OPT_LIST] = "[{key: value}]",
        [ST_OPT_MAP] = "{name: {key: value}}",
        [ST_OPT_NODE] = "{key: value}",
    };

    if (row->example != NULL)
        return row->example;
    for (const char *const *name = row->values; row->type == ST_OPT_ENUM && *name != NULL; name++) {
        if (**name != '\0')
            return *name;
    }
    return row->type == ST_OPT_ENUM ? "" : examples[row->type];
}

static const char *nearest_value(const struct st_option *row, struct st_slice text)
{
    struct st_nearest nearest;

    st_nearest_init(&nearest, text);
    for (const char *const *name = row->values; *name != NULL; name++) {
        if (**name != '\0')
            st_nearest_try(&nearest, *name);
    }
    return nearest.name != NULL ? nearest.name : example_of(row);
}

static void print_example(char **at, char *end, const struct st_option *row, struct st_node node)
{
    struct st_slice text = {NULL, 0};
    enum st_scalar_type type = ST_SCALAR_NULL;

    if (node.fyn != NULL && st_node_kind(node) == ST_NODE_SCALAR && !(row->flags & ST_OPT_SECRET)) {
        text = st_node_text(node);
        type = st_node_is_text(node) ? ST_SCALAR_TEXT : st_scalar_resolve(text);
    }
    print(at, end, ", for example ");
    if (row->type == ST_OPT_ENUM)
        print(at, end, "%s", nearest_value(row, text));
    else if (row->type == ST_OPT_STRING && row->example == NULL && text.len > 0 &&
             text.len <= SHOWN && type != ST_SCALAR_TEXT)
        print(at, end, "\"%.*s\"", (int)text.len, text.ptr);
    else if (row->type == ST_OPT_DURATION && type == ST_SCALAR_INT && text.len <= 6 &&
             text.ptr[0] != '-' && text.ptr[0] != '0')
        print(at, end, "\"%.*ss\"", (int)text.len, text.ptr);
    else if (row->type == ST_OPT_STRING || row->type == ST_OPT_DURATION)
        print(at, end, "\"%s\"", example_of(row));
    else
        print(at, end, "%s", example_of(row));
}

void st_value_describe_fault(char *text, size_t n, const struct st_option *row, const char *found,
                             struct st_node node)
{
    char *at = text, *end = text + n;

    print(&at, end, "found %s, expected ", found);
    print_type(&at, end, row);
    print_example(&at, end, row, node);
}

void st_value_describe_type(char *text, size_t n, const struct st_option *row)
{
    char *at = text;

    print_type(&at, text + n, row);
}

/* ---- scalars ---- */

static struct scalar scalar_of(const struct st_option *row, struct st_node node)
{
    struct scalar s = {.text = st_node_text(node), .quoted = st_node_is_text(node)};

    s.type = s.quoted ? ST_SCALAR_TEXT : st_scalar_resolve(s.text);
    s.hidden = (row->flags & ST_OPT_SECRET) != 0;
    return s;
}

const char *st_value_found(struct st_config_memory *mem, const struct st_option *row,
                           struct st_node node)
{
    struct scalar s;

    switch (st_node_kind(node)) {
    case ST_NODE_NULL:
        return "nothing";
    case ST_NODE_MAP:
        return "an object";
    case ST_NODE_LIST:
        return "a list";
    case ST_NODE_SCALAR:
        break;
    }
    s = scalar_of(row, node);
    return found_scalar(mem, &s);
}

/* ---- conversions: 0, ST_ERR_INVALID or ST_ERR_LIMIT ---- */

static int in_bounds(const struct st_option *row, double value)
{
    if (has_bounds(row) && (value < row->min || value > row->max))
        return ST_ERR_LIMIT;
    return 0;
}

static int read_string(struct st_config_memory *mem, const struct st_option *row, void *field,
                       const struct scalar *s)
{
    char *text;

    (void)row;
    /* What an expansion put in is text here, whatever it looks like. */
    if ((s->type != ST_SCALAR_TEXT && s->source.ptr == NULL) ||
        (s->text.len > 0 && memchr(s->text.ptr, '\0', s->text.len) != NULL))
        return ST_ERR_INVALID;
    text = st_config_text(mem, s->text);
    memcpy(field, &text, sizeof(text));
    return 0;
}

static int read_bool(struct st_config_memory *mem, const struct st_option *row, void *field,
                     const struct scalar *s)
{
    bool value;

    (void)mem;
    (void)row;
    if (s->type != ST_SCALAR_BOOL || st_scalar_bool(s->text, &value) != 0)
        return ST_ERR_INVALID;
    memcpy(field, &value, sizeof(value));
    return 0;
}

static int read_int(struct st_config_memory *mem, const struct st_option *row, void *field,
                    const struct scalar *s)
{
    int64_t value;
    int rc;

    (void)mem;
    if (s->type != ST_SCALAR_INT && s->type != ST_SCALAR_FLOAT)
        return ST_ERR_INVALID;
    rc = st_scalar_int(s->text, &value);
    if (rc == 0)
        rc = in_bounds(row, (double)value);
    if (rc == 0)
        memcpy(field, &value, sizeof(value));
    return rc;
}

static int read_size(struct st_config_memory *mem, const struct st_option *row, void *field,
                     const struct scalar *s)
{
    uint64_t value;
    int64_t number;
    int rc;

    (void)mem;
    if (s->type == ST_SCALAR_BOOL || s->type == ST_SCALAR_NULL)
        return ST_ERR_INVALID;
    if (s->type == ST_SCALAR_INT && st_scalar_int(s->text, &number) == 0) {
        rc = number < 0 ? ST_ERR_LIMIT : 0; /* YAML's notations: 0x4000 */
        value = (uint64_t)number;
    } else {
        rc = st_scalar_size(s->text, &value);
    }
    if (rc == 0)
        rc = in_bounds(row, (double)value);
    if (rc == 0)
        memcpy(field, &value, sizeof(value));
    return rc;
}

static int read_duration(struct st_config_memory *mem, const struct st_option *row, void *field,
                         const struct scalar *s)
{
    uint64_t value;
    int64_t ns;
    int rc;

    (void)mem;
    if (s->type != ST_SCALAR_TEXT)
        return ST_ERR_INVALID;
    if (s->text.len == 0)
        return 0; /* as absent */
    rc = st_scalar_duration(s->text, &ns);
    if (rc == 0)
        rc = ns < 0 ? ST_ERR_LIMIT : in_bounds(row, (double)ns);
    value = (uint64_t)ns;
    if (rc == 0)
        memcpy(field, &value, sizeof(value));
    return rc;
}

static int read_millis(struct st_config_memory *mem, const struct st_option *row, void *field,
                       const struct scalar *s)
{
    uint64_t value;
    int64_t ms;
    int rc;

    (void)mem;
    if (s->type != ST_SCALAR_INT && s->type != ST_SCALAR_FLOAT)
        return ST_ERR_INVALID;
    rc = st_scalar_int(s->text, &ms);
    if (rc == 0 && ms < 0)
        return 0; /* the default */
    if (rc == 0)
        rc = in_bounds(row, (double)ms);
    if (rc == 0 && __builtin_mul_overflow((uint64_t)ms, ST_MSEC, &value))
        rc = ST_ERR_LIMIT;
    if (rc == 0)
        memcpy(field, &value, sizeof(value));
    return rc;
}

static int read_enum(struct st_config_memory *mem, const struct st_option *row, void *field,
                     const struct scalar *s)
{
    (void)mem;
    if (s->text.len == 0)
        return ST_ERR_INVALID;
    /* Whatever YAML takes the word for: "off" may be a name. */
    for (int i = 0; row->values[i] != NULL; i++) {
        if (st_slice_eq(st_slice_of(row->values[i]), s->text)) {
            memcpy(field, &i, sizeof(i));
            return 0;
        }
    }
    return ST_ERR_INVALID;
}

typedef int read_fn(struct st_config_memory *mem, const struct st_option *row, void *field,
                    const struct scalar *s);

static read_fn *reader_of(enum st_option_type type)
{
    switch (type) {
    case ST_OPT_STRING:
        return read_string;
    case ST_OPT_BOOL:
        return read_bool;
    case ST_OPT_INT:
        return read_int;
    case ST_OPT_SIZE:
        return read_size;
    case ST_OPT_DURATION:
        return read_duration;
    case ST_OPT_MILLIS:
        return read_millis;
    case ST_OPT_ENUM:
        return read_enum;
    default:
        return NULL;
    }
}

/* Puts the text in that a reference stands for, which is not expanded. */
static bool restore(const struct st_secrets *secrets, struct scalar *s)
{
    const char *value;

    if (secrets == NULL || s->type != ST_SCALAR_TEXT || !st_secrets_find(secrets, s->text, &value))
        return false;
    s->text = value != NULL ? st_slice_of(value) : (struct st_slice){NULL, 0};
    s->hidden = true;
    return true;
}

static bool takes_text(const struct st_option *row)
{
    return row->type == ST_OPT_STRING || row->type == ST_OPT_DURATION;
}

static int read_scalar(struct st_document *doc, const struct st_option *row, void *base,
                       struct scalar s, struct st_node node, char *fault, size_t n)
{
    struct st_config_memory *mem = doc->mem;
    read_fn *read = reader_of(row->type);

    ST_ASSERT(read != NULL);
    if (restore(doc->secrets, &s)) {
        if (s.text.ptr == NULL) {
            snprintf(fault, n,
                     "found a reference to a secret that the function's secrets do not have, "
                     "expected one that they have, or the text itself");
            return ST_ERR_INVALID;
        }
    } else if ((row->flags & ST_OPT_EXPAND) != 0 && s.type == ST_SCALAR_TEXT) {
        struct st_expansion e;

        if (st_expand(&e, s.text, mem) != 0) {
            snprintf(fault, n, "%s", e.fault);
            return ST_ERR_INVALID;
        }
        if (e.expanded) {
            s.source = s.text;
            s.quoted = false;
            s.type = st_scalar_resolve(e.text);
            s.hidden |= e.from_file;
        }
        s.text = e.text;
    }
    if (read(mem, row, (char *)base + row->offset, &s) == 0)
        return 0;
    st_value_describe_fault(fault, n, row, found_scalar(mem, &s), node);
    return ST_ERR_INVALID;
}

int st_value_read(struct st_document *doc, const struct st_option *row, void *base,
                  struct st_node node, char *fault, size_t n)
{
    return read_scalar(doc, row, base, scalar_of(row, node), node, fault, n);
}

static void split_list(struct st_config_memory *mem, struct st_slice text, void *field)
{
    struct st_string_list list = {NULL, 0};
    char *rest = st_config_text(mem, text), *item;
    size_t room = 1;

    for (const char *p = rest; *p != '\0'; p++)
        room += *p == ',';
    list.items = st_config_alloc(mem, room * sizeof(list.items[0]));
    while ((item = strsep(&rest, ",")) != NULL) {
        while (*item == ' ')
            item++;
        if (*item != '\0')
            list.items[list.count++] = item;
    }
    memcpy(field, &list, sizeof(list));
}

int st_value_read_text(struct st_document *doc, const struct st_option *row, void *base,
                       struct st_node node, char *fault, size_t n)
{
    struct scalar s = scalar_of(row, node);

    if (row->type == ST_OPT_STRING_LIST) {
        split_list(doc->mem, s.text, (char *)base + row->offset);
        return 0;
    }
    s.quoted = false;
    s.type = takes_text(row) ? ST_SCALAR_TEXT : st_scalar_resolve(s.text);
    return read_scalar(doc, row, base, s, node, fault, n);
}

/* ---- defaults ---- */

void st_value_default(struct st_config_memory *mem, const struct st_option *row, void *base)
{
    struct scalar s = {.text = st_slice_of(row->value)};
    void *field = (char *)base + row->offset;
    read_fn *read = reader_of(row->type);

    if (row->type == ST_OPT_STRING_LIST) {
        split_list(mem, st_slice_of(row->value), field);
        return;
    }
    ST_ASSERT(read != NULL);
    s.type = takes_text(row) ? ST_SCALAR_TEXT : st_scalar_resolve(s.text);
    ST_ASSERT(read(mem, row, field, &s) == 0);
}

const char *st_value_default_text(const struct st_option *row)
{
    bool zero = !has_bounds(row) || row->min <= 0;

    if ((row->flags & ST_OPT_REQUIRED) || row->type == ST_OPT_ANY)
        return NULL;
    if (row->value != NULL)
        return row->value[0] != '\0' ? row->value : NULL;
    switch (row->type) {
    case ST_OPT_BOOL:
        return "false";
    case ST_OPT_INT:
    case ST_OPT_SIZE:
    case ST_OPT_MILLIS:
        return zero ? "0" : NULL;
    case ST_OPT_DURATION:
        return zero ? "0s" : NULL;
    case ST_OPT_ENUM:
        return row->values[0][0] != '\0' ? row->values[0] : NULL;
    default:
        return NULL;
    }
}
