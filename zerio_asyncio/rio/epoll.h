/* epoll.h: what epoll.c (bytes, waiting) and readiness.c (everything else that a port reports) know
 * of each other. */
#ifndef ZERIO_EPOLL_H
#define ZERIO_EPOLL_H

#include "linux.h"

/* Events fetched by one epoll_wait: 3 KiB of stack, and at 5 µs each a millisecond of work. */
#define EPOLL_EVENTS_MAX 256

typedef struct epoll_port {
    rio_linux_port base; /* first: handles of ports lead to it */
    rio_interests main;
    rio_interests aside;
    uint8_t without_pwait2;
} epoll_port;

/* epoll.c */
extern const rio_driver epoll_driver;
static inline epoll_port *epoll_port_of(const rio_port *handle, int32_t *code)
{
    return (epoll_port *)rio_linux_port_of(handle, &epoll_driver, code);
}

/* readiness.c */
/* The main instance has this descriptor for something else: makes that go aside. 1 if it did. */
int epoll_move_aside(epoll_port *, int descriptor);
/* One event of an instance; returns how many of ours it made, at most `room`. */
uint32_t epoll_event_take(epoll_port *, rio_interests *, uint64_t tag, uint32_t what,
                          rio_port_event *, uint32_t room);
uint32_t epoll_aside_events(epoll_port *, rio_port_event *, uint32_t room);
int32_t epoll_watch(rio_port *, rio_socket, uint32_t mask, uint64_t key);
int32_t epoll_accept(rio_port *, rio_socket, uint64_t key);
int32_t epoll_accept_alone(rio_port *, rio_socket, uint32_t alone);
int32_t epoll_accept_stop(rio_port *, rio_socket);
int32_t epoll_connect(rio_port *, rio_socket, const void *address, uint32_t length, uint64_t key);
int32_t epoll_connect_stop(rio_port *, rio_socket);

#endif
