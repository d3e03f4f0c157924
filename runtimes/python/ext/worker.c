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
    py_worker.stop = what == STOP;
    return 0;
}

/* Nothing runs and nothing waits. */
static int tell_drained(void)
{
    PyObject *none;

    if (!py_worker.draining) {
        return 0;
    }
    py_worker.draining = false;
    none = PyObject_CallNoArgs(py_worker.hooks.drained);
    Py_XDECREF(none);
    return none != NULL ? 0 : -1;
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
        py_stream_cancel(record->seq);
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
        if (ev == NULL) {
            return NULL;
        }
    }
    if (py_worker.now_ns == 0) {
        py_worker.now_ns = py_clock_ns();
    }
    ev->begin_ns = py_worker.now_ns;
    if (py_worker.usual_ns > quick_ns) {
        py_link_announce(&py_worker.link);
    }
    return ev;
}

/* The result has left: keeps the object for the next event, or leaves it to those who hold it. */
static void end_event(struct py_event *ev)
{
    if (Py_REFCNT(ev) == 1 && ev->weak == NULL) {
        py_event_reset(ev, NULL);
        if (spare == NULL) {
            spare = ev;
            return;
        }
    }
    py_event_detach(ev);
    Py_DECREF(ev);
}

static bool is_awaitable(PyObject *result)
{
    return PyCoro_CheckExact(result) || (Py_TYPE(result)->tp_as_async != NULL &&
                                         Py_TYPE(result)->tp_as_async->am_await != NULL &&
                                         Py_TYPE(result)->tp_as_async->am_anext == NULL);
}

/* Runs one event. *awaitable: what the handler returned if it must be awaited, and then the event
 * is not over. 0; -1 with an exception: the processor is gone. */
static int run_event(struct py_event *ev, PyObject **awaitable)
{
    struct py_source source = {0};
    enum py_outcome outcome;
    PyObject *result;

    py_worker.current = (PyObject *)ev;
    result = py_worker_call((PyObject *)ev);
    if (result != NULL && is_awaitable(result)) {
        *awaitable = result;
        py_worker.current = NULL;
        return 0;
    }
    outcome = py_answer(ev, result, &source);
    Py_XDECREF(result);
    if (outcome == PY_STREAM && py_stream_run(ev, &source) < 0) {
        outcome = PY_GONE;
    }
    py_worker.current = NULL;
    end_event(ev);
    return outcome == PY_GONE ? -1 : 0;
}

/* ---- Batches ---- */

/* Events of the record, in a new list; NULL with an exception. */
static PyObject *batch_events(const struct st_wire_record *record)
{
    const struct st_wire_section *section = (const struct st_wire_section *)(record + 1);
    size_t count = (record->header_size - sizeof *record) / sizeof *section;
    PyObject *list = PyList_New(0);
    struct py_event *ev = NULL;

    for (size_t i = 0; list != NULL && i < count; i++) {
        if (record->kind == ST_WIRE_BATCH && section[i].id != ST_WIRE_RECORD) {
            continue;
        }
        ev = py_event_new(record->kind == ST_WIRE_BATCH
                              ? (const void *)((const char *)record + section[i].offset)
                              : record);
        if (ev == NULL || PyList_Append(list, (PyObject *)ev) < 0) {
            Py_CLEAR(list);
        } else {
            ev->begin_ns = py_worker.now_ns;
        }
        Py_XDECREF(ev);
        if (record->kind != ST_WIRE_BATCH) {
            break;
        }
    }
    if (list != NULL && PyList_GET_SIZE(list) > 0) {
        ((struct py_event *)PyList_GET_ITEM(list, PyList_GET_SIZE(list) - 1))->last_in_batch = true;
    }
    return list;
}

