/* epoll_events.h: what an epoll port's instances report besides the bytes of request queues. */
#ifndef ZERIO_EPOLL_EVENTS_H
#define ZERIO_EPOLL_EVENTS_H

#include "linux/epoll_port.h"

/* Handles one event of an instance; returns how many of ours it made, at most `room`. */
uint32_t epoll_events_take(epoll_port *, interests_set *, uint64_t tag, uint32_t what,
                           rio_port_event *, uint32_t room);
/* Takes what the second instance has. */
uint32_t epoll_events_aside(epoll_port *, rio_port_event *, uint32_t room);

#endif
