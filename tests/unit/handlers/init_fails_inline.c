/* As init_fails.c, on the loops. */
#define FLAGS STATOR_NONBLOCKING
#include "init_fails.c"
