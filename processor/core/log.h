/* Structured log: a line is built in a ring of the calling thread; one writer thread writes rings
 * to the sink (stdout). A full ring drops the record and counts it, so logging never blocks a loop.
 * Before st_log_open and after st_log_close lines go to stderr at once. */
#ifndef PROCESSOR_CORE_LOG_H
#define PROCESSOR_CORE_LOG_H

#include <stdatomic.h>

#include "processor/core/base.h"
#include "processor/core/err.h"

enum st_log_level { ST_LOG_DEBUG, ST_LOG_INFO, ST_LOG_WARN, ST_LOG_ERROR, ST_LOG_OFF };
enum { ST_LOG_RECORD_MAX = 8192 }; /* bytes with its newline; what is longer is cut */

enum st_log_encoding { ST_LOG_CONSOLE, ST_LOG_JSON };
enum st_log_time { ST_LOG_EPOCH_MILLIS, ST_LOG_ISO8601 };

/* How records are written, as Nuclio's loggers do. The console has one form: only `encoding`
 * counts. Texts are borrowed until st_log_close. */
struct st_log_style {
    enum st_log_encoding encoding;
    enum st_log_time time;  /* a number with a fraction, or text in UTC */
    const char *time_name;  /* its key; NULL or "": "time" */
    const char *group_name; /* the key of all variables; NULL or "": they are keys themselves */
    bool flattened;         /* the group is one text, "a=1 || b=2", otherwise an object */
};

/* What is written of one source of records. */
struct st_log_sink {
    enum st_log_level level;
    struct st_log_style style;
};

/* A variable of a record: built by the ST_KV_ macros below. */
struct st_log_var {
    const char *key; /* NULL ends the list */
    enum {
        ST_VAR_STR,
        ST_VAR_SLICE,
        ST_VAR_JSON, /* v.slice: a JSON value on one line, which is written as it is */
        ST_VAR_INT,
        ST_VAR_UINT,
        ST_VAR_DOUBLE,
        ST_VAR_BOOL
    } type;
    union {
        const char *str;
        struct st_slice slice;
        int64_t i;
        uint64_t u;
        double d;
        bool b;
    } v;
};

#define ST_KV_STR(k, x) ((struct st_log_var){.key = (k), .type = ST_VAR_STR, .v.str = (x)})
#define ST_KV_SLICE(k, x) ((struct st_log_var){.key = (k), .type = ST_VAR_SLICE, .v.slice = (x)})
#define ST_KV_JSON(k, x) ((struct st_log_var){.key = (k), .type = ST_VAR_JSON, .v.slice = (x)})
#define ST_KV_INT(k, x) ((struct st_log_var){.key = (k), .type = ST_VAR_INT, .v.i = (x)})
#define ST_KV_UINT(k, x) ((struct st_log_var){.key = (k), .type = ST_VAR_UINT, .v.u = (x)})
#define ST_KV_DOUBLE(k, x) ((struct st_log_var){.key = (k), .type = ST_VAR_DOUBLE, .v.d = (x)})
#define ST_KV_BOOL(k, x) ((struct st_log_var){.key = (k), .type = ST_VAR_BOOL, .v.b = (x)})

/* The least level that is written: of the processor's own records, and of the handlers'. May change
 * at any time, from any thread. */
extern _Atomic enum st_log_level st_log_threshold, st_log_function_threshold;

static inline bool st_log_wants(enum st_log_level level)
{
    return level >= atomic_load_explicit(&st_log_threshold, memory_order_relaxed);
}

static inline bool st_log_wants_function(enum st_log_level level)
{
    return level >= atomic_load_explicit(&st_log_function_threshold, memory_order_relaxed);
}

struct st_log_options {
    struct st_log_sink system, functions; /* the processor's own records, the handlers' */
    int fd;                               /* where lines go; borrowed */
    size_t ring_bytes;                    /* of each thread; 0: 256 KiB */
};

/* Starts the writer thread. Main thread, once. */
int st_log_open(const struct st_log_options *opt, struct st_error *err) ST_MUST_CHECK;

/* Writes what is left and ends the writer. Other threads that log have ended. */
void st_log_close(void);

/* The same while other threads may still log, just before _exit: nothing that they use is freed.
 * What they log from here on goes to stderr, or is lost. */
void st_log_abandon(void);

/* A record of component `name` ("processor.http"); text is a plain sentence, numbers go to vars. */
void st_log_write(enum st_log_level level, const char *name, const char *text,
                  const struct st_log_var *vars);

/* The same for a record of a handler. */
void st_log_write_function(enum st_log_level level, const char *name, const char *text,
                           const struct st_log_var *vars);

/* One record as a JSON object, as the JSON encoding with Nuclio's defaults writes it, of now and
 * without a newline; returns its length. What is longer is cut. Any thread. */
size_t st_log_json(char out[ST_LOG_RECORD_MAX], enum st_log_level level, const char *name,
                   const char *text, const struct st_log_var *vars);

/* Records dropped so far, all threads. */
uint64_t st_log_dropped(void);

/* At most one record a second a call site; suppressed ones are counted and told with the next. */
struct st_log_limit {
    uint64_t last_ns;
    uint64_t suppressed;
};
bool st_log_limit_pass(struct st_log_limit *l, uint64_t *suppressed);

#define ST_LOG(level, name, text, ...)                                                          \
    do {                                                                                        \
        if (st_log_wants(level))                                                                \
            st_log_write((level), (name), (text),                                               \
                         (const struct st_log_var[]){__VA_ARGS__ __VA_OPT__(, ){.key = NULL}}); \
    } while (0)

/* As ST_LOG, limited to one record a second at this place on this thread. */
#define ST_LOG_LIMITED(level, name, text, ...)                                                     \
    do {                                                                                           \
        static _Thread_local struct st_log_limit st_limit_;                                        \
        uint64_t st_suppressed_;                                                                   \
        if (st_log_wants(level) && st_log_limit_pass(&st_limit_, &st_suppressed_))                 \
            st_log_write((level), (name), (text),                                                  \
                         (const struct st_log_var[]){__VA_ARGS__ __VA_OPT__(, )                    \
                                                         ST_KV_UINT("suppressed", st_suppressed_), \
                                                     {.key = NULL}});                              \
    } while (0)

#endif
