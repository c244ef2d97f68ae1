/* Threads and their CPUs. */
#define _GNU_SOURCE
#include "parts.h"

#include <stdlib.h>

typedef struct {
    void (*run)(void *);
    void *argument;
} threads_task;

int threads_pin(int cpu, threads_set *before)
{
    cpu_set_t set;
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return -EINVAL;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    int error = pthread_getaffinity_np(pthread_self(), sizeof *before, before);
    if (error == 0)
        error = pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    return -error;
}

void threads_unpin(const threads_set *before)
{
    pthread_setaffinity_np(pthread_self(), sizeof *before, before);
}

static void *threads__run(void *argument)
{
    threads_task task = *(threads_task *)argument;
    free(argument);
    task.run(task.argument);
    return NULL;
}

int threads_start(threads_handle *thread, void (*run)(void *), void *argument)
{
    threads_task *task = malloc(sizeof *task);
    if (task == NULL)
        return -ENOMEM;
    *task = (threads_task){run, argument};
    int error = pthread_create(thread, NULL, threads__run, task);
    if (error != 0)
        free(task);
    return -error;
}

void threads_join(threads_handle thread)
{
    pthread_join(thread, NULL);
}
