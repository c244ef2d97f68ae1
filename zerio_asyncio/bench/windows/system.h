/* Windows' part of parts.h. */
#ifndef ZERIO_BENCH_SYSTEM_H
#define ZERIO_BENCH_SYSTEM_H

#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif

#include <winsock2.h>
#include <ws2tcpip.h>
#include <mswsock.h>
#include <windows.h>

#include <errno.h>
#include <intrin.h>
#include <stdint.h>

typedef struct {
    struct wires_connection *connection; /* NULL: closed */
} wire;

typedef HANDLE threads_handle;
typedef struct {
    DWORD_PTR process, thread;
} threads_set;

#define WIRES_LATER (-WSAEWOULDBLOCK)
enum {
    SYSTEM_CLOSED = WSAECONNRESET,
    SYSTEM_INVALID = WSAEINVAL,
    SYSTEM_NO_MEMORY = WSAENOBUFS,
    SYSTEM_PROTOCOL = WSAEPROTOTYPE,
    SYSTEM_TIMED_OUT = WSAETIMEDOUT,
};

#define NOT_INLINED __declspec(noinline)

/* The compiler must think that somebody looks at it. */
static inline void system_look_at(const void *bytes, size_t size)
{
    (void)bytes, (void)size;
    _ReadWriteBarrier();
}

/* Of a value that is not 0. */
static inline int system_highest_bit(uint64_t value)
{
    unsigned long index;
    _BitScanReverse64(&index, value);
    return (int)index;
}

/* process.c: a code of Win32 as a negative code of Winsock's, as far as both have it. */
int process_code(DWORD error);

#endif
