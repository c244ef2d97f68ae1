/* counts.h: plain numbers that one thread changes and others may read meanwhile.
 *
 * Each load and store is whole, and no more: counting costs the same as without.
 */
#ifndef ZERIO_COUNTS_H
#define ZERIO_COUNTS_H

#include <stdint.h>

#ifdef _MSC_VER

static inline void counts_add(uint64_t *place, int64_t change)
{
    *(volatile uint64_t *)place = *place + (uint64_t)change;
}

static inline uint64_t counts_read(const uint64_t *place)
{
    return *(const volatile uint64_t *)place;
}

#else

static inline void counts_add(uint64_t *place, int64_t change)
{
    __atomic_store_n(place, *place + (uint64_t)change, __ATOMIC_RELAXED);
}

static inline uint64_t counts_read(const uint64_t *place)
{
    return __atomic_load_n(place, __ATOMIC_RELAXED);
}

#endif

#endif