/* Answers each event with its part of `mapped`, or all of them with the exception that is set. */
static int answer_batch(PyObject *events, PyObject *mapped)
{
    Py_ssize_t count = PyList_GET_SIZE(events);
    PyObject *failure = NULL;
    int rc = 0;

    if (mapped != NULL && (!PyList_Check(mapped) || PyList_GET_SIZE(mapped) != count)) {
        PyErr_SetString(PyExc_TypeError, "a mapped batch is a list with a result for each event");
        mapped = NULL;
    }
    if (mapped == NULL) {
        failure = py_take_exception();
    }
    for (Py_ssize_t i = 0; rc == 0 && i < count; i++) {
        struct py_event *ev = (struct py_event *)PyList_GET_ITEM(events, i);
        if (failure != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(failure), failure);
            rc = py_answer_error(ev);
        } else {
            rc = py_answer_mapped(ev, PyList_GET_ITEM(mapped, i));
        }
    }
    Py_XDECREF(failure);
    return rc;
}

static void detach_all(PyObject *events, bool alone)
{
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(events); i++) {
        struct py_event *ev = (struct py_event *)PyList_GET_ITEM(events, i);
        if (!alone || Py_REFCNT(ev) > 1) {
            Py_INCREF(ev);
            py_event_detach(ev);
            Py_DECREF(ev);
        }
    }
}

int py_worker_batch(const struct st_wire_record *record)
{
    PyObject *events, *result = NULL, *mapped = NULL;
    int rc;

    if (py_worker.now_ns == 0) {
        py_worker.now_ns = py_clock_ns();
    }
    events = batch_events(record);
    if (events == NULL) {
        return -1;
    }
    result = py_worker_call(events);
    if (result != NULL) {
        mapped = PyObject_CallFunctionObjArgs(py_worker.hooks.map_batch, result, events, NULL);
    }
    rc = answer_batch(events, mapped);
    Py_XDECREF(mapped);
    Py_XDECREF(result);
    detach_all(events, Py_REFCNT(events) == 1);
    Py_DECREF(events);
    return rc;
}

/* ---- The loop ---- */

static int sleep_until_ready(void)
{
    struct py_link *link = &py_worker.link;
    int ready;

    py_link_announce(link);
    py_link_release(link, false);
    if (tell_drained() < 0) {
        return -1;
    }
    ready = py_link_sleep(link, link->next, -1);
    py_worker.now_ns = 0;
    return ready < 0 ? -1 : py_worker_control(ready);
}

/* After an event. */
static int look_around(void)
{
    struct py_link *link = &py_worker.link;

    py_link_release(link, true);
    if (py_link_is_late(link, py_worker.now_ns)) {
        py_link_announce(link);
    }
    if (py_worker.now_ns - py_worker.looked_ns < control_ns) {
        return 0;
    }
    py_worker.looked_ns = py_worker.now_ns;
    return py_worker_control(py_link_poll(link));
}

static int run_plain(struct py_event **first, PyObject **awaitable)
{
    while (!py_worker.stop && *awaitable == NULL) {
        const struct st_wire_record *record = py_link_take(&py_worker.link);
        int rc;

        if (record == NULL) {
            if (PyErr_Occurred() || sleep_until_ready() < 0) {
                return -1;
            }
            continue;
        }
        if (py_worker.batch || record->kind == ST_WIRE_BATCH) {
            rc = py_worker_batch(record);
        } else {
            *first = begin_event(record);
            rc = *first != NULL ? run_event(*first, awaitable) : -1;
        }
        if (rc < 0 || look_around() < 0) {
            return -1;
        }
    }
    return 0;
}

int py_worker_run(void)
{
    struct py_event *first = NULL;
    PyObject *awaitable = NULL;
    int rc = 0;

    py_worker.link.other = other_record;
    if (!py_worker.is_async || py_worker.batch) {
        rc = run_plain(&first, &awaitable);
    }
    if (rc == 0 && !py_worker.stop) {
        rc = py_async_run(awaitable != NULL ? first : NULL, awaitable);
    }
    py_link_announce(&py_worker.link);
    Py_CLEAR(spare);
    return rc;
}
