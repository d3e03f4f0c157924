/* Attributes out of records. */
#include "runtimes/python/ext/ext_int.h"

#include <datetime.h>
#include <strings.h>

enum {
    NAME_CACHE = 256, /* header names, one a place */
    KEPT_NAME = 64    /* bytes of a name that is kept */
};

struct cached_name {
    PyObject *text; /* canonical; NULL: free place */
    uint8_t length;
    char raw[KEPT_NAME]; /* as it came */
};

static struct cached_name names[NAME_CACHE];
static PyObject *empty_bytes, *empty_text;

static const char *const method_texts[] = {"GET",    "POST",  "PUT",     "HEAD",
                                           "DELETE", "PATCH", "OPTIONS", "TRACE"};
enum { METHODS = sizeof method_texts / sizeof *method_texts };
static PyObject *methods[METHODS];

const char *py_section(const struct st_wire_record *record, uint16_t id, size_t *n)
{
    const struct st_wire_section *section = (const struct st_wire_section *)(record + 1);
    size_t count = (record->header_size - sizeof *record) / sizeof *section;

    for (size_t i = 0; i < count; i++) {
        if (section[i].id == id) {
            if (section[i].offset > record->size ||
                section[i].length > record->size - section[i].offset) {
                break;
            }
            *n = section[i].length;
            return (const char *)record + section[i].offset;
        }
    }
    *n = 0;
    return NULL;
}

struct st_wire_event py_event_meta(const struct py_event *ev)
{
    struct st_wire_event meta = {.shard = -1, .log_level = 255};
    size_t n;
    const char *bytes = py_section(ev->record, ST_WIRE_META, &n);

    if (bytes != NULL) {
        memcpy(&meta, bytes, n < sizeof meta ? n : sizeof meta);
    }
    return meta;
}

/* Text of the wire is UTF-8; an attribute with other bytes raises UnicodeDecodeError. */
static PyObject *text_of(const char *bytes, size_t n)
{
    if (n == 0) {
        return Py_NewRef(py_worker.decode_text ? empty_text : empty_bytes);
    }
    return py_worker.decode_text ? PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)n, NULL)
                                 : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)n);
}

static PyObject *section_text(const struct py_event *ev, uint16_t id)
{
    size_t n;
    const char *bytes = py_section(ev->record, id, &n);

    return text_of(bytes, n);
}

static PyObject *decode_method(const struct py_event *ev)
{
    size_t n;
    const char *bytes = py_section(ev->record, ST_WIRE_METHOD, &n);

    for (int i = 0; py_worker.decode_text && i < METHODS; i++) {
        if (strlen(method_texts[i]) == n && memcmp(method_texts[i], bytes, n) == 0) {
            return Py_NewRef(methods[i]);
        }
    }
    return section_text(ev, ST_WIRE_METHOD);
}

static PyObject *decode_path(const struct py_event *ev)
{
    size_t n;

    if (py_section(ev->record, ST_WIRE_PATH, &n) == NULL || n == 0) {
        return text_of("/", 1);
    }
    return section_text(ev, ST_WIRE_PATH);
}

/* The body's bytes, in the record or in the pool. */
static const char *body_bytes(const struct py_event *ev, size_t *n)
{
    struct st_wire_ref ref;
    const char *bytes = py_section(ev->record, ST_WIRE_BODY, n);

    if (bytes != NULL) {
        return bytes;
    }
    bytes = py_section(ev->record, ST_WIRE_BODY_REF, n);
    if (bytes == NULL || *n < sizeof ref) {
        *n = 0;
        return NULL;
    }
    memcpy(&ref, bytes, sizeof ref);
    uint64_t size = py_worker.link.pool_size[ST_WIRE_DOWN];
    if (ref.offset > size || ref.length > size - ref.offset) {
        *n = 0;
        return NULL;
    }
    *n = (size_t)ref.length;
    return py_worker.link.pool[ST_WIRE_DOWN] + ref.offset;
}

