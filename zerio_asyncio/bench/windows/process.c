/* CPU time of another process, read at an exact moment.
 *
 * GetProcessTimes moves by 15.6 ms at a time: the system looks at each tick of its clock who runs.
 * QueryProcessCycleTime counts what ran between two switches of threads, in cycles of the time
 * stamp counter. That is the better figure wherever this program can read that counter itself, for
 * only so is it known how long a cycle is: how far the counter and the clock have come since the
 * beginning. Neither has the time of interrupts.
 */
#include "teller.h"

#include <stdlib.h>
#include <timeapi.h>

enum { FIRST_NS = 20000000 }; /* the least time over which a cycle is measured */

static uint64_t process__first_ns, process__first_cycles;

int process_code(DWORD error)
{
    switch (error) {
    case ERROR_ACCESS_DENIED:
        return -WSAEACCES;
    case ERROR_INVALID_HANDLE:
        return -WSAEBADF;
    case ERROR_INVALID_PARAMETER:
        return -WSAEINVAL;
    default:
        return -(int)error;
    }
}

uint64_t clock_ns(void)
{
    static const uint64_t second = 1000000000u;
    LARGE_INTEGER rate, now;
    QueryPerformanceFrequency(&rate);
    QueryPerformanceCounter(&now);
    uint64_t ticks = (uint64_t)now.QuadPart, per_second = (uint64_t)rate.QuadPart;
    return ticks / per_second * second + ticks % per_second * second / per_second;
}

void clock_be_precise(void)
{
    (void)timeBeginPeriod(1);
}

/* Ends with its parent, in a thread that sleeps until then. */
static DWORD WINAPI process__outlive(void *argument)
{
    WaitForSingleObject(argument, INFINITE);
    TerminateProcess(GetCurrentProcess(), 1);
    return 0;
}

int process_die_with_parent(int parent)
{
    HANDLE process = OpenProcess(SYNCHRONIZE, FALSE, (DWORD)parent);
    if (process == NULL)
        return process_code(GetLastError());
    HANDLE thread = CreateThread(NULL, 0, process__outlive, process, 0, NULL);
    if (thread == NULL)
        return process_code(GetLastError());
    CloseHandle(thread);
    return teller_start();
}

#if defined(_M_X64) || defined(__x86_64__) || defined(_M_IX86) || defined(__i386__)
static uint64_t process__counter(void)
{
    return __rdtsc();
}
#else
static uint64_t process__counter(void)
{
    return 0; /* programs cannot read it there */
}
#endif

/* How long so many cycles are; 0 where that cannot be known. */
static uint64_t process__cycles_ns(uint64_t cycles)
{
    if (process__first_ns == 0) {
        process__first_ns = clock_ns();
        process__first_cycles = process__counter();
    }
    while (clock_ns() - process__first_ns < FIRST_NS)
        Sleep(1);
    uint64_t passed_ns = clock_ns() - process__first_ns;
    uint64_t passed = process__counter() - process__first_cycles;
    return passed == 0 ? 0 : (uint64_t)((double)cycles * ((double)passed_ns / (double)passed));
}

static HANDLE process__open(int pid)
{
    return pid == 0 ? GetCurrentProcess()
                    : OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, (DWORD)pid);
}

static void process__close(int pid, HANDLE process)
{
    if (pid != 0)
        CloseHandle(process);
}

/* Whether the system counts cycles; if not, see teller.c. */
static int process__counts(HANDLE process, ULONG64 *cycles)
{
    return QueryProcessCycleTime(process, cycles) && *cycles != 0;
}

static uint64_t process__file_time_ns(FILETIME time)
{
    return ((uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) * 100u;
}

static int process__times(HANDLE process, uint64_t *user_ns, uint64_t *system_ns)
{
    FILETIME created, ended, system, user;
    if (!GetProcessTimes(process, &created, &ended, &system, &user))
        return process_code(GetLastError());
    *user_ns = process__file_time_ns(user);
    *system_ns = process__file_time_ns(system);
    return 0;
}

int process_split_ns(int pid, uint64_t *user_ns, uint64_t *system_ns)
{
    HANDLE process = process__open(pid);
    if (process == NULL)
        return process_code(GetLastError());
    ULONG64 cycles = 0;
    int status = 0;
    if (pid == 0 || process__counts(process, &cycles)
        || !teller_ask((DWORD)pid, user_ns, system_ns))
        status = process__times(process, user_ns, system_ns);
    process__close(pid, process);
    return status;
}

int process_cpu_ns(int pid, uint64_t *ns)
{
    HANDLE process = process__open(pid);
    uint64_t user_ns = 0, system_ns = 0;
    ULONG64 cycles = 0;
    int status = 0;
    if (process == NULL)
        return process_code(GetLastError());
    *ns = process__counts(process, &cycles) ? process__cycles_ns(cycles) : 0;
    process__close(pid, process);
    if (*ns == 0) {
        status = process_split_ns(pid, &user_ns, &system_ns);
        *ns = user_ns + system_ns;
    }
    return status;
}
