#include "processor/config/kinds.h"

#include <stdio.h>

#include "processor/config/names.h"

static bool is_known(const char *const *names, struct st_slice wanted)
{
    for (; names != NULL && *names != NULL; names++)
        if (st_slice_eq(st_slice_of(*names), wanted))
            return true;
    return false;
}

void st_kind_unknown(struct st_reader *r, const void *field, struct st_node place, const char *path,
                     struct st_slice wanted, const struct st_kind_choice *choice)
{
    const char *quote = wanted.ptr != NULL ? "\"" : "";
    struct st_nearest nearest;
    char list[256] = "";
    size_t len = 0;

    if (wanted.ptr == NULL)
        wanted = ST_SLICE("nothing");
    st_nearest_init(&nearest, wanted);
    for (size_t i = 0; i < choice->count && len < sizeof(list); i++) {
        st_nearest_try(&nearest, choice->names[i]);
        len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", i > 0 ? ", " : "",
                                choice->names[i]);
    }
    if (nearest.name == NULL && choice->count > 0)
        nearest.name = choice->names[0];
    st_reader_error(r, field, place, "%s: found %s%.*s%s%s, expected one of %s, for example \"%s\"",
                    path, quote, (int)wanted.len, wanted.ptr, quote,
                    is_known(choice->known, wanted) ? ", which is not supported by this build yet"
                                                    : "",
                    list, nearest.name != NULL ? nearest.name : "");
}