static PyObject *decode_raw_body(struct py_event *ev)
{
    size_t n;
    const char *bytes;

    if ((ev->have & (UINT64_C(1) << PY_FIELD_RAW_BODY)) && ev->value[PY_FIELD_RAW_BODY] != NULL) {
        return Py_NewRef(ev->value[PY_FIELD_RAW_BODY]);
    }
    bytes = body_bytes(ev, &n);
    return n == 0 ? Py_NewRef(empty_bytes) : PyBytes_FromStringAndSize(bytes, (Py_ssize_t)n);
}

static PyObject *decode_body(struct py_event *ev)
{
    static const char json[] = "application/json";
    size_t n;
    const char *type = py_section(ev->record, ST_WIRE_CONTENT_TYPE, &n);
    bool is_json = n == sizeof json - 1 && memcmp(type, json, n) == 0;
    PyObject *raw = decode_raw_body(ev);

    if (raw == NULL || !is_json || PyBytes_GET_SIZE(raw) == 0 ||
        py_worker.hooks.parse_body == NULL) {
        return raw;
    }
    PyObject *type_text = PyUnicode_FromStringAndSize(json, sizeof json - 1);
    PyObject *body = type_text != NULL ? PyObject_CallFunctionObjArgs(py_worker.hooks.parse_body,
                                                                      raw, type_text, NULL)
                                       : NULL;
    Py_XDECREF(type_text);
    Py_DECREF(raw);
    return body;
}

static void canonicalise(const char *from, char *to, size_t n)
{
    bool upper = true;

    for (size_t i = 0; i < n; i++) {
        char c = from[i];
        if (upper && c >= 'a' && c <= 'z') {
            c = (char)(c - 'a' + 'A');
        } else if (!upper && c >= 'A' && c <= 'Z') {
            c = (char)(c - 'A' + 'a');
        }
        to[i] = c;
        upper = c == '-';
    }
}

static size_t hash_name(const char *bytes, size_t n)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ (uint8_t)bytes[i]) * 16777619u;
    }
    return (hash ^ hash >> 16) % NAME_CACHE;
}

/* Xxx-Yyy of a header name; well-known ones are made once. A new reference. */
static PyObject *canonical_name(const char *bytes, size_t n)
{
    char name[KEPT_NAME];
    PyObject *text;

    if (n > KEPT_NAME) {
        PyObject *raw = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
        if (raw == NULL) {
            return NULL;
        }
        canonicalise(bytes, PyBytes_AS_STRING(raw), n);
        text = text_of(PyBytes_AS_STRING(raw), n);
        Py_DECREF(raw);
        return text;
    }
    struct cached_name *place = &names[hash_name(bytes, n)];
    if (place->text != NULL && place->length == n && memcmp(place->raw, bytes, n) == 0) {
        return Py_NewRef(place->text);
    }
    canonicalise(bytes, name, n);
    text = text_of(name, n);
    if (text == NULL) {
        return NULL;
    }
    if (py_worker.decode_text) {
        PyUnicode_InternInPlace(&text);
    }
    Py_XSETREF(place->text, Py_NewRef(text));
    place->length = (uint8_t)n;
    memcpy(place->raw, bytes, n);
    return text;
}

/* Goes through HEADERS. */
struct header_walk {
    const struct st_wire_header *lengths;
    const char *at, *end;
    uint32_t left;
};

struct header {
    const char *name, *value;
    uint32_t name_length, value_length;
};

static struct header_walk walk_headers(const struct py_event *ev)
{
    struct header_walk walk = {0};
    size_t n;
    const char *bytes = py_section(ev->record, ST_WIRE_HEADERS, &n);
    const struct st_wire_headers *headers = (const struct st_wire_headers *)bytes;

    if (n >= sizeof *headers && headers->count <= (n - sizeof *headers) / sizeof *walk.lengths) {
        walk.lengths = headers->lengths;
        walk.left = headers->count;
        walk.at = (const char *)(headers->lengths + headers->count);
        walk.end = bytes + n;
    }
    return walk;
}

static bool next_header(struct header_walk *walk, struct header *header)
{
    if (walk->left == 0) {
        return false;
    }
    walk->left--;
    header->name_length = walk->lengths->name_length;
    header->value_length = walk->lengths->value_length;
    walk->lengths++;
    if ((uint64_t)header->name_length + header->value_length > (uint64_t)(walk->end - walk->at)) {
        walk->left = 0;
        return false;
    }
    header->name = walk->at;
    header->value = walk->at + header->name_length;
    walk->at = header->value + header->value_length;
    return true;
}

