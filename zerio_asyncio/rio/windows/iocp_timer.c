/* iocp_timer.c: sleeping at a completion port for less than a millisecond.
 *
 * GetQueuedCompletionStatusEx counts milliseconds, and ends a wait with a tick of the system's
 * clock, which may be 15.6 ms away. A high-resolution waitable timer (Windows 10, version 1803) is
 * as exact as the system can be. It ends the port's wait in one of two ways:
 *
 *   - a wait completion packet, which the kernel queues at the port when the timer is due. The
 *     thread pool of Windows 8 and later works by it; ntdll exports it;
 *   - where that is missing (Wine), a wait for two objects: a port is signalled while it has
 *     packets.
 *
 * Where there is neither, waits are whole milliseconds. Far from its end a wait always is: most are
 * ended by a packet long before, and need no timer.
 *
 * What can go wrong.
 *   - A timer may be early by its clock's difference to the caller's: iocp.c looks at the clock and
 *     sleeps again.
 *   - A timer's packet must not end a later wait: it is cancelled, queued or not, after each.
 *
 * Links:
 *   https://learn.microsoft.com/windows/win32/api/synchapi/nf-synchapi-createwaitabletimerexw
 *   https://learn.microsoft.com/windows/win32/devnotes/ntassociatewaitcompletionpacket
 *   https://learn.microsoft.com/windows/win32/devnotes/ntcancelwaitcompletionpacket
 */
#include "windows/iocp_timer.h"

#include <winternl.h>

#include "table/counts.h"

#ifndef CREATE_WAITABLE_TIMER_HIGH_RESOLUTION
#define CREATE_WAITABLE_TIMER_HIGH_RESOLUTION 0x00000002
#endif

#define NS_PER_MS 1000000
#define NS_PER_TIMER_UNIT 100
#define FAR_NS (100 * (int64_t)NS_PER_MS)
#define NEAR_MS 32 /* two ticks of the coarsest clock: so much before its end a far wait is near */

typedef NTSTATUS(NTAPI *create_packet)(HANDLE *, ACCESS_MASK, OBJECT_ATTRIBUTES *);
typedef NTSTATUS(NTAPI *associate_packet)(HANDLE packet, HANDLE port, HANDLE object, void *key,
                                          void *overlapped, NTSTATUS, ULONG_PTR, BOOLEAN *);
typedef NTSTATUS(NTAPI *cancel_packet)(HANDLE packet, BOOLEAN queued_too);

enum { UNTRIED, COARSE, BY_PACKET, BY_WAITING };

static void *iocp_timer__export(const char *name)
{
    HMODULE ntdll = GetModuleHandleW(L"ntdll.dll");
    return ntdll != NULL ? (void *)(uintptr_t)GetProcAddress(ntdll, name) : NULL;
}

static void iocp_timer__open(iocp_timer *timer)
{
    create_packet create = (create_packet)iocp_timer__export("NtCreateWaitCompletionPacket");

    timer->way = COARSE;
    timer->associate = iocp_timer__export("NtAssociateWaitCompletionPacket");
    timer->cancel = iocp_timer__export("NtCancelWaitCompletionPacket");
    timer->object =
        CreateWaitableTimerExW(NULL, NULL, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    if (timer->object == NULL)
        return;
    timer->way = BY_WAITING;
    if (create != NULL && timer->associate != NULL && timer->cancel != NULL &&
        create(&timer->packet, MAXIMUM_ALLOWED, NULL) == 0)
        timer->way = BY_PACKET;
}

void iocp_timer_close(iocp_timer *timer)
{
    if (timer->packet != NULL)
        CloseHandle(timer->packet);
    if (timer->object != NULL)
        CloseHandle(timer->object);
    *timer = (iocp_timer){ .way = UNTRIED };
}

/* Up to the next whole millisecond: never too early. */
static DWORD iocp_timer__whole_ms(int64_t ns)
{
    int64_t ms = ns / NS_PER_MS + (ns % NS_PER_MS != 0);
    return ms < (int64_t)INFINITE ? (DWORD)ms : INFINITE - 1;
}

/* The timer's packet has no operation, as the wake-up's. */
static DWORD iocp_timer__by_packet(iocp_timer *timer, HANDLE completions, int64_t ns,
                                   uint64_t *system_calls)
{
    BOOLEAN due = FALSE;

    if (((associate_packet)timer->associate)(timer->packet, completions, timer->object, NULL, NULL,
                                             0, 0, &due) != 0) {
        timer->way = COARSE;
        return iocp_timer__whole_ms(ns);
    }
    timer->queues = 1;
    counts_add(system_calls, 1);
    return INFINITE;
}

static DWORD iocp_timer__by_waiting(iocp_timer *timer, HANDLE completions, int64_t ns,
                                    uint64_t *system_calls)
{
    HANDLE either[] = { completions, timer->object };

    counts_add(system_calls, 1);
    if (WaitForMultipleObjects(2, either, FALSE, INFINITE) == WAIT_FAILED) {
        timer->way = COARSE;
        return iocp_timer__whole_ms(ns);
    }
    return 0;
}

DWORD iocp_timer_start(iocp_timer *timer, HANDLE completions, int64_t ns, uint64_t *system_calls)
{
    if (ns < 0)
        return INFINITE;
    if (ns > FAR_NS)
        return iocp_timer__whole_ms(ns - NEAR_MS * (int64_t)NS_PER_MS);
    if (timer->way == UNTRIED)
        iocp_timer__open(timer);
    LARGE_INTEGER due = { .QuadPart = -((ns + NS_PER_TIMER_UNIT - 1) / NS_PER_TIMER_UNIT) };
    if (timer->way == COARSE || !SetWaitableTimer(timer->object, &due, 0, NULL, NULL, FALSE))
        return iocp_timer__whole_ms(ns);
    counts_add(system_calls, 1);
    return timer->way == BY_PACKET ? iocp_timer__by_packet(timer, completions, ns, system_calls)
                                   : iocp_timer__by_waiting(timer, completions, ns, system_calls);
}

void iocp_timer_stop(iocp_timer *timer, uint64_t *system_calls)
{
    if (!timer->queues)
        return;
    timer->queues = 0;
    (void)((cancel_packet)timer->cancel)(timer->packet, TRUE);
    counts_add(system_calls, 1);
}
