/* Configuration in the comments of a handler's source, as Nuclio's builder reads it:
 *
 *     # @nuclio.configure
 *     #
 *     # function.yaml:
 *     #   spec: {...}
 */
#ifndef PROCESSOR_CONFIG_INLINE_H
#define PROCESSOR_CONFIG_INLINE_H

#include "processor/config/document.h"
#include "processor/core/base.h"
#include "processor/core/err.h"

/* Looks for the block in a file whose line comments begin with `comment`. What stands under
 * function.yaml is *root, with its places in the file; fyn is NULL, and there is nothing to close,
 * when there is no block. Otherwise the caller closes the document. */
int st_inline_open(struct st_document *doc, struct st_node *root, const char *file,
                   const char *comment, struct st_config_memory *mem,
                   struct st_diag *diag) ST_MUST_CHECK;

/* The same for text, which is changed. */
int st_inline_parse(struct st_document *doc, struct st_node *root, const char *file, char *text,
                    size_t len, const char *comment, struct st_config_memory *mem,
                    struct st_diag *diag) ST_MUST_CHECK;

#endif
