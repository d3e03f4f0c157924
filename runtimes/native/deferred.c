/* Deferred answers: defer(), resolve(), and what follows when handle() returned. */
#include "processor/deferred.h"

#include "processor/core/alloc.h"
#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/pool.h"
#include "runtimes/native/native_int.h"
#include "runtimes/native/reply.h"

/* A copy of what resolve() was given: the caller's memory is gone when the event's home sees it.
 * Texts and headers lie behind the struct; the body is a region that the result takes over. */
struct answer {
    struct st_deferred_answer base;
    enum st_outcome outcome;
    bool has_reply;
    struct stator_reply reply;
    struct st_buf body;
};

/* One processor a process, and resolve() has nothing but a token to find it. */
struct st_deferred_table *st_native_tokens;

/* Read: somebody whom nobody joins (a handler's own thread, a stuck worker) is inside. */
static pthread_rwlock_t gate = PTHREAD_RWLOCK_INITIALIZER;

void st_native_set_deferred(struct st_deferred_table *table)
{
    pthread_rwlock_wrlock(&gate);
    st_native_tokens = table;
    pthread_rwlock_unlock(&gate);
}

bool st_native_enter(void)
{
    pthread_rwlock_rdlock(&gate);
    if (st_native_tokens != NULL)
        return true;
    pthread_rwlock_unlock(&gate);
    return false;
}

void st_native_leave(void)
{
    pthread_rwlock_unlock(&gate);
}

bool st_native_outlive(struct st_event *ev)
{
    struct st_result *r = &ev->result;
    struct st_slice body = ev->body;
    uintptr_t at = (uintptr_t)r->body.ptr - (uintptr_t)body.ptr;

    if (ev->counted)
        return true;
    if (st_event_outlive(ev) != ST_OK)
        return false;
    if (r->body.len != 0 && body.ptr != NULL && at < body.len)
        r->body.ptr = ev->body.ptr + at;
    return true;
}

stator_token st_native_defer(stator_event *event)
{
    struct st_event *ev = st_native_from(event);

    if (!st_native_outlive(ev))
        return 0;
    return st_deferred_issue(st_native_tokens, ev);
}

static void answer_free(struct st_deferred_answer *base)
{
    struct answer *a = ST_CONTAINER_OF(base, struct answer, base);

    st_buf_drop(&a->body);
    free(a);
}

static struct stator_str move(char **at, struct stator_str s)
{
    struct stator_str out = {*at, s.len};

    if (s.len != 0)
        memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return out;
}

static bool answer_copy_body(struct answer *a, const struct stator_reply *reply)
{
    if ((reply->flags & STATOR_BODY_STATIC) != 0 || reply->body_len == 0)
        return true;
    if (st_buf_try_copy(&a->body, (struct st_slice){reply->body, reply->body_len}) != 0)
        return false;
    a->reply.body = st_buf_data(&a->body);
    return true;
}

/* NULL: out of memory. The reply is ok, or NULL. */
static struct answer *answer_new(enum st_outcome outcome, const struct stator_reply *reply)
{
    size_t texts = 0, count = reply != NULL ? reply->header_count : 0;
    struct stator_header *headers;
    struct answer *a;
    char *at;

    if (reply != NULL) {
        texts = reply->content_type.len;
        for (size_t i = 0; i < count; i++)
            texts += reply->headers[i].name.len + reply->headers[i].value.len;
    }
    a = st_try_malloc(sizeof *a + count * sizeof *headers + texts);
    if (a == NULL)
        return NULL;
    *a = (struct answer){.base.free = answer_free, .outcome = outcome, .has_reply = reply != NULL};
    if (reply == NULL)
        return a;
    headers = (struct stator_header *)(a + 1);
    at = (char *)(headers + count);
    st_native_reply_read(&a->reply, reply);
    a->reply.content_type = move(&at, reply->content_type);
    a->reply.headers = headers;
    for (size_t i = 0; i < count; i++)
        headers[i] = (struct stator_header){move(&at, reply->headers[i].name),
                                            move(&at, reply->headers[i].value)};
    if (!answer_copy_body(a, reply)) {
        free(a);
        return NULL;
    }
    return a;
}

/* Puts the answer into the event, whose arena and result are the caller's, and frees it. */
static void answer_apply(struct answer *a, struct st_event *ev)
{
    struct st_result *r = &ev->result;

    if (a->has_reply && !r->streamed) {
        if (st_native_reply_put(ev, &a->reply, true) != STATOR_DONE) {
            st_native_reply_failed(ev, "out of memory for the reply");
            a->outcome = ST_OUTCOME_ERROR;
        } else {
            st_buf_drop(&r->body_owner);
            r->body_owner = a->body;
            a->body = (struct st_buf){0};
        }
        if (a->outcome != ST_OUTCOME_OK && r->status < 400)
            r->status = 0;
        r->outcome = a->outcome;
    }
    st_native_reply_end(ev, a->outcome);
    answer_free(&a->base);
}

static int resolve(stator_token token, struct answer *a)
{
    struct st_event *ev;

    if (st_deferred_resolve(st_native_tokens, token, &a->base, &ev) != 0) {
        answer_free(&a->base);
        return STATOR_GONE;
    }
    if (ev != NULL) {
        answer_apply(a, ev);
        st_event_complete_from(ev);
    }
    return STATOR_DONE;
}

int st_native_resolve(stator_token token, int result, const struct stator_reply *reply)
{
    struct answer *a;
    int rc;

    if (result == STATOR_DEFER || (reply != NULL && !st_native_reply_ok(reply)))
        return STATOR_INVALID;
    a = answer_new(st_native_outcome(result), reply);
    if (a == NULL)
        return STATOR_NOMEM;
    if (!st_native_enter()) {
        answer_free(&a->base);
        return STATOR_GONE;
    }
    rc = resolve(token, a);
    st_native_leave();
    return rc;
}

bool st_native_settle_slow(struct st_event *ev, int rc)
{
    bool issued = atomic_load_explicit(&ev->token, memory_order_relaxed) != 0;
    struct st_deferred_answer *answer;

    if (rc != STATOR_DEFER) {
        if (issued)
            st_deferred_close(st_native_tokens, ev);
        st_native_reply_end(ev, st_native_outcome(rc));
        return true;
    }
    switch (st_deferred_returned(st_native_tokens, ev, &answer)) {
    case ST_DEFERRED_WAITS:
        return false;
    case ST_DEFERRED_ANSWERED:
        answer_apply(ST_CONTAINER_OF(answer, struct answer, base), ev);
        return true;
    case ST_DEFERRED_NONE:
    default:
        st_native_reply_failed(ev, "handler returned STATOR_DEFER without a token of defer()");
        return true;
    }
}
