/* One HTTP/1.1 request of the command line, blocking, with one deadline. */
#ifndef PROCESSOR_CLI_CLIENT_H
#define PROCESSOR_CLI_CLIENT_H

#include "processor/core/base.h"
#include "processor/core/err.h"

/* Where to ask. */
struct st_client_address {
    char host[256];      /* a name or an address without brackets; of a unix socket its path */
    char port[8];        /* "" : a unix socket */
    char authority[300]; /* for the Host header */
};

struct st_client_header {
    char *name, *value; /* texts */
};

struct st_client_request {
    const struct st_client_address *address;
    const char *method;
    const char *target; /* "/" may be missing, a fragment is not sent */
    const struct st_client_header
        *headers; /* beside Content-Length and Connection; Host if not given */
    size_t header_count;
    struct st_slice body;
    bool has_body;
    uint64_t timeout_ns; /* for all of it */
};

/* Owns what it points to; st_client_response_free. */
struct st_client_response {
    unsigned status;
    struct st_client_header *headers; /* in order */
    size_t header_count;
    char *body; /* with a NUL behind it, or NULL */
    size_t body_len;
};

/* Reads "http://host:port/path?query", "host:port" or "unix:/path"; *target is a part of url, or
 * "" when it has none. A listen address (":8082", "0.0.0.0:8082") becomes one to connect to. */
int st_client_address_parse(struct st_client_address *out, const char **target, const char *url,
                            struct st_error *err) ST_MUST_CHECK;

/* Connects, asks and reads the whole answer. 0; otherwise *out is empty: ST_ERR_CLOSED no
 * connection, ST_ERR_TIMEOUT, ST_ERR_PROTOCOL an answer that is broken or ends early. */
int st_client_ask(struct st_client_response *out, const struct st_client_request *request,
                  struct st_error *err) ST_MUST_CHECK;

void st_client_response_free(struct st_client_response *r);

/* The first header of that name in any case, or NULL. */
const char *st_client_header_value(const struct st_client_response *r, const char *name);

#endif
