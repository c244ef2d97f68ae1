/* uring_watch.c: watched descriptors of an io_uring port, in an inner epoll instance.
 *
 * A one-shot poll in the ring reports that the instance has something, epoll_wait(0) says what;
 * then it is armed again. Polls in the ring itself would be one-shot or edge-triggered and would
 * keep a closed descriptor's file alive; epoll is level-triggered, as rio.h promises, and forgets
 * closed descriptors by itself. Receives rest there, too (uring_rest.c). */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "linux/uring_polls.h"
#include "linux/uring_rest.h"
#include "linux/watch.h"

#define WATCHES_MAX 256 /* events of the inner instance in one wait: 3 KiB of stack */

int32_t uring_watch(uring_port *port, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = watch_check(socket, mask);

    if (code != 0)
        return code;
    counts_add(&port->base.hub.counts.system_calls, 1);
    if (mask == 0) {
        if (port->watched.epoll >= 0)
            interests_drop(&port->watched, (int)socket, FOR_WATCH);
        return 0;
    }
    if (port->watched.epoll < 0 && fcntl((int)socket, F_GETFD) < 0)
        return RIO_EBADF; /* asked now: the instance may get this very number */
    if ((code = uring_polls_open_inner(port, &port->watched, &port->watches)) != 0)
        return code;
    uring_rest_give_way(port, (int)socket);
    return interests_put(&port->watched, (int)socket, FOR_WATCH, mask, key);
}

uint32_t uring_watch_take(uring_port *port, rio_port_event *events, uint32_t size)
{
    struct epoll_event happened[WATCHES_MAX];
    uint32_t count = 0;

    if (size == 0)
        return 0;
    int found =
        epoll_wait(port->watched.epoll, happened, size < WATCHES_MAX ? (int)size : WATCHES_MAX, 0);
    counts_add(&port->base.hub.counts.system_calls, 1);
    for (int i = 0; i < found; i++)
        if ((happened[i].data.u64 & TAG_PURPOSE) == FOR_REST)
            uring_rest_told(port, happened[i].data.u64);
        else
            count += watch_event(&port->watched, happened[i].data.u64, happened[i].events,
                                 events + count, size - count);
    port->watches_stir = 0;
    int old;
    if (RIO_UNLIKELY(port->watched.stale != 0) &&
        uring_polls_renew_inner(&port->watched, &port->watches, &old))
        close(old); /* nothing in the kernel polls it: its poll has just ended */
    uring_polls_list(port, &port->watches);
    return count;
}
