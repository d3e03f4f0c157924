/* xoshiro256** (Blackman and Vigna, 2018): jitter, ids, sampling. Not for secrets. One thread. */
#ifndef PROCESSOR_CORE_RAND_H
#define PROCESSOR_CORE_RAND_H

#include "processor/core/base.h"

struct st_rand {
    uint64_t s[4];
};

/* Seeds from a number, by splitmix64; equal seeds give equal sequences. */
void st_rand_seed(struct st_rand *r, uint64_t seed);

/* Seeds from getrandom(2). */
void st_rand_seed_os(struct st_rand *r);

static inline uint64_t st_rotl64(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

static inline uint64_t st_rand_next(struct st_rand *r)
{
    uint64_t result = st_rotl64(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;

    r->s[2] ^= r->s[0];
    r->s[3] ^= r->s[1];
    r->s[1] ^= r->s[2];
    r->s[0] ^= r->s[3];
    r->s[2] ^= t;
    r->s[3] = st_rotl64(r->s[3], 45);
    return result;
}

/* A number below bound (> 0); by multiplication (Lemire 2019, without rejection: the bias is
 * below bound / 2^64). */
static inline uint64_t st_rand_below(struct st_rand *r, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)st_rand_next(r) * bound) >> 64);
}

#endif
