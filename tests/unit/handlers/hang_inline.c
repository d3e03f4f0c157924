/* As hang.c, on the loops. */
#define FLAGS STATOR_NONBLOCKING
#include "hang.c"
