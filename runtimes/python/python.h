/* The Python runtime: handlers run in worker processes, one interpreter each. */
#ifndef RUNTIMES_PYTHON_PYTHON_H
#define RUNTIMES_PYTHON_PYTHON_H

struct st_runtime_kind;

extern const struct st_runtime_kind st_runtime_python_kind;

#endif
