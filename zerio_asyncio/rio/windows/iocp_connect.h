/* iocp_connect.h: connecting on Windows (iocp_connect.c). */
#ifndef ZERIO_IOCP_CONNECT_H
#define ZERIO_IOCP_CONNECT_H

#include "windows/iocp.h"

int32_t iocp_connect(rio_port *, rio_socket, const void *, uint32_t length, uint64_t key);
int32_t iocp_connect_stop(rio_port *, rio_socket);

#endif
