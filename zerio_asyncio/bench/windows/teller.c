/* A thread that tells other processes this one's CPU time.
 *
 * Where the system counts no cycles, its answer about another process is not to be relied on: Wine
 * gives the caller's own times, whichever process was asked about. So each process of the benchmark
 * has a thread that sleeps until it is asked; on Windows itself it always sleeps.
 */
#include "teller.h"

#include <stdio.h>

enum { PATIENCE_MS = 2000, NAME = 64 };

typedef struct {
    uint64_t user_ns, system_ns;
} times;

typedef struct {
    HANDLE ask, told, memory;
    times *times;
} line;

static line teller__own;

static const char *teller__name(char *room, DWORD pid, const char *what)
{
    (void)snprintf(room, NAME, "Local\\zerio-bench-%lu-%s", (unsigned long)pid, what);
    return room;
}

static DWORD WINAPI teller__tell(void *argument)
{
    line *self = argument;
    while (WaitForSingleObject(self->ask, INFINITE) == WAIT_OBJECT_0) {
        (void)process_split_ns(0, &self->times->user_ns, &self->times->system_ns);
        SetEvent(self->told);
    }
    return 0;
}

int teller_start(void)
{
    char name[NAME];
    line *self = &teller__own;
    DWORD pid = GetCurrentProcessId();
    self->ask = CreateEventA(NULL, FALSE, FALSE, teller__name(name, pid, "ask"));
    self->told = CreateEventA(NULL, FALSE, FALSE, teller__name(name, pid, "told"));
    self->memory = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0,
                                      sizeof *self->times, teller__name(name, pid, "times"));
    if (self->ask == NULL || self->told == NULL || self->memory == NULL)
        return process_code(GetLastError());
    self->times = MapViewOfFile(self->memory, FILE_MAP_WRITE, 0, 0, 0);
    HANDLE thread = NULL;
    if (self->times != NULL)
        thread = CreateThread(NULL, 0, teller__tell, self, 0, NULL);
    if (thread == NULL)
        return process_code(GetLastError());
    SetThreadPriority(thread, THREAD_PRIORITY_HIGHEST); /* it shares the CPU with a busy server */
    CloseHandle(thread);
    return 0;
}

int teller_ask(DWORD pid, uint64_t *user_ns, uint64_t *system_ns)
{
    char name[NAME];
    line asked = {0};
    int answered = 0;
    asked.ask = OpenEventA(EVENT_MODIFY_STATE, FALSE, teller__name(name, pid, "ask"));
    asked.told = OpenEventA(SYNCHRONIZE, FALSE, teller__name(name, pid, "told"));
    asked.memory = OpenFileMappingA(FILE_MAP_READ, FALSE, teller__name(name, pid, "times"));
    if (asked.memory != NULL)
        asked.times = MapViewOfFile(asked.memory, FILE_MAP_READ, 0, 0, 0);
    if (asked.ask != NULL && asked.told != NULL && asked.times != NULL && SetEvent(asked.ask)
        && WaitForSingleObject(asked.told, PATIENCE_MS) == WAIT_OBJECT_0) {
        *user_ns = asked.times->user_ns;
        *system_ns = asked.times->system_ns;
        answered = 1;
    }
    if (asked.times != NULL)
        UnmapViewOfFile(asked.times);
    HANDLE all[] = {asked.ask, asked.told, asked.memory};
    for (int i = 0; i < 3; i++)
        if (all[i] != NULL)
            CloseHandle(all[i]);
    return answered;
}
