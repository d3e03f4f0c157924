/* How `stator invoke` shows an answer. True: all of it is written. */
#ifndef PROCESSOR_CLI_INVOKE_PRINT_H
#define PROCESSOR_CLI_INVOKE_PRINT_H

#include "processor/cli/client.h"
#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_invoke_answer {
    struct st_client_response response;
    struct st_error error; /* of the last attempt, where it failed */
    int64_t attempts;
    uint64_t duration_ns; /* of the last attempt */
};

/* The body on stdout as it came; a status other than 2xx on stderr. */
bool st_invoke_print_body(const struct st_client_response *r);

/* X-Nuclio-Logs on stderr, a line each. */
void st_invoke_print_logs(const struct st_client_response *r);

/* One object on stdout: status, headers, body (text) or bodyBase64, logs, durationMs, attempts. */
bool st_invoke_print_json(const struct st_invoke_answer *a);

/* One object on stdout: error, attempts. */
bool st_invoke_print_failure(const struct st_invoke_answer *a);

#endif
