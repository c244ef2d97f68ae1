/* Linux' part of parts.h. */
#ifndef ZERIO_BENCH_SYSTEM_H
#define ZERIO_BENCH_SYSTEM_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>

typedef struct {
    int fd;
    int watched; /* 0: closed */
} wire;

typedef pthread_t threads_handle;
typedef cpu_set_t threads_set;

#define WIRES_LATER (-EAGAIN)
enum {
    SYSTEM_CLOSED = ECONNRESET,
    SYSTEM_INVALID = EINVAL,
    SYSTEM_NO_MEMORY = ENOMEM,
    SYSTEM_PROTOCOL = EPROTO,
    SYSTEM_TIMED_OUT = ETIMEDOUT,
};

#define NOT_INLINED __attribute__((noinline))

/* The compiler must think that somebody looks at it. */
static inline void system_look_at(const void *bytes, size_t size)
{
    __asm__ volatile("" : : "r"(bytes), "r"(size));
}

/* Of a value that is not 0. */
static inline int system_highest_bit(uint64_t value)
{
    return 63 - __builtin_clzll(value);
}

#endif
