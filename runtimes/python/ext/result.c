/* What handlers return, as records. The usual types are written here; the rest, and all errors, are
 * mapped by Python (results.py) to (status, content type, headers, body[, outcome, retry_after_ms])
 * first. */
#include "runtimes/python/ext/ext_int.h"

static const char text_plain[] = "text/plain", json_type[] = "application/json";

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) & ~(to - 1);
}

/* Appends sections to a record. */
struct writer {
    struct st_wire_record *record;
    struct st_wire_section *section;
    size_t at;
};

static void put_section(struct writer *w, uint16_t id, const void *bytes, size_t n)
{
    *w->section++ =
        (struct st_wire_section){.id = id, .offset = (uint32_t)w->at, .length = (uint32_t)n};
    memcpy((char *)w->record + w->at, bytes, n);
    w->at += n;
}

static size_t count_sections(const struct py_reply *r)
{
    return (size_t)r->has_meta + (r->type_len != 0) + (r->headers_len != 0) + (r->body_len != 0);
}

int py_reply_write(const struct py_reply *r)
{
    struct py_link *link = &py_worker.link;
    size_t header_size =
        sizeof(struct st_wire_record) + count_sections(r) * sizeof(struct st_wire_section);
    struct st_wire_result meta = {.duration_ns = r->duration_ns,
                                  .retry_after_ms = r->retry_after_ms,
                                  .status = r->status,
                                  .outcome = r->outcome};
    struct writer w = {.at = round_up(header_size, 8)};
    size_t size = w.at + (r->has_meta ? sizeof meta : 0) + round_up(r->headers_len, 4) +
                  r->type_len + r->body_len;

    size = round_up(size, ST_WIRE_ALIGN);
    w.record = (struct st_wire_record *)py_link_reserve(link, size);
    if (w.record == NULL) {
        return -1;
    }
    *w.record = (struct st_wire_record){.size = (uint32_t)size,
                                        .header_size = (uint16_t)header_size,
                                        .kind = r->kind,
                                        .flags = r->flags,
                                        .seq = r->seq};
    w.section = (struct st_wire_section *)(w.record + 1);
    if (r->has_meta) {
        put_section(&w, ST_WIRE_META, &meta, sizeof meta);
    }
    if (r->headers_len != 0) {
        put_section(&w, ST_WIRE_HEADERS, r->headers, r->headers_len);
    }
    if (r->type_len != 0) {
        put_section(&w, ST_WIRE_CONTENT_TYPE, r->type, r->type_len);
    }
    if (r->body_len != 0) {
        put_section(&w, r->has_ref ? ST_WIRE_BODY_REF : ST_WIRE_BODY, r->body, r->body_len);
    }
    py_link_commit(link, size, py_worker.now_ns);
    return 0;
}

int py_write_credit(uint32_t n)
{
    struct st_wire_credit credit = {.n = n};
    size_t at = sizeof(struct st_wire_record) + sizeof(struct st_wire_section);
    size_t size = round_up(at + sizeof credit, ST_WIRE_ALIGN);
    struct writer w = {.at = at};

    w.record = (struct st_wire_record *)py_link_reserve(&py_worker.link, size);
    if (w.record == NULL) {
        return -1;
    }
    *w.record = (struct st_wire_record){
        .size = (uint32_t)size, .header_size = (uint16_t)at, .kind = ST_WIRE_CREDIT};
    w.section = (struct st_wire_section *)(w.record + 1);
    put_section(&w, ST_WIRE_META, &credit, sizeof credit);
    py_link_commit(&py_worker.link, size, py_worker.now_ns);
    return 0;
}

void py_source_clear(struct py_source *source)
{
    Py_CLEAR(source->type);
    Py_CLEAR(source->headers);
    Py_CLEAR(source->body);
}

PyObject *py_take_exception(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *traceback;

    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL) {
        PyException_SetTraceback(value, traceback);
    }
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
#endif
}

/* A result in parts; everything is borrowed. */
struct parts {
    const char *type, *headers, *body;
    size_t type_len, headers_len, body_len;
    uint32_t retry_after_ms;
    uint16_t status;
    uint8_t outcome;
};

uint64_t py_end_event(const struct py_event *ev)
{
    uint64_t now = py_clock_ns(), took = now - ev->begin_ns;

    py_worker.now_ns = now;
    py_worker.usual_ns += took / 8 - py_worker.usual_ns / 8;
    return took;
}

