#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEQ_DIGITS = 16, HEAD_DIGITS = 4 };

static void write_seq(char *at, int digits, uint64_t seq)
{
    for (int i = digits - 1; i >= 0; i--, seq >>= 4)
        at[i] = "0123456789abcdef"[seq & 15];
}

struct request request_build(const char *path, enum numbered numbered, int port,
                             const char *headers, long body)
{
    struct request r = {.body_len = body > 0 ? (size_t)body : 0};
    char head[8192], length[64] = "";

    if (body >= 0)
        snprintf(length, sizeof length, "Content-Length: %ld\r\n", body);
    r.head_len =
        (size_t)snprintf(head, sizeof head, "%s %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s%s\r\n",
                         body >= 0 ? "POST" : "GET", path, numbered == NUMBER_PATH ? "0000" : "",
                         port, length, headers, numbered == NUMBER_HEADER ? "N: 0000\r\n" : "");
    if (numbered == NUMBER_PATH)
        r.number_at = (size_t)(strstr(head, " HTTP/1.1\r\n") - head) - HEAD_DIGITS;
    else if (numbered == NUMBER_HEADER)
        r.number_at = r.head_len - 4 - HEAD_DIGITS;
    r.len = r.head_len + r.body_len;
    r.bytes = malloc(r.len);
    if (r.bytes == NULL)
        abort();
    memcpy(r.bytes, head, r.head_len);
    for (size_t i = 0; i < r.body_len; i++)
        r.bytes[r.head_len + i] = (char)('a' + i % 26);
    return r;
}

void request_stamp(const struct request *r, char *copy, uint64_t seq)
{
    if (r->body_len >= SEQ_DIGITS)
        write_seq(copy + r->head_len, SEQ_DIGITS, seq);
    if (r->number_at != 0)
        write_seq(copy + r->number_at, HEAD_DIGITS, seq);
}

bool request_echoes(const struct request *r, uint64_t seq, const char *p, size_t pos, size_t n)
{
    char digits[SEQ_DIGITS];
    size_t k;

    if (pos + n > r->body_len)
        return false;
    if (pos < SEQ_DIGITS && r->body_len >= SEQ_DIGITS) {
        k = SEQ_DIGITS - pos < n ? SEQ_DIGITS - pos : n;
        write_seq(digits, SEQ_DIGITS, seq);
        if (memcmp(p, digits + pos, k) != 0)
            return false;
        p += k;
        pos += k;
        n -= k;
    }
    return memcmp(p, r->bytes + r->head_len + pos, n) == 0;
}
