/* The worker's loop for handlers that are plain functions. */
#include "runtimes/python/ext/ext_int.h"

#include <unistd.h>

struct py_worker py_worker;

/* Control messages are looked for this often while events leave no time to sleep. */
static const uint64_t control_ns = 10000000;

/* Handlers that take longer do not let the results before them wait. */
static const uint64_t quick_ns = 25000;

_Noreturn void py_leave_fork(int status)
{
    if (py_worker.hooks.forked != NULL) {
        PyErr_Clear();
        PyObject *none = PyObject_CallFunction(py_worker.hooks.forked, "i", status);
        Py_XDECREF(none);
    }
    _exit(status);
}

PyObject *py_worker_call(PyObject *event)
{
    PyObject *args[] = {NULL, py_worker.context, event};
    PyObject *result =
        PyObject_Vectorcall(py_worker.handler, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);

    if (py_worker.forked) {
        py_leave_fork(result == NULL);
    }
    return result;
}

enum { GO_ON, DRAIN, STOP };

int py_worker_control(int ready)
{
    if (!(ready & PY_READY_CONTROL)) {
        return 0;
    }
    PyObject *answer = PyObject_CallNoArgs(py_worker.hooks.control);
    long what = answer == Py_None ? GO_ON : answer != NULL ? PyLong_AsLong(answer) : -1;

    Py_XDECREF(answer);
    if (what == -1 && PyErr_Occurred()) {
        return -1;
    }
    py_worker.draining = what == DRAIN;
    py_worker.drained = py_worker.drained && py_worker.draining;
    py_worker.stop = what == STOP;
    return 0;
}

int py_tell_drained(void)
{
    PyObject *none;

    if (!py_worker.draining || py_worker.drained) {
        return 0;
    }
    py_worker.drained = true;
    none = PyObject_CallNoArgs(py_worker.hooks.drained);
    Py_XDECREF(none);
    return none != NULL ? 0 : -1;
}

/* Numbers of events that were cancelled before they were begun; with many the oldest is forgotten,
 * and that event runs. */
static uint64_t cancelled[16];
static size_t cancelled_count;
static uint64_t last_begun;

static void cancel(uint64_t seq)
{
    if (seq > last_begun) {
        cancelled[cancelled_count++ % (sizeof cancelled / sizeof *cancelled)] = seq;
    } else {
        py_stream_cancel(seq);
    }
}

static bool was_cancelled(uint64_t seq)
{
    last_begun = seq;
    for (size_t i = 0; cancelled_count != 0 && i < sizeof cancelled / sizeof *cancelled; i++) {
        if (cancelled[i] == seq) {
            cancelled[i] = 0;
            return true;
        }
    }
    return false;
}

int py_unit_is_cancelled(PyObject *unit)
{
    struct py_event *ev = (struct py_event *)unit;

    if (PyList_Check(unit)) {
        ev = (struct py_event *)PyList_GET_ITEM(unit, PyList_GET_SIZE(unit) - 1);
        last_begun = ev->record->seq;
        return 0;
    }
    if (!was_cancelled(ev->record->seq)) {
        return 0;
    }
    return py_answer_cancelled(ev) < 0 ? -1 : 1;
}

/* ACK, CREDIT and CANCEL; others mean nothing to this worker. */
static void other_record(void *Py_UNUSED(arg), const struct st_wire_record *record)
{
    struct st_wire_credit credit = {0};
    struct st_wire_ref ref = {0};
    const char *bytes;
    size_t n;

    switch (record->kind) {
    case ST_WIRE_ACK:
        bytes = py_section(record, ST_WIRE_BODY_REF, &n);
        if (n >= sizeof ref) {
            memcpy(&ref, bytes, sizeof ref);
            py_pool_free(&ref);
        }
        break;
    case ST_WIRE_CREDIT:
        bytes = py_section(record, ST_WIRE_META, &n);
        if (n >= sizeof credit) {
            memcpy(&credit, bytes, sizeof credit);
            py_stream_credit(record->seq, credit.n);
        }
        break;
    case ST_WIRE_CANCEL:
        cancel(record->seq);
        break;
    default:
        break;
    }
}

