/* A processor without configuration files and sockets: loops, one pool of native workers and a
 * trigger that keeps what it is told. For tests of what lies between trigger and handler. */
#ifndef TESTS_SUPPORT_RIG_H
#define TESTS_SUPPORT_RIG_H

#include <pthread.h>

#include "processor/config/config.h"
#include "processor/core/loop.h"
#include "processor/event.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/runtime.h"
#include "processor/trigger.h"

enum { RIG_LOOPS = 4, RIG_BODY = 1 << 20 };

struct rig_options {
    const char *handler; /* name in the folder of test handlers */
    unsigned loops;      /* 0: 1 */
    unsigned workers;    /* 0: 1, inline: one a loop */
    uint64_t event_timeout_ns;
    uint64_t wait_ns; /* 0: 10 s */
    uint32_t batch_size;
    uint64_t batch_wait_ns;
    bool can_stream;  /* otherwise streams are collected */
    bool slow_stream; /* stream bytes are not sent before rig_stream_go */
};

struct rig {
    struct rig_options options;
    struct st_config config;
    struct st_processor processor;
    struct st_loop loops[RIG_LOOPS];
    struct st_slot slots[16];
    struct st_trigger trigger;
    struct st_trigger_loop trigger_loops[RIG_LOOPS];
    struct st_trigger *triggers[1];
    struct st_pool *pools[1];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned completed, released; /* events; under lock */
    char failure[512];            /* why it did not start */
};

/* One event and what became of it. The sender frees it after rig_wait_released. */
struct rig_event {
    struct st_event ev; /* first: release() gets it */
    struct rig *rig;
    struct st_mail mail;
    unsigned loop;
    char space[512];
    struct st_header header_items[8];
    char *body_bytes; /* of the event */
    /* What is sent */
    const char *method, *path, *query, *content_type;
    const void *body;
    size_t body_len;
    const char *const *headers; /* name, value ... NULL; may be NULL */
    bool borrow;                /* the body lies in a buffer that is overwritten after the pass */

    /* What came back; under the rig's lock */
    unsigned completed, released, heads;
    enum st_outcome outcome;
    unsigned status;
    uint32_t retry_after_ms;
    bool streamed;
    bool in_place; /* the answer's body lies in the event's own body */
    char content_type_text[64];
    char *answer; /* NUL behind it */
    size_t answer_len;
    char header_text[1024]; /* "name: value\n" ... */
    size_t unsent;          /* stream bytes that are held back */
};

/* Loads and starts. False: rig->failure says why. */
bool rig_start(struct rig *rig, const struct rig_options *options);

/* Stops workers and loops; every event was answered. Stuck workers may be left. */
void rig_stop(struct rig *rig);

struct rig_event *rig_event_new(struct rig *rig, const char *body);

/* Dispatches on loop number e->loop. */
void rig_send(struct rig_event *e);

/* Wait at most 30 s; false: it did not happen. */
bool rig_wait_for(struct rig_event *e, const unsigned *count);
bool rig_wait(struct rig_event *e);
bool rig_wait_released(struct rig_event *e);
void rig_event_free(struct rig_event *e);

/* A number that the loops change, now. */
unsigned rig_now(struct rig_event *e, const unsigned *count);

/* Workers in that state now. */
unsigned rig_workers(struct rig *rig, enum st_worker_state state);

/* Sends, waits until it is answered and released. */
void rig_run(struct rig_event *e);

/* The client leaves. */
void rig_cancel(struct rig_event *e);

/* The client reads everything that was held back, and from now on at once. */
void rig_stream_go(struct rig_event *e);

void rig_sleep_ms(unsigned ms);

#endif
