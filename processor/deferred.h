/* Deferred events: handlers that return before they have a result hold a token {index, generation}
 * and bring the result later, from any thread.
 *
 * An entry holds one reference of its event, from issue until the token is resolved or the event is
 * answered without it. The token may be resolved before the handler has returned; then its answer
 * waits here for the returning thread, because event and arena still belong to that one. */
#ifndef PROCESSOR_DEFERRED_H
#define PROCESSOR_DEFERRED_H

#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_deferred_table;
struct st_event;

enum { ST_DEFERRED_MAX = 65536 };

/* What came with an early resolve; head of the runtime's own struct. */
struct st_deferred_answer {
    void (*free)(struct st_deferred_answer *a);
};

enum st_deferred_return {
    ST_DEFERRED_NONE,    /* no token was issued for the event, and none will be if it is answered */
    ST_DEFERRED_WAITS,   /* arena and result belong to whoever resolves the token */
    ST_DEFERRED_ANSWERED /* resolved already */
};

/* Entries are allocated when they are needed. */
struct st_deferred_table *st_deferred_new(void);

/* Tokens that are left die; their events are not touched any more. NULL is ignored. */
void st_deferred_free(struct st_deferred_table *t);

/* A token for an event whose handler runs on this thread, the same one when asked again. 0: the
 * table is full or the event was answered meanwhile. */
uint64_t st_deferred_issue(struct st_deferred_table *t, struct st_event *ev);

/* By the handler's thread, once, when it returned "deferred" (*answer is set for ANSWERED and then
 * the caller's), with its own reference of the event, which it keeps. A token that died meanwhile
 * counts as waiting: nothing will come. */
enum st_deferred_return st_deferred_returned(struct st_deferred_table *t, struct st_event *ev,
                                             struct st_deferred_answer **answer);

/* Any thread. 0 with *ev: the reference, the arena and the result of the event are the caller's,
 * who ends in st_event_complete_from; `answer` stays the caller's. 0 with *ev NULL: `answer` was
 * taken over, the handler's thread will use it. ST_ERR_CLOSED: resolved, answered or never issued.
 */
int st_deferred_resolve(struct st_deferred_table *t, uint64_t token,
                        struct st_deferred_answer *answer, struct st_event **ev) ST_MUST_CHECK;

/* Later issues fail. True: there was no token either, and what the handler returns is final; false:
 * there is or was one. May be repeated. Home loop; without a table: true. */
bool st_deferred_refuse(struct st_deferred_table *t, struct st_event *ev);

/* The event is over without its token, which dies: home loop, when it answers without a result
 * (timeout, client gone), or the handler's thread, when it returned a result in spite of the token.
 * Later issues fail. True: the handler had returned, so no worker is busy with the event. May be
 * repeated. Without a table: false. */
bool st_deferred_close(struct st_deferred_table *t, struct st_event *ev);

/* Tokens that are alive. */
size_t st_deferred_count(struct st_deferred_table *t);

#endif
