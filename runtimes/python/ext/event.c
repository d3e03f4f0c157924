/* The type of events. */
#include "runtimes/python/ext/ext_int.h"

#include <structmember.h>

enum { FREE_MAX = 256 };

PyTypeObject *py_event_type;

static struct py_event *free_list[FREE_MAX];
static int free_count;

static uint64_t bit(enum py_field field)
{
    return UINT64_C(1) << field;
}

static void clear_values(struct py_event *ev)
{
    uint64_t have = ev->have;

    ev->have = 0;
    while (have != 0) {
        int i = __builtin_ctzll(have);
        have &= have - 1;
        Py_CLEAR(ev->value[i]);
    }
}

void py_event_reset(struct py_event *ev, const struct st_wire_record *record)
{
    clear_values(ev);
    Py_CLEAR(ev->dict);
    if (ev->copy != NULL) {
        PyMem_Free(ev->copy);
        ev->copy = NULL;
    }
    ev->record = record;
    ev->opened = ev->logged = ev->last_in_batch = ev->answered = false;
}

struct py_event *py_event_new(const struct st_wire_record *record)
{
    struct py_event *ev;

    if (free_count > 0) {
        ev = free_list[--free_count];
        (void)PyObject_Init((PyObject *)ev, py_event_type);
    } else {
        ev = PyObject_GC_New(struct py_event, py_event_type);
        if (ev == NULL) {
            return NULL;
        }
        memset((char *)ev + sizeof(PyObject), 0, sizeof *ev - sizeof(PyObject));
    }
    ev->record = record;
    ev->opened = ev->logged = ev->last_in_batch = ev->answered = false;
    PyObject_GC_Track(ev);
    return ev;
}

static int event_traverse(PyObject *self, visitproc visit, void *arg)
{
    struct py_event *ev = (struct py_event *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(ev->dict);
    for (uint64_t have = ev->have; have != 0; have &= have - 1) {
        Py_VISIT(ev->value[__builtin_ctzll(have)]);
    }
    return 0;
}

static int event_clear(PyObject *self)
{
    clear_values((struct py_event *)self);
    Py_CLEAR(((struct py_event *)self)->dict);
    return 0;
}

static void event_dealloc(PyObject *self)
{
    struct py_event *ev = (struct py_event *)self;
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    if (ev->weak != NULL) {
        PyObject_ClearWeakRefs(self);
    }
    py_event_reset(ev, NULL);
    if (free_count < FREE_MAX) {
        free_list[free_count++] = ev;
    } else {
        PyObject_GC_Del(self);
    }
    Py_DECREF(type);
}

void py_event_copy(struct py_event *ev)
{
    if (ev->copy != NULL || ev->record == NULL) {
        return;
    }
    ev->copy = PyMem_Malloc(ev->record->size);
    if (ev->copy == NULL) {
        Py_FatalError("no memory for an event");
    }
    memcpy(ev->copy, ev->record, ev->record->size);
    ev->record = ev->copy;
}

/* The value of a field, borrowed, made now if need be. NULL with an exception. */
static PyObject *field_value(struct py_event *ev, enum py_field field)
{
    if (!(ev->have & bit(field))) {
        if (!ev->opened) {
            ev->opened = true;
            if (py_worker.hooks.open_cloud_event != NULL && py_is_cloud_event(ev)) {
                PyObject *none =
                    PyObject_CallOneArg(py_worker.hooks.open_cloud_event, (PyObject *)ev);
                if (none == NULL) {
                    return NULL;
                }
                Py_DECREF(none);
                return field_value(ev, field);
            }
        }
        PyObject *value = py_decode(ev, field);
        if (value == NULL) {
            return NULL;
        }
        /* Decoding calls Python (a JSON hook), which may have set it meanwhile. */
        if (ev->have & bit(field)) {
            Py_XDECREF(ev->value[field]);
        }
        ev->value[field] = value;
        ev->have |= bit(field);
    }
    if (ev->value[field] == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the attribute was deleted");
    }
    return ev->value[field];
}

bool py_event_is_readable(struct py_event *ev)
{
    static const enum py_field texts[] = {PY_FIELD_TYPE,   PY_FIELD_PATH,   PY_FIELD_HEADER_LIST,
                                          PY_FIELD_FIELDS, PY_FIELD_METHOD, PY_FIELD_TARGET,
                                          PY_FIELD_QUERY,  PY_FIELD_SCHEME, PY_FIELD_CONTENT_TYPE,
                                          PY_FIELD_TOPIC};
    bool looked = py_is_ascii(ev);

    /* The type is there also to look whether it is a cloud event, and which. */
    for (size_t i = 0; i < (looked ? 1 : sizeof texts / sizeof *texts); i++) {
        if (field_value(ev, texts[i]) == NULL) {
            return false;
        }
    }
    return true;
}

void py_event_settle(struct py_event *ev)
{
    ev->answered = true;
    size_t n;

    if (Py_REFCNT(ev) == 1 || ev->record == NULL ||
        py_section(ev->record, ST_WIRE_BODY_REF, &n) == NULL) {
        return;
    }
    if (field_value(ev, PY_FIELD_RAW_BODY) == NULL) {
        PyErr_WriteUnraisable((PyObject *)ev);
    }
}

static PyObject *get_field(PyObject *self, void *closure)
{
    PyObject *value = field_value((struct py_event *)self, (enum py_field)(intptr_t)closure);
    Py_XINCREF(value);
    return value;
}

static int set_field(PyObject *self, PyObject *value, void *closure)
{
    struct py_event *ev = (struct py_event *)self;
    enum py_field field = (enum py_field)(intptr_t)closure;
    PyObject *old = ev->have & bit(field) ? ev->value[field] : NULL;

    Py_XINCREF(value);
    ev->value[field] = value;
    ev->have |= bit(field);
    Py_XDECREF(old);
    return 0;
}

static PyObject *get_class(PyObject *self, void *Py_UNUSED(closure))
{
    PyObject *cls =
        py_worker.event_class != NULL ? py_worker.event_class : (PyObject *)Py_TYPE(self);
    Py_INCREF(cls);
    return cls;
}

static PyObject *get_seq(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(((struct py_event *)self)->record->seq);
}

static PyObject *get_log_level(PyObject *self, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(py_event_meta((struct py_event *)self).log_level);
}

static PyObject *get_logged(PyObject *self, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((struct py_event *)self)->logged);
}

