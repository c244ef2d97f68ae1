/* uring_requests.h: bytes of request queues over the ring (uring_requests.c). */
#ifndef ZERIO_URING_REQUESTS_H
#define ZERIO_URING_REQUESTS_H

#include "linux/uring_port.h"

/* How often a call waits a moment for the kernel to release a cancelled operation. Cancelling is
 * immediate for what io_uring polls, that is, for everything we do; this is for the rest. */
#define URING_PATIENCE 10

/* The driver's entries. */
void uring_requests_start(rio_hub *, rio_rq *, enum rio_direction);
int64_t uring_requests_now(rio_rq *, enum rio_direction, char *memory, uint32_t length);

/* Writes an entry for everything that waits and whose direction is free. */
void uring_requests_write(uring_port *);
/* Handles every available result; returns how many. */
uint32_t uring_requests_fetch(uring_port *);
/* Submits, checks for results for a moment if `patient`, and handles them. */
void uring_requests_turn(uring_port *, int patient);

#endif
