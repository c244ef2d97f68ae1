/* clock.h: the clock of Python's time.monotonic(), read without a call through Python.
 *
 * CPython documents the sources: CLOCK_MONOTONIC on POSIX, QueryPerformanceCounter on Windows
 * since 3.13 and GetTickCount64 before, which is too coarse for timers; a loop that takes time()
 * from here must therefore not mix it with time.monotonic() there.
 *   https://docs.python.org/3/library/time.html#time.monotonic
 */
#ifndef ZERIO_CLOCK_H
#define ZERIO_CLOCK_H

#ifdef _WIN32
#include <windows.h>

static double clock_seconds(void)
{
    LARGE_INTEGER frequency, now;
    QueryPerformanceFrequency(&frequency);
    QueryPerformanceCounter(&now);
    return (double)now.QuadPart / (double)frequency.QuadPart;
}
#else
#include <time.h>

static double clock_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
#endif

#endif
