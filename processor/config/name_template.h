/* Names that are made of the function's: Nuclio's templates in sinks of metrics, of which
 * {{ .Name }} and {{ .Namespace }} are understood. */
#ifndef PROCESSOR_CONFIG_NAME_TEMPLATE_H
#define PROCESSOR_CONFIG_NAME_TEMPLATE_H

#include "processor/core/base.h"

/* False: there is something else between {{ and }}. */
bool st_name_template_ok(const char *text);

/* The text with names filled in, cut at n - 1 bytes; text is ok. */
void st_name_template_expand(const char *text, const char *name, const char *namespace_, char *out,
                             size_t n);

#endif
