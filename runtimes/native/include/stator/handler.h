/*
 * Stator native handler ABI, version 1.
 *
 * A handler is a shared object that exports one constant, `stator_handler_v1`, and links nothing
 * of Stator: everything it needs comes through the table of functions that `init` and `handle`
 * get. Plain C99; usable from C++ and CUDA.
 *
 *     #include <stator/handler.h>
 *
 *     static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
 *     {
 *         return host->reply_text(ev, 200, "Hello, world!");
 *     }
 *
 *     STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
 *         .abi = STATOR_ABI, .size = sizeof stator_handler_v1, .name = "hello",
 *         .flags = STATOR_NONBLOCKING, .handle = handle,
 *     };
 *
 * Versions: the major version is in the names (`_v1`); a minor version appends members to the end
 * of the structs and changes nothing else. Each side reads a struct of the other only up to the
 * `size` that the other wrote into it: before calling a function newer than 1.0, compare
 * `host->size` with its offset (STATOR_HAS does that).
 *
 * Threads: a handler with STATOR_NONBLOCKING runs on the loop threads and must return within
 * microseconds; without it each worker is a thread, which may block. `init`, `handle` and `fini` of
 * one worker never overlap, those of different workers do. Every host function may be called by the
 * thread that runs `handle` during `handle`, and nowhere else, but those marked "any thread". What
 * is said of `handle` holds for `handle_batch`.
 *
 * Memory: what accessors return belongs to the event and lives until `handle` returns, or, after
 * STATOR_DEFER, until the token is resolved; on a loop thread only what they return after defer()
 * lives that long. Texts are {ptr, len}, without a NUL.
 *
 * Changes
 *   1.0  first version
 *   1.1  emit(), is_tombstone()
 */
#ifndef STATOR_HANDLER_H
#define STATOR_HANDLER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STATOR_ABI_MAJOR 1
#define STATOR_ABI_MINOR 1
#define STATOR_ABI ((uint32_t)STATOR_ABI_MAJOR << 16 | STATOR_ABI_MINOR)

#if defined(__GNUC__)
#define STATOR_EXPORT __attribute__((visibility("default")))
#else
#define STATOR_EXPORT
#endif

/* True when the other side's struct, whose first member behind abi is size, has the member. */
#define STATOR_HAS(ptr, type, member) \
    ((ptr)->size >= offsetof(type, member) + sizeof(((type *)0)->member))

typedef struct stator_event stator_event;

struct stator_str {
    const char *ptr;
    size_t len;
};

struct stator_header {
    struct stator_str name, value;
};

/* What handle() returns; anything else counts as STATOR_ERROR. */
enum {
    STATOR_OK = 0,     /* handled; without a reply() the answer is 200 with an empty body */
    STATOR_ERROR = 1,  /* failed; fail() gave status and text, otherwise 500 */
    STATOR_RETRY = 2,  /* try again later (HTTP: 503 with Retry-After); see retry_after() */
    STATOR_REJECT = 3, /* never try again; see reject() */
    STATOR_DEFER = 4   /* defer() was called; resolve() will answer */
};

/* What host functions return. */
enum {
    STATOR_DONE = 0,
    STATOR_AGAIN = -1,   /* not now: on_writable() tells when */
    STATOR_GONE = -2,    /* the event was answered, timed out, or its client left */
    STATOR_INVALID = -3, /* wrong arguments, or not allowed in this state */
    STATOR_NOMEM = -4    /* out of memory or over a configured limit */
};

enum { STATOR_LOG_DEBUG, STATOR_LOG_INFO, STATOR_LOG_WARN, STATOR_LOG_ERROR };

/* Flags of a handler. */
enum {
    /* handle() never blocks: run it on the loop thread, without a hand-off. */
    STATOR_NONBLOCKING = 1
};

/* Flags of a reply. */
enum {
    /* body stays as it is until fini(): don't copy it. Bytes of the event's own body and large
     * blocks of alloc() are not copied either way. */
    STATOR_BODY_STATIC = 1
};

struct stator_reply {
    size_t size; /* sizeof(struct stator_reply) */
    int status;  /* 200..599; 0: 200 */
    uint32_t flags;
    struct stator_str content_type; /* empty: text/plain; charset=utf-8 */
    const struct stator_header *headers;
    size_t header_count; /* framing headers (Content-Length, Connection ...) are ignored */
    const void *body;
    size_t body_len;
};

/* Flags of a message. */
enum {
    /* No value at all, which Kafka tells from an empty one: a tombstone. */
    STATOR_NO_VALUE = 1
};

/* What emit() publishes. A missing text is {NULL, 0}; a key that is empty, not missing, has a
 * pointer. */
struct stator_message {
    size_t size; /* sizeof(struct stator_message) */
    uint32_t flags;
    struct stator_str value, key;
    struct stator_str topic; /* missing: the output's own */
    const struct stator_header *headers;
    size_t header_count;
};

/* One worker, told to init(); valid until fini(). */
struct stator_worker_v1 {
    size_t size;
    unsigned index;       /* 0 .. count-1 within the pool */
    unsigned count;       /* workers of the pool */
    const char *function; /* metadata.name */
    const char *trigger;  /* name of the pool's trigger, or of the shared pool */
    const char *slot;     /* the slot it is bound to, as in `stator slots` */
};

/* Names a deferred event; never 0. */
typedef uint64_t stator_token;

struct stator_host_v1 {
    uint32_t abi; /* STATOR_ABI of the host */
    size_t size;  /* sizeof(struct stator_host_v1) of the host */

    /* Memory that lives as long as the event, aligned for any type; NULL when it is out. */
    void *(*alloc)(stator_event *ev, size_t size);

