/* Inner interface of the configuration: the two files, their tables and rules. Tests hand in kinds
 * of their own and a folder instead of "/". */
#ifndef PROCESSOR_CONFIG_SCHEMA_H
#define PROCESSOR_CONFIG_SCHEMA_H

#include "processor/config/config.h"
#include "processor/config/document.h"
#include "processor/config/memory.h"
#include "processor/config/option.h"
#include "processor/config/reader.h"
#include "processor/core/base.h"

/* What a configuration is read against. */
struct st_config_env {
    const struct st_trigger_kind *const *trigger_kinds; /* NULL-terminated */
    const struct st_runtime_kind *const *runtime_kinds;
    const char *root;                                    /* "" or a folder that stands for "/" */
    FILE *out;                                           /* faults and warnings */
    const struct st_runtime_kind *const *isolated_kinds; /* for isolation: process, by name; NULL:
                                                          * there are none */
    const struct st_output_kind *const *output_kinds;    /* NULL-terminated, or NULL: none */
};

/* As st_config_load. */
int st_config_load_env(struct st_config *out, const struct st_config_args *args,
                       const struct st_config_env *env) ST_MUST_CHECK;

/* As st_config_check. */
int st_config_check_env(const char *file, bool strict,
                        const struct st_config_env *env) ST_MUST_CHECK;

/* The top level of the two files. */
extern const struct st_option st_function_table[];
extern const struct st_option st_platform_table[];

/* A document with a function in it. */
struct st_function_text {
    struct st_document *doc;
    struct st_node root; /* where the function begins; fyn NULL: the document's root */
    const struct st_runtime_kind *runtime; /* where it names none; NULL: it must */
};

/* One of spec.loggerSinks. */
struct st_log_binding {
    enum st_log_level level;
    const char *sink;      /* of the platform; "": the one that is in use anyway */
    unsigned line, column; /* of the name */
};

/* What it says beside the function. */
struct st_function_extras {
    struct st_log_binding *log_bindings;
    size_t log_binding_count;
    bool has_platform;
    struct st_platform_config platform; /* as Nuclio's processor.yaml may have it */
};

/* Reads a document into the structs; all faults are told to its diag. */
int st_function_read(struct st_function_config *f, struct st_function_extras *extras,
                     const struct st_function_text *text,
                     const struct st_config_env *env) ST_MUST_CHECK;
int st_platform_read(struct st_platform_config *p, struct st_document *doc) ST_MUST_CHECK;

/* The same for an object below the document's root, at path; faults go to the reader's diag. */
void st_platform_read_node(struct st_platform_config *p, struct st_reader *r, struct st_node node,
                           const struct st_path *path);

/* The same without a file: defaults. */
void st_function_defaults(struct st_function_config *f, struct st_config_memory *mem);
void st_platform_defaults(struct st_platform_config *p, struct st_config_memory *mem);

/* Appends a trigger with its kind's defaults. */
struct st_trigger_config *st_function_add_trigger(struct st_function_config *f, const char *name,
                                                  const struct st_trigger_kind *kind,
                                                  struct st_config_memory *mem);

/* By name or alias; NULL: this build has none. */
const struct st_trigger_kind *st_trigger_kind_find(const struct st_trigger_kind *const *kinds,
                                                   struct st_slice name);
const struct st_runtime_kind *st_runtime_kind_find(const struct st_runtime_kind *const *kinds,
                                                   struct st_slice name);

/* As st_config_schema. */
char *st_json_schema(enum st_schema which, const struct st_config_env *env);
char *st_markdown_reference(const struct st_config_env *env);

#endif
