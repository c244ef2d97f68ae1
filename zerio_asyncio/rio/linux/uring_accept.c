/* uring_accept.c: listeners of an io_uring port, in an inner epoll instance (accept.c explains why
 * we do not use the ring's own accept).
 *
 * A one-shot poll in the ring reports that the instance has something. What is ready there is
 * checked before a sleep ends, because another process may have been faster. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_accept.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "linux/accept.h"
#include "linux/uring_edges.h"
#include "linux/uring_polls.h"
#include "table/clock.h"

/* A connection wakes all idle processes that share its listener, and the one that has just served
 * is already awake and would win every time. So it lets the others go first, for longer than it
 * takes to wake them. Whether there are others shows when one comes too late; a process that never
 * does soon stops being polite. */
#define POLITE_NS 100000
#define POLITE_TIMES 64

int32_t uring_accept(uring_port *port, rio_socket listener, uint64_t key)
{
    int32_t code = accept_check(listener);

    if (code != 0)
        return code;
    if (port->listening.epoll < 0) {
        code = uring_polls_open_inner(port, &port->listening, &port->listeners);
        port->polite = POLITE_TIMES / 4; /* until it is known */
    }
    if (code == 0)
        return interests_put(&port->listening, (int)listener, FOR_ACCEPT, RIO_WATCH_READ, key);
    if (code != RIO_EMFILE)
        return code;
    rio_port_event event = accept_event(-1, EMFILE, key); /* as if accept had failed with it */
    return events_put(&port->base.events, &event, listener) ? 0 : RIO_ENOBUFS;
}

int32_t uring_accept_alone(uring_port *port, rio_socket listener, uint32_t alone)
{
    return accept_alone(&port->listening, listener, alone) ? 0 : RIO_EINVAL;
}

void uring_accept_stop(uring_port *port, rio_socket listener)
{
    if (listener > INT_MAX)
        return;
    interests_drop(&port->listening, (int)listener, FOR_ACCEPT);
    events_withdraw(&port->base.events, listener, RIO_PORT_ACCEPT);
}

/* After a stale event. Nothing in the kernel polls the old instance: its poll has just ended. */
static void uring_accept__renew(uring_port *port)
{
    int old;

    if (!uring_polls_renew_inner(&port->listening, &port->listeners, &old))
        return;
    interests_move(&port->base.hub, old, port->listening.epoll, uring_edges_events);
    close(old);
}

int uring_accept_look(uring_port *port)
{
    struct epoll_event happened[PORT_LISTENERS_MAX];

    if (port->calls_count != 0)
        return 1;
    int found = epoll_wait(port->listening.epoll, happened, PORT_LISTENERS_MAX, 0);
    counts_add(&port->base.hub.counts.system_calls, 1);
    for (int i = 0; i < found; i++) {
        if ((happened[i].data.u64 & TAG_PURPOSE) == HANDLES_RQ)
            uring_edges_told(happened[i].data.u64, happened[i].events);
        else if (interests_told(&port->listening, happened[i].data.u64) != NULL)
            port->calls[port->calls_count++] = happened[i].data.u64;
    }
    if (RIO_UNLIKELY(port->listening.stale != 0))
        uring_accept__renew(port);
    port->listeners_stir = port->calls_count != 0;
    if (port->listeners_stir)
        return 1;
    if (found == 0)
        port->polite = POLITE_TIMES;
    uring_polls_list(port, &port->listeners);
    return 0;
}

int64_t uring_accept_rest(uring_port *port)
{
    int64_t rest = port->polite_until - clock_ns();
    if (rest > 0)
        return rest;
    port->polite_until = 0;
    uring_polls_list(port, &port->listeners);
    return 0;
}

uint32_t uring_accept_take(uring_port *port, rio_port_event *events, uint32_t size)
{
    uint32_t count = 0, shared = 0;

    if (!uring_accept_look(port))
        return 0;
    for (uint32_t i = 0; i < port->calls_count && count < size; i++) {
        const interests_entry *interest = interests_of(&port->listening, port->calls[i]);
        uint32_t alone = interest != NULL && interest->burst != 0;
        uint32_t taken = accept_take(&port->base, &port->listening, port->calls[i], events + count,
                                     size - count);
        shared += alone ? 0 : taken;
        count += taken;
    }
    port->calls_count = 0; /* those that found no room become ready again */
    port->listeners_stir = 0;
    if (shared != 0 && port->polite != 0) {
        port->polite--;
        port->polite_until = clock_ns() + POLITE_NS;
    } else {
        uring_polls_list(port, &port->listeners);
    }
    return count;
}