    /* The event. A missing text is {NULL or "", 0}. */
    struct stator_str (*id)(stator_event *ev);           /* UUIDv7, 36 characters */
    struct stator_str (*trigger_kind)(stator_event *ev); /* "http", "cron", "kafka-cluster" ... */
    struct stator_str (*trigger_name)(stator_event *ev);
    struct stator_str (*method)(stator_event *ev); /* "POST" */
    struct stator_str (*target)(stator_event *ev); /* as sent: "/a%20b?x=1" */
    struct stator_str (*path)(stator_event *ev);   /* decoded and normalised: "/a b" */
    struct stator_str (*query)(stator_event *ev);  /* as sent: "x=1" */
    struct stator_str (*content_type)(stator_event *ev);
    struct stator_str (*body)(stator_event *ev); /* contiguous */
    size_t (*header_count)(stator_event *ev);
    struct stator_header (*header_at)(stator_event *ev, size_t i); /* in the order of arrival */
    /* Value of the last header of that name, in any case; {NULL, 0} when there is none. */
    struct stator_str (*header)(stator_event *ev, const char *name);
    struct stator_str (*key)(stator_event *ev);   /* message key, of triggers that have one */
    struct stator_str (*topic)(stator_event *ev); /* topic or stream */
    int32_t (*shard)(stator_event *ev);           /* partition; -1: none */
    uint64_t (*offset)(stator_event *ev);
    uint32_t (*attempt)(stator_event *ev);       /* 1 for the first delivery */
    int64_t (*timestamp_ns)(stator_event *ev);   /* of the source, since the epoch */
    int64_t (*time_left_ms)(stator_event *ev);   /* until eventTimeout; -1: no limit */
    struct stator_str (*peer)(stator_event *ev); /* "192.0.2.7:50122", "" when there is none */

    /* Answers. reply() keeps copies; the answer leaves after handle() returned STATOR_OK. The last
     * call before that counts. */
    int (*reply)(stator_event *ev, const struct stator_reply *reply);
    int (*reply_text)(stator_event *ev, int status, const char *text);

    /* Why handle() is about to return ERROR, RETRY or REJECT. status 0: 500. */
    void (*fail)(stator_event *ev, int status, const char *text);
    void (*retry_after)(stator_event *ev, uint32_t ms);
    void (*reject)(stator_event *ev, const char *reason);

    /* Streamed answers. stream_open() fixes status and headers (reply->body is the first piece);
     * write() takes all of the bytes or none; the stream ends when handle() returns (STATOR_OK:
     * well; anything else: the connection is cut, so that the client notices) or, in a deferred
     * event, by resolve(). On a worker thread write() blocks while the client is slow, until it
     * reads again, the event times out or the client leaves (GONE). On a loop thread it takes the
     * bytes and returns STATOR_AGAIN when no more should be written now: the handler then defers
     * and goes on when its on_writable() callback runs, on the same thread. */
    int (*stream_open)(stator_event *ev, const struct stator_reply *head);
    int (*write)(stator_event *ev, const void *bytes, size_t len);
    int (*on_writable)(stator_event *ev, void (*fn)(stator_event *ev, void *arg), void *arg);

    /* Deferred answers: defer() gives a token, handle() returns STATOR_DEFER, and resolve(), on
     * any thread, gives the result (as from handle()) and a reply, which is copied (NULL: what
     * reply() or fail() said before; for other results than STATOR_OK its status and body count as
     * those of fail()). Only the first resolve() of a token counts; later ones, and those after a
     * timeout, return STATOR_GONE. 0: too many deferred events. */
    stator_token (*defer)(stator_event *ev);
    int (*resolve)(stator_token token, int result, const struct stator_reply *reply);

    /* A record in the function's log; any thread. ev may be NULL; otherwise its id is added. */
    void (*log)(stator_event *ev, int level, const char *text);

    /* Since 1.1: publishes a message, which is copied, to an output of spec.stator.outputs, and
     * returns at once. The event's answer waits until the output has confirmed it, and fails if it
     * does not. INVALID: no output of that name, or a message that it can't take; NOMEM: the
     * message is too large, or too much is under way; GONE: the event was answered already. The
     * function's log says more. */
    int (*emit)(stator_event *ev, const char *output, const struct stator_message *message);

    /* Since 1.1: 1 for a message without a value, which is not an empty one; else 0. */
    int (*is_tombstone)(stator_event *ev);
};

/* What the shared object exports. Members that are NULL are not called, but handle is required. */
struct stator_handler_v1 {
    uint32_t abi; /* STATOR_ABI */
    size_t size;  /* sizeof(struct stator_handler_v1) */
    const char *name;
    uint32_t flags;
    /* Once a worker, before its first event and on the thread that will run it. *user is handed to
     * the other functions. Non-zero: the processor refuses to start (or the worker to restart);
     * say why with host->log. */
    int (*init)(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                void **user);
    int (*handle)(const struct stator_host_v1 *host, void *user, stator_event *ev);
    /* Where the trigger makes batches: events that are handled together, in the order of their
     * arrival; results[i] is the result of events[i], as from handle(), and STATOR_ERROR until it
     * is set. During the call each of them may be used as in handle(), which is not called then;
     * both arrays are gone when it returns. NULL: handle() is called for each. */
    void (*handle_batch)(const struct stator_host_v1 *host, void *user, stator_event *const *events,
                         int *results, size_t count);
    /* After the last event of the worker. */
    void (*fini)(const struct stator_host_v1 *host, void *user);
};

#ifdef __cplusplus
}
#endif

#endif
