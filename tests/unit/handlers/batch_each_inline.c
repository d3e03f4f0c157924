/* As batch.c, on the loops and without handle_batch(). */
#define FLAGS STATOR_NONBLOCKING
#define EACH
#include "batch.c"
