/* Deferred answers: tokens, resolve(), and what follows when handle() returned. */
#include <pthread.h>
#include <stdlib.h>

#include "runtimes/native/reply_check.h"
#include "runtimes/native_process/host/host.h"
#include "runtimes/native_process/host/link.h"

enum { MAX_TOKENS = 65536, FIRST_TOKENS = 64 };

static const char no_token[] = "handler returned STATOR_DEFER without a token of defer()";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A token is generation << 32 | index + 1. */
static struct {
    struct entry {
        struct st_host_event *ev; /* NULL: free */
        uint32_t generation;
        uint32_t next; /* free ones: index + 1; 0: none */
    } * entries;
    uint32_t count, free;
} tokens;

bool st_host_lock(void)
{
    if (st_likely(!st_host.shared))
        return false;
    pthread_mutex_lock(&lock);
    return true;
}

void st_host_unlock(bool locked)
{
    if (st_unlikely(locked))
        pthread_mutex_unlock(&lock);
}

/* Tokens; under the lock */

static bool grow(void)
{
    uint32_t count = tokens.count != 0 ? 2 * tokens.count : FIRST_TOKENS;
    struct entry *entries =
        count <= MAX_TOKENS ? realloc(tokens.entries, count * sizeof *tokens.entries) : NULL;

    if (entries == NULL)
        return false;
    for (uint32_t i = count; i-- > tokens.count;) {
        entries[i] = (struct entry){.next = tokens.free};
        tokens.free = i + 1;
    }
    tokens.entries = entries;
    tokens.count = count;
    return true;
}

static stator_token issue(struct st_host_event *ev)
{
    uint32_t i;

    if (ev->token != 0)
        return ev->resolved ? 0 : ev->token;
    if (ev->gone || (tokens.free == 0 && !grow()))
        return 0;
    i = tokens.free - 1;
    tokens.free = tokens.entries[i].next;
    tokens.entries[i].ev = ev;
    ev->token = (stator_token)tokens.entries[i].generation << 32 | (i + 1);
    return ev->token;
}

/* The event that waits for the token; NULL: the token is dead. */
static struct st_host_event *event_of(stator_token token)
{
    uint32_t i = (uint32_t)token - 1;

    if (i >= tokens.count || tokens.entries[i].generation != token >> 32)
        return NULL;
    return tokens.entries[i].ev;
}

/* Its later uses say GONE. ev->token stays: the event was deferred. */
static void kill_token(struct st_host_event *ev)
{
    uint32_t i = (uint32_t)ev->token - 1;

    if (event_of(ev->token) != ev)
        return;
    tokens.entries[i].ev = NULL;
    tokens.entries[i].generation++;
    tokens.entries[i].next = tokens.free;
    tokens.free = i + 1;
}

stator_token st_host_defer(stator_event *event)
{
    struct st_host_event *ev = st_host_from(event);
    stator_token token;

    if (!st_host_event_keep(ev))
        return 0;
    st_host.shared = true; /* nobody else has a token before this */
    pthread_mutex_lock(&lock);
    token = issue(ev);
    pthread_mutex_unlock(&lock);
    return token;
}

/* Answers; under the lock */

static void finish(struct st_host_event *ev)
{
    if (ev->has_reply && !ev->stream.open) {
        st_host_answer_drop(&ev->answer);
        ev->answer = ev->resolution;
    }
    st_host_answer_end(ev, ev->resolution.outcome);
    st_host_answer_send(ev);
}

static int take_resolution(struct st_host_event *ev, int result, const struct stator_reply *reply)
{
    struct stator_reply r;
    int rc;

    if (reply != NULL && !ev->stream.open) {
        st_native_reply_read(&r, reply);
        rc = st_host_answer_put(&ev->resolution, &ev->late, ev, &r);
        if (rc != STATOR_DONE)
            return rc;
        ev->has_reply = true;
        if (result != STATOR_OK && ev->resolution.status < 400)
            ev->resolution.status = 0;
    }
    ev->resolution.outcome = result;
    ev->resolved = true;
    kill_token(ev);
    return STATOR_DONE;
}

int st_host_resolve(stator_token token, int result, const struct stator_reply *reply)
{
    struct st_host_event *ev;
    int rc = STATOR_GONE;

    if (result == STATOR_DEFER || (reply != NULL && !st_native_reply_ok(reply)))
        return STATOR_INVALID;
    if (result < STATOR_OK || result > STATOR_REJECT)
        result = STATOR_ERROR;
    pthread_mutex_lock(&lock);
    ev = event_of(token);
    if (ev != NULL)
        rc = take_resolution(ev, result, reply);
    if (rc == STATOR_DONE && ev->stage == ST_HOST_WAITING && !ev->in_callback) {
        finish(ev);
        st_link_announce();
        if (st_host.draining)
            st_link_poke();
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static void returned_deferred(struct st_host_event *ev)
{
    if (ev->resolved) {
        finish(ev);
    } else if (ev->token == 0) {
        st_host_answer_failed(ev, no_token);
        st_host_answer_send(ev);
    } else if (ev->gone && ev->on_writable == NULL) {
        kill_token(ev);
        st_host_answer_end(ev, STATOR_ERROR);
        st_host_answer_send(ev);
    } else {
        st_host_event_last(ev, ST_HOST_WAITING);
    }
}

void st_host_returned(struct st_host_event *ev, int rc)
{
    bool locked = st_host_lock();

    if (st_unlikely(rc == STATOR_DEFER)) {
        returned_deferred(ev);
    } else {
        if (st_unlikely(ev->token != 0)) {
            kill_token(ev);
            st_host_answer_drop(&ev->resolution);
        }
        st_host_answer_end(ev, rc);
        st_host_answer_send(ev);
    }
    st_host_unlock(locked);
}

/* It was resolved in it, or it was the last word that a handler had to be told after CANCEL. */
void st_host_callback_returned(struct st_host_event *ev)
{
    if (ev->resolved || (ev->gone && ev->on_writable == NULL))
        returned_deferred(ev);
}

void st_host_cancel(uint64_t seq)
{
    bool locked = st_host_lock();
    struct st_host_event *ev = st_host_event_find(seq);

    if (ev != NULL && !ev->gone) {
        ev->gone = true;
        kill_token(ev);
        st_host.look_for_writable = true;
        (void)st_host_stream_flush(ev);
        if (ev->stage == ST_HOST_ENDING)
            st_host_answer_send(ev);
        else if (ev->stage == ST_HOST_WAITING && !ev->in_callback && ev->on_writable == NULL)
            returned_deferred(ev);
        st_link_announce();
    }
    st_host_unlock(locked);
}
