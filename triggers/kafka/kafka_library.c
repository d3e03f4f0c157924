#include "triggers/kafka/kafka_library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct st_rdkafka st_rdkafka;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct st_error fault; /* code ST_OK: the functions are there */

#define NAME(name) #name,
static const char *const names[] = {ST_RDKAFKA_FUNCTIONS(NAME)};
#undef NAME

_Static_assert(sizeof st_rdkafka == ST_ARRAY_LEN(names) * sizeof(void *), "one pointer a name");

static void load(void)
{
    void *library = dlopen("librdkafka.so.1", RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        st_error_set(&fault, ST_ERR_NOTFOUND,
                     "%s; Kafka needs librdkafka (Debian's package librdkafka1)", dlerror());
        return;
    }
    for (size_t i = 0; i < ST_ARRAY_LEN(names); i++) {
        void *symbol = dlsym(library, names[i]);
        if (symbol == NULL) {
            st_error_set(&fault, ST_ERR_NOTFOUND,
                         "librdkafka.so.1 has no %s; Kafka needs release 2.0 or later", names[i]);
            return;
        }
        /* POSIX lets a function's address travel as an object's (dlsym(3)). */
        memcpy((char *)&st_rdkafka + i * sizeof symbol, &symbol, sizeof symbol);
    }
}

int st_rdkafka_load(struct st_error *err)
{
    pthread_once(&once, load);
    if (fault.code != ST_OK && err != NULL)
        *err = fault;
    return fault.code;
}