/* Writes a whole result. PY_STREAM: its body has no room. */
static enum py_outcome write_result(struct py_event *ev, const struct parts *p)
{
    struct py_reply reply = {.seq = ev->record->seq,
                             .kind = ST_WIRE_RESULT,
                             .flags = ev->logged ? ST_WIRE_LOGGED : 0,
                             .has_meta = true,
                             .status = p->status,
                             .outcome = p->outcome,
                             .retry_after_ms = p->retry_after_ms,
                             .type = p->type,
                             .type_len = p->type_len,
                             .headers = p->headers,
                             .headers_len = p->headers_len,
                             .body = p->body,
                             .body_len = p->body_len};
    size_t most = py_link_max_record(&py_worker.link), head = p->headers_len + p->type_len + 256;
    struct st_wire_ref ref;

    if (p->body_len > ST_WIRE_INLINE_BODY || head + p->body_len > most) {
        if (p->body_len <= 2048 || !py_pool_take(p->body_len, &ref)) {
            return PY_STREAM;
        }
        memcpy(py_worker.link.pool[ST_WIRE_UP] + ref.offset, p->body, p->body_len);
        reply.has_ref = true;
        reply.body = (const char *)&ref;
        reply.body_len = sizeof ref;
    }
    py_event_settle(ev);
    reply.duration_ns = py_end_event(ev);
    return py_reply_write(&reply) == 0 ? PY_DONE : PY_GONE;
}

static enum py_outcome as_source(const struct parts *p, PyObject *body, struct py_source *out)
{
    *out = (struct py_source){.status = p->status, .outcome = p->outcome};
    out->type = PyUnicode_DecodeUTF8(p->type, (Py_ssize_t)p->type_len, "replace");
    out->headers = p->headers_len != 0
                       ? PyBytes_FromStringAndSize(p->headers, (Py_ssize_t)p->headers_len)
                       : NULL;
    out->body = Py_NewRef(body);
    if (out->type == NULL) {
        Py_FatalError("no memory for a result");
    }
    return PY_STREAM;
}

/* Bytes of a str or bytes. False with an exception: a str that UTF-8 does not have, or another
 * type. */
static bool bytes_of(PyObject *value, const char **bytes, size_t *n)
{
    Py_ssize_t length = 0;

    if (PyUnicode_Check(value)) {
        *bytes = PyUnicode_AsUTF8AndSize(value, &length);
    } else if (PyBytes_Check(value)) {
        *bytes = PyBytes_AS_STRING(value);
        length = PyBytes_GET_SIZE(value);
    } else {
        PyErr_Format(PyExc_TypeError, "text or bytes expected, not %.100s",
                     Py_TYPE(value)->tp_name);
        return false;
    }
    *n = (size_t)length;
    return *bytes != NULL;
}

static bool is_async_stream(PyObject *body)
{
    return Py_TYPE(body)->tp_as_async != NULL && Py_TYPE(body)->tp_as_async->am_anext != NULL;
}

static bool is_stream(PyObject *body)
{
    return PyIter_Check(body) || is_async_stream(body);
}

bool py_source_is_async(const struct py_source *source)
{
    return is_async_stream(source->body);
}

/* A line end in a header would be a header of its own. */
static void blank_line_ends(char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\r' || bytes[i] == '\n' || bytes[i] == '\0') {
            bytes[i] = ' ';
        }
    }
}

/* The HEADERS section of a sequence of pairs, or of a dict's items; NULL with an exception. */
static PyObject *pack_headers(PyObject *pairs)
{
    PyObject *list = PyDict_Check(pairs) ? PyDict_Items(pairs) : PySequence_List(pairs);
    Py_ssize_t count = list != NULL ? PyList_GET_SIZE(list) : 0;
    size_t head = sizeof(struct st_wire_headers) + (size_t)count * sizeof(struct st_wire_header);
    size_t total = head;
    PyObject *packed = NULL;
    const char *bytes[2];
    size_t n[2];

    for (int pass = 0; list != NULL && pass < 2; pass++) {
        size_t at = head;
        for (Py_ssize_t i = 0; i < count; i++) {
            PyObject *name, *value;
            if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "OO", &name, &value) ||
                !bytes_of(name, &bytes[0], &n[0]) || !bytes_of(value, &bytes[1], &n[1])) {
                goto fail;
            }
            if (pass == 0) {
                total += n[0] + n[1];
                continue;
            }
            char *to = PyBytes_AS_STRING(packed);
            struct st_wire_headers *headers = (struct st_wire_headers *)to;
            headers->lengths[i] = (struct st_wire_header){(uint32_t)n[0], (uint32_t)n[1]};
            memcpy(to + at, bytes[0], n[0]);
            memcpy(to + at + n[0], bytes[1], n[1]);
            blank_line_ends(to + at, n[0] + n[1]);
            at += n[0] + n[1];
        }
        if (pass == 0) {
            packed = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
            if (packed == NULL) {
                goto fail;
            }
            ((struct st_wire_headers *)PyBytes_AS_STRING(packed))->count = (uint32_t)count;
        }
    }
    Py_XDECREF(list);
    return packed;
