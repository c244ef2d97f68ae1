/* epoll_events.c: what an epoll port's instances report besides the bytes of request queues:
 * watched descriptors, new connections, ended connects. An event for which the caller's array has
 * no room is dropped: it is reported again. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/epoll_events.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "linux/accept.h"
#include "linux/epoll_connect.h"
#include "linux/watch.h"

uint32_t epoll_events_take(epoll_port *port, interests_set *set, uint64_t tag, uint32_t what,
                           rio_port_event *events, uint32_t room)
{
    int descriptor = (int)(tag >> TAG_DESCRIPTOR_SHIFT);
    interests_entry *interest = interests_of(set, tag);

    if (interest == NULL || interest->purpose == FOR_WATCH)
        return watch_event(set, tag, what, events, room);
    if (room == 0)
        return 0;
    switch (interest->purpose) {
    case FOR_ACCEPT:
        return accept_take(&port->base, set, tag, events, room);
    default:
        *events = epoll_connect_told(port, set, descriptor, interest->key);
        return 1;
    }
}

static void epoll_events__renew(epoll_port *port)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = FOR_ASIDE };
    int old;

    if (!interests_renew(&port->aside, &old))
        return;
    (void)epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, port->aside.epoll, &event);
    close(old);
}

uint32_t epoll_events_aside(epoll_port *port, rio_port_event *events, uint32_t room)
{
    struct epoll_event happened[EPOLL_EVENTS_MAX];
    int most = room < EPOLL_EVENTS_MAX ? (int)room : EPOLL_EVENTS_MAX;
    int size = room == 0 ? 0 : epoll_wait(port->aside.epoll, happened, most, 0);
    uint32_t count = 0;

    counts_add(&port->base.hub.counts.system_calls, 1);
    for (int i = 0; i < size; i++)
        count += epoll_events_take(port, &port->aside, happened[i].data.u64, happened[i].events,
                                   events + count, room - count);
    if (RIO_UNLIKELY(port->aside.stale != 0))
        epoll_events__renew(port);
    return count;
}
