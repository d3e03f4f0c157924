/* A fake runtime whose workers are threads: what an event's handler does is a script that the test
 * writes. Workers hang now and then past eventTimeout, come back, refuse to start, give back what
 * they have not begun; tokens are resolved early, late, twice or never, by a thread of their own.
 */
#ifndef TESTS_SUPPORT_THREAD_RUNTIME_H
#define TESTS_SUPPORT_THREAD_RUNTIME_H

#include "processor/core/rand.h"
#include "tests/support/fake.h"

enum script_defer {
    SCRIPT_ANSWERS,
    SCRIPT_DEFERS,       /* somebody resolves later */
    SCRIPT_DEFERS_TWICE, /* two do */
    SCRIPT_EARLY,        /* resolved before the handler returns */
    SCRIPT_NEVER,        /* nobody does */
    SCRIPT_IN_SPITE,     /* asks for a token, then answers itself */
    SCRIPT_WAYS
};

/* Head of the test's event; written before dispatch, constant then, but for the counters. */
struct scripted {
    struct st_event ev; /* first */
    enum st_outcome outcome;
    enum script_defer defer;
    uint32_t work_us, resolve_us;
    unsigned pieces; /* of the stream; 0: none */
    size_t piece_size;
    atomic_uint began;     /* handlers; never more than one */
    atomic_uint results;   /* st_event_complete; never more than one */
    atomic_size_t written; /* bytes that the stream took */
};

extern const struct st_runtime_kind thread_runtime_kind;
extern const struct st_runtime_kind thread_inline_kind;

/* Before fake_open and after the last event was released. */
void thread_runtime_start(struct st_deferred_table *const *tokens, uint64_t seed);
void thread_runtime_stop(void);

/* Results given to events so far, in time or late. */
unsigned thread_runtime_results(void);

#endif
