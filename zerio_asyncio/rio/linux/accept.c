/* accept.c: accepting connections on Linux, for both providers.
 *
 * A listener may be shared: servers fork workers that all accept on one socket. So we never leave
 * an accept waiting inside the kernel, because that is exclusive: the process whose accept was
 * first would get every connection, even while it computes. We wait for a listener's readiness, as
 * an entry of an epoll instance, and take a connection by accept4 in a port's wait, that is, when
 * the process is about to serve it.
 *
 * How many, and who. One connection from each listener per wait: all idle processes share a burst,
 * and the connections that a process already has get their turn between two new ones. The entry is
 * level-triggered, so whatever is left is reported again. It is exclusive (EPOLLEXCLUSIVE): a
 * connection wakes one process that sleeps in epoll_wait, or else is shown to all. And it moves to
 * the end of the listener's queue after each connection, so that the next one wakes another
 * process. That takes two system calls, so a process that accepts many in a short time moves after
 * every fourth: all get equal parts as before. Under io_uring nobody sleeps in epoll_wait: all idle
 * processes are woken, and those that come too late go back to sleep.
 *   A listener of this process alone (accept_alone) needs none of that: a wait takes several
 * connections, more as long as that empties no queue, and the entry stays where it is.
 *
 * The address. A client may be gone when its connection is taken; accept4 still knows its address,
 * getpeername would not. The port keeps it, in a ring of the last ones.
 *
 * What can go wrong.
 *   - The limit of descriptors: the listener would stay ready for ever. It is reported once and its
 *     entry removed; the caller decides when to continue (rio.h).
 *   - A blocking listener would block us if another process took its connection: it is made
 *     non-blocking.
 *   - A listener closed without accept_stop leaves the instance by itself. When accept is called
 *     again, its number may be that of another listener, so entries are never changed but made
 *     anew.
 *
 * Links: https://man7.org/linux/man-pages/man2/epoll_ctl.2.html (EPOLLEXCLUSIVE: Linux 4.5)
 *        https://man7.org/linux/man-pages/man2/accept.2.html (error handling)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>

#include "linux/sockets.h"
#include "table/clock.h"

_Static_assert(sizeof(struct sockaddr_storage) == sizeof(((rio_peer *)0)->address), "an address");

rio_port_event accept_event(int descriptor, int error, uint64_t key)
{
    return (rio_port_event){
        .kind = RIO_PORT_ACCEPT,
        .status = descriptor < 0 ? rio_code_of_errno(error) : 0,
        .key = key,
        .value = descriptor < 0 ? (uint64_t)RIO_INVALID_SOCKET : (uint64_t)descriptor,
    };
}

/* 1 if an error of accept4 concerns one client that is gone, not the listener. */
static int accept__survives(int error)
{
    switch (error) {
    case EAGAIN: /* somebody else took it */
    case ECONNABORTED: /* gone before we accepted it */
    case EINTR:
    case EPERM: /* a firewall did that */
    case EPROTO:
    case ENETDOWN: /* Linux reports pending network errors of the new socket from accept */
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ECONNRESET:
    case ETIMEDOUT:
        return 1;
    default:
        return 0;
    }
}

int32_t accept_check(rio_socket listener)
{
    int listens, flags;
    if (sockets_option(listener, SO_ACCEPTCONN, &listens) != 0)
        return rio_code_of_errno(errno);
    if (!listens)
        return RIO_EINVAL;
    flags = fcntl((int)listener, F_GETFL);
    if ((flags & O_NONBLOCK) == 0 && fcntl((int)listener, F_SETFL, flags | O_NONBLOCK) != 0)
        return rio_code_of_errno(errno);
    return 0;
}

/* In each such time so many connections move us to the end, one by one; of more, every fourth. */
#define TURNS_NS 100000000
#define TURNS_SINGLE 16
#define TURNS_OF 4

static int accept__ends_turn(port_base *port)
{
    int64_t now = clock_ns();
    if (now >= port->turns_until) {
        port->turns_until = now + TURNS_NS;
        port->turns = 0;
    }
    port->turns++;
    return port->turns <= TURNS_SINGLE || port->turns % TURNS_OF == 0;
}

/* Moves to the end of the queue of those that share the listener. */
static void accept__last(port_base *port, interests_set *set, int listener, uint64_t key)
{
    int32_t code = interests_put(set, listener, FOR_ACCEPT, RIO_WATCH_READ, key);
    counts_add(&port->hub.counts.system_calls, 2);
    if (code == 0)
        return;
    rio_port_event event = accept_event(-1, rio_errno(code), key);
    (void)events_put(&port->events, &event, (rio_socket)listener);
}

int accept_alone(interests_set *set, rio_socket listener, uint32_t alone)
{
    interests_entry *interest =
        listener <= INT_MAX ? interests_at(set, (int)listener, FOR_ACCEPT) : NULL;
    if (interest != NULL)
        interest->burst = alone != 0;
    return interest != NULL;
}

/* Takes one connection, or the listener's own error: 1; 0 if there is none now. */
static int accept__take(port_base *port, interests_set *set, int listener, uint64_t key,
                        rio_port_event *event)
{
    rio_peer *peer = &port->peers[port->peer % PORT_PEERS];
    socklen_t length = sizeof peer->address;
    int descriptor = accept4(listener, (struct sockaddr *)(void *)peer->address, &length,
                             SOCK_NONBLOCK | SOCK_CLOEXEC);
    counts_add(&port->hub.counts.system_calls, 1);
    if (descriptor < 0 && accept__survives(errno))
        return 0;
    *event = accept_event(descriptor, errno, key);
    if (descriptor < 0) {
        interests_drop(set, listener, FOR_ACCEPT);
        return 1;
    }
    peer->length = length < sizeof peer->address ? length : sizeof peer->address;
    event->overlapped = peer;
    port->peer++;
    return 1;
}

uint32_t accept_take(port_base *port, interests_set *set, uint64_t tag, rio_port_event *events,
                     uint32_t room)
{
    interests_entry *interest = interests_of(set, tag);
    int listener = (int)(tag >> TAG_DESCRIPTOR_SHIFT);
    uint32_t count = 0;

    if (interest == NULL)
        return 0;
    uint64_t key = interest->key;
    uint32_t burst = interest->burst;
    uint32_t most = burst != 0 && burst < room ? burst : burst != 0 ? room : 1;
    while (count < most && accept__take(port, set, listener, key, events + count)) {
        if (events[count++].status != 0)
            return count;
    }
    if (burst == 0 && count != 0 && accept__ends_turn(port))
        accept__last(port, set, listener, key);
    else if (burst != 0) /* twice as many next time if there may be more, else as many as came */
        interest->burst = (uint16_t)(count < burst                ? count + (count == 0)
                                     : 2 * burst > PORT_BURST_MAX ? PORT_BURST_MAX
                                                                  : 2 * burst);
    return count;
}
