#include "processor/core/log.h"

#include <stdio.h>
#include <unistd.h>

#include "processor/core/clock.h"

enum st_log_level st_log_threshold = ST_LOG_INFO;

int st_log_open(const struct st_log_options *opt, struct st_error *err)
{
    (void)err;
    st_log_threshold = opt->level;
    return ST_OK;
}

void st_log_close(void)
{
}

void st_log_write(enum st_log_level level, const char *name, const char *text,
                  const struct st_log_var *vars)
{
    (void)level;
    (void)vars;
    dprintf(STDERR_FILENO, "%s %s\n", name, text);
}

uint64_t st_log_dropped(void)
{
    return 0;
}

bool st_log_limit_pass(struct st_log_limit *l, uint64_t *suppressed)
{
    uint64_t now = st_clock_mono();

    if (l->last_ns != 0 && now - l->last_ns < ST_SEC) {
        l->suppressed++;
        return false;
    }
    *suppressed = l->suppressed;
    l->suppressed = 0;
    l->last_ns = now;
    return true;
}
