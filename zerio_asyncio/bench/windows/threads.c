/* Threads and their CPUs: those of the process's own group, 64 at most. */
#include "parts.h"

#include <stdlib.h>

typedef struct {
    void (*run)(void *);
    void *argument;
} threads_task;

int threads_pin(int cpu, threads_set *before)
{
    if (cpu < 0 || cpu >= (int)(8 * sizeof(DWORD_PTR)))
        return -WSAEINVAL;
    DWORD_PTR wanted = (DWORD_PTR)1 << cpu, all;
    HANDLE process = GetCurrentProcess();
    if (!GetProcessAffinityMask(process, &before->process, &all))
        return process_code(GetLastError());
    /* A thread has no CPU that its process lacks. Only then: it sets all of its threads free. */
    if ((before->process & wanted) == 0
        && !SetProcessAffinityMask(process, before->process | wanted))
        return process_code(GetLastError());
    before->thread = SetThreadAffinityMask(GetCurrentThread(), wanted);
    return before->thread == 0 ? process_code(GetLastError()) : 0;
}

void threads_unpin(const threads_set *before)
{
    SetProcessAffinityMask(GetCurrentProcess(), before->process);
    SetThreadAffinityMask(GetCurrentThread(), before->thread & before->process);
}

static DWORD WINAPI threads__run(void *argument)
{
    threads_task task = *(threads_task *)argument;
    free(argument);
    task.run(task.argument);
    return 0;
}

int threads_start(threads_handle *thread, void (*run)(void *), void *argument)
{
    threads_task *task = malloc(sizeof *task);
    if (task == NULL)
        return -WSAENOBUFS;
    *task = (threads_task){run, argument};
    *thread = CreateThread(NULL, 0, threads__run, task, 0, NULL);
    if (*thread != NULL)
        return 0;
    free(task);
    return process_code(GetLastError());
}

void threads_join(threads_handle thread)
{
    WaitForSingleObject(thread, INFINITE);
    CloseHandle(thread);
}
