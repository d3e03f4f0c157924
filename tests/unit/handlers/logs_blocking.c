/* The same on a worker thread. */
#define FLAGS 0
#include "logs.c"
