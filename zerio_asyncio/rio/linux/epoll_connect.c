/* epoll_connect.c: connects of an epoll port: an entry of its instance reports the end of each. */
#include "linux/epoll_connect.h"

#include <limits.h>

#include "linux/connect.h"
#include "linux/epoll_entries.h"

int32_t epoll_connect(epoll_port *port, rio_socket socket, const void *address, uint32_t length,
                      uint64_t key)
{
    rio_port_event event;
    int32_t code = connect_check(socket, address, length);

    if (code != 0)
        return code;
    counts_add(&port->base.hub.counts.system_calls, 1);
    if (connect_begin(socket, address, length, key, &event))
        return epoll_entries_put(port, (int)socket, FOR_CONNECT, RIO_WATCH_WRITE, key);
    return events_put(&port->base.events, &event, socket) ? 0 : RIO_ENOBUFS;
}

void epoll_connect_stop(epoll_port *port, rio_socket socket)
{
    if (socket > INT_MAX)
        return;
    epoll_entries_drop(port, (int)socket, FOR_CONNECT);
    events_withdraw(&port->base.events, socket, RIO_PORT_CONNECT);
}

rio_port_event epoll_connect_told(epoll_port *port, interests_set *set, int descriptor,
                                  uint64_t key)
{
    rio_port_event event = connect_ended((rio_socket)descriptor, key);
    counts_add(&port->base.hub.counts.system_calls, 2);
    interests_drop(set, descriptor, FOR_CONNECT);
    return event;
}
