#include "runtimes/python/ext/ext_int.h"
PyTypeObject *py_call_type;
PyType_Spec py_call_spec = {.name = "stator._native.Call",
                            .basicsize = sizeof(PyObject),
                            .flags = Py_TPFLAGS_DEFAULT,
                            .slots = (PyType_Slot[]){{0, NULL}}};
int py_async_init(void)
{
    return 0;
}
PyObject *py_async_current(void)
{
    return py_worker.current;
}
int py_async_run(struct py_event *first, PyObject *coroutine)
{
    (void)first;
    (void)coroutine;
    PyErr_SetString(PyExc_NotImplementedError, "coroutines");
    return -1;
}