static int set_logged(PyObject *self, PyObject *value, void *Py_UNUSED(closure))
{
    int truth = value != NULL ? PyObject_IsTrue(value) : 0;

    if (truth < 0) {
        return -1;
    }
    ((struct py_event *)self)->logged = truth != 0;
    return 0;
}

/* The header dict may have been changed: the comparing way. */
static PyObject *find_header(PyObject *headers, PyObject *wanted)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;

    while (PyDict_Next(headers, &at, &key, &value)) {
        bool is_text = PyUnicode_Check(key) || PyBytes_Check(key);
        PyObject *lower = is_text ? PyObject_CallMethod(key, "lower", NULL) : NULL;
        int same = lower != NULL ? PyObject_RichCompareBool(lower, wanted, Py_EQ) : 0;
        Py_XDECREF(lower);
        if (PyErr_Occurred()) {
            return NULL;
        }
        if (same > 0) {
            Py_INCREF(value);
            return value;
        }
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(get_header_doc, "The value of a header, in whatever case its name is written; None "
                             "without it.");

static PyObject *get_header(PyObject *self, PyObject *name)
{
    struct py_event *ev = (struct py_event *)self;
    PyObject *value = NULL;
    const char *text;
    Py_ssize_t n = 0;

    if (ev->opened && !(ev->have & bit(PY_FIELD_HEADERS))) {
        if (PyBytes_Check(name)) {
            text = PyBytes_AS_STRING(name);
            n = PyBytes_GET_SIZE(name);
        } else {
            text = PyUnicode_AsUTF8AndSize(name, &n);
        }
        value = text != NULL ? py_decode_header(ev, text, (size_t)n) : NULL;
        return value != NULL || PyErr_Occurred() ? value : Py_NewRef(Py_None);
    }
    PyObject *headers = field_value(ev, PY_FIELD_HEADERS);
    PyObject *lower = headers != NULL ? PyObject_CallMethod(name, "lower", NULL) : NULL;
    if (lower == NULL || !PyDict_Check(headers)) {
        Py_XDECREF(lower);
        return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
    }
    Py_INCREF(headers);
    value = find_header(headers, lower);
    Py_DECREF(headers);
    Py_DECREF(lower);
    return value;
}

/* Calls the method of that name of the Python class, which takes whatever looks like an event. */
static PyObject *call_class(PyObject *self, const char *name)
{
    if (py_worker.event_class == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "run() has got no event_class");
        return NULL;
    }
    return PyObject_CallMethod(py_worker.event_class, name, "O", self);
}

