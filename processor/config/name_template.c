#include "processor/config/name_template.h"

#include <stdio.h>
#include <string.h>

enum part { PART_NONE, PART_NAME, PART_NAMESPACE };

/* What stands between {{ and }} at text; *end is behind it. */
static enum part part_at(const char *text, const char **end)
{
    const char *from = text + 2, *to = strstr(text, "}}");

    if (to == NULL)
        return PART_NONE;
    *end = to + 2;
    while (from < to && *from == ' ')
        from++;
    while (to > from && to[-1] == ' ')
        to--;
    if (st_slice_eq((struct st_slice){from, (size_t)(to - from)}, ST_SLICE(".Name")))
        return PART_NAME;
    if (st_slice_eq((struct st_slice){from, (size_t)(to - from)}, ST_SLICE(".Namespace")))
        return PART_NAMESPACE;
    return PART_NONE;
}

bool st_name_template_ok(const char *text)
{
    while ((text = strstr(text, "{{")) != NULL)
        if (part_at(text, &text) == PART_NONE)
            return false;
    return true;
}

void st_name_template_expand(const char *text, const char *name, const char *namespace_, char *out,
                             size_t n)
{
    size_t len = 0;

    out[0] = '\0';
    while (*text != '\0' && len < n - 1) {
        const char *open = strstr(text, "{{");
        size_t plain = open != NULL ? (size_t)(open - text) : strlen(text);

        len += (size_t)snprintf(out + len, n - len, "%.*s", (int)plain, text);
        text += plain;
        if (open == NULL || len >= n - 1)
            break;
        len += (size_t)snprintf(out + len, n - len, "%s",
                                part_at(open, &text) == PART_NAME ? name : namespace_);
    }
}
