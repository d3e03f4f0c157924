/* Answers in pieces: CHUNK records, as many bytes as the processor has credited, and the end. */
#include "runtimes/python/ext/ext_int.h"

enum { PIECE_MAX = 65536 }; /* bytes of a chunk */

PyTypeObject *py_stream_type;
PyObject *py_stream_cancelled;

static struct py_stream *open_streams;

struct py_stream *py_stream_new(struct py_event *ev, struct py_source *source)
{
    struct py_stream *stream = PyObject_New(struct py_stream, py_stream_type);

    if (stream == NULL) {
        py_source_clear(source);
        return NULL;
    }
    memset((char *)stream + sizeof(PyObject), 0, sizeof *stream - sizeof(PyObject));
    stream->ev = (struct py_event *)Py_NewRef((PyObject *)ev);
    stream->source = *source;
    *source = (struct py_source){0};
    stream->window = ST_WIRE_STREAM_WINDOW;
    stream->open = true;
    stream->next = open_streams;
    open_streams = stream;
    return stream;
}

static void close_stream(struct py_stream *stream)
{
    struct py_stream **at = &open_streams;

    if (!stream->open) {
        return;
    }
    while (*at != stream) {
        at = &(*at)->next;
    }
    *at = stream->next;
    stream->open = false;
}

