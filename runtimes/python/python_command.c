#include "runtimes/python/python_command.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "processor/core/base.h"
#include "runtimes/process/spawn.h"

enum { EXIT_USAGE = 2 };

static const char help[] =
    "Usage: stator python build [--python=PATH]\n"
    "Make the add-on that hosts Python workers for another interpreter than /usr/bin/python3, out "
    "of\n"
    "the sources that Stator was installed with. Needs a C compiler and the interpreter's "
    "headers.\n"
    "The add-on goes beside Stator's packages, or into ~/.cache/stator where they can't be "
    "written.\n"
    "\n"
    "      --python=PATH          The interpreter, also of a virtual environment\n"
    "                             (/usr/bin/python3)\n"
    "      --help                 Show this help\n";

static int usage(const char *what)
{
    fprintf(stderr, "stator: python: %s; type: stator python build [--python=PATH]\n", what);
    return EXIT_USAGE;
}

/* Becomes the interpreter. */
static int build(const char *python)
{
    char path[PATH_MAX];

    if (!st_find_part("python", path, sizeof path)) {
        fputs(
            "stator: python build: Stator's Python packages are not beside the program: install it "
            "whole\n",
            stderr);
        return EXIT_FAILURE;
    }
    setenv("PYTHONPATH", path, 1);
    execlp(python, python, "-m", "stator._worker.build", (char *)NULL);
    fprintf(stderr, "stator: python build: %s can't be run: %s\n", python, strerror(errno));
    return EXIT_FAILURE;
}

static int run(int argc, char **argv)
{
    const char *python = "/usr/bin/python3", *verb = NULL;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return EXIT_SUCCESS;
        }
        if (strncmp(argv[i], "--python=", 9) == 0)
            python = argv[i] + 9;
        else if (strcmp(argv[i], "--python") == 0 && i + 1 < argc)
            python = argv[++i];
        else if (argv[i][0] != '-' && verb == NULL)
            verb = argv[i];
        else
            return usage("there is no such option, or it misses its value");
    }
    if (verb == NULL || strcmp(verb, "build") != 0)
        return usage(verb == NULL ? "a word is missing" : "there is no such word");
    return build(python);
}

const struct st_command st_python_command = {.name = "python", .run = run};
