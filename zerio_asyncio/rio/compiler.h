/* compiler.h: what these sources ask of a compiler beyond the C11 that all of them have.
 *
 * GCC and Clang know C11 whole. Microsoft's compiler, asked for C11, leaves out atomics and
 * _Thread_local, so there both are made of its intrinsics and keywords. This header is the one
 * place that may tell compilers apart; tests/tidy/test_portable_c.py sees to that.
 *
 * Atomic values are 32 bits, 64 bits or a word (of a pointer's size). Without a further word in
 * their name, operations are sequentially consistent; `acquire` and `release` are C11's. A relaxed
 * load tells what was stored some time ago, and orders nothing.
 *
 * A count is a plain number that one thread changes (`rio_count`) and others may look at meanwhile
 * (`rio_counted`): each load and store is whole, and that is all, so counting costs what it does
 * without.
 *
 * Links:
 *   https://learn.microsoft.com/cpp/overview/install-c17-support
 *   https://learn.microsoft.com/cpp/intrinsics/interlockedexchange-intrinsic-functions
 *   https://learn.microsoft.com/cpp/intrinsics/arm64-intrinsics (barriers)
 */
#ifndef ZERIO_COMPILER_H
#define ZERIO_COMPILER_H

#include <stdint.h>

#ifdef _MSC_VER

#include <intrin.h>

#define RIO_LIKELY(condition) (condition)
#define RIO_UNLIKELY(condition) (condition)
#define RIO_THREAD_LOCAL __declspec(thread)

typedef volatile uint32_t rio_atomic32;
typedef volatile uint64_t rio_atomic64;
typedef volatile uintptr_t rio_atomic_word;

/* x86 orders loads among themselves, and stores; only the compiler has to be told. ARM does not. */
#if defined(_M_ARM64) || defined(_M_ARM)
#define RIO_FENCE() __dmb(0xB) /* inner shareable */
#else
#define RIO_FENCE() _ReadWriteBarrier()
#endif

static inline uint32_t rio_load32_relaxed(const rio_atomic32 *place)
{
    return *place;
}

static inline uint32_t rio_load32(const rio_atomic32 *place)
{
    uint32_t value = *place;
    RIO_FENCE();
    return value;
}

static inline void rio_store32_release(rio_atomic32 *place, uint32_t value)
{
    RIO_FENCE();
    *place = value;
}

static inline uint32_t rio_exchange32(rio_atomic32 *place, uint32_t value)
{
    return (uint32_t)_InterlockedExchange((volatile long *)place, (long)value);
}

static inline void rio_store32(rio_atomic32 *place, uint32_t value)
{
    (void)rio_exchange32(place, value);
}

/* What the value was before. */
static inline uint32_t rio_add32(rio_atomic32 *place, uint32_t value)
{
    return (uint32_t)_InterlockedExchangeAdd((volatile long *)place, (long)value);
}

/* By comparison, because 32-bit machines have no other way to move 64 bits at once. */
static inline uint64_t rio_load64(const rio_atomic64 *place)
{
    return (uint64_t)_InterlockedCompareExchange64((volatile long long *)place, 0, 0);
}

static inline void rio_store64(rio_atomic64 *place, uint64_t value)
{
    uint64_t seen = rio_load64(place), found;
    while ((found = (uint64_t)_InterlockedCompareExchange64(
                (volatile long long *)place, (long long)value, (long long)seen)) != seen)
        seen = found;
}

static inline uintptr_t rio_load_word_acquire(const rio_atomic_word *place)
{
    uintptr_t value = *place;
    RIO_FENCE();
    return value;
}

static inline uintptr_t rio_load_word(const rio_atomic_word *place)
{
    return rio_load_word_acquire(place);
}

static inline void rio_store_word_release(rio_atomic_word *place, uintptr_t value)
{
    RIO_FENCE();
    *place = value;
}

static inline void rio_store_word(rio_atomic_word *place, uintptr_t value)
{
    (void)_InterlockedExchangePointer((void *volatile *)place, (void *)value);
}

static inline void rio_count(uint64_t *place, int64_t change)
{
    *(volatile uint64_t *)place = *place + (uint64_t)change;
}

static inline uint64_t rio_counted(const uint64_t *place)
{
    return *(const volatile uint64_t *)place;
}

#else

#include <stdatomic.h>

#define RIO_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define RIO_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define RIO_THREAD_LOCAL _Thread_local

typedef _Atomic(uint32_t) rio_atomic32;
typedef _Atomic(uint64_t) rio_atomic64;
typedef _Atomic(uintptr_t) rio_atomic_word;

static inline uint32_t rio_load32_relaxed(const rio_atomic32 *place)
{
    return atomic_load_explicit(place, memory_order_relaxed);
}

static inline uint32_t rio_load32(const rio_atomic32 *place)
{
    return atomic_load(place);
}

static inline void rio_store32_release(rio_atomic32 *place, uint32_t value)
{
    atomic_store_explicit(place, value, memory_order_release);
}

static inline uint32_t rio_exchange32(rio_atomic32 *place, uint32_t value)
{
    return atomic_exchange(place, value);
}

static inline void rio_store32(rio_atomic32 *place, uint32_t value)
{
    atomic_store(place, value);
}

static inline uint32_t rio_add32(rio_atomic32 *place, uint32_t value)
{
    return atomic_fetch_add(place, value);
}

static inline uint64_t rio_load64(const rio_atomic64 *place)
{
    return atomic_load(place);
}

static inline void rio_store64(rio_atomic64 *place, uint64_t value)
{
    atomic_store(place, value);
}

static inline uintptr_t rio_load_word_acquire(const rio_atomic_word *place)
{
    return atomic_load_explicit(place, memory_order_acquire);
}

static inline uintptr_t rio_load_word(const rio_atomic_word *place)
{
    return atomic_load(place);
}

static inline void rio_store_word_release(rio_atomic_word *place, uintptr_t value)
{
    atomic_store_explicit(place, value, memory_order_release);
}

static inline void rio_store_word(rio_atomic_word *place, uintptr_t value)
{
    atomic_store(place, value);
}

static inline void rio_count(uint64_t *place, int64_t change)
{
    __atomic_store_n(place, *place + (uint64_t)change, __ATOMIC_RELAXED);
}

static inline uint64_t rio_counted(const uint64_t *place)
{
    return __atomic_load_n(place, __ATOMIC_RELAXED);
}

#endif

#endif