fail:
    Py_XDECREF(list);
    Py_XDECREF(packed);
    return NULL;
}

/* Answers with what results.py made. -1 with an exception: it is no such tuple. */
static int answer_mapped(struct py_event *ev, PyObject *mapped, struct py_source *stream,
                         enum py_outcome *outcome)
{
    PyObject *type, *headers, *body, *packed = NULL;
    int status, how = ST_WIRE_OK;
    unsigned int retry = 0;
    struct parts p = {0};
    int rc = -1;

    if (!PyTuple_Check(mapped) ||
        !PyArg_ParseTuple(mapped, "iOOO|iI", &status, &type, &headers, &body, &how, &retry)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a mapped result is a tuple");
        }
        return -1;
    }
    if (headers != Py_None && PyObject_Size(headers) > 0) {
        packed = pack_headers(headers);
        if (packed == NULL) {
            return -1;
        }
        p.headers = PyBytes_AS_STRING(packed);
        p.headers_len = (size_t)PyBytes_GET_SIZE(packed);
    }
    p.status = (uint16_t)status;
    p.outcome = (uint8_t)how;
    p.retry_after_ms = retry;
    if (p.headers_len + 4096 > py_link_max_record(&py_worker.link)) {
        PyErr_SetString(PyExc_ValueError, "the headers are too long");
    } else if (!bytes_of(type, &p.type, &p.type_len) || p.type_len > 1024) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "the content type is too long");
        }
    } else if (is_stream(body)) {
        *outcome = as_source(&p, body, stream);
        rc = 0;
    } else if (bytes_of(body, &p.body, &p.body_len)) {
        *outcome = write_result(ev, &p);
        if (*outcome == PY_STREAM) {
            *outcome = as_source(&p, body, stream);
        }
        rc = 0;
    }
    Py_XDECREF(packed);
    return rc;
}

/* The answer when even results.py fails. */
static enum py_outcome answer_plainly(struct py_event *ev)
{
    static const char text[] = "the result could not be written; see the log";
    struct parts p = {.status = 500,
                      .outcome = ST_WIRE_ERROR,
                      .type = text_plain,
                      .type_len = sizeof text_plain - 1,
                      .body = text,
                      .body_len = sizeof text - 1};

    PyErr_WriteUnraisable((PyObject *)ev);
    return write_result(ev, &p);
}

/* The exception that is set, mapped; NULL with another one. */
static PyObject *map_exception(struct py_event *ev)
{
    PyObject *exc = py_take_exception();
    PyObject *mapped = PyObject_CallFunctionObjArgs(py_worker.hooks.map_error, exc, ev, NULL);

    Py_DECREF(exc);
    return mapped;
}

/* Answers with a mapped exception (borrowed); NULL: mapping failed. */
static int answer_failure(struct py_event *ev, PyObject *mapped)
{
    struct py_source stream = {0};
    enum py_outcome outcome = PY_DONE;

    if (mapped == NULL || answer_mapped(ev, mapped, &stream, &outcome) < 0 ||
        outcome == PY_STREAM) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "the text of an error is too long");
        }
        py_source_clear(&stream);
        outcome = answer_plainly(ev);
    }
    return outcome == PY_GONE ? -1 : 0;
}

int py_answer_error(struct py_event *ev)
{
    PyObject *mapped = map_exception(ev);
    int rc = answer_failure(ev, mapped);

    Py_XDECREF(mapped);
    return rc;
}

static int answer_one_of_batch(struct py_event *ev, PyObject *mapped)
{
    struct py_source stream = {0};
    enum py_outcome outcome = PY_DONE;

    if (answer_mapped(ev, mapped, &stream, &outcome) < 0) {
        return py_answer_error(ev);
    }
    /* A body that is too long just now; results.py lets no generator through. */
    if (outcome == PY_STREAM) {
        return py_stream_run(ev, &stream);
    }
    return outcome == PY_GONE ? -1 : 0;
}

/* Attributes of a Response, and `id` of an event. */
enum { EVENT_ID, HEADERS, BODY, CONTENT_TYPE, STATUS_CODE, ATTRIBUTES, ID = ATTRIBUTES, NAMES };

static PyObject *names[NAMES];

