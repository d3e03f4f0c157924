/* The events that a worker process has: sent, begun, waiting behind those, taken back, failed.
 *
 * Credits are what the worker runs at once, plus, while its events are so short that waiting costs
 * less than a wake-up, as many as fit into that time. What waits behind an event that turns out to
 * be slow is taken back out of the ring, for other workers. */
#include <stdio.h>
#include <stdlib.h>

#include "processor/config/config.h"
#include "processor/core/alloc.h"
#include "processor/core/clock.h"
#include "processor/pool.h"
#include "processor/processor.h"
#include "processor/trigger.h"
#include "runtimes/process/record.h"
#include "runtimes/process/worker.h"

enum {
    MAX_PREFETCH = 256,
    BATCH_INLINE_BODY = 4096, /* bytes; longer ones travel by reference, so that many fit */
    SPARE_SLOTS = 64,         /* for events on their way when credits were withdrawn */
    MEMORY_CHECK_MS = 100
};

/* What a wake-up costs, roughly: so long an event may wait behind others. */
static const uint64_t batch_ns = 50000;

/* An event that takes this long is slow. */
static const uint64_t slow_ns = 2 * ST_MSEC;

static void on_slow(struct st_timer *t);

void st_flight_init(struct st_process_worker *pw)
{
    TAILQ_INIT(&pw->begun);
    TAILQ_INIT(&pw->waiting);
    TAILQ_INIT(&pw->unused);
    st_timer_init(&pw->slow, on_slow);
    pw->mean_ns = batch_ns;
}

void st_flight_free(struct st_process_worker *pw)
{
    st_loop_timer_cancel(pw->loop, &pw->slow);
    free(pw->slots);
}

void st_flight_open(struct st_process_worker *pw, uint32_t credits)
{
    uint32_t most = credits > pw->max_concurrency ? credits : pw->max_concurrency;

    pw->concurrency = credits;
    pw->slot_count = most + MAX_PREFETCH + SPARE_SLOTS;
    pw->slots = st_calloc(pw->slot_count, sizeof pw->slots[0]);
    for (uint32_t i = 0; i < pw->slot_count; i++)
        TAILQ_INSERT_TAIL(&pw->unused, &pw->slots[i], link);
    pw->held = credits;
}

struct st_flight *st_flight_find(struct st_process_worker *pw, uint64_t seq)
{
    uint64_t slot = seq & UINT16_MAX;

    return slot < pw->slot_count && pw->slots[slot].ev != NULL && pw->slots[slot].seq == seq
               ? &pw->slots[slot]
               : NULL;
}

struct st_event *st_flight_event(struct st_process_worker *pw, uint64_t seq)
{
    struct st_flight *f = st_flight_find(pw, seq);

    return f != NULL ? f->ev : NULL;
}

void st_flight_complete(struct st_process_worker *pw, struct st_event *ev, bool owns)
{
    ST_CHECK(ev, ST_EVENT_MAGIC);
    if (st_unlikely(!owns))
        st_event_unref(ev); /* its home loop had taken it back: it is answered */
    else if (ev->home == pw->loop)
        st_event_complete(ev);
    else
        st_event_complete_from(ev);
}

/* Moves */

bool st_flight_claim(struct st_process_worker *pw, struct st_flight *f)
{
    if (!st_event_claim_start(f->ev, f->assignment))
        return false;
    atomic_store_explicit(&f->ev->started_ns, st_loop_now(pw->loop), memory_order_relaxed);
    return true;
}

static void begin(struct st_process_worker *pw, struct st_flight *f)
{
    f->begun = true;
    f->owns = st_flight_claim(pw, f);
    pw->begun_count++;
    TAILQ_INSERT_TAIL(&pw->begun, f, link);
}

static void unlink_flight(struct st_process_worker *pw, struct st_flight *f)
{
    if (f->begun) {
        TAILQ_REMOVE(&pw->begun, f, link);
        pw->begun_count--;
    } else {
        TAILQ_REMOVE(&pw->waiting, f, link);
        pw->waiting_count--;
    }
}

void st_flight_leave(struct st_process_worker *pw, struct st_flight *f)
{
    unlink_flight(pw, f);
    if (f->has_ref)
        st_channel_free_body(pw->channel, &f->ref);
    if (!f->sent)
        pw->unsent--;
    f->ev = NULL;
    TAILQ_INSERT_HEAD(&pw->unused, f, link); /* the warmest */
}

