/* How far two CPUs are from each other: the time of a cache line's way there and back.
 *
 * On loopback everything one side sends is read by the other, so the caches between them are part
 * of the measurement. A host may move a virtual machine's CPUs at any moment to cores that share no
 * cache; the same work then takes twice as long, on both sides, without a trace in the guest.
 */
#include "parts.h"

#include "table/atomics.h"

enum { TRIPS = 1000, BATCHES = 5 };

typedef struct {
    atomics_u32 ball; /* odd: on its way there; even: back */
    int other_cpu;
    int pinned;
} court;

static void distance__return(void *argument)
{
    court *self = argument;
    threads_set before;
    self->pinned = threads_pin(self->other_cpu, &before);
    for (uint32_t trip = 0; trip < TRIPS * BATCHES; trip++) {
        while (atomics_load32(&self->ball) != 2 * trip + 1)
            ;
        atomics_store32_release(&self->ball, 2 * trip + 2);
    }
}

/* The least time of a batch: an interrupt only adds. The first one also waits for the thread. */
static uint64_t distance__play(court *self)
{
    uint64_t best = UINT64_MAX;
    uint32_t trip = 0;
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t start = clock_ns();
        for (uint32_t end = trip + TRIPS; trip < end; trip++) {
            atomics_store32_release(&self->ball, 2 * trip + 1);
            while (atomics_load32(&self->ball) != 2 * trip + 2)
                ;
        }
        uint64_t taken = clock_ns() - start;
        if (taken < best)
            best = taken;
    }
    return best;
}

int distance_ns(int cpu, int other_cpu, uint64_t *ns)
{
    threads_set before, between;
    threads_handle thread;
    court self = {.other_cpu = other_cpu};
    if (cpu == other_cpu)
        return -SYSTEM_INVALID;
    /* To both, for a game on one CPU would take for ever. */
    int status = threads_pin(other_cpu, &before);
    if (status != 0)
        return status;
    status = threads_pin(cpu, &between);
    if (status == 0)
        status = threads_start(&thread, distance__return, &self);
    if (status == 0) {
        *ns = distance__play(&self) / TRIPS;
        threads_join(thread);
        status = self.pinned;
    }
    threads_unpin(&before);
    return status;
}
