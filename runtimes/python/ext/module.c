/* The module stator._native. */
#include "runtimes/python/ext/ext_int.h"

#include <pthread.h>

/* Names of hooks that must be there, and of those that need not. */
static int find_hooks(PyObject *hooks)
{
    struct py_hooks *h = &py_worker.hooks;
    const struct {
        const char *name;
        PyObject **to;
        bool optional;
    } all[] = {
        {"map_result", &h->map_result, false}, {"map_error", &h->map_error, false},
        {"map_batch", &h->map_batch, true},    {"encode_json", &h->encode_json, true},
        {"parse_body", &h->parse_body, true},  {"open_cloud_event", &h->open_cloud_event, true},
        {"control", &h->control, false},       {"drained", &h->drained, false},
        {"started", &h->started, true},        {"new_loop", &h->new_loop, true},
        {"stream", &h->stream, true},          {"piece", &h->piece, true},
        {"forked", &h->forked, true},          {"response", &h->response, true},
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        PyObject *hook = PyObject_GetAttrString(hooks, all[i].name);
        if (hook == NULL && all[i].optional && PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            continue;
        }
        if (hook == NULL) {
            return -1;
        }
        if (hook == Py_None) {
            Py_CLEAR(hook);
        }
        *all[i].to = hook;
    }
    return 0;
}

static void forget_all(void)
{
    struct py_hooks *h = &py_worker.hooks;

    Py_CLEAR(h->map_result);
    Py_CLEAR(h->map_error);
    Py_CLEAR(h->map_batch);
    Py_CLEAR(h->encode_json);
    Py_CLEAR(h->parse_body);
    Py_CLEAR(h->open_cloud_event);
    Py_CLEAR(h->control);
    Py_CLEAR(h->drained);
    Py_CLEAR(h->started);
    Py_CLEAR(h->new_loop);
    Py_CLEAR(h->stream);
    Py_CLEAR(h->piece);
    Py_CLEAR(h->forked);
    Py_CLEAR(h->response);
    Py_CLEAR(py_worker.handler);
    Py_CLEAR(py_worker.context);
    Py_CLEAR(py_worker.triggers);
    Py_CLEAR(py_worker.loop);
}

static int start(void)
{
    PyObject *none;

    if (py_pool_open(py_worker.link.pool_size[ST_WIRE_UP]) < 0) {
        return -1;
    }
    if (py_worker.hooks.started != NULL) {
        none = PyObject_CallNoArgs(py_worker.hooks.started);
        Py_XDECREF(none);
        return none != NULL ? 0 : -1;
    }
    return 0;
}

PyDoc_STRVAR(
    run_doc,
    "run(handler, context, hooks, *, triggers=(), event_class=None, is_async=False, batch=False,\n"
    "    max_concurrency=1, loop=None, decode_strings=True, control_fd=3, memory_fd=5, wake_fd=6,\n"
    "    peer_fd=7)\n\n"
    "Hosts a worker's loop until it is told to stop. hooks has these functions:\n\n"
    "control()               messages are there: reads them; 0 go on, 1 drain, 2 stop\n"
    "drained()               after control() said drain: nothing runs any more\n"
    "started()               the memory is mapped, events may come\n"
    "map_result(value)       (status, content_type, headers, body[, outcome, retry_after_ms]);\n"
    "                        headers: dict, pairs or None; body: str, bytes or an iterator\n"
    "map_error(exc, event)   the same\n"
    "map_batch(value, events)    a list of the same, one for each event\n"
    "encode_json(dict)       its text\n"
    "parse_body(raw, content_type)   event.body where the type is application/json\n"
    "open_cloud_event(event) sets attributes of an event that is a cloud event\n"
    "new_loop()              an asyncio loop, when one is needed and none was given\n"
    "stream(stream, body)    a coroutine that sends an answer's pieces\n"
    "piece(value)            bytes of a streamed piece that is neither text nor bytes\n"
    "forked(status)          a process that a handler forked came back out of it\n\n"
    "and response, the class whose plain instances need no map_batch().");

