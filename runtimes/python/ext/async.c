/* Handlers that are coroutines.
 *
 * All of them run inside asyncio's loop, which watches the link's epoll descriptor. A coroutine's
 * first part is driven right here, without a turn of the loop; most coroutines that do not wait
 * for anything end there. For that part asyncio.current_task() is a spare task: a real one, whose
 * coroutine is an object of ours (Call) and has nothing to do yet. When the handler's coroutine
 * suspends, the spare task takes it over: its next step yields what the coroutine has yielded.
 *
 * A task that has only been asked who it is serves the next event, too. Each event has a context of
 * its own, in which all its steps run. */
#include "runtimes/python/ext/ext_int.h"

/* Events that are begun before other callbacks of the loop have their turn. */
enum { PUMP_MAX = 128 };

struct call {
    PyObject_HEAD PyObject *unit; /* the event, or the list of a batch; NULL: nothing to do */
    PyObject *coroutine;          /* or an iterator, of something else that can be awaited */
    PyObject *context;            /* contextvars.Context */
    PyObject *pending;            /* what the coroutine has yielded and the task has not got yet */
    PyObject *task;               /* NULL when it has ended */
    PyObject *parked;             /* the future that the task waits for meanwhile */
    struct py_stream *stream;
    bool handed; /* to the task */
};

PyTypeObject *py_call_type;

static PyObject *current_var;                          /* contextvars.ContextVar of the event */
static PyObject *task_class, *enter_task, *leave_task; /* of asyncio */
static PyObject *task_options;                         /* {"loop": the loop} */
static struct call *spare;
static bool tick_is_due;

static int schedule_tick(void);