int py_result_init(void)
{
    static const char *const words[NAMES] = {
        "event_id", "headers", "body", "content_type", "status_code", "id",
    };

    for (int i = 0; i < NAMES; i++) {
        names[i] = PyUnicode_InternFromString(words[i]);
        if (names[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

/* Whether they are a text or bytes without headers for this event; then p has them. */
static bool is_usual(struct py_event *ev, PyObject *const *value, struct parts *p)
{
    PyObject *id, *body = value[BODY];
    bool is_ours;
    int overflow;
    long status;

    if (!PyUnicode_CheckExact(value[EVENT_ID]) || !PyDict_CheckExact(value[HEADERS]) ||
        PyDict_GET_SIZE(value[HEADERS]) != 0 || !PyLong_CheckExact(value[STATUS_CODE]) ||
        !PyUnicode_CheckExact(value[CONTENT_TYPE]) ||
        !(body == Py_None || PyUnicode_CheckExact(body) || PyBytes_CheckExact(body))) {
        return false;
    }
    id = PyObject_GetAttr((PyObject *)ev, names[ID]);
    is_ours = id == value[EVENT_ID] || (id != NULL && PyUnicode_CheckExact(id) &&
                                        PyUnicode_Compare(id, value[EVENT_ID]) == 0);
    Py_XDECREF(id);
    status = PyLong_AsLongAndOverflow(value[STATUS_CODE], &overflow);
    p->status = (uint16_t)status;
    if (body == Py_None) {
        p->body = "None"; /* str() of it, as for a single event */
        p->body_len = 4;
    }
    return is_ours && overflow == 0 && status >= 200 && status <= 599 &&
           bytes_of(value[CONTENT_TYPE], &p->type, &p->type_len) && p->type_len <= 64 &&
           memchr(p->type, '\r', p->type_len) == NULL &&
           memchr(p->type, '\n', p->type_len) == NULL &&
           (body == Py_None || bytes_of(body, &p->body, &p->body_len));
}

/* Answers with a usual Response. 1; 0: map_batch knows what it is; -1: gone. */
static int answer_usual(struct py_event *ev, PyObject *response)
{
    PyObject *value[ATTRIBUTES] = {NULL};
    enum py_outcome outcome = PY_STREAM;
    struct parts p = {0};
    int found = 0;

    if ((PyObject *)Py_TYPE(response) != py_worker.hooks.response) {
        return 0;
    }
    while (found < ATTRIBUTES &&
           (value[found] = PyObject_GetAttr(response, names[found])) != NULL) {
        found++;
    }
    if (found == ATTRIBUTES && is_usual(ev, value, &p)) {
        outcome = write_result(ev, &p);
    }
    while (found > 0) {
        Py_DECREF(value[--found]);
    }
    if (outcome == PY_STREAM) {
        PyErr_Clear();
        return 0;
    }
    return outcome == PY_DONE ? 1 : -1;
}

/* Answers the first events of a batch whose results are in their order and simple; returns how
 * many, or -1: gone. */
static Py_ssize_t answer_first(PyObject *events, PyObject *result)
{
    Py_ssize_t count = PyList_GET_SIZE(events), n = 0;
    struct py_source stream = {0};
    int rc = 1;

    if (result == Py_None) {
        for (; rc > 0 && n < count; n++) {
            struct py_event *ev = (struct py_event *)PyList_GET_ITEM(events, n);
            rc = py_answer(ev, Py_None, &stream) == PY_DONE ? 1 : -1;
        }
    } else if (result != NULL && PyList_Check(result)) {
        while (n < count && n < PyList_GET_SIZE(result)) {
            rc = answer_usual((struct py_event *)PyList_GET_ITEM(events, n),
                              PyList_GET_ITEM(result, n));
            if (rc <= 0) {
                break;
            }
            n++;
        }
    }
    return rc < 0 ? -1 : n;
}

int py_answer_batch(PyObject *events, PyObject *result)
{
    struct py_event *first = (struct py_event *)PyList_GET_ITEM(events, 0);
    Py_ssize_t count = PyList_GET_SIZE(events), done = answer_first(events, result);
    PyObject *mapped = NULL, *failure = NULL;
    int rc = 0;

    if (done < 0 || done == count) {
        return done < 0 ? -1 : 0;
    }
    if (result != NULL) {
        mapped = PyObject_CallFunctionObjArgs(py_worker.hooks.map_batch, result, events, NULL);
    }
    if (mapped != NULL && (!PyList_Check(mapped) || PyList_GET_SIZE(mapped) != count)) {
        PyErr_SetString(PyExc_TypeError, "a mapped batch is a list with a result for each event");
        Py_CLEAR(mapped);
    }
    if (mapped == NULL) {
        failure = map_exception(first);
    }
    for (Py_ssize_t i = done; rc == 0 && i < count; i++) {
        struct py_event *ev = (struct py_event *)PyList_GET_ITEM(events, i);
        rc = mapped != NULL ? answer_one_of_batch(ev, PyList_GET_ITEM(mapped, i))
                            : answer_failure(ev, failure);
    }
    Py_XDECREF(failure);
    Py_XDECREF(mapped);
    return rc;
}

/* Nobody waits for the event, and its handler was not called. */
int py_answer_cancelled(struct py_event *ev)
{
    struct parts p = {.outcome = ST_WIRE_ERROR};
    return write_result(ev, &p) == PY_GONE ? -1 : 0;
}

static enum py_outcome answer_slowly(struct py_event *ev, PyObject *result,
                                     struct py_source *stream)
{
    enum py_outcome outcome = PY_DONE;
    PyObject *mapped = PyObject_CallOneArg(py_worker.hooks.map_result, result);

    if (mapped == NULL || answer_mapped(ev, mapped, stream, &outcome) < 0) {
        outcome = py_answer_error(ev) < 0 ? PY_GONE : PY_DONE;
    }
    Py_XDECREF(mapped);
    return outcome;
}

/* str, or bytes. */
static enum py_outcome answer_text(struct py_event *ev, PyObject *body, uint16_t status,
                                   const char *type, struct py_source *stream)
{
    struct parts p = {.status = status, .type = type, .type_len = strlen(type)};
    enum py_outcome outcome;

    if (!bytes_of(body, &p.body, &p.body_len)) {
        PyErr_Clear(); /* lone surrogates: results.py knows what to do */
        return PY_STREAM;
    }
    outcome = write_result(ev, &p);
    return outcome == PY_STREAM ? as_source(&p, body, stream) : outcome;
}

/* Answers with a str or bytes that was made from the result (taken); NULL with an exception. */
static enum py_outcome answer_made(struct py_event *ev, PyObject *made, const char *type,
                                   struct py_source *stream)
{
    enum py_outcome outcome;

    if (made == NULL || !(PyUnicode_Check(made) || PyBytes_Check(made))) {
        Py_XDECREF(made);
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "text or bytes expected");
        }
        return py_answer_error(ev) < 0 ? PY_GONE : PY_DONE;
    }
    outcome = answer_text(ev, made, 200, type, stream);
    if (outcome == PY_STREAM && stream->body == NULL) {
        outcome = answer_slowly(ev, made, stream);
    }
    Py_DECREF(made);
    return outcome;
}

/* (status, text) with a status that an answer may have. */
static bool is_status_text(PyObject *result, uint16_t *status)
{
    PyObject *first, *second;
    long value;

    if (!PyTuple_CheckExact(result) || PyTuple_GET_SIZE(result) != 2) {
        return false;
    }
    first = PyTuple_GET_ITEM(result, 0);
    second = PyTuple_GET_ITEM(result, 1);
    if (!PyLong_CheckExact(first) || !PyUnicode_CheckExact(second)) {
        return false;
    }
    int overflow;
    value = PyLong_AsLongAndOverflow(first, &overflow);
    *status = (uint16_t)value;
    return overflow == 0 && value >= 200 && value <= 599;
}

enum py_outcome py_answer(struct py_event *ev, PyObject *result, struct py_source *stream)
{
    enum py_outcome outcome = PY_STREAM;
    uint16_t status = 200;

    if (result == NULL) {
        return py_answer_error(ev) < 0 ? PY_GONE : PY_DONE;
    }
    if (PyUnicode_CheckExact(result) || PyBytes_CheckExact(result)) {
        outcome = answer_text(ev, result, 200, text_plain, stream);
    } else if (is_status_text(result, &status)) {
        outcome = answer_text(ev, PyTuple_GET_ITEM(result, 1), status, text_plain, stream);
    } else if (PyDict_CheckExact(result) && py_worker.hooks.encode_json != NULL) {
        return answer_made(ev, PyObject_CallOneArg(py_worker.hooks.encode_json, result), json_type,
                           stream);
    } else if (result == Py_None || PyLong_CheckExact(result) || PyFloat_CheckExact(result) ||
               PyBool_Check(result)) {
        return answer_made(ev, PyObject_Str(result), text_plain, stream);
    } else if (PyGen_CheckExact(result) || PyAsyncGen_CheckExact(result)) {
        struct parts p = {.status = 200, .type = text_plain, .type_len = sizeof text_plain - 1};
        return as_source(&p, result, stream);
    }
    if (outcome == PY_STREAM && stream->body == NULL) {
        outcome = answer_slowly(ev, result, stream);
    }
    return outcome;
}
