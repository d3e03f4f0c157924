#include "processor/event_log.h"

#include <pthread.h>

#include "processor/core/arena.h"
#include "processor/event.h"
#include "processor/trigger.h"

/* The lock: an event that is answered late in its life, or after its timeout, may still be logged
 * for by its worker. */
struct st_event_log {
    pthread_mutex_t lock;
    enum st_log_level level;
    bool closed, full;
    size_t len; /* of text: a bracket, then records with commas between them */
    char text[ST_EVENT_LOG_MAX];
};

void st_event_log_start(struct st_event *ev, enum st_log_level level)
{
    struct st_event_log *log = st_arena_alloc(&ev->arena, sizeof(*log));

    ST_ASSERT(ev->log == NULL);
    pthread_mutex_init(&log->lock, NULL);
    log->level = level;
    log->closed = log->full = false;
    log->text[0] = '[';
    log->len = 1;
    ev->log = log;
}

enum st_log_level st_event_log_level(const struct st_event *ev)
{
    return ev->log->level;
}

void st_event_log_add(struct st_event *ev, enum st_log_level level, const char *text,
                      const struct st_log_var *vars)
{
    struct st_event_log *log = ev->log;
    char record[ST_LOG_RECORD_MAX];
    size_t n;

    if (log == NULL || level < log->level)
        return;
    n = st_log_json(record, level, ev->trigger->name, text, vars);
    pthread_mutex_lock(&log->lock);
    if (!log->closed) {
        size_t comma = log->len > 1 ? 1 : 0;

        log->full |= log->len + comma + n + sizeof "]" > ST_EVENT_LOG_MAX;
        if (!log->full) {
            memcpy(log->text + log->len, ",", comma);
            memcpy(log->text + log->len + comma, record, n);
            log->len += comma + n;
        }
    }
    pthread_mutex_unlock(&log->lock);
}

struct st_slice st_event_log_close(struct st_event *ev)
{
    struct st_event_log *log = ev->log;
    struct st_slice text = {NULL, 0};

    pthread_mutex_lock(&log->lock);
    if (!log->closed && !log->full)
        log->text[log->len++] = ']';
    log->closed = true;
    if (!log->full)
        text = (struct st_slice){log->text, log->len};
    pthread_mutex_unlock(&log->lock);
    return text;
}
