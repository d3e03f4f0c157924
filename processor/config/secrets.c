#include "processor/config/secrets.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "processor/core/alloc.h"

enum { MAX_FILE = 4 * 1024 * 1024 }; /* a Kubernetes secret has at most 1 MiB */

static const char key_prefix[] = "NUCLIO_B64_"; /* of keys, which must be names of variables */
static const char reference[] = "$ref:";

struct st_secrets {
    struct st_secret {
        const char *name, *value;
    } * items;
    size_t count;
};

bool st_secrets_wanted(void)
{
    const char *value = getenv("NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET");

    return value != NULL && strcmp(value, "true") == 0;
}

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 section 4, in mem with a NUL behind it; '_' is Nuclio's '=' in keys. NULL: none. */
static char *decode(struct st_config_memory *mem, struct st_slice text, size_t *len)
{
    char *out = st_config_alloc(mem, text.len / 4 * 3 + 4);
    uint32_t bits = 0;
    unsigned count = 0;

    *len = 0;
    while (text.len > 0 && (text.ptr[text.len - 1] == '=' || text.ptr[text.len - 1] == '_'))
        text.len--;
    for (size_t i = 0; i < text.len; i++) {
        int digit = digit_of(text.ptr[i]);

        if (digit < 0)
            return NULL;
        bits = bits << 6 | (uint32_t)digit;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out[(*len)++] = (char)(bits >> count & 0xff);
        }
    }
    return text.len % 4 == 1 ? NULL : out;
}

/* One key of the map as a name; NULL when it is none. */
static const char *name_of(struct st_config_memory *mem, const char *key)
{
    size_t skip = strncmp(key, key_prefix, sizeof key_prefix - 1) == 0 ? sizeof key_prefix - 1 : 0;
    size_t len;

    if (key[0] == '$')
        return st_config_text(mem, st_slice_of(key)); /* not encoded */
    return decode(mem, st_slice_of(key + skip), &len);
}

static int take(struct st_secrets *s, const char *json, size_t len, struct st_config_memory *mem)
{
    json_t *map = json_loadb(json, len, 0, NULL), *value;
    const char *key;
    int rc = json_is_object(map) ? 0 : ST_ERR_INVALID;

    s->items = st_config_alloc(mem, json_object_size(map) * sizeof(s->items[0]));
    json_object_foreach(map, key, value)
    {
        const char *name = name_of(mem, key);

        if (strcmp(key, "content") == 0)
            continue;
        if (name == NULL || !json_is_string(value)) {
            rc = ST_ERR_INVALID;
            break;
        }
        s->items[s->count].name = name;
        s->items[s->count++].value = st_config_text(
            mem, (struct st_slice){json_string_value(value), json_string_length(value)});
    }
    json_decref(map);
    return rc;
}

/* The file, its length in *len; NULL with errno. */
static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "re");
    char *text;

    if (file == NULL)
        return NULL;
    text = st_malloc(MAX_FILE);
    *len = fread(text, 1, MAX_FILE, file);
    if (ferror(file) || *len == MAX_FILE) {
        free(text);
        text = NULL;
        errno = *len == MAX_FILE ? EFBIG : EIO;
    }
    (void)fclose(file);
    return text;
}

int st_secrets_read(const struct st_secrets **out, const char *root, struct st_config_memory *mem,
                    struct st_diag *diag)
{
    const char *folder = getenv("NUCLIO_FUNCTION_SECRET_VOLUME_PATH"), *path;
    struct st_secrets *s = st_config_alloc(mem, sizeof *s);
    size_t len = 0, json_len = 0;
    char *text, *json;
    int rc = 0;

    path = folder != NULL && folder[0] != '\0'
               ? st_config_printf(mem, "%s/content", folder)
               : st_config_printf(mem, "%s/etc/nuclio/secrets/content", root);
    text = read_file(path, &len);
    if (text == NULL) {
        st_diag_error(diag, (struct st_place){path, 0, 0},
                      "can't be read: %s; the function's secrets should be there, because "
                      "NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET is true",
                      strerror(errno));
        return ST_ERR_NOTFOUND;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r'))
        len--;
    json = decode(mem, (struct st_slice){text, len}, &json_len);
    if (json == NULL || (json_len > 0 && take(s, json, json_len, mem) != 0)) {
        st_diag_error(diag, (struct st_place){path, 0, 0},
                      "found something else, expected a JSON object of texts in base64");
        rc = ST_ERR_INVALID;
    }
    free(text);
    *out = s;
    return rc;
}

bool st_secrets_find(const struct st_secrets *secrets, struct st_slice text, const char **value)
{
    if (text.len < sizeof reference - 1 || memcmp(text.ptr, reference, sizeof reference - 1) != 0)
        return false;
    *value = NULL;
    for (size_t i = 0; i < secrets->count; i++) {
        if (st_slice_eq(st_slice_of(secrets->items[i].name), text))
            *value = secrets->items[i].value;
    }
    return true;
}
