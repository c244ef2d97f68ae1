/* results.h: results on their way to the caller (results.c). */
#ifndef ZERIO_RESULTS_H
#define ZERIO_RESULTS_H

#include "rio.h"

/* Entries of RIO's table. */
uint32_t RIO_CALL results_dequeue(RIO_CQ, RIORESULT *, uint32_t);
void RIO_CALL results_close_queue(RIO_CQ);

#endif