static PyObject *run(PyObject *Py_UNUSED(module), PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"handler",     "context",        "hooks",      "triggers",
                            "event_class", "is_async",       "batch",      "max_concurrency",
                            "loop",        "decode_strings", "control_fd", "memory_fd",
                            "wake_fd",     "peer_fd",        NULL};
    PyObject *handler, *context, *hooks, *triggers = NULL, *event_class = Py_None;
    PyObject *loop = Py_None;
    int is_async = 0, batch = 0, decode = 1;
    int control_fd = ST_WIRE_FD_CONTROL, memory_fd = ST_WIRE_FD_MEMORY;
    int wake_fd = ST_WIRE_FD_WAKE_WORKER, peer_fd = ST_WIRE_FD_WAKE_PROCESSOR;
    Py_ssize_t most = 1;
    int rc = -1;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|$OOppnOpiiii", names, &handler, &context,
                                     &hooks, &triggers, &event_class, &is_async, &batch, &most,
                                     &loop, &decode, &control_fd, &memory_fd, &wake_fd, &peer_fd)) {
        return NULL;
    }
    if (py_worker.active) {
        PyErr_SetString(PyExc_RuntimeError, "run() is running");
        return NULL;
    }
    py_worker = (struct py_worker){.active = true,
                                   .thread = PyThread_get_thread_ident(),
                                   .is_async = is_async,
                                   .batch = batch,
                                   .decode_text = decode,
                                   .max_running = most > 0 ? (size_t)most : 1,
                                   .event_class = py_worker.event_class};
    py_worker.handler = Py_NewRef(handler);
    py_worker.context = Py_NewRef(context);
    py_worker.loop = loop != Py_None ? Py_NewRef(loop) : NULL;
    if (event_class != Py_None) {
        Py_XSETREF(py_worker.event_class, Py_NewRef(event_class));
    }
    py_worker.triggers = triggers != NULL ? PySequence_Tuple(triggers) : PyTuple_New(0);
    if (py_worker.triggers != NULL && find_hooks(hooks) == 0 &&
        py_link_open(&py_worker.link, memory_fd, wake_fd, peer_fd, control_fd) == 0) {
        rc = start() == 0 ? py_worker_run() : -1;
        py_link_close(&py_worker.link);
        py_pool_close();
    }
    forget_all();
    py_worker.active = false;
    return rc == 0 ? Py_NewRef(Py_None) : NULL;
}

static PyObject *current_event(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *event = py_async_current();
    return Py_NewRef(event != NULL ? event : Py_None);
}

static PyMethodDef functions[] = {
    {"run", (PyCFunction)(void (*)(void))run, METH_VARARGS | METH_KEYWORDS, run_doc},
    {"current_event", current_event, METH_NOARGS,
     PyDoc_STR("The event that the calling code is about, or None.")},
    {"emit", (PyCFunction)(void (*)(void))py_emit, METH_FASTCALL,
     PyDoc_STR("emit(event, name, topic, key, headers, value)\n\n"
               "Sends a message for an output; all are bytes or None, event is None for the one\n"
               "that runs. ValueError: no room; RuntimeError: not here, or not any more.")},
    {"fork_worker", py_fork_worker, METH_NOARGS,
     PyDoc_STR("fork_worker() -> (pid, go)\n\n"
               "Forks a child of this process's parent, which must adopt orphans. The child has a\n"
               "session of its own, ends with its parent, and gets (0, -1), but only once the\n"
               "caller has written a byte to the socket `go`; when that is closed before, it\n"
               "ends. All this is done when the socket has an end.")},
    {NULL, NULL, 0, NULL}};

static PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "stator._native",
                                 .m_doc = PyDoc_STR("The worker's loop. See run()."), .m_size = -1,
                                 .m_methods = functions};

static void in_child(void)
{
    py_worker.forked = true;
}

static PyTypeObject *make_type(PyObject *module, PyType_Spec *spec, const char *name)
{
    PyObject *type = PyType_FromSpec(spec);

    if (type != NULL && PyModule_AddObjectRef(module, name, type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

PyMODINIT_FUNC PyInit__native(void);

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);

    if (module == NULL) {
        return NULL;
    }
    py_event_type = make_type(module, &py_event_spec, "Event");
    py_stream_type = make_type(module, &py_stream_spec, "Stream");
    py_call_type = make_type(module, &py_call_spec, "Call");
    py_stream_cancelled = PyErr_NewException("stator._native.StreamCancelled", NULL, NULL);
    if (py_event_type == NULL || py_stream_type == NULL || py_call_type == NULL ||
        py_stream_cancelled == NULL ||
        PyModule_AddObjectRef(module, "StreamCancelled", py_stream_cancelled) < 0 ||
        PyModule_AddIntConstant(module, "PROTOCOL", ST_WIRE_PROTOCOL) < 0 ||
        pthread_atfork(NULL, NULL, in_child) != 0 || py_decode_init() < 0 || py_result_init() < 0 ||
        py_async_init() < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
