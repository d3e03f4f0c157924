/* A handler for a later major version only. */
#include <stator/handler.h>

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v2 = {
    .abi = 2u << 16,
    .size = sizeof stator_handler_v2,
    .name = "newer",
};
