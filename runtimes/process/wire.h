/* The worker wire: what the processor and a worker process write to each other (docs/wire.md).
 *
 * Plain C99 without any other header of ours: worker executables and add-ons of languages include
 * it too. All numbers are little endian, as on the machine; both ends are one machine. */
#ifndef RUNTIMES_PROCESS_WIRE_H
#define RUNTIMES_PROCESS_WIRE_H

#include <stdint.h>

#define ST_WIRE_PROTOCOL 1 /* Hello.protocol */

/* Descriptors that a worker process is born with, beside 0, 1 and 2. */
enum st_wire_fd {
    ST_WIRE_FD_CONTROL = 3,        /* AF_UNIX stream: protobuf messages of worker.proto */
    ST_WIRE_FD_DATA = 4,           /* AF_UNIX stream: records, unless the worker asks for memory */
    ST_WIRE_FD_MEMORY = 5,         /* memfd of struct st_wire_memory */
    ST_WIRE_FD_WAKE_WORKER = 6,    /* end of a pipe: the processor writes it */
    ST_WIRE_FD_WAKE_PROCESSOR = 7, /* eventfd: the worker writes it */
    ST_WIRE_FD_END = 8
};

/* Records */

enum st_wire_kind {
    ST_WIRE_FILL = 0, /* nothing: the rest of the ring up to its end */
    ST_WIRE_EVENT = 1,
    ST_WIRE_BATCH = 2,
    ST_WIRE_RESULT = 3,
    ST_WIRE_CHUNK = 4,
    ST_WIRE_CANCEL = 5,
    ST_WIRE_CREDIT = 6,
    ST_WIRE_EMIT = 7,
    ST_WIRE_ACK = 8,
    ST_WIRE_CALL = 9,
    ST_WIRE_RETURN = 10,
    ST_WIRE_KINDS
};

enum {
    ST_WIRE_ALIGN = 16,        /* sizes of records, and their places in a ring */
    ST_WIRE_MAX_SECTIONS = 64, /* of a record that is no batch */
    ST_WIRE_MAX_BATCH = 4096,  /* events in a batch */
    ST_WIRE_INLINE_BODY =
        65536, /* bytes; longer bodies travel by reference where there is memory */
    ST_WIRE_STREAM_WINDOW = 262144, /* bytes of chunks that may be out, until CREDIT */
    ST_WIRE_MAX_UNREAD = 1024       /* wake-ups that a worker may leave in its pipe */
};

enum { ST_WIRE_NO_LEVEL = 255 }; /* st_wire_event.log_level: its client asked for nothing */

struct st_wire_record {
    uint32_t size;        /* bytes with everything; a multiple of ST_WIRE_ALIGN */
    uint16_t header_size; /* of this struct and its sections */
    uint8_t kind;         /* enum st_wire_kind */
    uint8_t flags;        /* enum st_wire_flag */
    uint64_t seq;         /* of the event that it is about; 0: none */
};

enum st_wire_flag {
    ST_WIRE_STREAMED = 1, /* RESULT: the body has left in chunks, this is its end */
    ST_WIRE_LOGGED = 2, /* RESULT: log messages of this event were written to the control socket */
    ST_WIRE_FAILED = 4, /* RETURN: it went wrong, TEXT says why; RESULT STREAMED: cut it */
    ST_WIRE_HEAD = 8,   /* CHUNK: the first one; it has META, CONTENT_TYPE and HEADERS */
    ST_WIRE_NO_VALUE = 16 /* EVENT, EMIT: a tombstone, which has not even an empty value */
};

struct st_wire_section {
    uint16_t id; /* enum st_wire_id; others are skipped */
    uint16_t flags;
    uint32_t offset; /* from the record's begin; at or behind header_size */
    uint32_t length;
};

