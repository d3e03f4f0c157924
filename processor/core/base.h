/* What every file may use: attributes, assertions that stay in release builds, slices. */
#ifndef PROCESSOR_CORE_BASE_H
#define PROCESSOR_CORE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define ST_MUST_CHECK __attribute__((warn_unused_result))
#define ST_NORETURN __attribute__((noreturn))
#define ST_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define ST_UNUSED __attribute__((unused))

#define st_likely(x) __builtin_expect(!!(x), 1)
#define st_unlikely(x) __builtin_expect(!!(x), 0)

#define ST_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define ST_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define ST_MSEC 1000000ull   /* nanoseconds */
#define ST_SEC 1000000000ull /* nanoseconds */

/* Prints one line to stderr and aborts. Any thread. */
ST_NORETURN void st_panic(const char *file, int line, const char *what);

/* A broken invariant of our own; input errors are never asserts. Kept in release builds. */
#define ST_ASSERT(cond)                          \
    do {                                         \
        if (st_unlikely(!(cond)))                \
            st_panic(__FILE__, __LINE__, #cond); \
    } while (0)

/* Types that are handed through void pointers or freed late begin with a magic number. */
#define ST_CHECK(obj, MAGIC) ST_ASSERT((obj) != NULL && (obj)->magic == (MAGIC))

/* Bytes that somebody else owns; not terminated by NUL. ptr may be NULL when len is 0. */
struct st_slice {
    const char *ptr;
    size_t len;
};

#define ST_SLICE(literal) ((struct st_slice){(literal), sizeof(literal) - 1})

static inline struct st_slice st_slice_of(const char *text)
{
    return (struct st_slice){text, text != NULL ? strlen(text) : 0};
}

static inline bool st_slice_eq(struct st_slice a, struct st_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* memset(p, 0, n) by the library's vector code: of a constant size gcc makes `rep stosq`, which is
 * slower up to some kilobytes. */
static inline void st_zero(void *p, size_t n)
{
    __asm__("" : "+r"(n));
    memset(p, 0, n);
}

/* Equality of ASCII text in any case; other bytes must be equal. */
bool st_slice_ieq(struct st_slice a, struct st_slice b);

#endif
