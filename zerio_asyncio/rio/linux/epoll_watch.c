/* epoll_watch.c: watched descriptors of an epoll port: entries of its instance, see watch.c.
 *
 * What can go wrong. A watched descriptor that is closed without notice leaves the instance by
 * itself, except if a forked process holds the same file: then an event with a stale tag comes, and
 * the instance is made anew (interests.c). */
#include "linux/epoll_watch.h"

#include "linux/epoll_entries.h"
#include "linux/watch.h"

int32_t epoll_watch(epoll_port *port, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = watch_check(socket, mask);
    if (code == 0 && mask != 0)
        return epoll_entries_put(port, (int)socket, FOR_WATCH, mask, key);
    if (code == 0)
        epoll_entries_drop(port, (int)socket, FOR_WATCH);
    return code;
}
