/* Private to the extension: its objects, and what its files call of each other. All of it is used
 * with the GIL held, by the thread that called run(), unless a line says otherwise. */
#ifndef RUNTIMES_PYTHON_EXT_EXT_INT_H
#define RUNTIMES_PYTHON_EXT_EXT_INT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "runtimes/python/ext/link.h"

/* ---- Attributes of an event, made when they are read first ---- */

#define PY_FIELDS(X)                \
    X(BODY, body)                   \
    X(RAW_BODY, raw_body)           \
    X(CONTENT_TYPE, content_type)   \
    X(TRIGGER, trigger)             \
    X(FIELDS, fields)               \
    X(HEADERS, headers)             \
    X(HEADER_LIST, header_list)     \
    X(ID, id)                       \
    X(METHOD, method)               \
    X(PATH, path)                   \
    X(SIZE, size)                   \
    X(TIMESTAMP, timestamp)         \
    X(TIMESTAMP_NS, timestamp_ns)   \
    X(URL, url)                     \
    X(SHARD_ID, shard_id)           \
    X(NUM_SHARDS, num_shards)       \
    X(TYPE, type)                   \
    X(TYPE_VERSION, type_version)   \
    X(VERSION, version)             \
    X(LAST_IN_BATCH, last_in_batch) \
    X(OFFSET, offset)               \
    X(TOPIC, topic)                 \
    X(TARGET, target)               \
    X(QUERY, query)                 \
    X(SCHEME, scheme)               \
    X(KEY, key)                     \
    X(PEER, peer)                   \
    X(TRACE_PARENT, trace_parent)   \
    X(POSITION, position)           \
    X(ATTEMPT, attempt)             \
    X(HTTP_VERSION, http_version)   \
    X(DEADLINE_NS, deadline_ns)     \
    X(IS_TOMBSTONE, is_tombstone)

enum py_field {
#define X(id, name) PY_FIELD_##id,
    PY_FIELDS(X)
#undef X
        PY_FIELD_COUNT
};

/* The record lies in the ring while the handler runs; what outlives that has a copy of its own. */
struct py_event {
    PyObject_HEAD PyObject *dict; /* attributes that somebody added */
    PyObject *weak;
    const struct st_wire_record *record;
    void *copy; /* the record, where it is ours; else NULL */
    uint64_t begin_ns;
    uint64_t have; /* bit of each field whose value[] counts; NULL there: deleted */
    bool opened;   /* looked whether it is a cloud event */
    bool logged;   /* log messages about it were written */
    bool last_in_batch;
    bool answered; /* its result is on its way */
    PyObject *value[PY_FIELD_COUNT];
};

extern PyTypeObject *py_event_type;
extern PyType_Spec py_event_spec;

/* An event for that record; recycled where there is one. NULL with an exception. */
struct py_event *py_event_new(const struct st_wire_record *record);

/* The record in the ring is not needed any more after this: the event has a copy. */
void py_event_copy(struct py_event *ev);

/* Its result leaves now: what the processor then takes back (a body in its pool) is read. */
void py_event_settle(struct py_event *ev);

/* False with an exception: one of its texts is no UTF-8, or it is a cloud event that can't be read.
 */
bool py_event_is_readable(struct py_event *ev);

/* For another record: needs the only reference. */
void py_event_reset(struct py_event *ev, const struct st_wire_record *record);

/* ---- Decoding of records: decode.c ---- */

/* A section's bytes, or NULL with *n 0. */
const char *py_section(const struct st_wire_record *record, uint16_t id, size_t *n);
struct st_wire_event py_event_meta(const struct py_event *ev);

/* The value of an attribute, a new reference; NULL with an exception. */
PyObject *py_decode(struct py_event *ev, enum py_field field);

/* The last header of that name in whatever case, a new reference; NULL without an exception: there
 * is none. */
PyObject *py_decode_header(const struct py_event *ev, const char *name, size_t n);

