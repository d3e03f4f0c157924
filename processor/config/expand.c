#include "processor/config/expand.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_FILE = 1024 * 1024 };

/* The text that is being put together; grows in the arena, by doubling. */
struct builder {
    struct st_config_memory *mem;
    char *text;
    size_t len, room;
};

static void append(struct builder *b, const char *bytes, size_t len)
{
    if (b->len + len > b->room) {
        size_t room = 2 * (b->len + len) + 64;
        char *more = st_config_alloc(b->mem, room);

        if (b->len > 0)
            memcpy(more, b->text, b->len);
        b->text = more;
        b->room = room;
    }
    if (len > 0)
        memcpy(b->text + b->len, bytes, len);
    b->len += len;
}

static int ST_PRINTF(2, 3) fault(struct st_expansion *e, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(e->fault, sizeof(e->fault), fmt, args);
    va_end(args);
    return ST_ERR_INVALID;
}

static bool is_name(const char *p, size_t len)
{
    if (len == 0 || (p[0] >= '0' && p[0] <= '9'))
        return false;
    for (size_t i = 0; i < len; i++) {
        char c = (char)(p[i] | 0x20);

        if (!((c >= 'a' && c <= 'z') || (p[i] >= '0' && p[i] <= '9') || p[i] == '_'))
            return false;
    }
    return true;
}

static int append_file(struct st_expansion *e, struct builder *b, struct st_slice path)
{
    char *name = st_config_text(b->mem, path);
    char *bytes;
    size_t len;
    FILE *file = fopen(name, "re");

    if (file == NULL)
        return fault(e, "found ${file:%s}, which can't be read (%s), expected a readable file",
                     name, strerror(errno));
    bytes = malloc(MAX_FILE + 1);
    ST_ASSERT(bytes != NULL);
    len = fread(bytes, 1, MAX_FILE + 1, file);
    if (ferror(file) || len > MAX_FILE) {
        fault(e, "found ${file:%s}, which can't be read (%s), expected a readable file", name,
              ferror(file) ? strerror(errno) : "it is longer than 1 MiB");
    } else {
        if (len > 0 && bytes[len - 1] == '\n')
            len--;
        if (len > 0 && bytes[len - 1] == '\r')
            len--;
        append(b, bytes, len);
        e->from_file = true;
    }
    free(bytes);
    fclose(file);
    return e->from_file ? 0 : ST_ERR_INVALID;
}

/* inner: what stands between the braces. */
static int append_value(struct st_expansion *e, struct builder *b, struct st_slice inner)
{
    const char *mark = memmem(inner.ptr, inner.len, ":-", 2), *value;
    size_t name_len = mark != NULL ? (size_t)(mark - inner.ptr) : inner.len;
    char *name;

    if (inner.len > 5 && memcmp(inner.ptr, "file:", 5) == 0)
        return append_file(e, b, (struct st_slice){inner.ptr + 5, inner.len - 5});
    if (!is_name(inner.ptr, name_len))
        return fault(e,
                     "found ${%.*s}, expected the name of a variable or a file, for example "
                     "${PORT:-8080} or ${file:/run/secrets/key}; $${ stands for ${ itself",
                     (int)(inner.len < 100 ? inner.len : 100), inner.ptr);
    name = st_config_text(b->mem, (struct st_slice){inner.ptr, name_len});
    value = getenv(name);
    if (value != NULL && (value[0] != '\0' || mark == NULL)) {
        append(b, value, strlen(value));
        return 0;
    }
    if (mark == NULL)
        return fault(e,
                     "found ${%s}, which is not set in the environment, expected a variable that "
                     "is, or a default, for example ${%s:-text}",
                     name, name);
    append(b, mark + 2, inner.len - name_len - 2);
    return 0;
}

int st_expand(struct st_expansion *e, struct st_slice text, struct st_config_memory *mem)
{
    struct builder b = {.mem = mem};
    size_t i = 0;

    *e = (struct st_expansion){.text = text};
    if (text.len == 0 || memmem(text.ptr, text.len, "${", 2) == NULL)
        return 0;
    while (i < text.len) {
        const char *at = text.ptr + i, *end;
        size_t left = text.len - i;
        int rc;

        if (left >= 3 && memcmp(at, "$${", 3) == 0) {
            append(&b, "${", 2);
            i += 3;
            continue;
        }
        if (left < 2 || memcmp(at, "${", 2) != 0) {
            append(&b, at, 1);
            i++;
            continue;
        }
        end = memchr(at, '}', left);
        if (end == NULL)
            return fault(e, "found ${ without }, expected both, for example ${PORT:-8080}; "
                            "$${ stands for ${ itself");
        rc = append_value(e, &b, (struct st_slice){at + 2, (size_t)(end - at) - 2});
        if (rc != 0)
            return rc;
        e->expanded = true;
        i += (size_t)(end - at) + 1;
    }
    e->text = b.len > 0 ? (struct st_slice){b.text, b.len} : ST_SLICE("");
    return 0;
}
