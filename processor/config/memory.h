/* Memory of one configuration: an arena that dies with it. Aborts when memory is out. */
#ifndef PROCESSOR_CONFIG_MEMORY_H
#define PROCESSOR_CONFIG_MEMORY_H

#include "processor/core/arena.h"
#include "processor/core/base.h"

struct st_config_memory {
    struct st_arena arena;
};

struct st_config_memory *st_config_memory_new(void);
void st_config_memory_free(struct st_config_memory *mem);

/* size zeroed bytes; never NULL, also for size 0. */
void *st_config_alloc(struct st_config_memory *mem, size_t size);

/* A copy of the text with a NUL behind it. */
char *st_config_text(struct st_config_memory *mem, struct st_slice text);

char *st_config_printf(struct st_config_memory *mem, const char *fmt, ...) ST_PRINTF(2, 3);

#endif
