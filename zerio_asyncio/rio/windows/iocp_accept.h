/* iocp_accept.h: accepting on Windows (iocp_accept.c). */
#ifndef ZERIO_IOCP_ACCEPT_H
#define ZERIO_IOCP_ACCEPT_H

#include "windows/iocp.h"

int32_t iocp_accept(rio_port *, rio_socket, uint64_t key);
int32_t iocp_accept_stop(rio_port *, rio_socket);
int32_t iocp_accept_alone(rio_port *, rio_socket, uint32_t alone);

#endif
