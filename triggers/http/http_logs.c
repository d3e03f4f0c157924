/* X-Nuclio-Log-Level of a request and X-Nuclio-Logs of its reply, as Nuclio's http trigger has
 * them. */
#include "processor/core/log.h"
#include "processor/event_log.h"
#include "triggers/http/http_int.h"

/* Anything else than these words is debug. */
static enum st_log_level level_of(const struct st_header *h)
{
    static const struct {
        const char *name;
        enum st_log_level level;
    } levels[] = {{"info", ST_LOG_INFO}, {"warn", ST_LOG_WARN}, {"error", ST_LOG_ERROR}};

    for (size_t i = 0; i < ST_ARRAY_LEN(levels); i++)
        if (st_slice_eq((struct st_slice){h->value, h->value_len}, st_slice_of(levels[i].name)))
            return levels[i].level;
    return ST_LOG_DEBUG;
}

void http_logs_request(struct http_event *he)
{
    st_event_log_start(&he->ev,
                       level_of(st_headers_known(&he->x.headers, ST_HDR_X_NUCLIO_LOG_LEVEL)));
}

void http_logs_reply(struct http_event *he, struct st_http_response *r)
{
    static const char name[] = "X-Nuclio-Logs";
    struct st_slice text = st_event_log_close(&he->ev);
    size_t n = r->header_count;

    if (text.len == 0) {
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.http",
                       "X-Nuclio-Logs is left out: the records of the request are too long",
                       ST_KV_STR("trigger", he->ev.trigger->name),
                       ST_KV_UINT("limit", ST_EVENT_LOG_MAX));
        return;
    }
    http_own_headers(&he->hl->room, r, 1);
    he->hl->room.items[n] = (struct st_header){.name = name,
                                               .name_len = sizeof name - 1,
                                               .value = text.ptr,
                                               .value_len = (uint32_t)text.len,
                                               .id = ST_HDR_X_NUCLIO_LOGS};
    r->header_count = n + 1;
}
