/* winsock_table.h: the system's own table of Registered I/O (winsock_table.c). */
#ifndef ZERIO_WINSOCK_TABLE_H
#define ZERIO_WINSOCK_TABLE_H

#include "windows/sdk.h"

#include "rio.h"

/* As Microsoft's headers have them, for headers that lack them (tests/rio/abi). */
#ifndef WSA_FLAG_REGISTERED_IO
#define WSA_FLAG_REGISTERED_IO 0x100
#endif
#ifndef SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER
#define SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER _WSAIORW(IOC_WS2, 36)
#endif
#ifndef WSAID_MULTIPLE_RIO
#define WSAID_MULTIPLE_RIO                                                                         \
    { 0x8509e081, 0x96dd, 0x4005, { 0xb1, 0x65, 0x9e, 0x2e, 0xe8, 0xc7, 0x9e, 0x3f } }
#endif

#define WINSOCK_ENTRIES 13

/* The system's table; to be used after winsock_table_load. */
extern RIO_EXTENSION_FUNCTION_TABLE winsock_table;

/* 0, or a code, and why in `reason`, which may be null with a size of 0. */
int32_t winsock_table_load(char *reason, uint32_t size);

/* A socket made for Registered I/O, whose transport has this table; INVALID_SOCKET:
 * WSAGetLastError. After winsock_table_load. */
SOCKET winsock_table_make(int family, int type, int protocol);
rio_socket winsock_table_make_socket(int32_t family, int32_t type, int32_t protocol);

/* Whether it is such a one. */
int winsock_table_made(SOCKET);
int32_t winsock_table_is_made(rio_socket);

#endif
