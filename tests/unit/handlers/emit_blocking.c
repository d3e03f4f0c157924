/* As emit.c, on worker threads. */
#define FLAGS 0
#include "emit.c"
