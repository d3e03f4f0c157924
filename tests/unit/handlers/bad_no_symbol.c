/* A shared object that is no handler. */
#include <stator/handler.h>

STATOR_EXPORT const int nothing_of_stator = 1;