/* True when its headers or its type say that it is a cloud event. */
bool py_is_cloud_event(const struct py_event *ev);

/* True when no text of it can be anything but ASCII. */
bool py_is_ascii(const struct py_event *ev);

int py_decode_init(void);

/* ---- Results: result.c ---- */

int py_result_init(void);

/* What goes into a RESULT or CHUNK record; all is borrowed. */
struct py_reply {
    uint64_t seq, duration_ns;
    const char *type, *headers, *body; /* headers: as the section is */
    size_t type_len, headers_len, body_len;
    uint32_t retry_after_ms;
    uint16_t status;
    uint8_t kind, flags, outcome;
    bool has_meta, has_ref;
};

/* Writes the record, waiting for room. 0, or -1 with an exception: the processor is gone. */
int py_reply_write(const struct py_reply *reply);

/* What a handler returned, as far as it goes into one record. */
enum py_outcome {
    PY_DONE,   /* the result is on its way */
    PY_STREAM, /* it is a generator, or a body without room: *stream is for stream.c */
    PY_GONE    /* the processor is gone; an exception is set */
};

/* A result that does not fit one record: its head, and where its pieces come from. */
struct py_source {
    PyObject *type, *headers; /* text; bytes of the section or NULL; owned */
    PyObject *body;           /* bytes, iterator, generator, asynchronous generator; owned */
    uint16_t status;
    uint8_t outcome;
};
void py_source_clear(struct py_source *source);
bool py_source_is_async(const struct py_source *source);

/* Answers the event with what its handler returned (borrowed), or, when that is NULL, with the
 * exception that is set. */
enum py_outcome py_answer(struct py_event *ev, PyObject *result, struct py_source *stream);

/* Answers with the exception that is set. 0, or -1: the processor is gone. */
int py_answer_error(struct py_event *ev);

/* Answers a batch with what its handler returned, or, when that is NULL, each of its events with
 * the exception that is set. 0, or -1: the processor is gone. */
int py_answer_batch(PyObject *events, PyObject *result);

/* Answers an event that was cancelled before its handler was called. 0, or -1: gone. */
int py_answer_cancelled(struct py_event *ev);

/* Tells the processor that n more events may come at once. 0, or -1: the processor is gone. */
int py_write_credit(uint32_t n);

/* The exception that is set, with its traceback, and none is set any more. */
PyObject *py_take_exception(void);

/* The end of an event's handler: what it took since ev->begin_ns, in ns. */
uint64_t py_end_event(const struct py_event *ev);

/* ---- Streams: stream.c ---- */

/* An answer in pieces. */
struct py_stream {
    PyObject_HEAD struct py_stream *next; /* of those that are open */
    struct py_event *ev;
    struct py_source source;
    PyObject *rest; /* bytes of a piece that wait for room; NULL: none */
    size_t rest_at;
    PyObject *waiter; /* future of the coroutine that waits for them; NULL: none does */
    PyObject *task;   /* NULL: a plain function's */
    uint64_t window;
    bool begun;     /* the first chunk, with the head, has left */
    bool cancelled; /* nobody reads it any more */
    bool open;
};

/* Takes over the source. NULL with an exception. */
struct py_stream *py_stream_new(struct py_event *ev, struct py_source *source);

/* Sends all pieces, waiting for the processor where it must, and the end. 0, or -1 with an
 * exception: the processor is gone. */
int py_stream_run(struct py_event *ev, struct py_source *source);

/* A coroutine that sends all pieces; the end is py_stream_end. task: what is cancelled when nobody
 * reads any more. NULL with an exception. */
PyObject *py_stream_coroutine(struct py_stream *stream, PyObject *task);

/* The last record. failed: an exception is set, which is reported. 0, or -1: gone. */
int py_stream_end(struct py_stream *stream, bool failed);

