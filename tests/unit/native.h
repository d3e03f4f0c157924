/* What the tests of the native runtime share. */
#ifndef TESTS_UNIT_NATIVE_H
#define TESTS_UNIT_NATIVE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PATH_SIZE = 4096 };

/* The folder of the test handlers. */
static inline const char *handlers_dir(void)
{
    static char path[PATH_SIZE];
    const char *build = getenv("STATOR_BUILD");

    snprintf(path, sizeof path, "%s/tests/handlers", build != NULL ? build : "build");
    return path;
}

#endif
