/* clock.h: the clock of Python's time.monotonic(), read without a call through Python.
 *
 * CPython documents the sources: CLOCK_MONOTONIC on POSIX; on Windows QueryPerformanceCounter since
 * 3.13, and before that GetTickCount64, which is too coarse for timers. A loop that takes time()
 * from here must therefore not mix it with time.monotonic() there.
 *   https://docs.python.org/3/library/time.html#time.monotonic
 */
#ifndef ZERIO_CLOCK_H
#define ZERIO_CLOCK_H

#ifdef _WIN32
#include <stdint.h>
#include <windows.h>

static inline double clock_seconds(void)
{
    LARGE_INTEGER frequency, now;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    return (double)now.QuadPart / (double)frequency.QuadPart;
}

static inline int64_t clock_ns(void)
{
    static const int64_t second = 1000000000;
    LARGE_INTEGER rate, now;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&now);
    return now.QuadPart / rate.QuadPart * second +
           now.QuadPart % rate.QuadPart * second / rate.QuadPart;
}
#else
#include <stdint.h>
#include <time.h>

static inline double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static inline int64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}
#endif

#endif