/* Values of a stream's messages are bytes, as Nuclio gives them. */
static PyObject *value_of(const struct py_event *ev, const struct header *header)
{
    if (py_event_meta(ev).shard >= 0) {
        return PyBytes_FromStringAndSize(header->value, header->value_length);
    }
    return text_of(header->value, header->value_length);
}

static PyObject *decode_headers(const struct py_event *ev)
{
    struct header_walk walk = walk_headers(ev);
    struct header header;
    PyObject *dict = PyDict_New();
    bool is_http = py_event_meta(ev).http_version != 0;

    while (dict != NULL && next_header(&walk, &header)) {
        PyObject *name = is_http ? canonical_name(header.name, header.name_length)
                                 : text_of(header.name, header.name_length);
        PyObject *value = name != NULL ? value_of(ev, &header) : NULL;
        if (value == NULL || PyDict_SetItem(dict, name, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
    }
    return dict;
}

static PyObject *decode_header_list(const struct py_event *ev)
{
    struct header_walk walk = walk_headers(ev);
    struct header header;
    PyObject *list = PyList_New(0);

    while (list != NULL && next_header(&walk, &header)) {
        PyObject *name = text_of(header.name, header.name_length);
        PyObject *value = name != NULL ? value_of(ev, &header) : NULL;
        PyObject *pair = value != NULL ? PyTuple_Pack(2, name, value) : NULL;
        if (pair == NULL || PyList_Append(list, pair) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
        Py_XDECREF(pair);
    }
    return list;
}

static bool same_name(const struct header *header, const char *name, size_t n)
{
    return header->name_length == n && strncasecmp(header->name, name, n) == 0;
}

PyObject *py_decode_header(const struct py_event *ev, const char *name, size_t n)
{
    struct header_walk walk = walk_headers(ev);
    struct header header, found = {0};

    while (next_header(&walk, &header)) {
        if (same_name(&header, name, n)) {
            found = header;
        }
    }
    return found.name != NULL ? value_of(ev, &found) : NULL;
}

bool py_is_cloud_event(const struct py_event *ev)
{
    static const char structured[] = "application/cloudevents";
    static const char version_01[] = "ce-cloudeventsversion", version_10[] = "ce-specversion";
    struct header_walk walk = walk_headers(ev);
    struct header header;
    size_t n;
    const char *type = py_section(ev->record, ST_WIRE_CONTENT_TYPE, &n);

    if (n >= sizeof structured - 1 && strncasecmp(type, structured, sizeof structured - 1) == 0) {
        return true;
    }
    while (next_header(&walk, &header)) {
        if (same_name(&header, version_01, sizeof version_01 - 1) ||
            same_name(&header, version_10, sizeof version_10 - 1)) {
            return true;
        }
    }
    return false;
}

bool py_is_ascii(const struct py_event *ev)
{
    static const uint16_t texts[] = {ST_WIRE_METHOD, ST_WIRE_PATH,         ST_WIRE_TARGET,
                                     ST_WIRE_SCHEME, ST_WIRE_CONTENT_TYPE, ST_WIRE_TOPIC,
                                     ST_WIRE_QUERY,  ST_WIRE_HEADERS};
    size_t n;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *bytes = py_section(ev->record, texts[i], &n);
        for (size_t at = 0; at < n; at++) {
            if (((uint8_t)bytes[at] & 0x80) != 0 ||
                (bytes[at] == '%' && texts[i] == ST_WIRE_QUERY)) {
                return false;
            }
        }
    }
    return true;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Text of a part of the query: "+" is a blank, %41 is A. `room` holds n bytes. */
static PyObject *query_text(const char *bytes, size_t n, char *room)
{
    size_t length = 0;

    for (size_t i = 0; i < n; i++) {
        char c = bytes[i];
        if (c == '+') {
            c = ' ';
        } else if (c == '%' && n - i > 2 && hex_digit(bytes[i + 1]) >= 0 &&
                   hex_digit(bytes[i + 2]) >= 0) {
            c = (char)(hex_digit(bytes[i + 1]) * 16 + hex_digit(bytes[i + 2]));
            i += 2;
        }
        room[length++] = c;
    }
    return text_of(room, length);
}

static int put_field(PyObject *dict, const char *pair, size_t n, char *room)
{
    const char *equals = memchr(pair, '=', n);
    size_t name_length = equals != NULL ? (size_t)(equals - pair) : n;
    size_t value_at = equals != NULL ? name_length + 1 : n;

    if (name_length == 0 && value_at == n) {
        return 0;
    }
    PyObject *name = query_text(pair, name_length, room);
    PyObject *value = name != NULL ? query_text(pair + value_at, n - value_at, room) : NULL;
    int rc = value != NULL ? PyDict_SetItem(dict, name, value) : -1;
    Py_XDECREF(name);
    Py_XDECREF(value);
    return rc;
}

static PyObject *decode_fields(const struct py_event *ev)
{
    size_t n;
    const char *query = py_section(ev->record, ST_WIRE_QUERY, &n), *end = query + n;
    PyObject *dict = PyDict_New();
    char *room = n != 0 ? PyMem_Malloc(n) : NULL;

    while (dict != NULL && room != NULL && query < end) {
        const char *stop = memchr(query, '&', (size_t)(end - query));
        if (stop == NULL) {
            stop = end;
        }
        if (put_field(dict, query, (size_t)(stop - query), room) < 0) {
            Py_CLEAR(dict);
        }
        query = stop + 1;
    }
    PyMem_Free(room);
    return dict;
}

static PyObject *decode_id(const struct py_event *ev)
{
    static const char digits[] = "0123456789abcdef";
    struct st_wire_event meta = py_event_meta(ev);
    PyObject *text = PyUnicode_New(36, 127);
    int at = 0;

    for (int i = 0; text != NULL && i < 16; i++) {
        Py_UCS1 *to = PyUnicode_1BYTE_DATA(text);
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            to[at++] = '-';
        }
        to[at++] = (Py_UCS1)digits[meta.id[i] >> 4];
        to[at++] = (Py_UCS1)digits[meta.id[i] & 15];
    }
    return text;
}

/* Year, month and day of a day since 1970-01-01; H. Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms", civil_from_days. */
static void civil(int64_t days, int *year, int *month, int *day)
{
    int64_t z = days + 719468, era = z / 146097, of_era = z - era * 146097;
    int64_t y = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * y + y / 4 - y / 100), m = (5 * of_year + 2) / 153;

    *day = (int)(of_year - (153 * m + 2) / 5 + 1);
    *month = (int)(m < 10 ? m + 3 : m - 9);
    *year = (int)(y + era * 400 + (*month <= 2));
}

static PyObject *decode_timestamp(const struct py_event *ev)
{
    int64_t seconds = (int64_t)(py_event_meta(ev).timestamp_ns / 1000000000u);
    int of_day = (int)(seconds % 86400), year, month, day;

    if (PyDateTimeAPI == NULL) {
        PyDateTime_IMPORT; /* not at the start, it takes its time */
        if (PyDateTimeAPI == NULL) {
            return NULL;
        }
    }
    civil(seconds / 86400, &year, &month, &day);
    return PyDateTime_FromDateAndTime(year, month, day, of_day / 3600, of_day / 60 % 60,
                                      of_day % 60, 0);
}

static PyObject *decode_trigger(const struct py_event *ev)
{
    Py_ssize_t i = py_event_meta(ev).trigger;

    if (i >= PyTuple_GET_SIZE(py_worker.triggers)) {
        Py_RETURN_NONE;
    }
    return Py_NewRef(PyTuple_GET_ITEM(py_worker.triggers, i));
}

/* (hi, lo): where it stands in its shard. */
static PyObject *decode_position(const struct py_event *ev)
{
    struct st_wire_event meta = py_event_meta(ev);

    return Py_BuildValue("KK", (unsigned long long)meta.hi, (unsigned long long)meta.lo);
}

/* (address, port) */
static PyObject *decode_peer(const struct py_event *ev)
{
    size_t n;
    const char *bytes = py_section(ev->record, ST_WIRE_PEER, &n);

    return Py_BuildValue("Ni", PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)n, "replace"),
                         (int)py_event_meta(ev).peer_port);
}

