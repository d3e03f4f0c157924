#include "processor/core/base.h"

#include <stdlib.h>
#include <unistd.h>

struct panic_line {
    char text[512];
    size_t len;
};

static void panic_put(struct panic_line *l, const char *text)
{
    size_t n = strlen(text), room = sizeof(l->text) - 1 - l->len; /* 1: the newline */

    if (n > room)
        n = room;
    memcpy(l->text + l->len, text, n);
    l->len += n;
}

/* No stdio: a panic may come from a signal handler, or with stdio's locks held. */
void st_panic(const char *file, int line, const char *what)
{
    struct panic_line l = {.len = 0};
    char digits[12];
    char *d = digits + sizeof(digits);
    unsigned n = line > 0 ? (unsigned)line : 0;

    *--d = '\0';
    do
        *--d = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    panic_put(&l, "panic: ");
    panic_put(&l, file);
    panic_put(&l, ":");
    panic_put(&l, d);
    panic_put(&l, ": ");
    panic_put(&l, what);
    l.text[l.len++] = '\n';
    /* One write, so that lines of threads that die together don't mix. */
    if (write(STDERR_FILENO, l.text, l.len) < 0)
        abort();
    abort();
}

static unsigned char ascii_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c | 0x20) : c;
}

bool st_slice_ieq(struct st_slice a, struct st_slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (ascii_lower((unsigned char)a.ptr[i]) != ascii_lower((unsigned char)b.ptr[i]))
            return false;
    return true;
}
