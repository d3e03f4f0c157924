#include "runtimes/process/view.h"

/* Everything that is checked is copied out of the worker's memory first: what was checked is what
 * is used. The compiler must not read the original again in place of the copy. */
static inline void copy_out(void *to, const char *from, size_t n)
{
    memcpy(to, from, n);
    __asm__ volatile("" : : : "memory");
}

static const char *read_meta(struct st_wire_view *out, struct st_slice s)
{
    if (out->kind == ST_WIRE_RESULT || out->kind == ST_WIRE_CHUNK) {
        if (s.len < sizeof out->meta.result)
            return "a result's META is too short";
        copy_out(&out->meta.result, s.ptr, sizeof out->meta.result);
    } else if (out->kind == ST_WIRE_CREDIT) {
        if (s.len < sizeof out->meta.credit)
            return "a credit's META is too short";
        copy_out(&out->meta.credit, s.ptr, sizeof out->meta.credit);
    }
    return NULL;
}

static const char *read_ref(struct st_wire_view *out, struct st_slice s, uint64_t pool_bytes)
{
    struct st_wire_ref *ref = &out->ref;

    if (s.len < sizeof *ref)
        return "a BODY_REF is too short";
    copy_out(ref, s.ptr, sizeof *ref);
    if (ref->region > ST_WIRE_UP || ref->offset > pool_bytes ||
        ref->length > pool_bytes - ref->offset)
        return "a BODY_REF lies outside its pool";
    out->has_ref = true;
    return NULL;
}

static const char *read_section(struct st_wire_view *out, unsigned id, struct st_slice s,
                                uint64_t pool_bytes)
{
    switch (id) {
    case ST_WIRE_META:
        return read_meta(out, s);
    case ST_WIRE_BODY_REF:
        return read_ref(out, s, pool_bytes);
    case ST_WIRE_BODY:
        out->body = s;
        return NULL;
    case ST_WIRE_HEADERS:
        out->headers = s;
        return NULL;
    case ST_WIRE_CONTENT_TYPE:
        out->content_type = s;
        return NULL;
    case ST_WIRE_KEY:
        out->key = s;
        return NULL;
    case ST_WIRE_TOPIC:
        out->topic = s;
        return NULL;
    case ST_WIRE_NAME:
        out->name = s;
        return NULL;
    case ST_WIRE_TEXT:
        out->text = s;
        return NULL;
    default:
        return NULL;
    }
}

static bool comes_from_worker(unsigned kind)
{
    const unsigned kinds = 1u << ST_WIRE_RESULT | 1u << ST_WIRE_CHUNK | 1u << ST_WIRE_CREDIT |
                           1u << ST_WIRE_EMIT | 1u << ST_WIRE_ACK | 1u << ST_WIRE_CALL;

    return kind < ST_WIRE_KINDS && (kinds >> kind & 1u) != 0;
}

const char *st_wire_view_read(struct st_wire_view *out, const struct st_wire_record *record,
                              const char *at, uint64_t pool_bytes)
{
    const uint32_t size = record->size, header_size = record->header_size;
    size_t n = (header_size - sizeof *record) / sizeof(struct st_wire_section);

    if (header_size < sizeof *record || header_size > size || n > ST_WIRE_MAX_SECTIONS ||
        header_size != sizeof *record + n * sizeof(struct st_wire_section))
        return "a record's header_size is wrong";
    if (!comes_from_worker(record->kind))
        return "a record of a kind that workers don't send";
    *out = (struct st_wire_view){.kind = record->kind, .flags = record->flags, .seq = record->seq};
    at += sizeof *record;
    for (size_t i = 0; i < n; i++) {
        struct st_wire_section section;
        const char *why;

        copy_out(&section, at + i * sizeof section, sizeof section);
        if (section.offset < header_size || section.offset > size ||
            section.length > size - section.offset)
            return "a section lies outside its record";
        why = read_section(out, section.id,
                           (struct st_slice){at - sizeof *record + section.offset, section.length},
                           pool_bytes);
        if (why != NULL)
            return why;
    }
    return NULL;
}
