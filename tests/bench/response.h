/* Incremental framing of HTTP/1.1 responses (RFC 9112): status line, Content-Length or chunked. */
#ifndef BENCH_RESPONSE_H
#define BENCH_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum response_phase { RSP_HEAD, RSP_BODY, RSP_CHUNK_SIZE, RSP_CHUNK, RSP_CHUNK_END, RSP_TRAILER };

/* One response in the making. All zero: waiting for a head. */
struct response {
    enum response_phase phase;
    int status;         /* of the response being read, or of the last complete one */
    uint64_t left;      /* bytes left of the body or of the current chunk */
    uint64_t body_seen; /* body bytes so far, framing not counted */
};

struct piece {
    size_t used;      /* bytes consumed; 0: more input is needed first */
    const char *body; /* body bytes inside the consumed ones, or NULL */
    size_t body_len;
    bool complete;     /* the response ended here */
    const char *fault; /* set when response_next() returns false */
};

/* Consumes one piece (a head, body bytes, a chunk line) of the n bytes at p. False: malformed. */
bool response_next(struct response *r, const char *p, size_t n, struct piece *out);

#endif
