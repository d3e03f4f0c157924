/* Texts that a controller masked. Nuclio's puts "$ref:/spec/..." where a sensitive text was and
 * mounts the texts as a secret; NUCLIO_RESTORE_FUNCTION_CONFIG_FROM_SECRET=true says to put them
 * back. */
#ifndef PROCESSOR_CONFIG_SECRETS_H
#define PROCESSOR_CONFIG_SECRETS_H

#include "processor/config/diag.h"
#include "processor/config/memory.h"
#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_secrets;

/* True when the environment asks for it. */
bool st_secrets_wanted(void);

/* Reads `content` below NUCLIO_FUNCTION_SECRET_VOLUME_PATH, or below root/etc/nuclio/secrets. The
 * result belongs to mem. A missing or unreadable file is told to diag. */
int st_secrets_read(const struct st_secrets **out, const char *root, struct st_config_memory *mem,
                    struct st_diag *diag) ST_MUST_CHECK;

/* True when the text is a reference; *value is what it stands for, NULL when that is not there. */
bool st_secrets_find(const struct st_secrets *secrets, struct st_slice text, const char **value);

#endif
