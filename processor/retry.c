#include "processor/retry.h"

/* A refused event is tried again soon: a queue was full, or memory was short. */
#define AGAIN_NS (50 * ST_MSEC)

static uint64_t back_off(const struct st_retry_policy *p, uint32_t attempt, uint32_t retry_after_ms,
                         struct st_rand *rand)
{
    uint64_t most = p->cap_ns;

    if (retry_after_ms > 0)
        return retry_after_ms * ST_MSEC;
    if (p->base_ns == 0)
        return 0;
    if (attempt <= 64 && p->base_ns <= p->cap_ns >> (attempt - 1))
        most = p->base_ns << (attempt - 1);
    return st_rand_below(rand, most + 1);
}

static struct st_decision exhausted(const struct st_retry_policy *p)
{
    switch ((enum st_exhausted)p->on_exhausted) {
    case ST_EXHAUSTED_DEAD_LETTER:
        return (struct st_decision){.verdict = p->has_dead_letter ? ST_VERDICT_DEAD_LETTER
                                                                  : ST_VERDICT_STOP};
    case ST_EXHAUSTED_ACK:
        return (struct st_decision){.verdict = ST_VERDICT_ACK_FAILED};
    case ST_EXHAUSTED_STOP:
        break;
    }
    return (struct st_decision){.verdict = ST_VERDICT_STOP};
}

struct st_decision st_retry_decide(const struct st_retry_policy *p, enum st_outcome outcome,
                                   uint32_t attempt, uint32_t retry_after_ms, struct st_rand *rand)
{
    bool asks = outcome == ST_OUTCOME_RETRY;

    switch (outcome) {
    case ST_OUTCOME_OK:
    case ST_OUTCOME_DEFER:
        return (struct st_decision){.verdict = ST_VERDICT_ACK};
    case ST_OUTCOME_REJECT:
        return (struct st_decision){.verdict = p->has_dead_letter ? ST_VERDICT_DEAD_LETTER
                                                                  : ST_VERDICT_ACK_FAILED};
    case ST_OUTCOME_NO_WORKER:
    case ST_OUTCOME_NO_MEMORY:
    case ST_OUTCOME_CANCELLED:
        return (struct st_decision){.verdict = ST_VERDICT_AGAIN, .delay_ns = AGAIN_NS};
    case ST_OUTCOME_ERROR:
        if (!p->enabled)
            return (struct st_decision){.verdict = ST_VERDICT_ACK_FAILED};
        break;
    case ST_OUTCOME_RETRY:
    case ST_OUTCOME_TIMEOUT:
    case ST_OUTCOME_CRASH:
        break;
    }
    if (p->enabled && attempt >= p->max_attempts)
        return exhausted(p);
    return (struct st_decision){.verdict = ST_VERDICT_RETRY,
                                .delay_ns = back_off(p, attempt, asks ? retry_after_ms : 0, rand)};
}
