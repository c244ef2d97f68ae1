/* epoll_port.h: an epoll port, as its parts know it: epoll.c above, and the files beside it. */
#ifndef ZERIO_EPOLL_PORT_H
#define ZERIO_EPOLL_PORT_H

#include "linux/interests.h"
#include "linux/port.h"

/* Events fetched by one epoll_wait: 3 KiB of stack, and a millisecond of work at 5 µs each. */
#define EPOLL_EVENTS_MAX 256

typedef struct epoll_port {
    port_base base; /* first: handles of ports lead to it */
    interests_set main;
    interests_set aside;
    uint8_t without_pwait2;
} epoll_port;

#endif
