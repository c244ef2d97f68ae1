/* epoll_watch.h: watched descriptors of an epoll port (epoll_watch.c). */
#ifndef ZERIO_EPOLL_WATCH_H
#define ZERIO_EPOLL_WATCH_H

#include "linux/epoll_port.h"

int32_t epoll_watch(epoll_port *, rio_socket, uint32_t mask, uint64_t key);

#endif
