/* datagrams.h: many datagrams in one system call, for both providers of Linux (datagrams.c). */
#ifndef ZERIO_DATAGRAMS_H
#define ZERIO_DATAGRAMS_H

#include "table/rq.h"

/* Moves what the socket provides or takes now, for the first waiting requests in its direction: at
 * least one, and none in the kernel. 0: it provides or takes nothing more now. */
int datagrams_receive(rio_rq *);
int datagrams_send(rio_rq *);
/* The driver's `datagrams_now`. */
int64_t datagrams_now(rio_rq *, const rio_datagram *, uint32_t count);

#endif
