/* As count.c, on the loops. */
#define FLAGS STATOR_NONBLOCKING
#include "count.c"
