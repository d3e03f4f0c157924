/* What a worker process says of its events: results, pieces of streamed answers, calls. */
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/pool.h"
#include "processor/stream.h"
#include "runtimes/process/record.h"
#include "runtimes/process/worker.h"

/* A CREDIT for less than this waits for more. */
enum { CREDIT_STEP = ST_WIRE_STREAM_WINDOW / 4 };

static const struct st_slice nothing = {NULL, 0};

void st_answer_set(struct st_event *ev, enum st_outcome outcome, const char *text)
{
    if (!ev->result.streamed) {
        st_buf_drop(&ev->result.body_owner);
        ev->result = (struct st_result){.outcome = outcome};
        ev->result.body = st_arena_copy(&ev->arena, st_slice_of(text));
    }
    ev->result.outcome = outcome;
}

static void break_off(struct st_process_worker *pw, const char *text)
{
    st_process_kill(pw, ST_LOST_PROTOCOL, text);
}

/* Nobody wants it. */
static void drop_body(struct st_process_worker *pw, const struct st_wire_view *view)
{
    if (view->has_ref)
        st_channel_return_body(pw->channel, &view->ref);
}

/* The result of an event that is ours alone. */
static void take_result(struct st_process_worker *pw, const struct st_wire_view *view,
                        struct st_event *ev)
{
    const char *why = NULL;

    if (ev->result.streamed || (view->flags & ST_WIRE_STREAMED) != 0) {
        drop_body(pw, view);
        if (ev->result.streamed && (view->flags & ST_WIRE_FAILED) != 0)
            ev->result.outcome = ST_OUTCOME_ERROR;
        else if (!ev->result.streamed &&
                 ev->result.outcome == ST_OUTCOME_OK) /* otherwise its head was refused */
            st_answer_set(ev, ST_OUTCOME_ERROR, "The worker ended a stream that it had not begun");
    } else if (st_record_result(pw->channel, view, ev, &why) != ST_OK) {
        st_answer_set(ev, ST_OUTCOME_ERROR, why);
    }
}

void st_answer_result(struct st_process_worker *pw, const struct st_wire_view *view)
{
    struct st_flight *f = st_flight_of(pw, view->seq);
    struct st_event *ev;
    bool owns;

    if (st_unlikely(f == NULL)) {
        break_off(pw, "it answered an event that it does not have");
        return;
    }
    if (st_unlikely((view->flags & ST_WIRE_LOGGED) != 0) && !pw->in_turn) {
        pw->in_turn = true;
        st_control_read(&pw->control);
        pw->in_turn = false;
    }
    ev = f->ev;
    owns = f->owns;
    st_flight_leave(pw, f);
    pw->held--;
    if (st_likely(owns)) {
        take_result(pw, view, ev);
        st_event_claim_done(ev);
    } else {
        drop_body(pw, view);
    }
    st_flight_measure(pw, view->meta.result.duration_ns);
    st_worker_event_done(pw->w, view->meta.result.duration_ns);
    st_flight_complete(pw, ev, owns);
}

/* Streams */

/* A credit on its way: to the event's home, where the client is watched, and back. */
struct grant {
    struct st_mail mail;
    struct st_event *ev;
    struct st_process_worker *pw;
    uint64_t seq;
};

/* Lets the worker send again what its client has taken. */
static void pay(struct st_process_worker *pw, struct st_flight *f)
{
    struct st_wire_credit credit = {.n = (uint32_t)f->owed};

    if (f->owed < CREDIT_STEP || f->waits || pw->stage >= ST_PROCESS_GONE)
        return;
    if (st_flight_send_small(pw, ST_WIRE_CREDIT, 0, f->seq,
                             (struct st_slice){(const char *)&credit, sizeof credit}, nothing))
        f->owed = 0;
}

