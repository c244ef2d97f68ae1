/* Latencies by count: exact below 2048 ns, then 1024 steps an octave. */
#include "parts.h"

int histogram_index(uint64_t value_ns)
{
    const uint64_t most = (UINT64_C(1) << 36) - 1;
    if (value_ns > most)
        value_ns = most;
    if (value_ns < 2048)
        return (int)value_ns;
    int shift = system_highest_bit(value_ns) - 10;
    return shift * 1024 + (int)(value_ns >> shift);
}

uint64_t load_value_ns(int index)
{
    if (index < 2048)
        return (uint64_t)index;
    int shift = index / 1024 - 1;
    uint64_t low = (uint64_t)(index - shift * 1024) << shift;
    return low + (UINT64_C(1) << shift) / 2;
}
