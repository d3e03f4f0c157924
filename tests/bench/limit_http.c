/*
 * limit_http: the machine's limit on HTTP/1.1: one thread, epoll, no real parse.
 *
 * A request is whatever ends in a blank line, plus Content-Length bytes. GET answers 13 bytes, a
 * body is echoed. All answers to one read leave in one send. Not a server: it believes its peer.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "limit_loop.h"

enum { IN_SIZE = 1 << 20, OUT_SIZE = 2 << 20, HEAD_ROOM = 256 };

/* A request that has not all arrived, kept from the last read. */
struct rest {
    size_t len, cap;
    char *bytes;
};

static const char hello[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                            "Content-Length: 13\r\n\r\nHello, world!";
static char in_buf[IN_SIZE], out_buf[OUT_SIZE];

/* The last request head and what answers it: an equal head needs no search. */
static struct {
    char head[1024], answer[HEAD_ROOM];
    size_t head_len, body_len, answer_len;
} last;

/* The length of the request head at p, or 0 while it is unfinished; last then holds the rest. */
static size_t find_head(const char *p, size_t n)
{
    const char *end, *field;
    size_t len;

    if (last.head_len != 0 && n >= last.head_len && memcmp(p, last.head, last.head_len) == 0)
        return last.head_len;
    end = memmem(p, n, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    len = (size_t)(end + 4 - p);
    field = memmem(p, len, "Content-Length: ", 16);
    last.body_len = field != NULL ? strtoul(field + 16, NULL, 10) : 0;
    last.answer_len = sizeof hello - 1;
    memcpy(last.answer, hello, sizeof hello);
    if (last.body_len > 0) {
        last.answer_len = (size_t)snprintf(last.answer, sizeof last.answer,
                                           "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                           "Content-Length: %zu\r\n\r\n",
                                           last.body_len);
    }
    last.head_len = len <= sizeof last.head ? len : 0;
    memcpy(last.head, p, last.head_len);
    return len;
}

/* Answers every whole request in the n bytes at p; returns the bytes used, or -1. */
static ssize_t answer(const char *p, size_t n, size_t *out_len)
{
    size_t used = 0, head;

    while (used < n && (head = find_head(p + used, n - used)) != 0) {
        if (head + last.body_len > n - used)
            break;
        if (*out_len + last.body_len + HEAD_ROOM > OUT_SIZE)
            return -1;
        memcpy(out_buf + *out_len, last.answer, last.answer_len);
        *out_len += last.answer_len;
        memcpy(out_buf + *out_len, p + used + head, last.body_len);
        *out_len += last.body_len;
        used += head + last.body_len;
    }
    return (ssize_t)used;
}

static bool keep(struct rest *rest, const char *bytes, size_t n)
{
    rest->len = n;
    if (n == 0)
        return true;
    if (n > rest->cap) {
        char *grown = realloc(rest->bytes, n);
        if (grown == NULL)
            return false;
        rest->bytes = grown;
        rest->cap = n;
    }
    memcpy(rest->bytes, bytes, n);
    return true;
}

static void opened(struct peer *p)
{
    p->state = calloc(1, sizeof(struct rest));
    if (p->state == NULL)
        abort();
}

static bool readable(struct peer *p)
{
    struct rest *rest = p->state;
    size_t out_len = 0, n = rest->len;
    ssize_t got, used;

    if (n > 0)
        memcpy(in_buf, rest->bytes, n);
    got = recv(p->fd, in_buf + n, IN_SIZE - n, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    n += (size_t)got;
    used = answer(in_buf, n, &out_len);
    if (used < 0 || !keep(rest, in_buf + used, n - (size_t)used))
        return false;
    return out_len == 0 || peer_send(p, out_buf, out_len);
}

static bool drained(struct peer *p)
{
    (void)p;
    return true;
}

static void closed(struct peer *p)
{
    struct rest *rest = p->state;

    free(rest->bytes);
    free(rest);
}

int main(int argc, char **argv)
{
    static const struct limit_server server = {opened, readable, drained, closed};

    return limit_main(argc, argv, &server);
}
