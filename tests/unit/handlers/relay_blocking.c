/* As relay.c, on worker threads. */
#define FLAGS 0
#include "relay.c"
