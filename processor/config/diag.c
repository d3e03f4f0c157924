#include "processor/config/diag.h"

#include "processor/core/alloc.h"

struct st_diag_item {
    struct st_place at;
    size_t order; /* of arrival, for equal places */
    bool warning;
    char *text;
};

void st_diag_init(struct st_diag *diag, FILE *out)
{
    *diag = (struct st_diag){.out = out};
}

void st_diag_vadd(struct st_diag *diag, bool warning, struct st_place at, const char *fmt,
                  va_list args)
{
    char *text;

    if (diag->count == diag->room) {
        diag->room = diag->room == 0 ? 16 : 2 * diag->room;
        diag->items = st_realloc(diag->items, diag->room * sizeof(diag->items[0]));
    }
    ST_ASSERT(vasprintf(&text, fmt, args) >= 0);
    diag->items[diag->count] = (struct st_diag_item){at, diag->count, warning, text};
    diag->count++;
    if (!warning)
        diag->errors++;
}

void st_diag_error(struct st_diag *diag, struct st_place at, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    st_diag_vadd(diag, false, at, fmt, args);
    va_end(args);
}

void st_diag_warn(struct st_diag *diag, struct st_place at, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    st_diag_vadd(diag, true, at, fmt, args);
    va_end(args);
}

static int by_place(const void *left, const void *right)
{
    const struct st_diag_item *a = left, *b = right;

    if (a->at.line != b->at.line)
        return a->at.line < b->at.line ? -1 : 1;
    if (a->at.column != b->at.column)
        return a->at.column < b->at.column ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

static bool same(const struct st_diag_item *a, const struct st_diag_item *b)
{
    return a->at.file == b->at.file && a->at.line == b->at.line && a->at.column == b->at.column &&
           a->warning == b->warning && strcmp(a->text, b->text) == 0;
}

static void show(FILE *out, const struct st_diag_item *item)
{
    const char *label = item->warning ? "warning: " : "";

    if (item->at.file == NULL)
        fprintf(out, "stator: %s%s\n", label, item->text);
    else if (item->at.line == 0)
        fprintf(out, "%s: %s%s\n", item->at.file, label, item->text);
    else
        fprintf(out, "%s:%u:%u: %s%s\n", item->at.file, item->at.line, item->at.column, label,
                item->text);
}

void st_diag_flush(struct st_diag *diag)
{
    if (diag->count > 1)
        qsort(diag->items, diag->count, sizeof(diag->items[0]), by_place);
    for (size_t i = 0; i < diag->count; i++) {
        if (i == 0 || !same(&diag->items[i - 1], &diag->items[i]))
            show(diag->out, &diag->items[i]);
    }
    for (size_t i = 0; i < diag->count; i++)
        free(diag->items[i].text);
    fflush(diag->out);
    free(diag->items);
    diag->items = NULL;
    diag->count = diag->room = 0;
}
