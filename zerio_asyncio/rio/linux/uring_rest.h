/* uring_rest.h: receives that wait for readiness instead of in the ring (uring_rest.c). */
#ifndef ZERIO_URING_REST_H
#define ZERIO_URING_REST_H

#include "linux/uring_port.h"

/* A receive that this many consecutive parks have taken back rests. The first park may be the only
 * one: most loops run once to make their connections and then for good. */
#define URING_IDLE_PARKS 2

/* 1 if the queue's receive rests now. */
int uring_rest(uring_port *, rio_rq *);
void uring_rest_end(uring_port *, rio_rq *);
/* The descriptor is to be watched, and can be there only once: a resting receive goes to the
 * ring. */
void uring_rest_give_way(uring_port *, int descriptor);
/* Something happened to the resting queue with this tag. */
void uring_rest_told(uring_port *, uint64_t tag);

#endif
