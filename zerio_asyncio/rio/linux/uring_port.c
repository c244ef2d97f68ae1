/* uring_port.c: the list of request queues that are due, and submission entries. */
#include "linux/uring_port.h"

void uring_port_due(rio_rq *rq)
{
    uring_port *port = (uring_port *)rq->hub;
    uring_side *side = uring_port_side(rq);

    if (side->due)
        return;
    side->due = 1;
    side->next = NULL;
    side->previous = port->last_due;
    *(port->last_due != NULL ? &uring_port_side(port->last_due)->next : &port->first_due) = rq;
    port->last_due = rq;
}

void uring_port_not_due(rio_rq *rq)
{
    uring_port *port = (uring_port *)rq->hub;
    uring_side *side = uring_port_side(rq);

    if (!side->due)
        return;
    side->due = 0;
    rio_rq **next =
        side->previous != NULL ? &uring_port_side(side->previous)->next : &port->first_due;
    rio_rq **previous =
        side->next != NULL ? &uring_port_side(side->next)->previous : &port->last_due;
    *next = side->next;
    *previous = side->previous;
}

void uring_port_receive(rio_rq *rq, int more)
{
    uring_port_side(rq)->more |= (uint8_t)more;
    uring_port_due(rq);
}

/* ------------------------------------------------------------------------- submission entries */

/* One system call. Number submitted, or minus an errno. */
int uring_port_enter(uring_port *port, int events, uint32_t least, int64_t timeout_ns,
                     uint32_t gather_us)
{
    int result = ring_enter(&port->ring, events, least, timeout_ns, gather_us);
    counts_add(&port->base.hub.counts.system_calls, 1);
    if (RIO_LIKELY(result > 0))
        counts_add(&port->base.hub.counts.submissions, (uint32_t)result);
    port->sends = 0;
    return result;
}

struct io_uring_sqe *uring_port_next(uring_port *port)
{
    struct io_uring_sqe *entry = ring_next(&port->ring);
    if (RIO_UNLIKELY(entry == NULL)) {
        (void)uring_port_enter(port, 0, 0, 0, 0);
        entry = ring_next(&port->ring);
    }
    if (RIO_LIKELY(entry != NULL))
        counts_add(&port->base.hub.counts.in_kernel, 1);
    return entry;
}

void uring_port_cancel(uring_port *port, uint64_t number)
{
    struct io_uring_sqe *entry = uring_port_next(port);
    if (entry == NULL)
        return;
    entry->opcode = IORING_OP_ASYNC_CANCEL;
    entry->fd = -1;
    entry->addr = number;
    entry->cancel_flags =
        number == URING_NOBODY ? IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL : 0;
    entry->user_data = URING_NOBODY;
}
