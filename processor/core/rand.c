#include "processor/core/rand.h"

#include <sys/random.h>

static uint64_t splitmix64(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void st_rand_seed(struct st_rand *r, uint64_t seed)
{
    for (size_t i = 0; i < ST_ARRAY_LEN(r->s); i++)
        r->s[i] = splitmix64(&seed);
}

void st_rand_seed_os(struct st_rand *r)
{
    ssize_t n;

    /* Up to 256 bytes come whole once the kernel's pool is ready; a signal may end the wait for
     * that. All zeroes is the one state that xoshiro never leaves. */
    do
        n = getrandom(r->s, sizeof(r->s), 0);
    while (n != (ssize_t)sizeof(r->s) || (r->s[0] | r->s[1] | r->s[2] | r->s[3]) == 0);
}
