/* As crash.c, on worker threads. */
#define FLAGS 0
#include "crash.c"
