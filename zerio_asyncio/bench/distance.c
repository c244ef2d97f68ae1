/* How far two CPUs are from each other: the time of a cache line's way there and back.
 *
 * On loopback everything one side sends is read by the other, so the caches between them are part
 * of the measurement. A host may move a virtual machine's CPUs at any moment to cores that share no
 * cache; the same work then takes twice as long, on both sides, without a trace in the guest.
 */
#define _GNU_SOURCE
#include "native.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum { TRIPS = 1000, BATCHES = 5 };

typedef struct {
    _Atomic int ball; /* odd: on its way there; even: back */
    int other_cpu;
    int pinned;
} court;

static int pin_to(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

static void *return_ball(void *argument)
{
    court *self = argument;
    self->pinned = pin_to(self->other_cpu);
    for (int trip = 0; trip < TRIPS * BATCHES; trip++) {
        while (atomic_load_explicit(&self->ball, memory_order_acquire) != 2 * trip + 1)
            ;
        atomic_store_explicit(&self->ball, 2 * trip + 2, memory_order_release);
    }
    return NULL;
}

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

int distance_ns(int cpu, int other_cpu, uint64_t *ns)
{
    cpu_set_t before;
    pthread_t thread;
    court self = {.other_cpu = other_cpu};
    if (cpu < 0 || other_cpu < 0 || cpu >= CPU_SETSIZE || other_cpu >= CPU_SETSIZE
        || cpu == other_cpu)
        return -EINVAL;
    int error = pthread_getaffinity_np(pthread_self(), sizeof before, &before);
    if (error == 0)
        error = pin_to(cpu);
    if (error != 0)
        return -error;
    error = pthread_create(&thread, NULL, return_ball, &self);
    if (error == 0) {
        uint64_t best = UINT64_MAX;
        for (int batch = 0, trip = 0; batch < BATCHES; batch++) {
            uint64_t start = now_ns();
            for (int end = trip + TRIPS; trip < end; trip++) {
                atomic_store_explicit(&self.ball, 2 * trip + 1, memory_order_release);
                while (atomic_load_explicit(&self.ball, memory_order_acquire) != 2 * trip + 2)
                    ;
            }
            uint64_t taken = now_ns() - start;
            /* The least: an interrupt only adds. The first batch also waits for the thread. */
            if (taken < best)
                best = taken;
        }
        pthread_join(thread, NULL);
        error = self.pinned;
        *ns = best / TRIPS;
    }
    pthread_setaffinity_np(pthread_self(), sizeof before, &before);
    return -error;
}
