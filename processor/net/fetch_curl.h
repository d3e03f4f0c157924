/* libcurl, loaded when the first request is about to be made: it brings some thirty other libraries
 * along (4 ms and 6 MiB on a start), which a processor that calls nobody does without. */
#ifndef PROCESSOR_NET_FETCH_CURL_H
#define PROCESSOR_NET_FETCH_CURL_H

#include <curl/curl.h>

#include "processor/core/err.h"

/* The functions in use; names and contracts are libcurl's (curl.se/libcurl/c). */
struct st_curl {
    CURLcode (*global_init)(long flags);
    const char *(*easy_strerror)(CURLcode code);
    CURL *(*easy_init)(void);
    CURLcode (*easy_setopt)(CURL *easy, CURLoption option, ...);
    CURLcode (*easy_getinfo)(CURL *easy, CURLINFO info, ...);
    void (*easy_cleanup)(CURL *easy);
    struct curl_slist *(*slist_append)(struct curl_slist *list, const char *text);
    void (*slist_free_all)(struct curl_slist *list);
    CURLM *(*multi_init)(void);
    CURLMcode (*multi_setopt)(CURLM *multi, CURLMoption option, ...);
    CURLMcode (*multi_add_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_remove_handle)(CURLM *multi, CURL *easy);
    CURLMcode (*multi_assign)(CURLM *multi, curl_socket_t fd, void *arg);
    CURLMcode (*multi_socket_action)(CURLM *multi, curl_socket_t fd, int mask, int *running);
    CURLMsg *(*multi_info_read)(CURLM *multi, int *left);
    CURLMcode (*multi_cleanup)(CURLM *multi);
};

/* Loads the library once; NULL with *err filled when the machine has none that fits. The functions
 * stay until the process ends. Any thread. */
const struct st_curl *st_curl_get(struct st_error *err);

#endif
