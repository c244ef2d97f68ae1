/* epoll_connect.h: connects of an epoll port (epoll_connect.c). */
#ifndef ZERIO_EPOLL_CONNECT_H
#define ZERIO_EPOLL_CONNECT_H

#include "linux/epoll_port.h"

int32_t epoll_connect(epoll_port *, rio_socket, const void *address, uint32_t length, uint64_t key);
void epoll_connect_stop(epoll_port *, rio_socket);
/* The socket is writable: the connect has ended, and the socket leaves the instance. */
rio_port_event epoll_connect_told(epoll_port *, interests_set *, int descriptor, uint64_t key);

#endif
