/* iocp_watch.h: watched sockets on Windows (iocp_watch.c). */
#ifndef ZERIO_IOCP_WATCH_H
#define ZERIO_IOCP_WATCH_H

#include "windows/iocp.h"

int32_t iocp_watch(rio_port *, rio_socket, uint32_t mask, uint64_t key);

#endif
