/* readiness.c: what an epoll port reports beside the bytes of request queues: watched descriptors,
 * new connections (listeners.c takes them), finished connects.
 *
 * All of them are level-triggered entries of the port's instance (epoll.c): what is ready and not
 * taken is reported again, so an event for which the caller's array has no room is just dropped.
 * A watch for one event (EPOLLONESHOT) would not be: it is armed again instead. Its entry stays
 * after the event, silent, because arming an entry is one call where making one needs two.
 *
 * What can go wrong.
 *   - A descriptor can be in an instance only once, but may be watched while it has a request queue
 *     or while it connects. Whatever finds its place taken goes to a second instance, `aside`,
 *     which is itself an entry of the first and is made when it is first needed.
 *   - A watched descriptor that is closed without a word leaves the instance by itself, except when
 *     a forked process holds the same file: then an event with a stale tag comes, and the instance
 *     is made anew (linux.c).
 *
 * Links: https://man7.org/linux/man-pages/man7/epoll.7.html
 *        https://man7.org/linux/man-pages/man2/connect.2.html (EINPROGRESS)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "epoll.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ------------------------------------------------------------------------------- instances */

/* Into the second instance, which is made when it is first needed. */
static int32_t epoll__put_aside(epoll_port *port, int descriptor, enum rio_purpose purpose,
                                uint32_t mask, uint64_t key)
{
    if (port->aside.epoll < 0) {
        struct epoll_event event = { .events = EPOLLIN, .data.u64 = RIO_FOR_ASIDE };
        int aside = epoll_create1(EPOLL_CLOEXEC);
        if (aside < 0 || epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, aside, &event) != 0) {
            int32_t code = rio_code_of_errno(errno);
            if (aside >= 0)
                close(aside);
            return code;
        }
        port->aside.epoll = aside;
    }
    return rio_interests_put(&port->aside, descriptor, purpose, mask, key);
}

static int32_t epoll__put(epoll_port *port, int descriptor, enum rio_purpose purpose,
                          uint32_t mask, uint64_t key)
{
    rio_count(&port->base.core.counts.system_calls, 1);
    if (rio_interests_at(&port->aside, descriptor, purpose) == NULL) {
        int32_t code = rio_interests_put(&port->main, descriptor, purpose, mask, key);
        if (code != RIO_EALREADY)
            return code;
    }
    return epoll__put_aside(port, descriptor, purpose, mask, key);
}

static void epoll__drop(epoll_port *port, int descriptor, enum rio_purpose purpose)
{
    rio_count(&port->base.core.counts.system_calls, 1);
    rio_interests_drop(&port->main, descriptor, purpose);
    rio_interests_drop(&port->aside, descriptor, purpose);
}

/* The main instance has this descriptor for something else: make it go aside. */
int epoll_move_aside(epoll_port *port, int descriptor)
{
    if ((uint32_t)descriptor >= port->main.length)
        return 0;
    rio_interest interest = port->main.table[descriptor];
    enum rio_purpose purpose = (enum rio_purpose)interest.purpose;
    if (purpose == RIO_FOR_NOTHING || !rio_interests_drop(&port->main, descriptor, purpose))
        return 0;
    if (purpose == RIO_FOR_WATCH && interest.mask == 0)
        return 1; /* it has reported once, as it was to */
    return epoll__put_aside(port, descriptor, purpose, interest.mask, interest.key) == 0;
}

/* ---------------------------------------------------------------------------------- events */

static uint32_t epoll__connect_event(epoll_port *port, rio_interests *set, int descriptor,
                                     const rio_interest *interest, rio_port_event *event)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    *event = rio_connect_event((rio_socket)descriptor, error, interest->key);
    rio_count(&port->base.core.counts.system_calls, 2);
    rio_interests_drop(set, descriptor, RIO_FOR_CONNECT);
    return 1;
}

