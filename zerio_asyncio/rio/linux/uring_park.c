/* uring_park.c: taking operations back from the ring: all of them for a park, those of a retired
 * socket, the receives of one that stays.
 *
 * A cancellation is an entry like any other. Everything we do is polled by io_uring, and that ends
 * while the cancellation is submitted. What was already running ends by itself in a moment: each
 * function here checks for results a few times and then gives up, because the kernel has the last
 * word.
 *
 * What can go wrong.
 *   - Cancelling races with completing: what was taken back may have moved bytes. They are its
 *     result, as always.
 *   - The ring is another thread's (rule 10): nothing can be cancelled from here.
 *
 * Links: https://man7.org/linux/man-pages/man3/io_uring_prep_cancel.3.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_park.h"

#include "linux/uring_edges.h"
#include "linux/uring_requests.h"
#include "linux/uring_rest.h"

#define PARK_TURNS 1000 /* patient ones */

int32_t uring_park(uring_port *port)
{
    uint64_t *in_kernel = &port->base.hub.counts.in_kernel;

    if (port->thread == 0 || port->parked)
        return 0;
    if (port->thread != ring_thread())
        return RIO_EINVAL;
    port->parking = 1;
    for (int turn = 0; turn < PARK_TURNS && *in_kernel != 0; turn++) {
        uring_port_cancel(port, URING_NOBODY);
        uring_requests_turn(port, turn != 0);
    }
    port->parking = 0;
    if (*in_kernel != 0)
        return RIO_EWOULDBLOCK;
    ring_disown(&port->ring);
    port->parked = 1;
    return 0;
}

void uring_park_detach(rio_hub *hub, rio_rq *rq)
{
    uring_port *port = (uring_port *)hub;

    uring_port_not_due(rq);
    if (uring_port_side(rq)->edges && hub_ours(hub))
        uring_edges_end(port, rq);
    if (hub_ours(hub))
        uring_rest_end(port, rq);
    if (!hub_ours(hub) || port->ring.descriptor < 0) {
        /* The kernel's operation is the parent's, or was given up: nothing comes back. */
        rq->lanes[RIO_RECEIVES].flight = rq->lanes[RIO_SENDS].flight = 0;
        return;
    }
    if (rq->lanes[RIO_RECEIVES].flight == 0 && rq->lanes[RIO_SENDS].flight == 0)
        return;
    for (int i = 0; i < 2; i++)
        if (rq->lanes[i].flight != 0)
            uring_port_cancel(port, (uint64_t)(uintptr_t)rq | (uint64_t)i);
    uring_requests_turn(port, 0);
    for (int i = 0; i < URING_PATIENCE; i++) {
        if (rq->lanes[RIO_RECEIVES].flight == 0 && rq->lanes[RIO_SENDS].flight == 0)
            break;
        uring_requests_turn(port, 1);
    }
    uring_port_not_due(rq);
}

int32_t uring_park_recall(rio_hub *hub, rio_rq *rq)
{
    uring_port *port = (uring_port *)hub;
    const rio_lane *lane = &rq->lanes[RIO_RECEIVES];

    if (port->thread != ring_thread())
        return RIO_EINVAL;
    uring_port_cancel(port, (uint64_t)(uintptr_t)rq | URING_RECEIVE);
    uring_requests_turn(port, 0);
    for (int i = 0; i < URING_PATIENCE && lane->flight != 0; i++)
        uring_requests_turn(port, 1);
    return lane->flight == 0 ? 0 : RIO_EWOULDBLOCK; /* then it continues, or is written again */
}