static void grant_back(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct grant *g = ST_CONTAINER_OF(mail, struct grant, mail);
    struct st_flight *f = st_flight_find(g->pw, g->seq);

    if (f != NULL) {
        f->waits = false;
        pay(g->pw, f);
    }
    st_event_unref(g->ev);
    st_process_grant_done(g->pw);
    free(g);
}

static void grant_writable(struct st_event *ev ST_UNUSED, void *arg)
{
    struct grant *g = arg;

    st_loop_post(g->pw->loop, &g->mail, grant_back);
}

static void grant_home(struct st_loop *loop ST_UNUSED, struct st_mail *mail)
{
    struct grant *g = ST_CONTAINER_OF(mail, struct grant, mail);
    struct grant *before = st_stream_on_writable(g->ev, grant_writable, g);

    if (before != NULL)
        st_loop_post(before->pw->loop, &before->mail, grant_back);
}

/* The client reads slower than the worker writes. */
static void wait_for_client(struct st_process_worker *pw, struct st_flight *f)
{
    struct grant *g;

    if (f->waits)
        return;
    g = st_malloc(sizeof *g);
    *g = (struct grant){.ev = f->ev, .pw = pw, .seq = f->seq};
    f->waits = true;
    pw->grants++;
    st_event_ref(f->ev);
    st_loop_post(f->ev->home, &g->mail, grant_home);
}

static void refuse_stream(struct st_process_worker *pw, struct st_flight *f)
{
    if (!f->cancelled)
        f->cancelled = st_flight_send_small(pw, ST_WIRE_CANCEL, 0, f->seq, nothing, nothing);
}

static void open_stream(struct st_process_worker *pw, const struct st_wire_view *view,
                        struct st_flight *f)
{
    struct st_wire_view head = *view;
    const char *why = NULL;

    head.body = nothing;
    head.has_ref = false;
    if (st_record_result(pw->channel, &head, f->ev, &why) != ST_OK) {
        st_answer_set(f->ev, ST_OUTCOME_ERROR, why);
        refuse_stream(pw, f);
    } else if (st_stream_open(f->ev) != ST_OK) {
        refuse_stream(pw, f);
    }
}

void st_answer_chunk(struct st_process_worker *pw, const struct st_wire_view *view)
{
    struct st_flight *f = st_flight_of(pw, view->seq);
    int rc = ST_ERR_CLOSED;

    if (f == NULL || f->owed + view->body.len > ST_WIRE_STREAM_WINDOW) {
        break_off(pw, f == NULL ? "it answered an event that it does not have"
                                : "it sent more of a stream than its window");
        return;
    }
    if ((view->flags & ST_WIRE_HEAD) != 0 && f->owns) {
        if (f->ev->result.streamed) {
            break_off(pw, "it began a stream twice");
            return;
        }
        open_stream(pw, view, f);
    }
    f->owed += view->body.len;
    if (f->owns && f->ev->result.streamed)
        rc = st_stream_write(f->ev, view->body);
    if (rc == ST_ERR_AGAIN)
        wait_for_client(pw, f);
    else if (rc != ST_OK)
        refuse_stream(pw, f);
    pay(pw, f);
}

/* Calls: nothing can be called yet. */

static void answer_call(struct st_process_worker *pw, struct st_flight *f)
{
    f->returns = !st_flight_send_small(pw, ST_WIRE_RETURN, ST_WIRE_FAILED, f->seq, nothing,
                                       ST_SLICE("this processor has nothing of that name"));
}

void st_answer_call(struct st_process_worker *pw, const struct st_wire_view *view)
{
    struct st_flight *f = st_flight_of(pw, view->seq);

    if (f == NULL || f->returns)
        break_off(pw, f == NULL ? "it called for an event that it does not have"
                                : "it called again before the first call returned");
    else
        answer_call(pw, f);
}

void st_answer_room(struct st_process_worker *pw)
{
    struct st_flight *f;

    TAILQ_FOREACH (f, &pw->begun, link) {
        if (f->returns)
            answer_call(pw, f);
        pay(pw, f);
    }
}
