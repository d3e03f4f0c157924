#include "processor/net/fetch_curl.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct st_curl functions;
static struct st_error fault; /* code ST_OK: the functions are there */

#define ROW(member)                                       \
    {                                                     \
        "curl_" #member, offsetof(struct st_curl, member) \
    }
static const struct {
    const char *symbol;
    size_t offset;
} rows[] = {
    ROW(global_init),  ROW(easy_strerror),       ROW(easy_init),        ROW(easy_setopt),
    ROW(easy_getinfo), ROW(easy_cleanup),        ROW(slist_append),     ROW(slist_free_all),
    ROW(multi_init),   ROW(multi_setopt),        ROW(multi_add_handle), ROW(multi_remove_handle),
    ROW(multi_assign), ROW(multi_socket_action), ROW(multi_info_read),  ROW(multi_cleanup),
};
#undef ROW

static void load(void)
{
    void *library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);

    if (library == NULL) {
        st_error_set(&fault, ST_ERR_NOTFOUND,
                     "%s; requests to other servers need libcurl (Debian's package libcurl4)",
                     dlerror());
        return;
    }
    for (size_t i = 0; i < ST_ARRAY_LEN(rows); i++) {
        void *symbol = dlsym(library, rows[i].symbol);
        if (symbol == NULL) {
            st_error_set(&fault, ST_ERR_NOTFOUND, "libcurl.so.4 has no %s", rows[i].symbol);
            return;
        }
        /* POSIX lets a function's address travel as an object's (dlsym(3)). */
        memcpy((char *)&functions + rows[i].offset, &symbol, sizeof symbol);
    }
    if (functions.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        st_error_set(&fault, ST_ERR_SYSTEM, "libcurl could not be initialised");
}

const struct st_curl *st_curl_get(struct st_error *err)
{
    pthread_once(&once, load);
    if (fault.code == ST_OK)
        return &functions;
    if (err != NULL)
        *err = fault;
    return NULL;
}
