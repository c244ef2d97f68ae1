/* uring_edges.h: sockets whose polls always report ready (uring_edges.c). */
#ifndef ZERIO_URING_EDGES_H
#define ZERIO_URING_EDGES_H

#include "linux/uring_port.h"

/* From now on the socket is watched by edges; if the system has no room, nothing changes. */
void uring_edges_begin(uring_port *, rio_rq *);
void uring_edges_end(uring_port *, const rio_rq *);
/* An edge of the queue with this tag. */
void uring_edges_told(uint64_t tag, uint32_t what);
/* How a queue's socket is registered for edges; 0: not at all. */
uint32_t uring_edges_events(rio_rq *);

#endif
