/* overlapped.h: the driver over WSARecv and WSASend, which winsock.c uses, too (overlapped.c). */
#ifndef ZERIO_OVERLAPPED_H
#define ZERIO_OVERLAPPED_H

#include "windows/iocp.h"

/* The driver's part of a request queue. */
typedef struct overlapped_side {
    rio_rq *rq;
    iocp_operation operations[2]; /* by enum rio_direction */
    SOCKADDR_STORAGE address;     /* of the datagram that is being received */
    INT address_length;
    DWORD flags;
} overlapped_side;

extern const rio_driver overlapped_driver;

#endif
