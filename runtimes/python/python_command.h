/* `stator python build`: the add-on of Python workers for another interpreter. */
#ifndef RUNTIMES_PYTHON_PYTHON_COMMAND_H
#define RUNTIMES_PYTHON_PYTHON_COMMAND_H

#include "processor/command.h"

extern const struct st_command st_python_command;

#endif
