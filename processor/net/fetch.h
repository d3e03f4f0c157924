/* Requests to other HTTP servers: asynchronous, on a loop, by libcurl's multi-socket interface.
 *
 * One fetcher a loop; everything belongs to the loop's thread. Requests run side by side, idle
 * connections are kept for the next ones. Nothing waits without a deadline. Redirects are not
 * followed; certificates are checked against the system's; proxies are taken from the environment
 * (http_proxy, https_proxy, no_proxy). Names are resolved on a thread of libcurl's. */
#ifndef PROCESSOR_NET_FETCH_H
#define PROCESSOR_NET_FETCH_H

#include "processor/core/base.h"
#include "processor/core/err.h"
#include "processor/core/loop.h"
#include "processor/net/http_msg.h"

struct st_fetch;   /* a request that is under way */
struct st_fetcher; /* what the requests of one loop share */

/* Everything is copied. */
struct st_fetch_request {
    const char *method; /* "GET", "PUT" ... */
    const char *url;    /* http:// or https://; may have a user and a password */
    const struct st_header *headers;
    size_t header_count;
    struct st_slice body;
    uint64_t timeout_ns; /* of one attempt, from resolving the name to the last byte; not 0 */
    size_t max_reply;    /* most bytes of a reply's body */
    /* A request that may run twice: how many attempts at most (0 counts as 1). Before attempt n + 1
     * passes a random time below min(backoff_cap_ns, backoff_ns * 2^(n-1)). Tried again are broken
     * and refused connections, timeouts and the statuses 408, 429 and 5xx but 501. */
    unsigned attempts;
    uint64_t backoff_ns, backoff_cap_ns;
};

/* What became of it; valid during the callback. */
struct st_fetch_reply {
    int code;        /* ST_OK: the server has answered, whatever the status. ST_ERR_TIMEOUT;
                      * ST_ERR_LIMIT: the reply is larger than max_reply, or its head than 64 KiB;
                      * ST_ERR_NOMEM; ST_ERR_CLOSED: no connection, or a broken one */
    unsigned status; /* 0 without an answer */
    struct st_slice body;
    const char *error; /* one line for people; "" with ST_OK. Names no password */
    unsigned attempts; /* made */
};

/* The request is over, and gone. May start and cancel others. */
typedef void st_fetch_fn(void *arg, const struct st_fetch_reply *reply);

/* Loads libcurl where it is not loaded yet. 0 or a negative code with *err filled. */
int st_fetcher_open(struct st_fetcher **out, struct st_loop *loop,
                    struct st_error *err) ST_MUST_CHECK;

/* Cancels what is under way; not from a callback. The loop settles before it is closed. */
void st_fetcher_close(struct st_fetcher *fetcher);

/* Starts a request; fn is called once, in a later pass, unless it is cancelled. NULL with *err
 * filled (ST_ERR_INVALID): no such request can be sent. */
struct st_fetch *st_fetch_start(struct st_fetcher *fetcher, const struct st_fetch_request *request,
                                st_fetch_fn *fn, void *arg, struct st_error *err);

/* Ends it without a call of fn. */
void st_fetch_cancel(struct st_fetch *fetch);

/* Whether a request can go to a URL: 0, or ST_ERR_INVALID with the reason. Needs no libcurl. */
int st_fetch_check_url(const char *url, struct st_error *err);

/* The URL without user and password, for logs. At most n - 1 bytes, as snprintf. */
void st_fetch_redact_url(const char *url, char *out, size_t n);

#endif
