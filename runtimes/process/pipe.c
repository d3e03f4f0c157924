#include "runtimes/process/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PASS_BYTES = 64 * 1024, PASS_LINES = 1024 };

/* Of n bytes those before a UTF-8 sequence that is not complete. */
static size_t whole_characters(const char *s, size_t n)
{
    for (size_t back = 1; back < 4 && back <= n; back++) {
        unsigned char c = (unsigned char)s[n - back];
        size_t length = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

        if (c >= 0x80 && c < 0xc0)
            continue;
        return length > back ? n - back : n;
    }
    return n;
}

/* text[len] is a byte that is used up. */
static void pass_on(struct st_pipe *out, char *text, size_t len)
{
    if (len > 0 && text[len - 1] == '\r')
        len--;
    if (len == 0)
        return;
    text[len] = '\0';
    out->lines++;
    out->line(out, (struct st_slice){text, len});
}

/* What the buffer has of lines; `fresh` bytes at its end were not looked at before. */
static void split(struct st_pipe *out, size_t fresh)
{
    char *from = out->buf, *at = out->buf + out->len - fresh, *end = out->buf + out->len;

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        pass_on(out, from, (size_t)(at - from));
        out->cut = false;
        from = ++at;
    }
    out->len = (size_t)(end - from);
    memmove(out->buf, from, out->len);
    if (out->len == ST_PIPE_LINE_MAX) {
        size_t part = whole_characters(out->buf, out->len);
        char first = out->buf[part];

        pass_on(out, out->buf, part);
        out->cut = true;
        out->buf[part] = first;
        out->len -= part;
        memmove(out->buf, out->buf + part, out->len);
    }
}

static void keep_tail(struct st_pipe *out, const char *bytes, size_t n)
{
    size_t kept = n < ST_PIPE_TAIL_MAX ? ST_PIPE_TAIL_MAX - n : 0;

    if (n > ST_PIPE_TAIL_MAX) {
        bytes += n - ST_PIPE_TAIL_MAX;
        n = ST_PIPE_TAIL_MAX;
    }
    if (kept > out->tail_len)
        kept = out->tail_len;
    memmove(out->tail, out->tail + out->tail_len - kept, kept);
    memcpy(out->tail + kept, bytes, n);
    out->tail_len = kept + n;
}

static void end(struct st_pipe *out)
{
    event_del(&out->event);
    close(out->fd);
    out->fd = -1;
    pass_on(out, out->buf, out->len);
    out->len = 0;
}

/* False: there is no more now. */
static bool read_some(struct st_pipe *out, size_t *bytes)
{
    char *at = out->buf + out->len, *nul;
    ssize_t n;

    do
        n = read(out->fd, at, ST_PIPE_LINE_MAX - out->len);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return false;
    if (n <= 0) {
        end(out);
        return false;
    }
    for (nul = at; (nul = memchr(nul, '\0', (size_t)(at + n - nul))) != NULL;)
        *nul = '\xff';
    keep_tail(out, at, (size_t)n);
    out->len += (size_t)n;
    *bytes += (size_t)n;
    split(out, (size_t)n);
    return true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct st_pipe *out = arg;
    uint64_t lines = out->lines;
    size_t bytes = 0;

    (void)fd;
    (void)what;
    if (out->fd < 0)
        return;
    while (bytes < PASS_BYTES && out->lines - lines < PASS_LINES && read_some(out, &bytes))
        ;
}

int st_pipe_open(struct st_pipe *out, struct st_loop *loop, st_pipe_line_fn *line, int *far,
                 struct st_error *err)
{
    int fds[2];

    out->loop = loop;
    out->line = line;
    out->fd = -1;
    out->cut = false;
    out->lines = 0;
    out->len = out->tail_len = 0;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return st_error_sys(err, errno, "can't make a pipe for a worker's output");
    /* Only this end: the worker's must block. */
    if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0 ||
        event_assign(&out->event, loop->base, fds[0], EV_READ | EV_PERSIST, on_readable, out) !=
            0 ||
        event_add(&out->event, NULL) != 0) {
        int rc = st_error_sys(err, errno, "can't listen to a worker's output");

        close(fds[0]);
        close(fds[1]);
        return rc;
    }
    out->fd = fds[0];
    *far = fds[1];
    return ST_OK;
}

void st_pipe_close(struct st_pipe *out)
{
    size_t bytes = 0;

    if (out->fd < 0)
        return;
    while (bytes < PASS_BYTES && read_some(out, &bytes))
        ;
    if (out->fd >= 0)
        end(out);
}

size_t st_pipe_tail(const struct st_pipe *out, char *text, size_t n)
{
    const char *from = out->tail, *line;
    size_t len = out->tail_len;
    bool whole = len < ST_PIPE_TAIL_MAX;

    while (len > 0 && (from[len - 1] == '\n' || from[len - 1] == '\r'))
        len--;
    if (len >= n) {
        from += len - (n - 1);
        len = n - 1;
        whole = false;
    }
    if (!whole && (line = memchr(from, '\n', len)) != NULL) {
        len -= (size_t)(line + 1 - from);
        from = line + 1;
    }
    memcpy(text, from, len);
    text[len] = '\0';
    return len;
}