/* An event whose only user was the handler, for the next one. */
static struct py_event *spare;

static struct py_event *begin_event(const struct st_wire_record *record)
{
    struct py_event *ev = spare;

    if (ev != NULL) {
        spare = NULL;
        ev->record = record;
    } else {
        ev = py_event_new(record);
    }
    if (ev != NULL) {
        ev->begin_ns = py_worker.now_ns;
    }
    return ev;
}

/* Keeps the object for the next event, or leaves it to those who hold it. */
static void end_event(struct py_event *ev)
{
    if (Py_REFCNT(ev) == 1 && ev->weak == NULL) {
        py_event_reset(ev, NULL);
        if (spare == NULL) {
            spare = ev;
            return;
        }
    } else {
        py_event_copy(ev);
    }
    Py_DECREF(ev);
}

/* Adds the event of a record, unless nobody can read it: then it is answered. -1 with an
 * exception. */
static int add_event(PyObject *list, const struct st_wire_record *record)
{
    struct py_event *ev = py_event_new(record);
    int rc = -1;

    if (ev == NULL) {
        return -1;
    }
    ev->begin_ns = py_worker.now_ns;
    if (py_event_is_readable(ev)) {
        rc = PyList_Append(list, (PyObject *)ev);
    } else {
        rc = py_answer_error(ev);
    }
    Py_DECREF(ev);
    return rc;
}

/* The events of a batch, or one alone, as a list. */
static PyObject *begin_batch(const struct st_wire_record *record)
{
    const struct st_wire_section *section = (const struct st_wire_section *)(record + 1);
    size_t count = (record->header_size - sizeof *record) / sizeof *section;
    bool is_batch = record->kind == ST_WIRE_BATCH;
    PyObject *list = PyList_New(0);
    Py_ssize_t n;

    for (size_t i = 0; list != NULL && i < (is_batch ? count : 1); i++) {
        const char *at = (const char *)record + (is_batch ? section[i].offset : 0);
        if ((!is_batch || section[i].id == ST_WIRE_RECORD) &&
            add_event(list, (const struct st_wire_record *)at) < 0) {
            Py_CLEAR(list);
        }
    }
    n = list != NULL ? PyList_GET_SIZE(list) : 0;
    if (n == 0) {
        Py_CLEAR(list);
    } else {
        ((struct py_event *)PyList_GET_ITEM(list, n - 1))->last_in_batch = true;
    }
    return list;
}

PyObject *py_unit_begin(const struct st_wire_record *record)
{
    if (py_worker.now_ns == 0) {
        py_worker.now_ns = py_clock_ns();
    }
    if (py_worker.usual_ns > quick_ns) {
        py_link_announce(&py_worker.link);
    }
    if (py_worker.batch || record->kind == ST_WIRE_BATCH) {
        return begin_batch(record);
    }
    return (PyObject *)begin_event(record);
}

void py_unit_copy(PyObject *unit)
{
    if (!PyList_Check(unit)) {
        py_event_copy((struct py_event *)unit);
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(unit); i++) {
        py_event_copy((struct py_event *)PyList_GET_ITEM(unit, i));
    }
}

void py_unit_end(PyObject *unit)
{
    if (!PyList_Check(unit)) {
        end_event((struct py_event *)unit);
        return;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(unit); i++) {
        struct py_event *ev = (struct py_event *)PyList_GET_ITEM(unit, i);
        if (Py_REFCNT(ev) > 1 || Py_REFCNT(unit) > 1) {
            py_event_copy(ev);
        }
    }
    Py_DECREF(unit);
}

bool py_is_awaitable(PyObject *result)
{
    return PyCoro_CheckExact(result) || (Py_TYPE(result)->tp_as_async != NULL &&
                                         Py_TYPE(result)->tp_as_async->am_await != NULL &&
                                         Py_TYPE(result)->tp_as_async->am_anext == NULL);
}

