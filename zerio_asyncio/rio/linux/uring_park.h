/* uring_park.h: taking operations back from the ring (uring_park.c). */
#ifndef ZERIO_URING_PARK_H
#define ZERIO_URING_PARK_H

#include "linux/uring_port.h"

/* Ends everything in the kernel; 0, or a code if that cannot be done from here. */
int32_t uring_park(uring_port *);
/* The driver's entries. */
void uring_park_detach(rio_hub *, rio_rq *);
int32_t uring_park_recall(rio_hub *, rio_rq *);

#endif
