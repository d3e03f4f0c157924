/* What a worker process prints: stdout and stderr as log records of the function, line by line. */
#ifndef RUNTIMES_PROCESS_OUTPUT_H
#define RUNTIMES_PROCESS_OUTPUT_H

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/loop.h"

enum { ST_OUTPUT_LINE_MAX = 4096 }; /* bytes of a record's text; a longer line is several */

/* One pipe. Reads at most 64 KiB a pass, so a worker that prints without end starves nobody; keeps
 * the last lines for the error text of a worker that could not start. */
struct st_output {
    struct st_loop *loop;
    struct event event;
    int fd;
    size_t len;
    bool cut; /* the line began in an earlier record */
    uint64_t lines;
    void (*line)(struct st_output *out, struct st_slice text); /* without its newline */
    char buf[ST_OUTPUT_LINE_MAX];
};

/* Makes the pipe; *far is the worker's end, the caller's to close. */
int st_output_open(struct st_output *out, struct st_loop *loop,
                   void (*line)(struct st_output *out, struct st_slice text), int *far,
                   struct st_error *err) ST_MUST_CHECK;

/* Reads what there is, up to a bound, passes on an unfinished last line, and closes. May be
 * repeated. */
void st_output_close(struct st_output *out);

#endif
