/* watch.h: watched descriptors on Linux, for both providers (watch.c). */
#ifndef ZERIO_WATCH_H
#define ZERIO_WATCH_H

#include "linux/interests.h"

/* 0 if watch may be asked for this, else the code. */
int32_t watch_check(rio_socket, uint32_t mask);
/* An epoll event of a watch as an event of the port; returns 1 if it is one and there is room. */
uint32_t watch_event(interests_set *, uint64_t tag, uint32_t epoll_events, rio_port_event *,
                     uint32_t room);

#endif