struct st_flight *st_flight_of(struct st_process_worker *pw, uint64_t seq)
{
    struct st_flight *f = st_flight_find(pw, seq);

    if (f != NULL && st_unlikely(!f->begun)) {
        TAILQ_REMOVE(&pw->waiting, f, link);
        pw->waiting_count--;
        begin(pw, f);
    }
    return f;
}

/* Those that run now because others are over. */
static void promote(struct st_process_worker *pw)
{
    struct st_flight *f;

    while (pw->begun_count < pw->concurrency && (f = TAILQ_FIRST(&pw->waiting)) != NULL) {
        TAILQ_REMOVE(&pw->waiting, f, link);
        pw->waiting_count--;
        begin(pw, f);
    }
}

/* Sending */

static uint16_t index_of(struct st_process_worker *pw, const struct st_trigger *t)
{
    const struct st_processor *p = pw->rt->base.processor;

    if (pw->last_trigger != t) {
        pw->last_trigger = t;
        for (pw->last_trigger_index = 0; p->triggers[pw->last_trigger_index] != t;)
            pw->last_trigger_index++;
    }
    return pw->last_trigger_index;
}

/* It can't be sent at all: ST_ERR_NOMEM, just now, or the record is too large. */
static void fail_unsent(struct st_process_worker *pw, struct st_flight *f, int why)
{
    enum st_outcome outcome = why == ST_ERR_NOMEM ? ST_OUTCOME_NO_MEMORY : ST_OUTCOME_ERROR;
    struct st_event *ev = f->ev;
    bool owns = f->begun ? f->owns : st_flight_claim(pw, f);

    st_flight_leave(pw, f);
    pw->held--;
    if (owns)
        st_answer_set(ev, outcome,
                      why == ST_ERR_NOMEM
                          ? "There is no memory left for the event's body: raise "
                            "spec.stator.bodyMemory"
                          : "The event is too large for its worker: raise spec.stator.ringBytes");
    st_worker_event_done(pw->w, 0);
    st_flight_complete(pw, ev, owns);
    /* Its credit is granted anew, which the worker itself gives no reason for; not here: the caller
     * may be in the middle of a list. */
    pw->watched_seq = 0;
    st_loop_timer_arm(pw->loop, &pw->slow, 0);
}

/* A body of more than `most` bytes goes to the pool, if there is one: 0, or why not. */
static int place_body(struct st_process_worker *pw, struct st_flight *f, size_t most)
{
    int rc;

    if (f->has_ref || f->ev->body.len <= most)
        return ST_OK;
    rc = st_channel_put_body(pw->channel, f->ev->body, &f->ref);
    f->has_ref = rc == ST_OK;
    return rc == ST_ERR_LIMIT ? ST_OK : rc; /* then in the record, if it fits there */
}

static size_t flight_size(const struct st_flight *f)
{
    return st_record_event_size(f->ev, f->has_ref ? &f->ref : NULL);
}

/* False: no room just now. */
static bool send_flight(struct st_process_worker *pw, struct st_flight *f)
{
    int rc = place_body(pw, f, ST_WIRE_INLINE_BODY);
    size_t size = flight_size(f), most = st_channel_max_record(pw->channel);
    char *at;

    if (st_unlikely(rc == ST_OK && size > most)) { /* perhaps without its body */
        rc = place_body(pw, f, 0);
        size = flight_size(f);
        if (rc == ST_OK && size > most)
            rc = ST_ERR_LIMIT;
    }
    if (st_unlikely(rc == ST_ERR_NOMEM || rc == ST_ERR_LIMIT)) {
        fail_unsent(pw, f, rc);
        return true;
    }
    at = rc == ST_OK ? st_channel_reserve(pw->channel, size) : NULL;
    if (st_unlikely(at == NULL))
        return false;
    st_record_event_put(at, size, f->ev, f->seq, index_of(pw, f->ev->trigger),
                        f->has_ref ? &f->ref : NULL);
    f->place = st_channel_commit(pw->channel);
    f->sent = true;
    pw->unsent--;
    return true;
}