static PyObject *to_json(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return call_class(self, "to_json");
}

static PyObject *event_repr(PyObject *self)
{
    return py_worker.event_class != NULL ? call_class(self, "__repr__")
                                         : PyUnicode_FromString("<stator event>");
}

static PyObject *from_json(PyObject *Py_UNUSED(cls), PyObject *text)
{
    if (py_worker.event_class == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "run() has got no event_class");
        return NULL;
    }
    return PyObject_CallMethod(py_worker.event_class, "from_json", "O", text);
}

static const char *const field_names[] = {
#define X(id, name) #name,
    PY_FIELDS(X)
#undef X
};

/* All attributes, for a copy that is no event of ours: pickle and copy make one of the Python
 * class. */
static PyObject *all_values(struct py_event *ev)
{
    PyObject *all = PyDict_New();

    for (int i = 0; all != NULL && i < PY_FIELD_COUNT; i++) {
        if ((ev->have & bit((enum py_field)i)) && ev->value[i] == NULL) {
            continue;
        }
        PyObject *value = field_value(ev, (enum py_field)i);
        if (value == NULL || PyDict_SetItemString(all, field_names[i], value) < 0) {
            Py_CLEAR(all);
        }
    }
    if (all != NULL && ev->dict != NULL && PyDict_Update(all, ev->dict) < 0) {
        Py_CLEAR(all);
    }
    return all;
}

static PyObject *event_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *all, *copyreg, *made = NULL;

    if (py_worker.event_class == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "run() has got no event_class");
        return NULL;
    }
    all = all_values((struct py_event *)self);
    copyreg = all != NULL ? PyImport_ImportModule("copyreg") : NULL;
    if (copyreg != NULL) {
        PyObject *make = PyObject_GetAttrString(copyreg, "__newobj__");
        made = make != NULL ? Py_BuildValue("N(O)O", make, py_worker.event_class, all) : NULL;
        Py_DECREF(copyreg);
    }
    Py_XDECREF(all);
    return made;
}

static PyGetSetDef event_getset[] = {
#define X(id, name) {#name, get_field, set_field, NULL, (void *)(intptr_t)PY_FIELD_##id},
    PY_FIELDS(X)
#undef X
        {"__class__", get_class, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {"_seq", get_seq, NULL, PyDoc_STR("Its number on this worker."), NULL},
    {"_log_level", get_log_level, NULL,
     PyDoc_STR("Least level that its client asked for (0 debug .. 3 error); 255: none."), NULL},
    {"_logged", get_logged, set_logged,
     PyDoc_STR("Set it when a log message about the event was written."), NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef event_methods[] = {
    {"get_header", get_header, METH_O, get_header_doc},
    {"to_json", to_json, METH_NOARGS, PyDoc_STR("All of it as JSON; bytes in base64.")},
    {"from_json", from_json, METH_O | METH_STATIC,
     PyDoc_STR("The event of a JSON text as to_json() writes it.")},
    {"__reduce__", event_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL}};

static PyMemberDef event_members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(struct py_event, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(struct py_event, weak), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot event_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("An event of the processor; attributes are made when they are "
                                  "read first. See stator.Event.")},
    {Py_tp_dealloc, (void *)event_dealloc},
    {Py_tp_traverse, (void *)event_traverse},
    {Py_tp_clear, (void *)event_clear},
    {Py_tp_repr, (void *)event_repr},
    {Py_tp_getset, event_getset},
    {Py_tp_methods, event_methods},
    {Py_tp_members, event_members},
    {0, NULL}};

PyType_Spec py_event_spec = {
    .name = "stator._native.Event",
    .basicsize = sizeof(struct py_event),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = event_slots,
};
