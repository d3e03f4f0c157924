/* The kinds of triggers, runtimes and outputs that this build has. registry.c is the only file that
 * names them. */
#ifndef PROCESSOR_REGISTRY_H
#define PROCESSOR_REGISTRY_H

struct st_command;
struct st_output_kind;
struct st_runtime_kind;
struct st_trigger_kind;

/* NULL-terminated. */
extern const struct st_trigger_kind *const st_trigger_kinds[];
extern const struct st_runtime_kind *const st_runtime_kinds[];
extern const struct st_output_kind *const st_output_kinds[];

/* Kinds that take the place of the one with the same name where spec.stator.isolation says process;
 * their attributes are the same. */
extern const struct st_runtime_kind *const st_isolated_runtime_kinds[];

extern const struct st_command *const st_kind_commands[]; /* that kinds bring along */

#endif
