#include "processor/config/names.h"

enum { MAX_NAME = 64 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* Optimal string alignment: Damerau and Levenshtein, each piece edited once. */
unsigned st_name_distance(struct st_slice a, struct st_slice b, unsigned limit)
{
    unsigned rows[3][MAX_NAME + 1];
    unsigned *before = rows[0], *last = rows[1], *now = rows[2], *spare;
    size_t gap = a.len > b.len ? a.len - b.len : b.len - a.len;

    if (a.len > MAX_NAME || b.len > MAX_NAME || gap > limit)
        return limit + 1;
    for (unsigned j = 0; j <= b.len; j++)
        last[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            char x = lower(a.ptr[i - 1]), y = lower(b.ptr[j - 1]);

            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == lower(b.ptr[j - 2]) && y == lower(a.ptr[i - 2]) &&
                before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[b.len] > limit ? limit + 1 : last[b.len];
}

void st_nearest_init(struct st_nearest *n, struct st_slice wanted)
{
    *n = (struct st_nearest){.wanted = wanted};
    n->distance = 1 + (unsigned)(wanted.len < MAX_NAME ? wanted.len : MAX_NAME) / 3;
}

void st_nearest_try(struct st_nearest *n, const char *name)
{
    unsigned distance = st_name_distance(n->wanted, st_slice_of(name), n->distance);

    /* A name of which nothing stays is not near. */
    if (distance < strlen(name) &&
        (n->name == NULL ? distance <= n->distance : distance < n->distance)) {
        n->name = name;
        n->distance = distance;
    }
}
