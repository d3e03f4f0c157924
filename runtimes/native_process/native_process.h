/* The native runtime with isolation: process: each worker is a process that loads the handler. */
#ifndef RUNTIMES_NATIVE_PROCESS_NATIVE_PROCESS_H
#define RUNTIMES_NATIVE_PROCESS_NATIVE_PROCESS_H

struct st_runtime_kind;

extern const struct st_runtime_kind st_runtime_native_process_kind;

#endif