static PyObject *decode_size(const struct py_event *ev)
{
    size_t n;
    body_bytes(ev, &n);
    return PyLong_FromSize_t(n);
}

static PyObject *decode_number(const struct py_event *ev, enum py_field field)
{
    struct st_wire_event meta = py_event_meta(ev);

    switch (field) {
    case PY_FIELD_TIMESTAMP_NS:
        return PyLong_FromUnsignedLongLong(meta.timestamp_ns);
    case PY_FIELD_SHARD_ID:
        return PyLong_FromLong(meta.shard);
    case PY_FIELD_NUM_SHARDS:
        return PyLong_FromUnsignedLong(meta.shards);
    case PY_FIELD_OFFSET:
        return PyLong_FromUnsignedLongLong(meta.hi);
    case PY_FIELD_ATTEMPT:
        return PyLong_FromUnsignedLong(meta.attempt);
    case PY_FIELD_DEADLINE_NS:
        return PyLong_FromUnsignedLongLong(meta.deadline_ns);
    default: /* PY_FIELD_HTTP_VERSION */
        return PyLong_FromLong(meta.http_version);
    }
}

/* Sections that are text as they are; 0: a field that is not. */
static const uint16_t text_sections[PY_FIELD_COUNT] = {
    [PY_FIELD_CONTENT_TYPE] = ST_WIRE_CONTENT_TYPE,
    [PY_FIELD_TOPIC] = ST_WIRE_TOPIC,
    [PY_FIELD_TARGET] = ST_WIRE_TARGET,
    [PY_FIELD_QUERY] = ST_WIRE_QUERY,
    [PY_FIELD_SCHEME] = ST_WIRE_SCHEME,
    [PY_FIELD_TRACE_PARENT] = ST_WIRE_TRACE_PARENT,
};