/* CREDIT and CANCEL of an event. */
void py_stream_credit(uint64_t seq, uint64_t n);
void py_stream_cancel(uint64_t seq);

extern PyType_Spec py_stream_spec;
extern PyTypeObject *py_stream_type;
extern PyObject *py_stream_cancelled; /* exception */

/* ---- Coroutines: async.c ---- */

/* A unit whose handler was called before there was a loop. */
struct py_start {
    PyObject *unit, *awaitable; /* taken; unit NULL: nothing */
    struct py_source source;    /* with a body: instead of the awaitable, what is to be streamed */
};

/* Runs the worker in asyncio's loop until it is told to stop. 0, or -1 with an exception. */
int py_async_run(const struct py_start *start);

/* The event that the code which runs now is about; borrowed, NULL: none. */
PyObject *py_async_current(void);

extern PyType_Spec py_call_spec;
extern PyTypeObject *py_call_type;
int py_async_init(void);

/* ---- The worker: worker.c ---- */

struct py_hooks {
    PyObject *map_result, *map_error, *map_batch, *encode_json, *parse_body, *open_cloud_event,
        *control, *drained, *started, *new_loop, *stream, *piece, *forked, *response;
};

struct py_worker {
    struct py_link link;
    struct py_hooks hooks;
    PyObject *handler, *context, *triggers, *event_class;
    PyObject *loop;     /* asyncio's, once there is one */
    PyObject *current;  /* the event whose handler runs in this thread, borrowed; NULL: none */
    uint64_t now_ns;    /* end of the last event; 0: unknown */
    uint64_t usual_ns;  /* what an event takes, roughly */
    uint64_t looked_ns; /* when control messages were last looked for */
    size_t max_running, running; /* coroutines in flight */
    bool forked;                 /* a process that a handler forked came back out of it */
    unsigned long thread;        /* that runs it */
    bool active, batch, is_async, decode_text, stop;
    bool draining; /* nothing new is begun */
    bool drained;  /* and that was said */
};
extern struct py_worker py_worker;

/* Calls the handler. NULL with an exception. Does not return in a process that the handler forked:
 * the answer is the parent's. */
PyObject *py_worker_call(PyObject *event);

/* Ends a process that a handler forked. */
_Noreturn void py_leave_fork(int status);

/* A unit is what a handler is called with: an event, or the list of a batch. */

/* That of a record. NULL with an exception; NULL without one: all of it is answered already. */
PyObject *py_unit_begin(const struct st_wire_record *record);

/* Its records in the ring are not needed any more. */
void py_unit_copy(PyObject *unit);

/* All is answered: takes the unit. Events that somebody holds stay usable. */
void py_unit_end(PyObject *unit);

bool py_is_awaitable(PyObject *result);

/* True when it is answered already: it was cancelled while it waited. -1: the processor is gone. */
int py_unit_is_cancelled(PyObject *unit);

/* Nothing runs and nothing waits: says so, if the processor has asked. */
int py_tell_drained(void);

/* What run() does: module.c. */
int py_worker_run(void);

/* Tells the processor of a message, unless the result that follows soon does. */
void py_announce_emit(void);

/* Handles control messages when there are some. -1 with an exception. */
int py_worker_control(int ready);

/* ---- Messages for outputs: emit.c ---- */

/* emit(event, name, topic, key, headers, value): bytes or None, but for the event, which is None
 * for the one that runs. */
PyObject *py_emit(PyObject *module, PyObject *const *args, Py_ssize_t count);

/* ---- The template: fork.c ---- */

PyObject *py_fork_worker(PyObject *module, PyObject *ignored);

/* ---- Bodies in the pools: pool.c ---- */

int py_pool_open(uint64_t size);
void py_pool_close(void);

/* Bytes for a body to the processor; false: none free. Given back by py_pool_free at ACK. */
bool py_pool_take(uint64_t size, struct st_wire_ref *ref);
void py_pool_free(const struct st_wire_ref *ref);

#endif
