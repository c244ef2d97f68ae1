/* epoll_accept.c: listeners of an epoll port: entries of its instance, see accept.c. */
#include "linux/epoll_accept.h"

#include <limits.h>

#include "linux/accept.h"
#include "linux/epoll_entries.h"

int32_t epoll_accept(epoll_port *port, rio_socket listener, uint64_t key)
{
    int32_t code = accept_check(listener);
    if (code != 0)
        return code;
    return epoll_entries_put(port, (int)listener, FOR_ACCEPT, RIO_WATCH_READ, key);
}

int32_t epoll_accept_alone(epoll_port *port, rio_socket listener, uint32_t alone)
{
    return accept_alone(&port->main, listener, alone) || accept_alone(&port->aside, listener, alone)
               ? 0
               : RIO_EINVAL;
}

void epoll_accept_stop(epoll_port *port, rio_socket listener)
{
    if (listener <= INT_MAX)
        epoll_entries_drop(port, (int)listener, FOR_ACCEPT);
}
