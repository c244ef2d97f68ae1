/* recalls.c: taking operations back from the ring: all of them for a park, those of one socket that
 * is retired, the receives of one that goes on.
 *
 * A cancellation is an entry like any other, and ends what io_uring polls, that is everything we
 * do, while it is submitted. What was under way all the same ends by itself in a moment: each
 * function here looks for results a few times and then gives up: the kernel has the last word.
 *
 * What can go wrong.
 *   - Cancelling races with completing: what was taken back may have moved bytes. They are its
 *     result, as ever.
 *   - The ring is another thread's (rule 10): nothing can be cancelled from here.
 *
 * Links: https://man7.org/linux/man-pages/man3/io_uring_prep_cancel.3.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uring.h"

#define PARK_TURNS 1000 /* patient ones */

/* Ends everything that is in the kernel; 0, or a code if that cannot be done from here. */
int32_t uring_take_back(uring_port *port)
{
    uint64_t *in_kernel = &port->base.core.counts.in_kernel;

    if (port->thread == 0 || port->parked)
        return 0;
    if (port->thread != rio_thread())
        return RIO_EINVAL;
    port->recalls = 1;
    for (int turn = 0; turn < PARK_TURNS && *in_kernel != 0; turn++) {
        uring_cancel(port, URING_NOBODY);
        uring_turn(port, turn != 0);
    }
    port->recalls = 0;
    if (*in_kernel != 0)
        return RIO_EWOULDBLOCK;
    rio_ring_disown(&port->ring);
    port->parked = 1;
    return 0;
}

int32_t uring_park(rio_port *handle)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);
    return port != NULL ? uring_take_back(port) : code;
}

void uring_detach(rio_core *core, rio_rq *rq)
{
    uring_port *port = (uring_port *)core;

    uring_not_due(rq);
    if (uring_side_of(rq)->edges && rio_core_ours(core))
        uring_edges_end(port, rq);
    if (rio_core_ours(core))
        uring_rest_end(port, rq);
    if (!rio_core_ours(core) || port->ring.descriptor < 0) {
        /* The kernel's operation is the parent's, or was given up: nothing comes back. */
        rq->lanes[RIO_RECEIVES].flight = rq->lanes[RIO_SENDS].flight = 0;
        return;
    }
    if (rq->lanes[RIO_RECEIVES].flight == 0 && rq->lanes[RIO_SENDS].flight == 0)
        return;
    for (int i = 0; i < 2; i++)
        if (rq->lanes[i].flight != 0)
            uring_cancel(port, (uint64_t)(uintptr_t)rq | (uint64_t)i);
    uring_turn(port, 0);
    for (int i = 0; i < URING_PATIENCE; i++) {
        if (rq->lanes[RIO_RECEIVES].flight == 0 && rq->lanes[RIO_SENDS].flight == 0)
            break;
        uring_turn(port, 1);
    }
    uring_not_due(rq);
}

int32_t uring_recall_receive(rio_core *core, rio_rq *rq)
{
    uring_port *port = (uring_port *)core;
    const rio_lane *lane = &rq->lanes[RIO_RECEIVES];

    if (port->thread != rio_thread())
        return RIO_EINVAL;
    uring_cancel(port, (uint64_t)(uintptr_t)rq | URING_RECEIVE);
    uring_turn(port, 0);
    for (int i = 0; i < URING_PATIENCE && lane->flight != 0; i++)
        uring_turn(port, 1);
    return lane->flight == 0 ? 0 : RIO_EWOULDBLOCK; /* then it goes on, or is written again */
}
