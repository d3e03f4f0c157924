/* As batch.c, on the loops. */
#define FLAGS STATOR_NONBLOCKING
#include "batch.c"