static PyObject *decode_key(const struct py_event *ev)
{
    size_t n;
    const char *bytes = py_section(ev->record, ST_WIRE_KEY, &n);

    return PyBytes_FromStringAndSize(bytes, (Py_ssize_t)n);
}

PyObject *py_decode(struct py_event *ev, enum py_field field)
{
    if (text_sections[field] != 0) {
        return section_text(ev, text_sections[field]);
    }
    switch (field) {
    case PY_FIELD_BODY:
        return decode_body(ev);
    case PY_FIELD_RAW_BODY:
        return decode_raw_body(ev);
    case PY_FIELD_HEADERS:
        return decode_headers(ev);
    case PY_FIELD_HEADER_LIST:
        return decode_header_list(ev);
    case PY_FIELD_FIELDS:
        return decode_fields(ev);
    case PY_FIELD_TRIGGER:
        return decode_trigger(ev);
    case PY_FIELD_ID:
        return decode_id(ev);
    case PY_FIELD_METHOD:
        return decode_method(ev);
    case PY_FIELD_PATH:
        return decode_path(ev);
    case PY_FIELD_SIZE:
        return decode_size(ev);
    case PY_FIELD_TIMESTAMP:
        return decode_timestamp(ev);
    case PY_FIELD_KEY:
        return decode_key(ev);
    case PY_FIELD_POSITION:
        return decode_position(ev);
    case PY_FIELD_PEER:
        return decode_peer(ev);
    case PY_FIELD_LAST_IN_BATCH:
        return PyBool_FromLong(ev->last_in_batch);
    case PY_FIELD_IS_TOMBSTONE:
        return PyBool_FromLong(ev->record->flags & ST_WIRE_NO_VALUE);
    case PY_FIELD_URL:
    case PY_FIELD_TYPE:
    case PY_FIELD_TYPE_VERSION:
    case PY_FIELD_VERSION:
        return text_of(NULL, 0);
    default:
        return decode_number(ev, field);
    }
}

int py_decode_init(void)
{
    empty_bytes = PyBytes_FromStringAndSize(NULL, 0);
    empty_text = PyUnicode_FromStringAndSize(NULL, 0);
    for (int i = 0; i < METHODS; i++) {
        methods[i] = PyUnicode_InternFromString(method_texts[i]);
        if (methods[i] == NULL) {
            return -1;
        }
    }
    return empty_bytes != NULL && empty_text != NULL ? 0 : -1;
}
