/* uring_edges.c: sockets whose polls always report ready, because of a queue of errors that nobody
 * empties (IP_RECVERR, time stamps).
 *
 * They are watched by edges, as entries of the listeners' inner instance. After each edge they are
 * tried without waiting, then they are silent until something comes. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_edges.h"

#include <sys/epoll.h>

#include "linux/uring_polls.h"

/* How sockets watched by edges are registered. */
static const uint32_t uring_edges__events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

uint32_t uring_edges_events(rio_rq *rq)
{
    return uring_port_side(rq)->edges ? uring_edges__events : 0;
}

void uring_edges_begin(uring_port *port, rio_rq *rq)
{
    struct epoll_event event = { .events = uring_edges__events,
                                 .data.u64 = (uint64_t)(uintptr_t)rq->handle };

    if (rq->retired)
        return;
    if (uring_polls_open_inner(port, &port->listening, &port->listeners) != 0)
        return;
    counts_add(&port->base.hub.counts.system_calls, 1);
    if (epoll_ctl(port->listening.epoll, EPOLL_CTL_ADD, (int)rq->socket, &event) == 0)
        uring_port_side(rq)->edges = 1; /* the first one comes at once */
}

void uring_edges_end(uring_port *port, const rio_rq *rq)
{
    struct epoll_event unused = { 0 };
    counts_add(&port->base.hub.counts.system_calls, 1);
    (void)epoll_ctl(port->listening.epoll, EPOLL_CTL_DEL, (int)rq->socket, &unused);
}

void uring_edges_told(uint64_t tag, uint32_t what)
{
    rio_rq *rq = handles_object((void *)(uintptr_t)tag, HANDLES_RQ);
    if (rq == NULL)
        return; /* retired since */
    uring_side *side = uring_port_side(rq);
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        side->readable = 1;
        side->edge = rq->lanes[RIO_RECEIVES].flight != 0;
    }
    if (what & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        side->blocked = 0;
    uring_port_due(rq);
}