/* One event of an instance; returns how many of ours it made, at most `room`. */
uint32_t epoll_event_take(epoll_port *port, rio_interests *set, uint64_t tag, uint32_t what,
                             rio_port_event *events, uint32_t room)
{
    int descriptor = (int)(tag >> RIO_TAG_DESCRIPTOR_SHIFT);
    rio_interest *interest = rio_interests_of(set, tag);

    if (interest == NULL || interest->purpose == RIO_FOR_WATCH)
        return rio_watch_event(set, tag, what, events, room);
    if (room == 0)
        return 0;
    switch (interest->purpose) {
    case RIO_FOR_ACCEPT:
        return rio_linux_accept(&port->base, set, tag, events, room);
    default:
        return epoll__connect_event(port, set, descriptor, interest, events);
    }
}

static void epoll__renew_aside(epoll_port *port)
{
    struct epoll_event event = { .events = EPOLLIN, .data.u64 = RIO_FOR_ASIDE };
    int old;

    if (!rio_interests_renew(&port->aside, &old))
        return;
    (void)epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, port->aside.epoll, &event);
    close(old);
}

uint32_t epoll_aside_events(epoll_port *port, rio_port_event *events, uint32_t room)
{
    struct epoll_event happened[EPOLL_EVENTS_MAX];
    int most = room < EPOLL_EVENTS_MAX ? (int)room : EPOLL_EVENTS_MAX;
    int size = room == 0 ? 0 : epoll_wait(port->aside.epoll, happened, most, 0);
    uint32_t count = 0;

    rio_count(&port->base.core.counts.system_calls, 1);
    for (int i = 0; i < size; i++)
        count += epoll_event_take(port, &port->aside, happened[i].data.u64, happened[i].events,
                              events + count, room - count);
    if (RIO_UNLIKELY(port->aside.stale != 0))
        epoll__renew_aside(port);
    return count;
}

/* ------------------------------------------------------------ watches, listeners, connects */

int32_t epoll_watch(rio_port *handle, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll_port_of(handle, &code);

    if (port == NULL)
        return code;
    if (socket > INT_MAX)
        return RIO_EBADF;
    if (!rio_watch_valid(mask))
        return RIO_EINVAL;
    if (mask != 0)
        return epoll__put(port, (int)socket, RIO_FOR_WATCH, mask, key);
    epoll__drop(port, (int)socket, RIO_FOR_WATCH);
    return 0;
}

int32_t epoll_accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll_port_of(handle, &code);

    if (port == NULL)
        return code;
    code = rio_listener_check(listener);
    if (code != 0)
        return code;
    return epoll__put(port, (int)listener, RIO_FOR_ACCEPT, RIO_WATCH_READ, key);
}

int32_t epoll_accept_alone(rio_port *handle, rio_socket listener, uint32_t alone)
{
    int32_t code = 0;
    epoll_port *port = epoll_port_of(handle, &code);

    if (port == NULL)
        return code;
    return rio_linux_accept_alone(&port->main, listener, alone) ||
                   rio_linux_accept_alone(&port->aside, listener, alone)
               ? 0
               : RIO_EINVAL;
}

int32_t epoll_accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    epoll_port *port = epoll_port_of(handle, &code);

    if (port == NULL)
        return code;
    if (listener <= INT_MAX)
        epoll__drop(port, (int)listener, RIO_FOR_ACCEPT);
    return 0;
}

int32_t epoll_connect(rio_port *handle, rio_socket socket, const void *address,
                              uint32_t length, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll_port_of(handle, &code);

    if (port == NULL || (code = rio_connect_check(socket, address, length)) != 0)
        return code;
    int descriptor = (int)socket;
    int result = connect(descriptor, address, length);
    rio_count(&port->base.core.counts.system_calls, 1);
    if (result != 0 && (errno == EINPROGRESS || errno == EINTR))
        return epoll__put(port, descriptor, RIO_FOR_CONNECT, RIO_WATCH_WRITE, key);
    rio_port_event event = rio_connect_event(socket, result == 0 ? 0 : errno, key);
    return rio_inbox_put(&port->base.inbox, &event, (rio_socket)descriptor) ? 0 : RIO_ENOBUFS;
}

int32_t epoll_connect_stop(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    epoll_port *port = epoll_port_of(handle, &code);

    if (port == NULL)
        return code;
    if (socket <= INT_MAX) {
        epoll__drop(port, (int)socket, RIO_FOR_CONNECT);
        rio_inbox_withdraw(&port->base.inbox, socket, RIO_PORT_CONNECT);
    }
    return 0;
}
