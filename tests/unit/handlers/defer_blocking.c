/* As defer.c, on worker threads. */
#define FLAGS 0
#include "defer.c"
