/* The http trigger: requests become events, results become replies. */
#ifndef TRIGGERS_HTTP_HTTP_TRIGGER_H
#define TRIGGERS_HTTP_HTTP_TRIGGER_H

#include "processor/trigger.h"

extern const struct st_trigger_kind st_trigger_http_kind;

#endif