enum st_wire_id {
    ST_WIRE_META = 1, /* one of the structs below, by kind; a longer one has new members */
    ST_WIRE_BODY = 2,
    ST_WIRE_BODY_REF = 3, /* struct st_wire_ref */
    ST_WIRE_HEADERS = 4,  /* struct st_wire_headers */
    ST_WIRE_CONTENT_TYPE = 5,
    ST_WIRE_METHOD = 6,
    ST_WIRE_PATH = 7,
    ST_WIRE_TARGET = 8,
    ST_WIRE_QUERY = 9,
    ST_WIRE_SCHEME = 10,
    ST_WIRE_KEY = 11,
    ST_WIRE_TOPIC = 12,
    ST_WIRE_PEER = 13, /* address as text */
    ST_WIRE_TRACE_PARENT = 14,
    ST_WIRE_RECORD = 15, /* BATCH: a whole EVENT record; 16-aligned */
    ST_WIRE_NAME = 16,   /* CALL: of what; EMIT: of the output */
    ST_WIRE_TEXT = 17    /* UTF-8 for people */
};

/* META of EVENT. */
struct st_wire_event {
    uint8_t id[16];        /* UUIDv7 */
    uint64_t timestamp_ns; /* since the epoch */
    uint64_t hi, lo;       /* offset in the source */
    uint64_t deadline_ns;  /* CLOCK_MONOTONIC; 0: none */
    int32_t shard;         /* -1: none */
    uint32_t shards;       /* 0: unknown */
    uint32_t attempt;      /* from 1 */
    uint16_t http_version; /* 11, 10; 0: not HTTP */
    uint16_t peer_port;
    uint16_t trigger;  /* index into Configure.triggers */
    uint8_t log_level; /* what its client asked for (0 debug .. 3 error); 255: nothing */
    uint8_t reserved[5];
};

enum st_wire_outcome { ST_WIRE_OK, ST_WIRE_ERROR, ST_WIRE_RETRY, ST_WIRE_REJECT };

/* META of RESULT and of a CHUNK with ST_WIRE_HEAD. */
struct st_wire_result {
    uint64_t duration_ns; /* of the handler */
    uint32_t retry_after_ms;
    uint16_t status; /* HTTP terms; 0: by outcome */
    uint8_t outcome; /* enum st_wire_outcome */
    uint8_t reserved;
};

/* META of CREDIT. seq 0, from a worker: it takes n more events. seq of an event, to a worker: n
 * more bytes of its chunks. */
struct st_wire_credit {
    uint32_t n, reserved;
};

/* Bytes in one of the two pools of the shared memory. */
struct st_wire_ref {
    uint32_t region; /* enum st_wire_region */
    uint32_t reserved;
    uint64_t offset, length; /* within the pool */
};

enum st_wire_region { ST_WIRE_DOWN, ST_WIRE_UP }; /* to the worker, to the processor */

/* HEADERS: this, then `count` pairs of lengths, then the bytes of name, value, name, value ... */
struct st_wire_headers {
    uint32_t count;
    struct st_wire_header {
        uint32_t name_length, value_length;
    } lengths[];
};

/* Shared memory: a header page, the two rings, the two pools. The worker maps the whole memfd; it
 * is sealed against a change of size.
 *
 * A ring has `size` bytes, a power of two. Indexes only grow; a byte's place is index & (size - 1).
 * A record never wraps: FILL covers what is left at the end. */
struct st_wire_area {
    uint64_t offset, size;
};

struct st_wire_ring {
    _Alignas(64) uint64_t tail;     /* producer: bytes written */
    _Alignas(64) uint64_t taken;    /* to the worker only: records before it have been begun; moved
                                     * by compare-and-swap, because the processor takes records
                                     * back by moving it to the tail */
    _Alignas(64) uint64_t head;     /* consumer: bytes it needs no more */
    _Alignas(64) uint32_t sleeping; /* consumer sets 1 before its last look, then sleeps */
    uint32_t full;                  /* producer sets 1 before its last look, then waits for room */
};

struct st_wire_memory {
    uint32_t magic; /* ST_WIRE_MAGIC */
    uint32_t protocol;
    uint64_t size;                        /* of the memfd */
    struct st_wire_area ring[2], pool[2]; /* by enum st_wire_region */
    struct st_wire_ring index[2];
};

#define ST_WIRE_MAGIC 0x4d575453u /* "STWM" */
#define ST_WIRE_HEADER_PAGE 4096

#endif