bool st_flight_send_small(struct st_process_worker *pw, enum st_wire_kind kind, uint8_t flags,
                          uint64_t seq, struct st_slice meta, struct st_slice text)
{
    struct st_wire_record *rec;
    struct st_wire_section *s;
    size_t sections = (meta.len > 0) + (size_t)(text.len > 0);
    size_t header = sizeof *rec + sections * sizeof *s, at = (header + 7) & ~(size_t)7;
    size_t size = (at + meta.len + text.len + ST_WIRE_ALIGN - 1) & ~(size_t)(ST_WIRE_ALIGN - 1);

    rec = (struct st_wire_record *)(void *)st_channel_reserve(pw->channel, size);
    if (rec == NULL)
        return false;
    memset(rec, 0, size);
    *rec = (struct st_wire_record){(uint32_t)size, (uint16_t)header, (uint8_t)kind, flags, seq};
    s = (struct st_wire_section *)(void *)(rec + 1);
    if (meta.len > 0) {
        *s++ = (struct st_wire_section){ST_WIRE_META, 0, (uint32_t)at, (uint32_t)meta.len};
        memcpy((char *)rec + at, meta.ptr, meta.len);
    }
    if (text.len > 0) {
        *s = (struct st_wire_section){ST_WIRE_TEXT, 0, (uint32_t)(at + meta.len),
                                      (uint32_t)text.len};
        memcpy((char *)rec + at + meta.len, text.ptr, text.len);
    }
    st_channel_commit(pw->channel);
    return true;
}

/* Arms the timer that looks after events which others may hold up: those that wait, and results
 * that the worker has not announced because it had more to do. */
static void watch(struct st_process_worker *pw)
{
    bool waits = pw->waiting_count > 0;

    if ((!waits && pw->begun_count < 2) || pw->stage != ST_PROCESS_RUNNING ||
        st_timer_armed(&pw->slow))
        return;
    pw->watched_seq = TAILQ_FIRST(&pw->begun) != NULL ? TAILQ_FIRST(&pw->begun)->seq : 0;
    st_loop_timer_arm(pw->loop, &pw->slow, waits ? slow_ns : 5 * slow_ns);
}

/* A slot for it, in no list yet; NULL: there is none. */
static struct st_flight *flight_new(struct st_process_worker *pw, struct st_event *ev,
                                    uint32_t assignment)
{
    struct st_flight *f = TAILQ_FIRST(&pw->unused);

    if (f == NULL)
        return NULL;
    TAILQ_REMOVE(&pw->unused, f, link);
    f->ev = ev;
    f->assignment = assignment;
    f->seq = ++pw->next_count << 16 | (uint64_t)(f - pw->slots);
    f->begun = f->owns = f->sent = f->has_ref = f->returns = f->waits = f->cancelled = false;
    f->owed = 0;
    pw->unsent++;
    return f;
}

void st_flight_add(struct st_process_worker *pw, struct st_event *ev, uint32_t assignment)
{
    bool in_turn = pw->unsent == 0, takes = pw->stage == ST_PROCESS_RUNNING && !pw->retiring;
    struct st_flight *f = takes ? flight_new(pw, ev, assignment) : NULL;

    if (st_unlikely(f == NULL)) {
        st_flight_refuse(pw->w, ev, assignment);
        return;
    }
    if (pw->begun_count < pw->concurrency) {
        begin(pw, f);
    } else {
        TAILQ_INSERT_TAIL(&pw->waiting, f, link);
        pw->waiting_count++;
    }
    watch(pw);
    if (st_likely(in_turn))
        send_flight(pw, f);
}

static void give_back(struct st_worker *w, struct st_event *ev, uint32_t assignment, bool owned)
{
    bool ours = owned ? st_event_unstart(ev, assignment) : st_event_recall(ev, assignment);

    if (ours)
        st_pool_resubmit(w->pool, ev);
    else
        st_event_unref(ev); /* withdrawn: answered already */
}

void st_flight_refuse(struct st_worker *w, struct st_event *ev, uint32_t assignment)
{
    st_worker_retreat(w, 1);
    give_back(w, ev, assignment, false);
}

/* Batches */

static size_t batch_header(unsigned n)
{
    size_t size = sizeof(struct st_wire_record) + n * sizeof(struct st_wire_section);

    return (size + ST_WIRE_ALIGN - 1) & ~(size_t)(ST_WIRE_ALIGN - 1);
}

