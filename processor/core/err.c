#include "processor/core/err.h"

#include <stdarg.h>
#include <stdio.h>

int st_error_set(struct st_error *err, enum st_err code, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return code;
    err->code = code;
    err->sys_errno = 0;
    err->retriable = false;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    return code;
}

int st_error_sys(struct st_error *err, int sys_errno, const char *fmt, ...)
{
    char buf[128];
    size_t len;
    va_list ap;

    if (err == NULL)
        return ST_ERR_SYSTEM;
    err->code = ST_ERR_SYSTEM;
    err->sys_errno = sys_errno;
    err->retriable = false;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof(err->text), fmt, ap);
    va_end(ap);
    len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %s",
             strerror_r(sys_errno, buf, sizeof(buf)));
    return ST_ERR_SYSTEM;
}

const char *st_err_name(int code)
{
    switch (code) {
    case ST_OK:
        return "ok";
    case ST_ERR_NOMEM:
        return "nomem";
    case ST_ERR_LIMIT:
        return "limit";
    case ST_ERR_AGAIN:
        return "again";
    case ST_ERR_CLOSED:
        return "closed";
    case ST_ERR_TIMEOUT:
        return "timeout";
    case ST_ERR_PROTOCOL:
        return "protocol";
    case ST_ERR_INVALID:
        return "invalid";
    case ST_ERR_SYSTEM:
        return "system";
    case ST_ERR_NOTFOUND:
        return "notfound";
    default:
        return "unknown";
    }
}
