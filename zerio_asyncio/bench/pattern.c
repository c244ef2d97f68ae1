/* What messages are filled with. */
#include "parts.h"

void pattern_fill(unsigned char *pattern, size_t size)
{
    uint64_t state = UINT64_C(0x2545F4914F6CDD1D); /* xorshift; any seed but 0 */
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pattern[i] = (unsigned char)(state >> 24);
    }
}
