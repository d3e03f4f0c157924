#include "processor/config/scalar.h"

#include <math.h>
#include <stdlib.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool one_of(struct st_slice text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (st_slice_eq(text, st_slice_of(*words)))
            return true;
    }
    return false;
}

int st_scalar_bool(struct st_slice text, bool *out)
{
    static const char *const yes[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                      "True", "TRUE", "on",  "On",  "ON",  NULL};
    static const char *const no[] = {"n",     "N",     "no",  "No",  "NO",  "false",
                                     "False", "FALSE", "off", "Off", "OFF", NULL};

    *out = one_of(text, yes);
    return *out || one_of(text, no) ? 0 : ST_ERR_INVALID;
}

/* Digits of one base with _ between them; takes all of the text. */
static int parse_digits(struct st_slice text, unsigned base, uint64_t *out)
{
    uint64_t value = 0;
    bool any = false, over = false;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        unsigned digit;

        if (c == '_' && any)
            continue;
        if (is_digit(c))
            digit = (unsigned)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (unsigned)((c | 0x20) - 'a') + 10;
        else
            return ST_ERR_INVALID;
        if (digit >= base)
            return ST_ERR_INVALID;
        any = true;
        over |= __builtin_mul_overflow(value, base, &value);
        over |= __builtin_add_overflow(value, digit, &value);
    }
    *out = value;
    return !any ? ST_ERR_INVALID : over ? ST_ERR_LIMIT : 0;
}

static struct st_slice skip(struct st_slice text, size_t n)
{
    return (struct st_slice){text.ptr + n, text.len - n};
}