/* Writes flights as one BATCH record of `size` bytes. */
static void put_batch(struct st_process_worker *pw, char *at, size_t size,
                      struct st_flight *const *flights, unsigned n)
{
    struct st_wire_record *rec = (struct st_wire_record *)(void *)at;
    struct st_wire_section *s = (struct st_wire_section *)(void *)(rec + 1);
    size_t to = batch_header(n);

    memset(at, 0, to);
    *rec = (struct st_wire_record){.size = (uint32_t)size,
                                   .header_size = (uint16_t)(sizeof *rec + n * sizeof *s),
                                   .kind = ST_WIRE_BATCH};
    for (unsigned i = 0; i < n; i++) {
        const struct st_flight *f = flights[i];
        size_t len = flight_size(f);

        s[i] = (struct st_wire_section){ST_WIRE_RECORD, 0, (uint32_t)to, (uint32_t)len};
        st_record_event_put(at + to, len, f->ev, f->seq, index_of(pw, f->ev->trigger),
                            f->has_ref ? &f->ref : NULL);
        to += len;
    }
}

/* One that is too large for a record as it is: its body goes to the pool. True: its record fits
 * now. False: *sent, it has failed, or it goes when the pool has room. */
static bool shrink(struct st_process_worker *pw, struct st_flight *f, bool *sent)
{
    int rc = place_body(pw, f, 0);

    if (rc == ST_OK && batch_header(1) + flight_size(f) <= st_channel_max_record(pw->channel))
        return true;
    *sent = rc == ST_OK || rc == ST_ERR_NOMEM;
    if (*sent)
        fail_unsent(pw, f, rc == ST_OK ? ST_ERR_LIMIT : rc);
    return false;
}

/* Sends them together, or, where they are too large for one record, in two halves, which stay in
 * their order. False: the rest goes when there is room. */
static bool send_batch(struct st_process_worker *pw, struct st_flight *const *flights, unsigned n)
{
    size_t size = batch_header(n);
    uint64_t place;
    bool sent;
    char *at;

    for (unsigned i = 0; i < n; i++)
        size += flight_size(flights[i]);
    if (n == 1 && size > st_channel_max_record(pw->channel))
        return shrink(pw, flights[0], &sent) ? send_batch(pw, flights, 1) : sent;
    if (size > st_channel_max_record(pw->channel))
        return send_batch(pw, flights, n / 2) && send_batch(pw, flights + n / 2, n - n / 2);
    at = st_channel_reserve(pw->channel, size);
    if (at == NULL)
        return false;
    put_batch(pw, at, size, flights, n);
    place = st_channel_commit(pw->channel);
    for (unsigned i = 0; i < n; i++) {
        flights[i]->place = place;
        flights[i]->sent = true;
    }
    pw->unsent -= n;
    return true;
}

void st_flight_add_batch(struct st_process_worker *pw, struct st_event *const *events,
                         const uint32_t *assignments, unsigned n)
{
    bool takes = pw->stage == ST_PROCESS_RUNNING && !pw->retiring && pw->unsent == 0;
    struct st_flight **flights = st_calloc(n, sizeof(void *));
    unsigned taken = 0, left = n;

    while (takes && taken < n) {
        struct st_flight *f = flight_new(pw, events[taken], assignments[taken]);

        if (f == NULL)
            break;
        flights[taken++] = f;
        begin(pw, f);
        place_body(pw, f, BATCH_INLINE_BODY); /* or it is inline, or fails below */
    }
    if (taken > 0)
        send_batch(pw, flights, taken);
    free(flights);
    while (left-- > taken)
        st_flight_refuse(pw->w, events[left], assignments[left]);
}

/* What of a batch had no room goes together too. */
static void send_rest_of_batch(struct st_process_worker *pw)
{
    struct st_flight **flights = st_calloc(pw->unsent, sizeof(void *)), *f;
    unsigned n = 0;

    TAILQ_FOREACH (f, &pw->begun, link)
        if (!f->sent)
            flights[n++] = f;
    send_batch(pw, flights, n);
    free(flights);
}

/* In order: those that run before those that wait. */
static void send_unsent(struct st_process_worker *pw)
{
    struct st_flight_list *lists[] = {&pw->begun, &pw->waiting};
    struct st_flight *f, *next;

    if (pw->unsent > 0 && pw->w->pool->batch_size != 0) {
        send_rest_of_batch(pw);
        return;
    }
    for (size_t i = 0; i < ST_ARRAY_LEN(lists) && pw->unsent > 0; i++) {
        for (f = TAILQ_FIRST(lists[i]); f != NULL; f = next) {
            next = TAILQ_NEXT(f, link);
            if (!f->sent && !send_flight(pw, f))
                return;
        }
    }
}

