/* Error codes of the event path, and the rich error of set-up, configuration and spawn. */
#ifndef PROCESSOR_CORE_ERR_H
#define PROCESSOR_CORE_ERR_H

#include "processor/core/base.h"

/* Functions return 0 or one of these; results are ST_MUST_CHECK. */
enum st_err {
    ST_OK = 0,
    ST_ERR_NOMEM = -1,    /* an allocation whose size a peer chose failed */
    ST_ERR_LIMIT = -2,    /* a configured limit is reached */
    ST_ERR_AGAIN = -3,    /* not now; the callee will call back or the caller retries */
    ST_ERR_CLOSED = -4,   /* the peer, worker or event is gone */
    ST_ERR_TIMEOUT = -5,  /* a deadline passed */
    ST_ERR_PROTOCOL = -6, /* a peer broke the rules of its protocol */
    ST_ERR_INVALID = -7,  /* input that can't be taken: configuration, arguments, handler results */
    ST_ERR_SYSTEM = -8,   /* a system call failed; errno or st_error.sys_errno says why */
    ST_ERR_NOTFOUND = -9, /* file, symbol or name doesn't exist */
};

/* Why something could not be set up. The caller owns the struct; text is cut at its size. */
struct st_error {
    enum st_err code;
    int sys_errno;   /* 0: none */
    bool retriable;  /* the same call may work later without a change */
    char text[1024]; /* one line for people: what, where, and what to do */
};

/* Fills *err (which may be NULL) and returns code, so that `return st_error_set(...)` reads well.
 */
int st_error_set(struct st_error *err, enum st_err code, const char *fmt, ...) ST_PRINTF(3, 4);

/* As st_error_set with ST_ERR_SYSTEM; appends ": " and the text of the errno given. */
int st_error_sys(struct st_error *err, int sys_errno, const char *fmt, ...) ST_PRINTF(3, 4);

/* Name of a code for logs, "timeout" for ST_ERR_TIMEOUT; static text. */
const char *st_err_name(int code);

#endif
