/* What a worker process prints: stdout and stderr as log records of the function, line by line. */
#ifndef RUNTIMES_PROCESS_PIPE_H
#define RUNTIMES_PROCESS_PIPE_H

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/loop.h"

enum {
    ST_PIPE_LINE_MAX = 4096, /* bytes of a record's text; a longer line is several */
    ST_PIPE_TAIL_MAX = 768   /* bytes of the last lines that are kept */
};

struct st_pipe;

/* One line, without its newline (and a CR before it); lines without text are left out. A NUL
 * follows the text, and there is none in it: a byte that is none of UTF-8 stands for it, which the
 * log shows as U+FFFD like all such bytes. A longer line comes in pieces, cut between characters.
 * Must not close the pipe. */
typedef void st_pipe_line_fn(struct st_pipe *out, struct st_slice text);

/* One pipe. Reads at most 64 KiB or some thousand lines a pass, so a worker that prints without end
 * starves nobody: it waits for the processor. */
struct st_pipe {
    struct st_loop *loop;
    struct event event;
    int fd;   /* -1: closed, by st_pipe_close or because no process has the far end any more */
    bool cut; /* in line(): the line began in an earlier record */
    uint64_t lines; /* records so far */
    st_pipe_line_fn *line;
    size_t len, tail_len;
    char buf[ST_PIPE_LINE_MAX + 1]; /* of the line that is not complete, and a NUL */
    char tail[ST_PIPE_TAIL_MAX];
};

/* Makes the pipe; *far is the worker's end, the caller's to close. The loop's thread, as all of it.
 */
int st_pipe_open(struct st_pipe *out, struct st_loop *loop, st_pipe_line_fn *line, int *far,
                 struct st_error *err) ST_MUST_CHECK;

/* Reads what there is, up to 64 KiB, passes on an unfinished last line, and closes. May be
 * repeated. The memory stays until the pass ends (st_loop_free_later). */
void st_pipe_close(struct st_pipe *out);

/* The last whole lines that fit, or the end of the last one, for the error text of a worker that
 * could not start; newlines between, none at the end. Also after st_pipe_close. Returns the
 * length. */
size_t st_pipe_tail(const struct st_pipe *out, char *text, size_t n);

#endif