/* Answers a unit that is over, or leaves it for the loop in *start. 0; -1: gone. */
static int answer_unit(PyObject *unit, PyObject *result, struct py_start *start)
{
    struct py_source source = {0};
    enum py_outcome outcome;

    if (PyList_Check(unit)) {
        return py_answer_batch(unit, result);
    }
    outcome = py_answer((struct py_event *)unit, result, &source);
    if (outcome != PY_STREAM) {
        return outcome == PY_GONE ? -1 : 0;
    }
    if (py_source_is_async(&source)) {
        start->source = source;
        return 0;
    }
    return py_stream_run((struct py_event *)unit, &source);
}

/* Runs one unit (taken). When it can go on only in a loop it is in *start. 0; -1 with an exception:
 * the processor is gone. */
static int run_unit(PyObject *unit, struct py_start *start)
{
    PyObject *result;
    int rc = py_unit_is_cancelled(unit);

    if (rc == 0) {
        py_worker.current = PyList_Check(unit) ? PyList_GET_ITEM(unit, 0) : unit;
        result = py_worker_call(unit);
        if (result != NULL && py_is_awaitable(result)) {
            start->awaitable = result;
        } else {
            rc = answer_unit(unit, result, start);
            Py_XDECREF(result);
        }
        py_worker.current = NULL;
        if (start->awaitable != NULL || start->source.body != NULL) {
            start->unit = unit;
            return rc;
        }
    }
    py_unit_end(unit);
    return rc < 0 ? -1 : 0;
}

/* ---- The loop ---- */

static int sleep_until_ready(void)
{
    struct py_link *link = &py_worker.link;
    int ready;

    py_link_announce(link);
    py_link_release(link, false);
    if (py_tell_drained() < 0) {
        return -1;
    }
    if (py_worker.draining) {
        py_link_scan(link); /* events stay where they are */
    }
    ready = py_link_sleep(link, py_worker.draining ? link->seen : link->next, -1);
    py_worker.now_ns = 0;
    return ready < 0 ? -1 : py_worker_control(ready);
}

void py_announce_emit(void)
{
    if (py_worker.usual_ns > quick_ns || py_worker.current == NULL ||
        py_link_is_late(&py_worker.link, py_clock_ns())) {
        py_link_announce(&py_worker.link);
    }
}

/* After a unit that began at begin_ns. */
static int look_around(uint64_t begin_ns)
{
    struct py_link *link = &py_worker.link;

    py_link_release(link, true);
    if (py_link_is_late(link, py_worker.now_ns)) {
        py_link_announce(link);
    }
    if (py_worker.now_ns - begin_ns > quick_ns) {
        py_link_scan(link); /* what waits may have been cancelled meanwhile */
    }
    if (py_worker.now_ns - py_worker.looked_ns < control_ns) {
        return 0;
    }
    py_worker.looked_ns = py_worker.now_ns;
    return py_worker_control(py_link_poll(link));
}

static int run_plain(struct py_start *start)
{
    while (!py_worker.stop && start->unit == NULL) {
        const struct st_wire_record *record = NULL;
        uint64_t begin_ns;
        PyObject *unit;

        if (!py_worker.draining) {
            record = py_link_take(&py_worker.link);
        }
        if (record == NULL) {
            if (PyErr_Occurred() || sleep_until_ready() < 0) {
                return -1;
            }
            continue;
        }
        unit = py_unit_begin(record);
        if (unit == NULL && !PyErr_Occurred()) {
            continue;
        }
        begin_ns = py_worker.now_ns;
        if (unit == NULL || run_unit(unit, start) < 0 || look_around(begin_ns) < 0) {
            return -1;
        }
    }
    return 0;
}

int py_worker_run(void)
{
    struct py_start start = {0};
    int rc = 0;

    py_worker.link.other = other_record;
    last_begun = 0;
    cancelled_count = 0;
    memset(cancelled, 0, sizeof cancelled);
    if (!py_worker.is_async) {
        rc = run_plain(&start);
    }
    if (rc == 0 && (py_worker.is_async || start.unit != NULL)) {
        rc = py_async_run(&start);
    }
    py_link_announce(&py_worker.link);
    Py_CLEAR(spare);
    return rc;
}
