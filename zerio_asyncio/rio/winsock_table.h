/* winsock_table.h: what winsock.c (the provider) and winsock_table.c (the system's table,
 * registered memory) know of each other. */
#ifndef ZERIO_WINSOCK_TABLE_H
#define ZERIO_WINSOCK_TABLE_H

#include "iocp.h"

/* As Microsoft's headers have them, for headers that lack them (tests/rio/abi). */
#ifndef WSA_FLAG_REGISTERED_IO
#define WSA_FLAG_REGISTERED_IO 0x100
#endif
#ifndef SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER
#define SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER _WSAIORW(IOC_WS2, 36)
#endif
#ifndef WSAID_MULTIPLE_RIO
#define WSAID_MULTIPLE_RIO                                                                        \
    { 0x8509e081, 0x96dd, 0x4005, { 0xb1, 0x65, 0x9e, 0x2e, 0xe8, 0xc7, 0x9e, 0x3f } }
#endif

#define WINSOCK_ENTRIES 13

/* Registered memory. */
typedef struct winsock_buffer {
    char *memory;
    RIO_BUFFERID id;   /* the system's */
    rio_atomic32 uses; /* requests, and 1 until it is deregistered */
} winsock_buffer;

/* The system's table; to be used after winsock_load. */
extern RIO_EXTENSION_FUNCTION_TABLE winrio;

/* 0, or a code, and why in `reason`, which may be null with a size of 0. */
int32_t winsock_load(char *reason, uint32_t size);

/* The same for the table of a socket's transport, into `table`. */
int32_t winsock_ask(SOCKET, RIO_EXTENSION_FUNCTION_TABLE *table, char *reason, uint32_t size);

/* A socket made for Registered I/O; INVALID_SOCKET: WSAGetLastError. */
SOCKET winsock_make(int family, int type, int protocol);
rio_socket winsock_make_socket(int32_t family, int32_t type, int32_t protocol);

/* Entries of the provider's table, and its driver's: see emulation.h. */
RIO_BUFFERID RIO_CALL winsock_register_buffer(char *memory, uint32_t length);
void RIO_CALL winsock_deregister_buffer(RIO_BUFFERID);
void winsock_hold(void *registration);
void winsock_let_go(void *registration);

#endif