PyObject *py_async_current(void)
{
    PyObject *event = NULL;

    if (py_worker.current != NULL || current_var == NULL) {
        return py_worker.current;
    }
    if (PyContextVar_Get(current_var, NULL, &event) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(event); /* the context holds it */
    return event;
}

static struct py_event *first_event(const struct call *call)
{
    return (struct py_event *)(PyList_Check(call->unit) ? PyList_GET_ITEM(call->unit, 0)
                                                        : call->unit);
}

static void call_dealloc(PyObject *self)
{
    struct call *call = (struct call *)self;
    PyTypeObject *type = Py_TYPE(self);

    Py_CLEAR(call->unit);
    Py_CLEAR(call->coroutine);
    Py_CLEAR(call->context);
    Py_CLEAR(call->pending);
    Py_CLEAR(call->task);
    Py_CLEAR(call->parked);
    Py_CLEAR(call->stream);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- Steps of the coroutine; the event's context is entered ---- */

enum step { SUSPENDED, ENDED };

/* The processor is gone: an exception is set. */
static void give_up(void)
{
    PyErr_Clear();
    py_worker.stop = true;
    (void)schedule_tick();
}

/* Makes the coroutine that sends the pieces of *source. False: it is answered otherwise. */
static bool begin_stream(struct call *call, struct py_source *source)
{
    struct py_event *ev = first_event(call);

    call->stream = py_stream_new(ev, source);
    call->coroutine = call->stream != NULL ? py_stream_coroutine(call->stream, call->task) : NULL;
    if (call->coroutine != NULL) {
        return true;
    }
    Py_CLEAR(call->stream);
    if (py_answer_error(ev) < 0) {
        give_up();
    }
    return false;
}

/* The handler's result (NULL: the exception that is set). True: another coroutine sends it. */
static bool answer(struct call *call, PyObject *result)
{
    struct py_event *ev = first_event(call);
    struct py_source source = {0};
    enum py_outcome outcome;

    if (PyList_Check(call->unit)) {
        outcome = py_answer_batch(call->unit, result) < 0 ? PY_GONE : PY_DONE;
    } else {
        outcome = py_answer(ev, result, &source);
    }
    if (outcome == PY_STREAM) {
        return begin_stream(call, &source);
    }
    if (outcome == PY_GONE) {
        give_up();
    }
    return false;
}

/* Goes on with what the last send() or throw() gave, until the coroutine suspends or all is
 * answered. Takes `out`. */
static enum step go_on(struct call *call, PySendResult status, PyObject *out)
{
    for (;;) {
        bool more = false;

        if (status == PYGEN_NEXT) {
            call->pending = out;
            return SUSPENDED;
        }
        if (py_worker.forked) {
            py_leave_fork(status == PYGEN_ERROR);
        }
        Py_CLEAR(call->coroutine);
        if (call->stream != NULL) {
            if (py_stream_end(call->stream, status == PYGEN_ERROR) < 0) {
                give_up();
            }
            Py_CLEAR(call->stream);
        } else {
            more = answer(call, out);
        }
        Py_XDECREF(out);
        if (!more) {
            return ENDED;
        }
        status = PyIter_Send(call->coroutine, Py_None, &out);
    }
}

static enum step send_in(struct call *call, PyObject *value)
{
    PyObject *out = NULL;
    PySendResult status = PyIter_Send(call->coroutine, value, &out);

    return go_on(call, status, out);
}

/* The value of a StopIteration that is set; another exception stays. */
static PySendResult stop_value(PyObject **out)
{
    *out = NULL;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = py_take_exception();
    *out = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return *out != NULL ? PYGEN_RETURN : PYGEN_ERROR;
}

static enum step throw_in(struct call *call, PyObject *args)
{
    PyObject *throw = PyObject_GetAttrString(call->coroutine, "throw");
    PyObject *out = throw != NULL ? PyObject_Call(throw, args, NULL) : NULL;
    PySendResult status = out != NULL ? PYGEN_NEXT : stop_value(&out);

    Py_XDECREF(throw);
    return go_on(call, status, out);
}

/* ---- Begin and end of a unit ---- */

static void finish_unit(struct call *call)
{
    PyObject *unit = call->unit;

    call->unit = NULL;
    Py_CLEAR(call->context); /* it refers to the event */
    py_unit_end(unit);
}

/* A task for the next event, or NULL with an exception. */
static struct call *get_call(void)
{
    struct call *call = spare;

    if (call != NULL) {
        spare = NULL;
        return call;
    }
    call = PyObject_New(struct call, py_call_type);
    if (call == NULL) {
        return NULL;
    }
    memset((char *)call + sizeof(PyObject), 0, sizeof *call - sizeof(PyObject));
    PyObject *args = PyTuple_Pack(1, call);
    call->task = args != NULL ? PyObject_Call(task_class, args, task_options) : NULL;
    Py_XDECREF(args);
    if (call->task == NULL) {
        Py_DECREF(call);
        return NULL;
    }
    return call;
}

/* The task is to step: it has a coroutine now, or is to end. */
static int wake_task(struct call *call)
{
    PyObject *parked = call->parked, *none;

    call->handed = true;
    if (parked == NULL) {
        return 0; /* its first step is due anyway */
    }
    call->parked = NULL;
    none = PyObject_CallMethod(parked, "set_result", "O", Py_None);
    if (none == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* it was cancelled, and so the task */
        none = Py_NewRef(Py_None);
    }
    Py_XDECREF(none);
    Py_DECREF(parked);
    return none != NULL ? 0 : -1;
}

/* Whether the handler has left something behind in its task. */
static bool is_touched(const struct call *call, Py_ssize_t references)
{
    bool touched = Py_REFCNT(call->task) != references;
#if PY_VERSION_HEX >= 0x030b0000
    if (!touched) {
        PyObject *count = PyObject_CallMethod(call->task, "cancelling", NULL);
        touched = count == NULL || PyLong_AsLong(count) != 0;
        PyErr_Clear();
        Py_XDECREF(count);
    }
#endif
    return touched;
}

/* Nothing is left to do for the call: its task serves another event, or ends. Takes the call. */
static int put_call(struct call *call, bool reusable)
{
    int rc = 0;

    if (reusable && spare == NULL && !py_worker.stop) {
        spare = call;
        return 0;
    }
    rc = wake_task(call);
    Py_CLEAR(call->task);
    Py_DECREF(call);
    return rc;
}

/* Calls the handler, or goes on with what it gave back before. */
static enum step first_step(struct call *call, struct py_start *start)
{
    PyObject *result;

    if (start != NULL && start->source.body != NULL) {
        return begin_stream(call, &start->source) ? send_in(call, Py_None) : ENDED;
    }
    result = start != NULL ? start->awaitable : py_worker_call(call->unit);
    if (result != NULL && py_is_awaitable(result)) {
        if (PyCoro_CheckExact(result)) {
            call->coroutine = result;
            return send_in(call, Py_None);
        }
        call->coroutine = Py_TYPE(result)->tp_as_async->am_await(result);
        Py_DECREF(result);
        if (call->coroutine != NULL) {
            return send_in(call, Py_None);
        }
        result = NULL;
    }
    return go_on(call, result != NULL ? PYGEN_RETURN : PYGEN_ERROR, result);
}

/* The first step, as the spare task. -1 with an exception: nothing can be run at all. */
static int run_first(struct call *call, struct py_start *start, enum step *step)
{
    PyObject *args[] = {NULL, py_worker.loop, call->task};
    PyObject *none, *token;

    call->context = PyContext_CopyCurrent();
    if (call->context == NULL || PyContext_Enter(call->context) < 0) {
        return -1;
    }
    token = PyContextVar_Set(current_var, (PyObject *)first_event(call));
    Py_XDECREF(token);
    none = PyObject_Vectorcall(enter_task, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(none);
    if (token == NULL || none == NULL) {
        return -1;
    }
    *step = first_step(call, start);
    none = PyObject_Vectorcall(leave_task, args + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    Py_XDECREF(none);
    return none == NULL || PyContext_Exit(call->context) < 0 ? -1 : 0;
}

/* Runs the unit (taken) as far as it goes; start: its handler was called before, or NULL. */
static int begin_unit(PyObject *unit, struct py_start *start)
{
    struct call *call = get_call();
    Py_ssize_t references;
    enum step step;

    if (call == NULL) {
        Py_DECREF(unit);
        return -1;
    }
    call->unit = unit;
    references = Py_REFCNT(call->task);
    if (run_first(call, start, &step) < 0) {
        return -1;
    }
    if (step == ENDED) {
        finish_unit(call);
        return put_call(call, !is_touched(call, references));
    }
    py_unit_copy(unit);
    py_worker.now_ns = 0; /* nobody has looked at the clock */
    py_worker.running++;
    if (wake_task(call) < 0) {
        return -1;
    }
    Py_DECREF(call); /* its task has it */
    return 0;
}

/* ---- The object that tasks run ---- */

/* A step of the task ended so. */
static PySendResult after_step(struct call *call, enum step step, PyObject **out)
{
    if (step == SUSPENDED) {
        *out = call->pending;
        call->pending = NULL;
        return PYGEN_NEXT;
    }
    finish_unit(call);
    Py_CLEAR(call->task);
    py_worker.running--;
    if (py_link_is_late(&py_worker.link, py_worker.now_ns)) {
        py_link_announce(&py_worker.link);
    }
    *out = NULL;
    if (schedule_tick() < 0) {
        return PYGEN_ERROR;
    }
    *out = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* The task has nothing to do: it waits for a future. */
static PySendResult park(struct call *call, PyObject **out)
{
    PyObject *iterator;

    *out = NULL;
    Py_XSETREF(call->parked, PyObject_CallMethod(py_worker.loop, "create_future", NULL));
    iterator = call->parked != NULL ? PyObject_GetIter(call->parked) : NULL;
    if (iterator != NULL) {
        *out = PyIter_Next(iterator);
        Py_DECREF(iterator);
    }
    return *out != NULL ? PYGEN_NEXT : PYGEN_ERROR;
}

static PySendResult call_send(PyObject *self, PyObject *value, PyObject **out)
{
    struct call *call = (struct call *)self;
    enum step step;

    if (call->unit == NULL) {
        if (call->handed) {
            *out = Py_NewRef(Py_None);
            return PYGEN_RETURN;
        }
        return park(call, out);
    }
    if (!call->handed) {
        return park(call, out); /* its first step: the handler's coroutine runs another loop */
    }
    if (call->pending != NULL) {
        return after_step(call, SUSPENDED, out);
    }
    if (PyContext_Enter(call->context) < 0) {
        *out = NULL;
        return PYGEN_ERROR;
    }
    step = send_in(call, value);
    (void)PyContext_Exit(call->context);
    return after_step(call, step, out);
}

/* As methods have it: a value, or NULL with StopIteration or another exception. */
static PyObject *as_method(PySendResult status, PyObject *out)
{
    if (status == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, out);
        Py_DECREF(out);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        return NULL;
    }
    return out;
}

static PyObject *call_send_method(PyObject *self, PyObject *value)
{
    PyObject *out;
    PySendResult status = call_send(self, value, &out);

    return as_method(status, out);
}

static PyObject *call_next(PyObject *self)
{
    return call_send_method(self, Py_None);
}

static void set_exception_of(PyObject *args)
{
    PyObject *type = PyTuple_GET_ITEM(args, 0);
    PyObject *value = PyTuple_GET_SIZE(args) > 1 ? PyTuple_GET_ITEM(args, 1) : NULL;

    if (PyExceptionInstance_Check(type)) {
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    } else {
        PyErr_SetObject(type, value);
    }
}

static PyObject *call_throw(PyObject *self, PyObject *args)
{
    struct call *call = (struct call *)self;
    PyObject *out = NULL, *none;
    enum step step;

    if (PyTuple_GET_SIZE(args) < 1) {
        PyErr_SetString(PyExc_TypeError, "throw() needs an exception");
        return NULL;
    }
    if (call->unit == NULL || !call->handed) {
        if (spare == call) { /* somebody cancelled all tasks */
            spare = NULL;
            Py_CLEAR(call->task);
            Py_DECREF(call);
        }
        set_exception_of(args);
        return NULL;
    }
    if (call->pending != NULL) { /* the task has not begun to wait for it */
        none = PyObject_CallMethod(call->pending, "cancel", NULL);
        Py_XDECREF(none);
        PyErr_Clear();
        Py_CLEAR(call->pending);
    }
    if (PyContext_Enter(call->context) < 0) {
        return NULL;
    }
    step = throw_in(call, args);
    (void)PyContext_Exit(call->context);
    PySendResult status = after_step(call, step, &out);
    return as_method(status, out);
}

static PyObject *call_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    struct call *call = (struct call *)self;

    if (call->coroutine != NULL) {
        return PyObject_CallMethod(call->coroutine, "close", NULL);
    }
    Py_RETURN_NONE;
}

static PyObject *call_self(PyObject *self)
{
    return Py_NewRef(self);
}

static PyMethodDef call_methods[] = {{"send", call_send_method, METH_O, NULL},
                                     {"throw", call_throw, METH_VARARGS, NULL},
                                     {"close", call_close, METH_NOARGS, NULL},
                                     {NULL, NULL, 0, NULL}};

static PyType_Slot call_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("The coroutine of a task that runs a handler's.")},
    {Py_tp_dealloc, (void *)call_dealloc},
    {Py_tp_iter, (void *)call_self},
    {Py_tp_iternext, (void *)call_next},
    {Py_am_await, (void *)call_self},
    {Py_am_send, (void *)call_send},
    {Py_tp_methods, call_methods},
    {0, NULL}};

PyType_Spec py_call_spec = {
    .name = "stator._native.Call",
    .basicsize = sizeof(struct call),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/* ---- The loop ---- */

static PyObject *tick_function, *ready_function;
static PyObject *failure; /* exception that ends run() */

static int schedule_tick(void)
{
    PyObject *handle;

    if (tick_is_due) {
        return 0;
    }
    handle = PyObject_CallMethod(py_worker.loop, "call_soon", "O", tick_function);
    Py_XDECREF(handle);
    tick_is_due = handle != NULL;
    return handle != NULL ? 0 : -1;
}

static int stop_loop(void)
{
    PyObject *none = PyObject_CallMethod(py_worker.loop, "stop", NULL);
    Py_XDECREF(none);
    return none != NULL ? 0 : -1;
}

static int begin_record(const struct st_wire_record *record)
{
    PyObject *unit = py_unit_begin(record);
    int rc = unit != NULL ? py_unit_is_cancelled(unit) : -1;

    if (unit == NULL && !PyErr_Occurred()) {
        return 0;
    }
    if (rc == 1) {
        py_unit_end(unit);
    } else if (rc < 0 || begin_unit(unit, NULL) < 0) {
        return -1;
    }
    py_link_release(&py_worker.link, true);
    if (py_link_is_late(&py_worker.link, py_worker.now_ns)) {
        py_link_announce(&py_worker.link);
    }
    return 0;
}

static bool may_begin(void)
{
    return py_worker.running < py_worker.max_running && !py_worker.stop && !py_worker.draining;
}

/* Begins what there is and may run, at most so many. How many of those are left; -1 with an
 * exception. */
static int begin_records(int budget)
{
    for (; budget > 0 && may_begin(); budget--) {
        const struct st_wire_record *record = py_link_take(&py_worker.link);
        if (record == NULL) {
            return PyErr_Occurred() ? -1 : budget;
        }
        if (begin_record(record) < 0) {
            return -1;
        }
    }
    py_link_scan(&py_worker.link); /* what waits may have been cancelled */
    return budget;
}

/* Does all that there is to do now; the loop sleeps afterwards, or goes round. */
static int pump(void)
{
    struct py_link *link = &py_worker.link;
    int budget = PUMP_MAX;

    py_link_awake(link);
    py_worker.now_ns = 0;
    do {
        budget = begin_records(budget);
        if (budget < 0) {
            return -1;
        }
        py_link_release(link, false);
        py_link_announce(link);
        if (py_worker.stop) {
            return stop_loop();
        }
        if (py_worker.running == 0 && py_tell_drained() < 0) {
            return -1;
        }
        if (budget == 0) {
            return schedule_tick();
        }
    } while (!py_link_doze(link, may_begin() ? link->next : link->seen));
    return 0;
}

/* The end of a callback. The loop would only log an exception: it is kept for run_loop(). */
static PyObject *after_callback(int rc)
{
    if (rc < 0) {
        Py_XSETREF(failure, py_take_exception());
        py_worker.stop = true;
        if (stop_loop() < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static PyObject *on_tick(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    tick_is_due = false;
    return after_callback(pump());
}

static PyObject *on_ready(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int rc = py_worker_control(py_link_poll(&py_worker.link));

    return after_callback(rc < 0 ? rc : pump());
}

static struct py_start adopted;

/* The unit whose handler was called before there was a loop. */
static PyObject *on_adopt(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return after_callback(begin_unit(adopted.unit, &adopted));
}

static PyMethodDef adopt_def = {"stator_adopt", on_adopt, METH_NOARGS, NULL};
static PyMethodDef tick_def = {"stator_tick", on_tick, METH_NOARGS, NULL};
static PyMethodDef ready_def = {"stator_ready", on_ready, METH_NOARGS, NULL};

int py_async_init(void)
{
    current_var = PyContextVar_New("stator_event", NULL);
    tick_function = PyCFunction_New(&tick_def, NULL);
    ready_function = PyCFunction_New(&ready_def, NULL);
    return current_var != NULL && tick_function != NULL && ready_function != NULL ? 0 : -1;
}

static int find_asyncio(void)
{
    PyObject *asyncio = PyImport_ImportModule("asyncio.tasks");

    if (asyncio == NULL) {
        return -1;
    }
    Py_XSETREF(task_class, PyObject_GetAttrString(asyncio, "Task"));
    Py_XSETREF(enter_task, PyObject_GetAttrString(asyncio, "_enter_task"));
    Py_XSETREF(leave_task, PyObject_GetAttrString(asyncio, "_leave_task"));
    Py_DECREF(asyncio);
    if (py_worker.loop == NULL && py_worker.hooks.new_loop != NULL) {
        py_worker.loop = PyObject_CallNoArgs(py_worker.hooks.new_loop);
    }
    if (py_worker.loop == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "run() has got no loop");
        }
        return -1;
    }
    Py_XSETREF(task_options, Py_BuildValue("{sO}", "loop", py_worker.loop));
    return task_class != NULL && enter_task != NULL && leave_task != NULL && task_options != NULL
               ? 0
               : -1;
}

/* Leaves the loop as it was; it turns once more, so that the spare task ends. */
static void unwatch(void)
{
    PyObject *type, *value, *traceback, *none;

    PyErr_Fetch(&type, &value, &traceback);
    none = PyObject_CallMethod(py_worker.loop, "remove_reader", "i", py_worker.link.epoll_fd);
    Py_XDECREF(none);
    if (spare != NULL) {
        struct call *call = spare;
        spare = NULL;
        if (put_call(call, false) == 0 && stop_loop() == 0) {
            none = PyObject_CallMethod(py_worker.loop, "run_forever", NULL);
            Py_XDECREF(none);
        }
    }
    PyErr_Restore(type, value, traceback);
}

/* Runs the loop until the worker has to stop. SystemExit and KeyboardInterrupt of tasks and
 * callbacks of the handler's come out of it; the worker lives on. */
static int run_loop(void)
{
    for (;;) {
        PyObject *none = PyObject_CallMethod(py_worker.loop, "run_forever", NULL);
        if (none == NULL) {
            PyObject *exc = py_take_exception(), *mapped;
            mapped = PyObject_CallFunctionObjArgs(py_worker.hooks.map_error, exc, Py_None, NULL);
            Py_DECREF(exc);
            Py_XDECREF(mapped);
            if (mapped == NULL) {
                return -1;
            }
        }
        Py_XDECREF(none);
        if (failure != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(failure), failure);
            Py_CLEAR(failure);
            return -1;
        }
        if (py_worker.stop) {
            return 0;
        }
        if (schedule_tick() < 0) {
            return -1;
        }
    }
}

/* More events at once than Ready said: the handler had not looked like a coroutine. */
static int widen(void)
{
    size_t more = py_worker.max_running - 1;
    return more > 0 ? py_write_credit((uint32_t)more) : 0;
}

static int call_soon(PyMethodDef *function)
{
    PyObject *callback = PyCFunction_New(function, NULL);
    PyObject *handle =
        callback != NULL ? PyObject_CallMethod(py_worker.loop, "call_soon", "O", callback) : NULL;

    Py_XDECREF(callback);
    Py_XDECREF(handle);
    return handle != NULL ? 0 : -1;
}

int py_async_run(const struct py_start *start)
{
    PyObject *none;
    int rc = -1;

    tick_is_due = false;
    if (find_asyncio() < 0) {
        return -1;
    }
    adopted = *start;
    if (start->unit != NULL) {
        py_unit_copy(start->unit);
        if (call_soon(&adopt_def) < 0 || widen() < 0) {
            return -1;
        }
    }
    none = PyObject_CallMethod(py_worker.loop, "add_reader", "iO", py_worker.link.epoll_fd,
                               ready_function);
    Py_XDECREF(none);
    if (none != NULL && schedule_tick() == 0) {
        rc = run_loop();
        unwatch();
    }
    return rc;
}
