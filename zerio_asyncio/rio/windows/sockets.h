/* sockets.h: cold questions about sockets (sockets.c). */
#ifndef ZERIO_SOCKETS_H
#define ZERIO_SOCKETS_H

#include "windows/sdk.h"

#include "rio.h"

void sockets_close(rio_socket);
/* 0 and whether it carries bytes or datagrams, and its family; WSAENOTSOCK, WSAEOPNOTSUPP. */
int32_t sockets_kind(rio_socket, uint8_t *stream, int *family);
/* An extension function of the socket's transport; null if there is none. */
void *sockets_extension(SOCKET, GUID which);
/* Entries of the provider table. */
int64_t sockets_send(rio_socket, const void *memory, uint32_t length);
int64_t sockets_receive(rio_socket, void *memory, uint32_t length);
uint64_t sockets_identity(rio_socket);

#endif
