/* As batch.c, without handle_batch(). */
#define EACH
#include "batch.c"
