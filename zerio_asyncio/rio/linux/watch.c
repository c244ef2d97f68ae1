/* watch.c: watched descriptors on Linux, for both providers: what is allowed, what is reported.
 *
 * Each is an entry of an epoll instance, level-triggered: what is ready and not taken is reported
 * again, so an event for which there is no room is simply dropped. A watch for one event
 * (EPOLLONESHOT) would not be reported again: it is armed again instead. Its entry stays after the
 * event, silent, because arming an entry takes one call and making one takes two. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/watch.h"

#include <limits.h>
#include <sys/epoll.h>

#include "table/events.h"

int32_t watch_check(rio_socket socket, uint32_t mask)
{
    if (socket > INT_MAX)
        return RIO_EBADF;
    return events_watchable(mask) ? 0 : RIO_EINVAL;
}

uint32_t watch_event(interests_set *set, uint64_t tag, uint32_t epoll_events,
                     rio_port_event *events, uint32_t room)
{
    interests_entry *interest = interests_told(set, tag);
    uint32_t mask = 0;

    if (interest == NULL)
        return 0;
    if (room == 0) {
        if (interest->mask & RIO_WATCH_ONCE) /* all others are reported again by themselves */
            interests_again(set, (int)(tag >> TAG_DESCRIPTOR_SHIFT), interest);
        return 0;
    }
    if (epoll_events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        mask |= RIO_WATCH_READ;
    if (epoll_events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        mask |= RIO_WATCH_WRITE;
    mask &= interest->mask;
    *events = (rio_port_event){ .kind = RIO_PORT_READY, .key = interest->key, .value = mask };
    if (interest->mask & RIO_WATCH_ONCE)
        interest->mask = 0;
    return mask != 0;
}
