/* The http output: a request for each message. */
#ifndef TRIGGERS_HTTP_HTTP_OUTPUT_H
#define TRIGGERS_HTTP_HTTP_OUTPUT_H

#include "processor/output.h"

extern const struct st_output_kind st_output_http_kind;

#endif
