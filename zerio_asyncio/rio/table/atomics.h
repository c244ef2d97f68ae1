/* atomics.h: values that several threads read and write, on every compiler.
 *
 * They have 32 bits, 64 bits or a word (of a pointer's size). Unless their name says more,
 * operations are sequentially consistent; `acquire` and `release` are C11's. A relaxed load returns
 * what was stored some time ago, and orders nothing. Microsoft's compiler has no C11 atomics; there
 * its intrinsics are used.
 *
 * Links:
 *   https://learn.microsoft.com/cpp/intrinsics/interlockedexchange-intrinsic-functions
 *   https://learn.microsoft.com/cpp/intrinsics/arm64-intrinsics (barriers)
 */
#ifndef ZERIO_ATOMICS_H
#define ZERIO_ATOMICS_H

#include <stdint.h>

#ifdef _MSC_VER

#include <intrin.h>

typedef volatile uint32_t atomics_u32;
typedef volatile uint64_t atomics_u64;
typedef volatile uintptr_t atomics_word;

/* x86 orders loads among themselves, and stores; only the compiler needs a barrier. ARM does
 * neither. */
#if defined(_M_ARM64) || defined(_M_ARM)
#define RIO_FENCE() __dmb(0xB) /* inner shareable */
#else
#define RIO_FENCE() _ReadWriteBarrier()
#endif

static inline uint32_t atomics_load32_relaxed(const atomics_u32 *place)
{
    return *place;
}

static inline uint32_t atomics_load32(const atomics_u32 *place)
{
    uint32_t value = *place;
    RIO_FENCE();
    return value;
}

static inline void atomics_store32_release(atomics_u32 *place, uint32_t value)
{
    RIO_FENCE();
    *place = value;
}

static inline uint32_t atomics_exchange32(atomics_u32 *place, uint32_t value)
{
    return (uint32_t)_InterlockedExchange((volatile long *)place, (long)value);
}

static inline void atomics_store32(atomics_u32 *place, uint32_t value)
{
    (void)atomics_exchange32(place, value);
}

/* Returns the previous value. */
static inline uint32_t atomics_add32(atomics_u32 *place, uint32_t value)
{
    return (uint32_t)_InterlockedExchangeAdd((volatile long *)place, (long)value);
}

/* By comparison, because 32-bit machines cannot move 64 bits at once in any other way. */
static inline uint64_t atomics_load64(const atomics_u64 *place)
{
    return (uint64_t)_InterlockedCompareExchange64((volatile long long *)place, 0, 0);
}

static inline void atomics_store64(atomics_u64 *place, uint64_t value)
{
    uint64_t seen = atomics_load64(place), found;
    while ((found = (uint64_t)_InterlockedCompareExchange64(
                (volatile long long *)place, (long long)value, (long long)seen)) != seen)
        seen = found;
}

static inline uintptr_t atomics_load_word_acquire(const atomics_word *place)
{
    uintptr_t value = *place;
    RIO_FENCE();
    return value;
}

static inline uintptr_t atomics_load_word(const atomics_word *place)
{
    return atomics_load_word_acquire(place);
}

static inline void atomics_store_word_release(atomics_word *place, uintptr_t value)
{
    RIO_FENCE();
    *place = value;
}

static inline void atomics_store_word(atomics_word *place, uintptr_t value)
{
    (void)_InterlockedExchangePointer((void *volatile *)place, (void *)value);
}

#else

#include <stdatomic.h>

typedef _Atomic(uint32_t) atomics_u32;
typedef _Atomic(uint64_t) atomics_u64;
typedef _Atomic(uintptr_t) atomics_word;

static inline uint32_t atomics_load32_relaxed(const atomics_u32 *place)
{
    return atomic_load_explicit(place, memory_order_relaxed);
}

static inline uint32_t atomics_load32(const atomics_u32 *place)
{
    return atomic_load(place);
}

static inline void atomics_store32_release(atomics_u32 *place, uint32_t value)
{
    atomic_store_explicit(place, value, memory_order_release);
}

static inline uint32_t atomics_exchange32(atomics_u32 *place, uint32_t value)
{
    return atomic_exchange(place, value);
}

static inline void atomics_store32(atomics_u32 *place, uint32_t value)
{
    atomic_store(place, value);
}

static inline uint32_t atomics_add32(atomics_u32 *place, uint32_t value)
{
    return atomic_fetch_add(place, value);
}

static inline uint64_t atomics_load64(const atomics_u64 *place)
{
    return atomic_load(place);
}

static inline void atomics_store64(atomics_u64 *place, uint64_t value)
{
    atomic_store(place, value);
}

static inline uintptr_t atomics_load_word_acquire(const atomics_word *place)
{
    return atomic_load_explicit(place, memory_order_acquire);
}

static inline uintptr_t atomics_load_word(const atomics_word *place)
{
    return atomic_load(place);
}

static inline void atomics_store_word_release(atomics_word *place, uintptr_t value)
{
    atomic_store_explicit(place, value, memory_order_release);
}

static inline void atomics_store_word(atomics_word *place, uintptr_t value)
{
    atomic_store(place, value);
}

#endif

#endif
