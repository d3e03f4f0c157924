/* The native runtime: handlers are shared objects in this process (include/stator/handler.h). */
#ifndef RUNTIMES_NATIVE_NATIVE_H
#define RUNTIMES_NATIVE_NATIVE_H

struct st_runtime_kind;

extern const struct st_runtime_kind st_runtime_native_kind;

#endif
