/* uring_connect.h: connects of an io_uring port (uring_connect.c). */
#ifndef ZERIO_URING_CONNECT_H
#define ZERIO_URING_CONNECT_H

#include "linux/uring_port.h"

int32_t uring_connect(uring_port *, rio_socket, const void *address, uint32_t length, uint64_t key);
void uring_connect_stop(uring_port *, rio_socket);

#endif