static void stream_dealloc(PyObject *self)
{
    struct py_stream *stream = (struct py_stream *)self;
    PyTypeObject *type = Py_TYPE(self);

    close_stream(stream);
    py_source_clear(&stream->source);
    Py_CLEAR(stream->rest);
    Py_CLEAR(stream->waiter);
    Py_CLEAR(stream->task);
    Py_CLEAR(stream->ev);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* One chunk, the first one with the head. 0, or -1 with an exception: the processor is gone. */
static int write_chunk(struct py_stream *stream, const char *bytes, size_t n)
{
    struct py_reply reply = {
        .seq = stream->ev->record->seq, .kind = ST_WIRE_CHUNK, .body = bytes, .body_len = n};

    if (!stream->begun) {
        Py_ssize_t length;
        stream->begun = true;
        reply.flags = ST_WIRE_HEAD;
        reply.has_meta = true;
        reply.status = stream->source.status;
        reply.outcome = stream->source.outcome;
        reply.type = PyUnicode_AsUTF8AndSize(stream->source.type, &length);
        reply.type_len = reply.type != NULL ? (size_t)length : 0;
        if (stream->source.headers != NULL) {
            reply.headers = PyBytes_AS_STRING(stream->source.headers);
            reply.headers_len = (size_t)PyBytes_GET_SIZE(stream->source.headers);
        }
    }
    stream->window -= n;
    return py_reply_write(&reply);
}

/* The most that one chunk may hold. */
static size_t piece_max(void)
{
    size_t most = py_link_max_record(&py_worker.link) / 2;
    return most < PIECE_MAX ? most : PIECE_MAX;
}

/* Writes what the window allows of bytes[*at .. n). */
static int write_some(struct py_stream *stream, const char *bytes, size_t n, size_t *at)
{
    while (*at < n && stream->window > 0 && !stream->cancelled) {
        size_t piece = n - *at;
        if (piece > stream->window) {
            piece = (size_t)stream->window;
        }
        if (piece > piece_max()) {
            piece = piece_max();
        }
        if (write_chunk(stream, bytes + *at, piece) < 0) {
            return -1;
        }
        *at += piece;
    }
    return 0;
}

/* The bytes object of a piece: text and bytes here, the rest by results.py. NULL with an
 * exception. */
static PyObject *piece_bytes(PyObject *piece)
{
    PyObject *bytes;

    if (PyBytes_CheckExact(piece)) {
        return Py_NewRef(piece);
    }
    if (PyUnicode_CheckExact(piece)) {
        bytes = PyUnicode_AsUTF8String(piece);
        if (bytes != NULL) {
            return bytes;
        }
        PyErr_Clear();
    }
    if (py_worker.hooks.piece == NULL) {
        PyErr_SetString(PyExc_TypeError, "a streamed piece is text or bytes");
        return NULL;
    }
    bytes = PyObject_CallOneArg(py_worker.hooks.piece, piece);
    if (bytes != NULL && !PyBytes_Check(bytes)) {
        Py_CLEAR(bytes);
        PyErr_SetString(PyExc_TypeError, "the hook piece() gives bytes");
    }
    return bytes;
}

/* ---- Plain functions wait where they are ---- */

/* Until the processor has credited more, or nobody reads any more. 0, or -1 with an exception. */
static int wait_credit(struct py_stream *stream)
{
    struct py_link *link = &py_worker.link;

    for (;;) {
        py_link_scan(link);
        if (stream->window > 0 || stream->cancelled || py_worker.stop) {
            stream->cancelled = stream->cancelled || py_worker.stop;
            return 0;
        }
        py_link_announce(link);
        int ready = py_link_sleep(link, link->seen, -1);
        if (ready < 0 || py_worker_control(ready) < 0) {
            return -1;
        }
    }
}

/* One piece. 0; 1: a Python exception, the piece is none; -1: the processor is gone. */
static int send_now(struct py_stream *stream, PyObject *piece)
{
    PyObject *bytes = piece_bytes(piece);
    size_t n, at = 0;
    int rc = 0;

    if (bytes == NULL) {
        return 1;
    }
    n = (size_t)PyBytes_GET_SIZE(bytes);
    while (rc == 0 && at < n && !stream->cancelled) {
        rc = write_some(stream, PyBytes_AS_STRING(bytes), n, &at);
        if (rc == 0 && at < n) {
            rc = wait_credit(stream);
        }
    }
    Py_DECREF(bytes);
    py_worker.now_ns = py_clock_ns();
    py_link_announce(&py_worker.link);
    return rc;
}

static int send_all(struct py_stream *stream)
{
    PyObject *iterator, *piece;
    int rc = 0;

    if (PyBytes_Check(stream->source.body) || PyUnicode_Check(stream->source.body)) {
        return send_now(stream, stream->source.body);
    }
    iterator = PyObject_GetIter(stream->source.body);
    if (iterator == NULL) {
        return 1;
    }
    while (rc == 0 && !stream->cancelled && (piece = PyIter_Next(iterator)) != NULL) {
        rc = send_now(stream, piece);
        Py_DECREF(piece);
        py_link_scan(&py_worker.link); /* for a CANCEL */
    }
    Py_DECREF(iterator);
    return rc == 0 && PyErr_Occurred() ? 1 : rc;
}

int py_stream_run(struct py_event *ev, struct py_source *source)
{
    struct py_stream *stream = py_stream_new(ev, source);
    int rc = stream != NULL ? send_all(stream) : 1;

    if (stream == NULL) {
        return py_answer_error(ev);
    }
    if (rc >= 0) {
        rc = py_stream_end(stream, rc != 0);
    }
    Py_DECREF(stream);
    return rc;
}

/* ---- Both ---- */

/* Nothing was sent: an answer like any other. */
static int end_unbegun(struct py_stream *stream, bool failed)
{
    struct py_reply reply = {.seq = stream->ev->record->seq,
                             .kind = ST_WIRE_RESULT,
                             .flags = stream->ev->logged ? ST_WIRE_LOGGED : 0,
                             .has_meta = true,
                             .status = stream->source.status,
                             .outcome = stream->source.outcome};
    Py_ssize_t length;

    if (failed) {
        return py_answer_error(stream->ev);
    }
    reply.type = PyUnicode_AsUTF8AndSize(stream->source.type, &length);
    reply.type_len = reply.type != NULL ? (size_t)length : 0;
    if (stream->source.headers != NULL) {
        reply.headers = PyBytes_AS_STRING(stream->source.headers);
        reply.headers_len = (size_t)PyBytes_GET_SIZE(stream->source.headers);
    }
    py_event_settle(stream->ev);
    reply.duration_ns = py_end_event(stream->ev);
    return py_reply_write(&reply);
}

/* The body is cut: the exception goes to the log. */
static void report(struct py_stream *stream)
{
    PyObject *exc = py_take_exception();
    PyObject *mapped =
        PyObject_CallFunctionObjArgs(py_worker.hooks.map_error, exc, stream->ev, NULL);

    Py_XDECREF(mapped);
    Py_DECREF(exc);
    if (mapped == NULL) {
        PyErr_WriteUnraisable((PyObject *)stream->ev);
    }
}

int py_stream_end(struct py_stream *stream, bool failed)
{
    struct py_reply reply = {.seq = stream->ev->record->seq,
                             .kind = ST_WIRE_RESULT,
                             .flags = ST_WIRE_STREAMED,
                             .has_meta = true};

    close_stream(stream);
    if (!stream->begun) {
        return end_unbegun(stream, failed);
    }
    if (failed && stream->cancelled) {
        PyErr_Clear(); /* most likely what told it so */
    } else if (failed) {
        report(stream);
    }
    if (failed || stream->cancelled) {
        reply.flags |= ST_WIRE_FAILED;
        reply.outcome = ST_WIRE_ERROR;
    }
    if (stream->ev->logged) {
        reply.flags |= ST_WIRE_LOGGED;
    }
    py_event_settle(stream->ev);
    reply.duration_ns = py_end_event(stream->ev);
    return py_reply_write(&reply);
}

/* ---- Coroutines wait for a future ---- */

static void resolve(struct py_stream *stream)
{
    PyObject *waiter = stream->waiter, *done, *none;

    stream->waiter = NULL;
    done = PyObject_CallMethod(waiter, "done", NULL);
    if (done == Py_False) {
        none = PyObject_CallMethod(waiter, "set_result", "O", Py_None);
        Py_XDECREF(none);
    }
    Py_XDECREF(done);
    Py_DECREF(waiter);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable((PyObject *)stream);
    }
}

