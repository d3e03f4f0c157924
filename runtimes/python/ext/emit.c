/* Messages for outputs: EMIT records. */
#include "runtimes/python/ext/ext_int.h"

enum { PART_NAME, PART_TOPIC, PART_KEY, PART_HEADERS, PART_VALUE, PARTS };

struct part {
    const char *bytes;
    size_t len;
    uint16_t id;
    bool there;
};

static size_t round_up(size_t n)
{
    return (n + ST_WIRE_ALIGN - 1) & ~(size_t)(ST_WIRE_ALIGN - 1);
}

static PyObject *refuse(PyObject *type, const char *text)
{
    PyErr_SetString(type, text);
    return NULL;
}

/* The event that a message belongs to: the one that is given, or the one that runs. NULL with an
 * exception. */
static struct py_event *event_of(PyObject *given)
{
    PyObject *event = given != Py_None ? given : py_async_current();

    if (!py_worker.active || py_worker.thread != PyThread_get_thread_ident()) {
        (void)refuse(PyExc_RuntimeError,
                     "emit() is for the thread that runs the handler, and only there");
        return NULL;
    }
    if (event == NULL) {
        (void)refuse(PyExc_RuntimeError, "nothing can be emitted outside an event");
        return NULL;
    }
    if (!PyObject_TypeCheck(event, py_event_type)) {
        PyErr_Format(PyExc_TypeError, "event: one of this worker's events expected, not %.100s",
                     Py_TYPE(event)->tp_name);
        return NULL;
    }
    if (((struct py_event *)event)->answered || ((struct py_event *)event)->record == NULL) {
        (void)refuse(PyExc_RuntimeError, "the event was answered already");
        return NULL;
    }
    return (struct py_event *)event;
}

/* bytes or None. */
static bool read_part(struct part *part, uint16_t id, PyObject *value)
{
    part->id = id;
    part->there = value != Py_None;
    if (!part->there) {
        return true;
    }
    if (!PyBytes_Check(value)) {
        (void)refuse(PyExc_TypeError, "bytes expected");
        return false;
    }
    part->bytes = PyBytes_AS_STRING(value);
    part->len = (size_t)PyBytes_GET_SIZE(value);
    return true;
}

/* A value that the record does not take goes to the pool. False with an exception: no room. */
static bool place_value(struct part *value, size_t others, struct st_wire_ref *ref)
{
    struct py_link *link = &py_worker.link;

    if (value->len > ST_WIRE_INLINE_BODY) {
        if (!py_pool_take(value->len, ref)) {
            py_link_scan(link); /* the processor may have given some back */
            if (!py_pool_take(value->len, ref)) {
                ref->length = 0;
            }
        }
        if (ref->length != 0) {
            memcpy(link->pool[ST_WIRE_UP] + ref->offset, value->bytes, value->len);
            *value = (struct part){(const char *)ref, sizeof *ref, ST_WIRE_BODY_REF, true};
        }
    }
    if (others + value->len + 256 <= py_link_max_record(link)) {
        return true;
    }
    PyErr_Format(PyExc_ValueError, "no room for a message of %zu bytes", others + value->len);
    return false;
}

static int write_emit(uint64_t seq, uint8_t flags, const struct part *parts)
{
    struct py_link *link = &py_worker.link;
    size_t sections = 0, bytes = 0, header, at;
    struct st_wire_record *record;
    struct st_wire_section *section;

    for (size_t i = 0; i < PARTS; i++) {
        sections += parts[i].there;
        bytes += parts[i].len;
    }
    header = sizeof *record + sections * sizeof *section;
    at = round_up(header);
    record = (struct st_wire_record *)py_link_reserve(link, round_up(at + bytes));
    if (record == NULL) {
        return -1;
    }
    *record = (struct st_wire_record){.size = (uint32_t)round_up(at + bytes),
                                      .header_size = (uint16_t)header,
                                      .kind = ST_WIRE_EMIT,
                                      .flags = flags,
                                      .seq = seq};
    section = (struct st_wire_section *)(record + 1);
    for (size_t i = 0; i < PARTS; i++) {
        if (!parts[i].there) {
            continue;
        }
        *section++ = (struct st_wire_section){
            .id = parts[i].id, .offset = (uint32_t)at, .length = (uint32_t)parts[i].len};
        if (parts[i].len != 0) {
            memcpy((char *)record + at, parts[i].bytes, parts[i].len);
        }
        at += parts[i].len;
    }
    py_link_commit(link, record->size, py_worker.now_ns);
    py_announce_emit();
    return 0;
}

PyObject *py_emit(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    static const uint16_t ids[PARTS] = {ST_WIRE_NAME, ST_WIRE_TOPIC, ST_WIRE_KEY, ST_WIRE_HEADERS,
                                        ST_WIRE_BODY};
    struct part parts[PARTS] = {{NULL, 0, 0, false}};
    struct st_wire_ref ref = {0};
    struct py_event *ev;
    size_t others = 0;

    if (count != PARTS + 1) {
        return refuse(PyExc_TypeError, "emit(event, name, topic, key, headers, value)");
    }
    ev = event_of(args[0]);
    if (ev == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < PARTS; i++) {
        if (!read_part(&parts[i], ids[i], args[i + 1])) {
            return NULL;
        }
        others += i != PART_VALUE ? parts[i].len : 0;
    }
    if (!place_value(&parts[PART_VALUE], others, &ref) ||
        write_emit(ev->record->seq, args[PARTS] == Py_None ? ST_WIRE_NO_VALUE : 0, parts) < 0) {
        if (parts[PART_VALUE].id == ST_WIRE_BODY_REF) {
            py_pool_free(&ref);
        }
        return NULL;
    }
    return Py_NewRef(Py_None);
}
