/* uring_rest.c: receives that several parks have taken back rest among the watches.
 *
 * Taking back and submitting the receives of a thousand idle connections for each run of a loop
 * would cost a millisecond. An entry of the watches' inner instance belongs to no thread, is made
 * once, stays, and is silent after its event. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_rest.h"

#include "linux/uring_polls.h"

int uring_rest(uring_port *port, rio_rq *rq)
{
    uring_side *side = (uring_side *)rq->driver;

    if (RIO_LIKELY(side->idle < URING_IDLE_PARKS) || !rq->stream)
        return 0;
    if (!side->rests) {
        if (uring_polls_open_inner(port, &port->watched, &port->watches) != 0 ||
            interests_put(&port->watched, (int)rq->socket, FOR_REST,
                          RIO_WATCH_READ | RIO_WATCH_ONCE, (uint64_t)(uintptr_t)rq) != 0) {
            side->idle = 0; /* watched by the program, or no memory: it waits in the ring */
            return 0;
        }
        side->rests = 1;
        counts_add(&port->base.hub.counts.system_calls, 1);
    }
    return 1;
}

void uring_rest_end(uring_port *port, rio_rq *rq)
{
    uring_side *side = (uring_side *)rq->driver;
    const interests_entry *interest = interests_at(&port->watched, (int)rq->socket, FOR_REST);

    side->rests = 0;
    side->idle = 0;
    if (interest != NULL && interest->key == (uint64_t)(uintptr_t)rq) {
        interests_drop(&port->watched, (int)rq->socket, FOR_REST);
        counts_add(&port->base.hub.counts.system_calls, 1);
    }
}

void uring_rest_give_way(uring_port *port, int descriptor)
{
    const interests_entry *interest = interests_at(&port->watched, descriptor, FOR_REST);
    if (interest == NULL)
        return;
    rio_rq *rq = (rio_rq *)(uintptr_t)interest->key;
    uring_rest_end(port, rq);
    uring_port_receive(rq, 0);
}

/* A resting queue has something to receive: the receive is due, and will not have to wait. */
void uring_rest_told(uring_port *port, uint64_t tag)
{
    const interests_entry *interest = interests_of(&port->watched, tag);
    if (interest == NULL)
        return;
    rio_rq *rq = (rio_rq *)(uintptr_t)interest->key;
    uring_side *side = (uring_side *)rq->driver;
    side->rests = 0;
    side->idle = 0;
    uring_port_receive(rq, 1);
}