/* Writes what waits, as far as it may. */
static int flush_rest(struct py_stream *stream)
{
    size_t n;

    if (stream->rest == NULL) {
        return 0;
    }
    n = (size_t)PyBytes_GET_SIZE(stream->rest);
    if (write_some(stream, PyBytes_AS_STRING(stream->rest), n, &stream->rest_at) < 0) {
        return -1;
    }
    if (stream->rest_at == n) {
        Py_CLEAR(stream->rest);
        resolve(stream);
    }
    return 0;
}

static struct py_stream *find_stream(uint64_t seq)
{
    struct py_stream *stream = open_streams;

    while (stream != NULL && stream->ev->record->seq != seq) {
        stream = stream->next;
    }
    return stream;
}

void py_stream_credit(uint64_t seq, uint64_t n)
{
    struct py_stream *stream = find_stream(seq);

    if (stream != NULL) {
        stream->window += n;
        if (flush_rest(stream) < 0) {
            PyErr_Clear(); /* the control socket says it as well */
        }
    }
}

void py_stream_cancel(uint64_t seq)
{
    struct py_stream *stream = find_stream(seq);

    if (stream == NULL || stream->cancelled) {
        return;
    }
    stream->cancelled = true;
    if (stream->task == NULL) {
        return; /* a plain function looks itself */
    }
    PyObject *done = PyObject_CallMethod(stream->task, "cancel", NULL);
    Py_XDECREF(done);
    if (done == NULL) {
        PyErr_WriteUnraisable((PyObject *)stream);
    }
}

PyDoc_STRVAR(send_doc,
             "Sends a piece, text or bytes. None, or a future to await when the reader is "
             "slow. Raises StreamCancelled when nobody reads any more.");

static PyObject *stream_send(PyObject *self, PyObject *piece)
{
    struct py_stream *stream = (struct py_stream *)self;
    PyObject *bytes;
    size_t at = 0;
    int rc;

    if (!stream->open || stream->rest != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "one piece after the other");
        return NULL;
    }
    if (stream->cancelled) {
        PyErr_SetNone(py_stream_cancelled);
        return NULL;
    }
    bytes = piece_bytes(piece);
    if (bytes == NULL) {
        return NULL;
    }
    rc = write_some(stream, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), &at);
    py_worker.now_ns = py_clock_ns();
    py_link_announce(&py_worker.link);
    if (rc == 0 && at < (size_t)PyBytes_GET_SIZE(bytes)) {
        stream->waiter = PyObject_CallMethod(py_worker.loop, "create_future", NULL);
        if (stream->waiter != NULL) {
            stream->rest = bytes;
            stream->rest_at = at;
            return Py_NewRef(stream->waiter);
        }
        rc = -1;
    }
    Py_DECREF(bytes);
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

PyObject *py_stream_coroutine(struct py_stream *stream, PyObject *task)
{
    PyObject *coroutine;

    if (py_worker.hooks.stream == NULL) {
        PyObject *module = PyImport_ImportModule("stator._worker.streams");
        if (module == NULL) {
            return NULL;
        }
        py_worker.hooks.stream = PyObject_GetAttrString(module, "send_all");
        Py_DECREF(module);
        if (py_worker.hooks.stream == NULL) {
            return NULL;
        }
    }
    stream->task = Py_NewRef(task);
    coroutine = PyObject_CallFunctionObjArgs(py_worker.hooks.stream, (PyObject *)stream,
                                             stream->source.body, NULL);
    return coroutine;
}

static PyMethodDef stream_methods[] = {{"send", stream_send, METH_O, send_doc},
                                       {NULL, NULL, 0, NULL}};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("An answer that leaves in pieces.")},
    {Py_tp_dealloc, (void *)stream_dealloc},
    {Py_tp_methods, stream_methods},
    {0, NULL}};

PyType_Spec py_stream_spec = {
    .name = "stator._native.Stream",
    .basicsize = sizeof(struct py_stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_slots,
};
