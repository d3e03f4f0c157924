#include "triggers/cron/zone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "triggers/cron/calendar.h"
#include "triggers/cron/zone_int.h"

enum { MAX_FILE = 256 * 1024, HEADER = 44, MAX_NAME = 64, RULE_YEARS = 3 };

/* RFC 8536 section 3.2: what an offset should be within. */
enum { MIN_OFFSET = -89999, MAX_OFFSET = 93599 };

struct change {
    int64_t at;
    int32_t offset; /* from then on */
};

struct st_cron_zone {
    struct st_cron_rule rule; /* behind the last change */
    int32_t first;            /* offset before the first change */
    size_t count;
    struct change changes[];
};

static struct st_cron_zone *zone_new(size_t count)
{
    struct st_cron_zone *zone = calloc(1, sizeof *zone + count * sizeof zone->changes[0]);

    ST_ASSERT(zone != NULL);
    zone->count = count;
    return zone;
}

void st_cron_zone_free(struct st_cron_zone *zone)
{
    free(zone);
}

/* ---- look-up ---- */

/* Offset before change number i. */
static int32_t offset_before(const struct st_cron_zone *zone, size_t i)
{
    return i > 0 ? zone->changes[i - 1].offset : zone->first;
}

/* Changes by the rule in the years around the time, behind the last one of the file, in order. */
static size_t rule_changes(const struct st_cron_zone *zone, int64_t utc, struct change *out)
{
    const struct st_cron_rule *r = &zone->rule;
    int64_t day = st_cron_floor_div(utc + r->standard, ST_CRON_DAY_S);
    int64_t year = st_cron_date_of(day).year - 1;
    int64_t known = zone->count > 0 ? zone->changes[zone->count - 1].at : INT64_MIN;
    size_t n = 0;

    for (int i = 0; i < 2 * RULE_YEARS; i++) {
        const struct st_cron_rule_date *d = i % 2 == 0 ? &r->begin : &r->end;
        struct change c = {st_cron_rule_date_in(d, year + i / 2) -
                               (i % 2 == 0 ? r->standard : r->summer),
                           i % 2 == 0 ? r->summer : r->standard};
        size_t k = n;

        if (c.at <= known)
            continue;
        for (; k > 0 && out[k - 1].at > c.at; k--)
            out[k] = out[k - 1];
        out[k] = c;
        n++;
    }
    return n;
}

static struct st_cron_span rule_span(const struct st_cron_zone *zone, int64_t utc)
{
    struct change changes[2 * RULE_YEARS];
    size_t n = rule_changes(zone, utc, changes), i = 0;
    struct st_cron_span span = {
        .begin = zone->count > 0 ? zone->changes[zone->count - 1].at : INT64_MIN,
        .end = INT64_MAX,
        .offset = offset_before(zone, zone->count),
        .before = offset_before(zone, zone->count > 0 ? zone->count - 1 : 0),
    };

    for (; i < n && changes[i].at <= utc; i++) {
        span.begin = changes[i].at;
        span.before = span.offset;
        span.offset = changes[i].offset;
    }
    if (i < n)
        span.end = changes[i].at;
    return span;
}

struct st_cron_span st_cron_zone_span(const struct st_cron_zone *zone, int64_t utc)
{
    size_t low = 0, high = zone->count; /* how many changes lie at or before the time */

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->changes[middle].at <= utc)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == zone->count && zone->rule.has_summer)
        return rule_span(zone, utc);
    return (struct st_cron_span){
        .begin = low > 0 ? zone->changes[low - 1].at : INT64_MIN,
        .end = low < zone->count ? zone->changes[low].at : INT64_MAX,
        .offset = offset_before(zone, low),
        .before = offset_before(zone, low > 0 ? low - 1 : 0),
    };
}

/* ---- TZif ---- */

