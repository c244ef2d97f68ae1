/* uring_connect.c: connects of an io_uring port.
 *
 * It calls connect() itself, which does not block, then arms a one-shot poll for writability. (The
 * ring's own connect cannot be resumed after a park: the socket is already connecting.)
 *
 * What can go wrong. A poll that is stopped may still have results in transit: it is cancelled, its
 * results are fetched before the call returns, and the structure stays until the kernel's last
 * word. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_connect.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "linux/connect.h"
#include "linux/uring_polls.h"
#include "linux/uring_requests.h"

#define TABLE_MIN 64 /* descriptors; the table doubles when a higher number comes */

static uring_poll *uring_connect__of(const uring_port *port, rio_socket socket)
{
    return socket < port->connects_length ? port->connects[socket] : NULL;
}

static int uring_connect__told(uring_port *port, uring_poll *poll, int32_t result)
{
    rio_socket socket = (rio_socket)poll->descriptor;

    if (poll->stopped || result == -ECANCELED)
        return 1;
    rio_port_event event =
        result < 0 ? connect_event(socket, -result, poll->key) : connect_ended(socket, poll->key);
    counts_add(&port->base.hub.counts.system_calls, 1);
    (void)events_put(&port->base.events, &event, socket);
    port->connects[poll->descriptor] = NULL;
    poll->stopped = 1;
    return 1;
}

static int32_t uring_connect__add(uring_port *port, int descriptor, uint64_t key)
{
    uint32_t length = port->connects_length ? port->connects_length : TABLE_MIN;
    while (length <= (uint32_t)descriptor)
        length *= 2;
    if (length != port->connects_length) {
        uring_poll **table = realloc(port->connects, length * sizeof(uring_poll *));
        if (table == NULL)
            return RIO_ENOBUFS;
        memset(table + port->connects_length, 0,
               (length - port->connects_length) * sizeof(uring_poll *));
        port->connects = table;
        port->connects_length = length;
    }
    uring_poll *poll = port->connects[descriptor];
    if (poll != NULL)
        return RIO_EALREADY;
    poll = calloc(1, sizeof *poll);
    if (poll == NULL)
        return RIO_ENOBUFS;
    *poll = (uring_poll){
        .told = uring_connect__told, .what = POLLOUT, .descriptor = descriptor, .key = key
    };
    port->connects[descriptor] = poll;
    uring_polls_list(port, poll);
    return 0;
}

/* Nobody wants it any more. On return the kernel has released the descriptor if it can. */
static void uring_connect__stop(uring_port *port, uring_poll *poll)
{
    uring_polls_unlist(port, poll);
    poll->stopped = 1;
    port->connects[poll->descriptor] = NULL;
    if (!poll->busy) {
        free(poll);
        return;
    }
    poll->held = 1;
    uring_port_cancel(port, (uint64_t)(uintptr_t)poll | URING_POLL);
    uring_requests_turn(port, 0);
    for (int i = 0; i < URING_PATIENCE && poll->busy; i++)
        uring_requests_turn(port, 1);
    poll->held = 0;
    if (!poll->busy)
        free(poll);
}

int32_t uring_connect(uring_port *port, rio_socket socket, const void *address, uint32_t length,
                      uint64_t key)
{
    rio_port_event event;
    int32_t code = connect_check(socket, address, length);

    if (code != 0)
        return code;
    if (uring_connect__of(port, socket) != NULL)
        return RIO_EALREADY;
    counts_add(&port->base.hub.counts.system_calls, 1);
    if (connect_begin(socket, address, length, key, &event))
        return uring_connect__add(port, (int)socket, key);
    return events_put(&port->base.events, &event, socket) ? 0 : RIO_ENOBUFS;
}

void uring_connect_stop(uring_port *port, rio_socket socket)
{
    uring_poll *poll = uring_connect__of(port, socket);
    if (poll != NULL)
        uring_connect__stop(port, poll);
    if (socket <= INT_MAX)
        events_withdraw(&port->base.events, socket, RIO_PORT_CONNECT);
}