/* Credits */

/* Grants what is missing to as many events as may be with the worker. */
static void grant(struct st_process_worker *pw)
{
    uint64_t fit = batch_ns / (pw->mean_ns | 1);
    uint32_t ahead = fit > MAX_PREFETCH ? MAX_PREFETCH : (uint32_t)fit;
    uint32_t target =
                 pw->concurrency + (pw->can_take_back && pw->w->pool->batch_size == 0 ? ahead : 0),
             n;

    if (pw->stage != ST_PROCESS_RUNNING || pw->retiring || pw->held >= target)
        return;
    n = target - pw->held;
    pw->held = target;
    st_worker_credit(pw->w, n);
}

void st_flight_measure(struct st_process_worker *pw, uint64_t duration_ns)
{
    pw->mean_ns = pw->mean_ns - pw->mean_ns / 8 + duration_ns / 8;
    pw->handled++;
}

/* Whether it is time for a new process: a look at its memory costs three system calls. */
static void check_limits(struct st_process_worker *pw)
{
    uint64_t limit = pw->rt->base.config->own.worker_memory, now = st_loop_now(pw->loop), used;
    char text[128];

    if (pw->max_requests != 0 && pw->handled >= pw->max_requests) {
        snprintf(text, sizeof text, "it has handled %llu events", (unsigned long long)pw->handled);
        st_process_retire(pw, ST_LOST_RECYCLED, text);
        return;
    }
    if (limit == 0 || now - pw->memory_checked_ns < MEMORY_CHECK_MS * ST_MSEC)
        return;
    pw->memory_checked_ns = now;
    used = st_process_memory(pw->process.pid);
    if (used <= limit)
        return;
    snprintf(text, sizeof text, "it uses %llu MiB, more than workerMemory (%llu MiB)",
             (unsigned long long)(used >> 20), (unsigned long long)(limit >> 20));
    st_process_retire(pw, ST_LOST_MEMORY, text);
}

static void on_idle(struct st_channel *ch)
{
    struct st_process_worker *pw = st_channel_user(ch);

    promote(pw);
    if (pw->stage == ST_PROCESS_RUNNING && !pw->retiring)
        check_limits(pw);
    if (pw->retiring) {
        if (pw->begun_count + pw->waiting_count == 0)
            st_process_retired(pw);
        return;
    }
    grant(pw);
    watch(pw);
}

void st_flight_read(struct st_process_worker *pw)
{
    st_channel_read(pw->channel);
    on_idle(pw->channel);
}

/* Taking back */

/* Takes flights out of both lists that the worker has not begun: unsent, or at or behind *from, or,
 * where that is NULL, as the channel knows of a worker that is gone. Newest first into `out`,
 * because each goes to the front of the queue. */
static uint32_t collect_unbegun(struct st_process_worker *pw, const uint64_t *from,
                                struct st_flight_list *out)
{
    struct st_flight_list *lists[] = {&pw->waiting, &pw->begun};
    uint32_t n = 0;

    for (size_t i = 0; i < ST_ARRAY_LEN(lists); i++) {
        struct st_flight *f, *before;

        for (f = TAILQ_LAST(lists[i], st_flight_list); f != NULL; f = before) {
            before = TAILQ_PREV(f, st_flight_list, link);
            if (f->sent &&
                (from != NULL ? f->place < *from : st_channel_has_begun(pw->channel, f->place)))
                continue;
            unlink_flight(pw, f);
            if (!f->sent)
                pw->unsent--;
            if (f->has_ref)
                st_channel_free_body(pw->channel, &f->ref);
            TAILQ_INSERT_TAIL(out, f, link);
            n++;
        }
    }
    return n;
}

void st_flight_return(struct st_process_worker *pw, struct st_flight_list *back)
{
    struct st_flight *f;

    while ((f = TAILQ_FIRST(back)) != NULL) {
        struct st_event *ev = f->ev;

        TAILQ_REMOVE(back, f, link);
        f->ev = NULL;
        TAILQ_INSERT_HEAD(&pw->unused, f, link);
        if (f->begun && !f->owns)
            st_event_unref(ev); /* withdrawn before: answered already */
        else
            give_back(pw->w, ev, f->assignment, f->begun);
    }
}

