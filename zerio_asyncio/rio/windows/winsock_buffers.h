/* winsock_buffers.h: memory that is registered with the system (winsock_buffers.c). */
#ifndef ZERIO_WINSOCK_BUFFERS_H
#define ZERIO_WINSOCK_BUFFERS_H

#include "rio.h"
#include "table/atomics.h"

/* Registered memory. */
typedef struct winsock_buffer {
    char *memory;
    RIO_BUFFERID id;   /* the system's */
    atomics_u32 uses; /* requests, and 1 until it is deregistered */
} winsock_buffer;

/* Entries of the provider's table, and its driver's: see hub.h. */
RIO_BUFFERID RIO_CALL winsock_buffers_register(char *memory, uint32_t length);
void RIO_CALL winsock_buffers_deregister(RIO_BUFFERID);
void winsock_buffers_hold(void *registration);
void winsock_buffers_let_go(void *registration);

#endif