/* An integer in one of YAML's and Go's notations. */
static int parse_integer(struct st_slice text, int64_t *out)
{
    bool negative = text.len > 0 && text.ptr[0] == '-';
    unsigned base = 10;
    uint64_t value;
    int rc;

    *out = 0;
    if (text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+'))
        text = skip(text, 1);
    if (text.len > 1 && text.ptr[0] == '0') {
        char mark = (char)(text.ptr[1] | 0x20);

        base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
        text = skip(text, mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1);
    }
    rc = parse_digits(text, base, &value);
    if (rc != 0)
        return rc;
    if (value > (uint64_t)INT64_MAX + (negative ? 1u : 0u))
        return ST_ERR_LIMIT;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return 0;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool is_float(struct st_slice text)
{
    size_t i = 0, before, after = 0;

    if (i < text.len && (text.ptr[i] == '-' || text.ptr[i] == '+'))
        i++;
    for (before = i; i < text.len && is_digit(text.ptr[i]); i++)
        ;
    before = i - before;
    if (i < text.len && text.ptr[i] == '.') {
        for (after = ++i; i < text.len && is_digit(text.ptr[i]); i++)
            ;
        after = i - after;
    }
    if (before + after == 0)
        return false;
    if (i < text.len && (text.ptr[i] == 'e' || text.ptr[i] == 'E')) {
        i++;
        if (i < text.len && (text.ptr[i] == '-' || text.ptr[i] == '+'))
            i++;
        if (i == text.len)
            return false;
        while (i < text.len && is_digit(text.ptr[i]))
            i++;
    }
    return i == text.len;
}

int st_scalar_int(struct st_slice text, int64_t *out)
{
    char copy[64];
    double value;
    int rc = parse_integer(text, out);

    if (rc != ST_ERR_INVALID || !is_float(text) || text.len >= sizeof(copy))
        return rc;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    value = strtod(copy, NULL);
    if (!(fabs(value) < 0x1p63))
        return ST_ERR_LIMIT;
    if (trunc(value) != value)
        return ST_ERR_INVALID;
    *out = (int64_t)value;
    return 0;
}

enum st_scalar_type st_scalar_resolve(struct st_slice text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const floats[] = {".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf",
                                         "+.INF", "-.inf", "-.Inf", "-.INF", ".nan",
                                         ".NaN",  ".NAN",  NULL};
    int64_t number;
    bool flag;

    if (one_of(text, nulls))
        return ST_SCALAR_NULL;
    if (st_scalar_bool(text, &flag) == 0)
        return ST_SCALAR_BOOL;
    if (parse_integer(text, &number) != ST_ERR_INVALID)
        return ST_SCALAR_INT;
    if (is_float(text) || one_of(text, floats))
        return ST_SCALAR_FLOAT;
    return ST_SCALAR_TEXT;
}

/* A decimal number: value / 10^fraction. Digits that can't matter any more are counted, not kept.
 */
struct decimal {
    unsigned __int128 value;
    unsigned fraction;
    bool rest; /* digits other than 0 were cut off the fraction */
    bool over;
};

enum { MAX_FRACTION = 18 };

/* Takes digits and at most one point off the front; false when there is no digit. */
static bool take_decimal(struct st_slice *text, struct decimal *d)
{
    bool any = false, point = false;

    *d = (struct decimal){0};
    for (; text->len > 0; *text = skip(*text, 1)) {
        char c = text->ptr[0];

        if (c == '.' && !point) {
            point = true;
            continue;
        }
        if (!is_digit(c))
            break;
        any = true;
        if (point && d->fraction == MAX_FRACTION) {
            d->rest |= c != '0';
            continue;
        }
        d->value = d->value * 10 + (unsigned)(c - '0');
        if (d->value >> 100 != 0) {
            d->over = true;
            d->value = 1; /* anything but a wrapped product */
        }
        d->fraction += point;
    }
    return any;
}

/* d * unit, in whole numbers, rounded down or up. */
static int scale(const struct decimal *d, uint64_t unit, bool up, uint64_t *out)
{
    unsigned __int128 product, divisor = 1;

    for (unsigned i = 0; i < d->fraction; i++)
        divisor *= 10;
    if (d->over || __builtin_mul_overflow(d->value, (unsigned __int128)unit, &product))
        return ST_ERR_LIMIT;
    *out = 0;
    if (product / divisor > UINT64_MAX - 1)
        return ST_ERR_LIMIT;
    *out = (uint64_t)(product / divisor);
    if (up && (product % divisor != 0 || d->rest))
        (*out)++;
    return 0;
}

static bool take_prefix(struct st_slice *text, const char *prefix)
{
    size_t len = strlen(prefix);

    if (text->len < len || memcmp(text->ptr, prefix, len) != 0)
        return false;
    *text = skip(*text, len);
    return true;
}

/* One of Go's units; 0 when there is none. */
static uint64_t take_unit(struct st_slice *text)
{
    static const struct {
        const char *name;
        uint64_t ns;
    } units[] = {
        {"ns", 1},       {"us", 1000},  {"\xc2\xb5s", 1000}, {"\xce\xbcs", 1000},
        {"ms", 1000000}, {"s", ST_SEC}, {"m", 60 * ST_SEC},  {"h", 3600 * ST_SEC},
    };

    for (size_t i = 0; i < ST_ARRAY_LEN(units); i++) {
        if (take_prefix(text, units[i].name))
            return units[i].ns;
    }
    return 0;
}

int st_scalar_duration(struct st_slice text, int64_t *out)
{
    bool negative = false, over = false;
    uint64_t total = 0;

    *out = 0;
    if (text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+')) {
        negative = text.ptr[0] == '-';
        text = skip(text, 1);
    }
    if (st_slice_eq(text, ST_SLICE("0")))
        return 0;
    if (text.len == 0)
        return ST_ERR_INVALID;
    while (text.len > 0) {
        struct decimal d;
        uint64_t unit, part;

        if (!take_decimal(&text, &d))
            return ST_ERR_INVALID;
        unit = take_unit(&text);
        if (unit == 0)
            return ST_ERR_INVALID;
        over |= scale(&d, unit, false, &part) != 0 || __builtin_add_overflow(total, part, &total);
    }
    if (over || total > INT64_MAX)
        return ST_ERR_LIMIT;
    *out = negative ? -(int64_t)total : (int64_t)total;
    return 0;
}

/* The suffix of a quantity as unit / 10^fraction; false when it isn't one. */
static bool quantity_unit(struct st_slice suffix, uint64_t *unit, unsigned *fraction)
{
    static const struct {
        const char *name;
        uint64_t unit;
        unsigned fraction;
    } units[] = {
        {"", 1, 0},
        {"n", 1, 9},
        {"u", 1, 6},
        {"m", 1, 3},
        {"k", 1000, 0},
        {"M", 1000000, 0},
        {"G", ST_SEC, 0},
        {"T", 1000 * ST_SEC, 0},
        {"P", 1000000 * ST_SEC, 0},
        {"E", ST_SEC * ST_SEC, 0},
        {"Ki", 1ull << 10, 0},
        {"Mi", 1ull << 20, 0},
        {"Gi", 1ull << 30, 0},
        {"Ti", 1ull << 40, 0},
        {"Pi", 1ull << 50, 0},
        {"Ei", 1ull << 60, 0},
    };

    for (size_t i = 0; i < ST_ARRAY_LEN(units); i++) {
        if (st_slice_eq(suffix, st_slice_of(units[i].name))) {
            *unit = units[i].unit;
            *fraction = units[i].fraction;
            return true;
        }
    }
    return false;
}

/* "e3" or "E-3" as unit / 10^fraction. */
static int exponent_unit(struct st_slice suffix, uint64_t *unit, unsigned *fraction)
{
    int64_t exponent;

    *unit = 1;
    *fraction = 0;
    if (suffix.len < 2 || (suffix.ptr[0] != 'e' && suffix.ptr[0] != 'E') ||
        parse_integer(skip(suffix, 1), &exponent) != 0)
        return ST_ERR_INVALID;
    if (exponent < -MAX_FRACTION || exponent > MAX_FRACTION)
        return ST_ERR_LIMIT;
    if (exponent < 0)
        *fraction = (unsigned)-exponent;
    for (; exponent > 0; exponent--)
        *unit *= 10;
    return 0;
}

int st_scalar_size(struct st_slice text, uint64_t *out)
{
    bool negative = false;
    struct decimal d;
    uint64_t unit;
    unsigned fraction;
    int rc;

    *out = 0;
    if (text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+')) {
        negative = text.ptr[0] == '-';
        text = skip(text, 1);
    }
    if (!take_decimal(&text, &d))
        return ST_ERR_INVALID;
    if (!quantity_unit(text, &unit, &fraction)) {
        rc = exponent_unit(text, &unit, &fraction);
        if (rc != 0)
            return rc;
    }
    d.fraction += fraction; /* at most 36 digits, below 2^127 */
    rc = scale(&d, unit, true, out);
    return rc == 0 && negative && *out != 0 ? ST_ERR_LIMIT : rc;
}
