/* As headers.c, on worker threads. */
#define FLAGS 0
#include "headers.c"
