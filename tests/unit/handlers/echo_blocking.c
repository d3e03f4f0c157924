/* As echo.c, on worker threads. */
#define FLAGS 0
#include "echo.c"