static uint32_t be32(const char *at)
{
    const unsigned char *p = (const unsigned char *)at;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t be64(const char *at)
{
    return (int64_t)((uint64_t)be32(at) << 32 | be32(at + 4));
}

/* One of the two data blocks. */
struct block {
    size_t isutc, isstd, leaps, times, types, chars;
    const char *data;
    size_t size; /* of data */
};

/* The header at the begin of bytes, and its data when a time takes time_size bytes. */
static bool read_block(struct st_slice bytes, size_t time_size, struct block *b)
{
    if (bytes.len < HEADER || memcmp(bytes.ptr, "TZif", 4) != 0 || bytes.ptr[4] < '2')
        return false;
    b->isutc = be32(bytes.ptr + 20);
    b->isstd = be32(bytes.ptr + 24);
    b->leaps = be32(bytes.ptr + 28);
    b->times = be32(bytes.ptr + 32);
    b->types = be32(bytes.ptr + 36);
    b->chars = be32(bytes.ptr + 40);
    /* Each below 2^32, so that the sum can't overflow. */
    b->size = b->times * (time_size + 1) + b->types * 6 + b->chars + b->leaps * (time_size + 4) +
              b->isstd + b->isutc;
    b->data = bytes.ptr + HEADER;
    return b->size <= bytes.len - HEADER;
}

/* Fills changes and first; false: the block is broken. */
static bool read_changes(struct st_cron_zone *zone, const struct block *b)
{
    const char *index = b->data + b->times * 8, *types = index + b->times;

    for (size_t i = 0; i < b->types; i++) {
        int32_t offset = (int32_t)be32(types + i * 6);
        if (offset < MIN_OFFSET || offset > MAX_OFFSET)
            return false;
    }
    zone->first = (int32_t)be32(types);
    for (size_t i = 0; i < b->times; i++) {
        size_t type = (unsigned char)index[i];
        struct change *c = &zone->changes[i];

        if (type >= b->types)
            return false;
        c->at = be64(b->data + i * 8);
        c->offset = (int32_t)be32(types + type * 6);
        /* The first may be the "big bang" of -2^59: far enough to count with. */
        if (c->at < -(1ll << 60) || c->at > 1ll << 60 || (i > 0 && c->at <= c[-1].at))
            return false;
    }
    return true;
}

/* What lies between the newlines behind the data; empty: no rule. */
static bool read_footer(struct st_cron_zone *zone, struct st_slice footer)
{
    const char *end;

    if (footer.len < 2 || footer.ptr[0] != '\n')
        return false;
    end = memchr(footer.ptr + 1, '\n', footer.len - 1);
    if (end == NULL)
        return false;
    if (end == footer.ptr + 1)
        return true;
    return st_cron_rule_parse(&zone->rule,
                              (struct st_slice){footer.ptr + 1, (size_t)(end - footer.ptr - 1)});
}

int st_cron_zone_read(struct st_cron_zone **out, struct st_slice bytes, struct st_error *err)
{
    struct block b;
    struct st_slice rest;
    struct st_cron_zone *zone;

    if (!read_block(bytes, 4, &b))
        return st_error_set(err, ST_ERR_INVALID, "not a TZif file of version 2 or later");
    rest = (struct st_slice){b.data + b.size, bytes.len - HEADER - b.size};
    if (!read_block(rest, 8, &b) || b.types == 0 || b.types > 256)
        return st_error_set(err, ST_ERR_INVALID, "a broken TZif file");
    if (b.leaps != 0)
        return st_error_set(err, ST_ERR_INVALID, "a TZif file that counts leap seconds");
    zone = zone_new(b.times);
    rest = (struct st_slice){b.data + b.size, rest.len - HEADER - b.size};
    if (!read_changes(zone, &b) || !read_footer(zone, rest)) {
        free(zone);
        return st_error_set(err, ST_ERR_INVALID, "a broken TZif file");
    }
    *out = zone;
    return ST_OK;
}

int st_cron_zone_rule(struct st_cron_zone **out, struct st_slice rule, struct st_error *err)
{
    struct st_cron_zone *zone = zone_new(0);

    if (!st_cron_rule_parse(&zone->rule, rule)) {
        free(zone);
        return st_error_set(err, ST_ERR_INVALID, "not a POSIX TZ rule");
    }
    zone->first = zone->rule.standard;
    *out = zone;
    return ST_OK;
}

/* ---- names ---- */

static int read_file(struct st_cron_zone **out, const char *path, struct st_error *err)
{
    struct st_error inner;
    size_t len = 0;
    ssize_t n = 0;
    char *bytes;
    int code, fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return st_error_set(err, ST_ERR_NOTFOUND, "%s can't be opened: %s", path, strerror(errno));
    bytes = malloc(MAX_FILE);
    ST_ASSERT(bytes != NULL);
    while (len < MAX_FILE && (n = read(fd, bytes + len, MAX_FILE - len)) > 0)
        len += (size_t)n;
    close(fd);
    if (n < 0)
        code = st_error_set(err, ST_ERR_INVALID, "%s can't be read: %s", path, strerror(errno));
    else if ((code = st_cron_zone_read(out, (struct st_slice){bytes, len}, &inner)) != ST_OK)
        code = st_error_set(err, ST_ERR_INVALID, "%s is %s", path, inner.text);
    free(bytes);
    return code;
}

/* Europe/Berlin, Etc/GMT+5: no way out of the folder. */
static bool name_ok(const char *name)
{
    size_t n = strlen(name);

    if (n == 0 || n > MAX_NAME || name[0] == '/' || name[n - 1] == '/')
        return false;
    for (size_t i = 0; i < n; i++) {
        char c = (char)(name[i] | 0x20);
        if (!((c >= 'a' && c <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
              strchr("_+-/", name[i]) != NULL))
            return false;
    }
    return true;
}

static int open_named(struct st_cron_zone **out, const char *name, struct st_error *err)
{
    const char *root = getenv("TZDIR");
    struct st_error inner;
    char path[512];

    if (!name_ok(name))
        return st_error_set(err, ST_ERR_INVALID,
                            "\"%.64s\" is no name of a time zone; an example is Europe/Berlin",
                            name);
    snprintf(path, sizeof path, "%s/%s",
             root != NULL && root[0] != '\0' ? root : "/usr/share/zoneinfo", name);
    if (read_file(out, path, &inner) == ST_OK)
        return ST_OK;
    return st_error_set(err, inner.code, "no time zone \"%s\": %s%s", name, inner.text,
                        inner.code == ST_ERR_NOTFOUND ? "; is the package tzdata there?" : "");
}

/* What localtime(3) would use. */
static int open_local(struct st_cron_zone **out, struct st_error *err)
{
    const char *tz = getenv("TZ");
    struct st_error inner;

    if (tz == NULL) {
        if (access("/etc/localtime", R_OK) == 0)
            return read_file(out, "/etc/localtime", err);
        return st_cron_zone_rule(out, ST_SLICE("UTC0"), err);
    }
    if (*tz == ':')
        tz++;
    if (*tz == '\0' || strcmp(tz, "UTC") == 0)
        return st_cron_zone_rule(out, ST_SLICE("UTC0"), err);
    if (*tz == '/')
        return read_file(out, tz, err);
    if (st_cron_zone_rule(out, st_slice_of(tz), &inner) == ST_OK)
        return ST_OK;
    if (open_named(out, tz, &inner) == ST_OK)
        return ST_OK;
    return st_error_set(err, inner.code, "TZ of the environment: %s", inner.text);
}

int st_cron_zone_open(struct st_cron_zone **out, const char *name, struct st_error *err)
{
    if (name[0] == '\0' || strcmp(name, "Local") == 0)
        return open_local(out, err);
    if (strcmp(name, "UTC") == 0)
        return st_cron_zone_rule(out, ST_SLICE("UTC0"), err);
    return open_named(out, name, err);
}