void st_flight_withdraw(struct st_process_worker *pw)
{
    struct st_flight_list back = TAILQ_HEAD_INITIALIZER(back);
    uint64_t from = UINT64_MAX;
    uint32_t n;

    st_channel_take_back(pw->channel, &from);
    n = collect_unbegun(pw, &from, &back);
    pw->held -= n + st_worker_retreat(pw->w, n);
    st_flight_return(pw, &back);
}

static void on_slow(struct st_timer *t)
{
    struct st_process_worker *pw = ST_CONTAINER_OF(t, struct st_process_worker, slow);
    struct st_flight *first;

    st_channel_read(pw->channel);
    promote(pw);
    first = TAILQ_FIRST(&pw->begun);
    /* Where none has begun the worker has not got a CPU yet: it is not slow. */
    if (pw->waiting_count > 0 && first != NULL && first->seq == pw->watched_seq && first->sent &&
        pw->stage == ST_PROCESS_RUNNING && st_channel_has_begun(pw->channel, first->place)) {
        st_flight_withdraw(pw);
        watch(pw);
    } else {
        on_idle(pw->channel);
    }
}

void st_flight_cancel(struct st_process_worker *pw, struct st_event *ev)
{
    struct st_flight *f;

    TAILQ_FOREACH (f, &pw->begun, link)
        if (f->ev == ev)
            break;
    if (f == NULL || !f->sent || f->cancelled)
        return;
    f->cancelled = st_flight_send_small(pw, ST_WIRE_CANCEL, 0, f->seq, (struct st_slice){NULL, 0},
                                        (struct st_slice){NULL, 0});
}

/* The end */

static void crash(struct st_process_worker *pw, struct st_flight *f, const char *text)
{
    struct st_event *ev = f->ev;
    bool owns = f->begun ? f->owns : st_flight_claim(pw, f);
    char whole[1024];

    snprintf(whole, sizeof whole, "%s (while it handled this event)", text);
    st_flight_leave(pw, f);
    pw->held--;
    if (owns)
        st_answer_set(ev, ST_OUTCOME_CRASH, whole);
    st_worker_event_done(pw->w, 0);
    st_flight_complete(pw, ev, owns);
}

void st_flight_fail(struct st_process_worker *pw, const char *text, struct st_flight_list *back)
{
    struct st_flight *f;

    TAILQ_INIT(back);
    st_worker_retreat(pw->w, collect_unbegun(pw, NULL, back));
    while ((f = TAILQ_FIRST(&pw->begun)) != NULL || (f = TAILQ_FIRST(&pw->waiting)) != NULL)
        crash(pw, f, text);
}

static void on_room(struct st_channel *ch)
{
    struct st_process_worker *pw = st_channel_user(ch);

    if (pw->stage != ST_PROCESS_RUNNING)
        return;
    st_answer_room(pw);
    send_unsent(pw);
}

static void on_record(struct st_channel *ch, const struct st_wire_view *view)
{
    struct st_process_worker *pw = st_channel_user(ch);

    switch (view->kind) {
    case ST_WIRE_RESULT:
        st_answer_result(pw, view);
        break;
    case ST_WIRE_CHUNK:
        st_answer_chunk(pw, view);
        break;
    case ST_WIRE_CALL:
        st_answer_call(pw, view);
        break;
    case ST_WIRE_EMIT:
        st_answer_emit(pw, view);
        break;
    case ST_WIRE_CREDIT:
        if (view->meta.credit.n > pw->slot_count - MAX_PREFETCH - SPARE_SLOTS - pw->concurrency)
            st_process_kill(pw, ST_LOST_PROTOCOL, "it gave more credits than it may");
        else
            pw->concurrency += view->meta.credit.n;
        break;
    default: /* ACK of a body: its place is freed with the result */
        break;
    }
}

static void on_broken(struct st_channel *ch, const char *text)
{
    st_process_kill(st_channel_user(ch), ST_LOST_PROTOCOL, text);
}

const struct st_channel_handler st_flight_handler = {
    .record = on_record,
    .idle = on_idle,
    .broken = on_broken,
    .room = on_room,
};
