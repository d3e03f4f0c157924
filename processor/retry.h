/* What becomes of a message of a broker whose event has ended: acknowledged, tried again, put
 * aside, or kept. Pure logic. */
#ifndef PROCESSOR_RETRY_H
#define PROCESSOR_RETRY_H

#include "processor/core/base.h"
#include "processor/core/rand.h"
#include "processor/event.h"

enum st_exhausted { ST_EXHAUSTED_DEAD_LETTER, ST_EXHAUSTED_ACK, ST_EXHAUSTED_STOP };

/* `retry` and `deadLetter` of a trigger. */
struct st_retry_policy {
    bool enabled; /* either block was given: handlers' errors are tried again */
    bool relaxed; /* later messages of the key pass one that waits for its retry */
    bool has_dead_letter;
    int on_exhausted;      /* enum st_exhausted */
    uint32_t max_attempts; /* at least 1 */
    uint64_t base_ns, cap_ns;
};

enum st_verdict {
    ST_VERDICT_ACK,         /* done */
    ST_VERDICT_ACK_FAILED,  /* acknowledged although the handler failed: log and count it */
    ST_VERDICT_RETRY,       /* again after delay_ns; the next attempt counts */
    ST_VERDICT_AGAIN,       /* again after delay_ns; it never began, so the attempt is the same */
    ST_VERDICT_DEAD_LETTER, /* to the dead letters, then acknowledged */
    ST_VERDICT_STOP         /* never acknowledged: its key waits, a person must act */
};

struct st_decision {
    enum st_verdict verdict;
    uint64_t delay_ns;
};

/* `attempt` from 1 is the one that ended. Delays are random between 0 and min(cap, base * 2^(n-1))
 * ("full jitter", Brooker, AWS Architecture Blog, 2015); a handler's own retry_after_ms goes before
 * them.
 *
 * Without a policy: OK, ERROR and REJECT are acknowledged as Nuclio does (ERROR and REJECT as
 * ACK_FAILED); RETRY, TIMEOUT and CRASH are tried again for ever, with at most cap between
 * attempts: the handler asked for it, or never had its say. With one: ERROR, RETRY, TIMEOUT and
 * CRASH are tried again until max_attempts are made, then on_exhausted decides, where DEAD_LETTER
 * without dead letters is STOP; REJECT goes to the dead letters at once, or, where there are none,
 * as ACK_FAILED. NO_WORKER and NO_MEMORY are AGAIN
 * under any policy. CANCELLED is AGAIN too: only a lost shard cancels, and then nobody asks.
 */
struct st_decision st_retry_decide(const struct st_retry_policy *policy, enum st_outcome outcome,
                                   uint32_t attempt, uint32_t retry_after_ms, struct st_rand *rand);

#endif
