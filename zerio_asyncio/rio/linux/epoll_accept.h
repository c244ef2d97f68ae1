/* epoll_accept.h: listeners of an epoll port (epoll_accept.c). */
#ifndef ZERIO_EPOLL_ACCEPT_H
#define ZERIO_EPOLL_ACCEPT_H

#include "linux/epoll_port.h"

int32_t epoll_accept(epoll_port *, rio_socket, uint64_t key);
int32_t epoll_accept_alone(epoll_port *, rio_socket, uint32_t alone);
void epoll_accept_stop(epoll_port *, rio_socket);

#endif
