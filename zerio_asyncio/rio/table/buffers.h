/* buffers.h: registered memory (buffers.c). */
#ifndef ZERIO_BUFFERS_H
#define ZERIO_BUFFERS_H

#include "rio.h"

/* Entries of RIO's table. */
RIO_BUFFERID RIO_CALL buffers_register(char *, uint32_t);
void RIO_CALL buffers_deregister(RIO_BUFFERID);

#endif
