/* port.c: what the ports of both Linux providers share: wake-up, waiting events, a few entries.
 *
 * The wake-up (wakeup.h) writes to an eventfd if the thread sleeps in the kernel; each provider
 * waits for that descriptor in its own way. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/port.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "linux/fork.h"
#include "linux/sockets.h"

port_base *port_begin(const rio_driver *driver, const rio_port_options *options, size_t bytes)
{
    uint32_t era = 0;
    const volatile uint32_t *mark = fork_mark(&era);
    port_base *port = NULL;

    if (options != NULL && options->flags != 0)
        errors_refuse(RIO_EINVAL);
    else if (mark == NULL || (port = calloc(1, bytes)) == NULL)
        errors_refuse(RIO_ENOBUFS);
    if (port == NULL)
        return NULL;
    hub_begin(&port->hub, driver, mark, era);
    port->hub.spin.limit_ns = options != NULL ? options->spin_ns : 0;
    port->events.close_socket = sockets_close;
    port->wakeup_descriptor = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (port->wakeup_descriptor >= 0)
        return port;
    errors_refuse(rio_code_of_errno(errno));
    free(port);
    return NULL;
}

void port_end(port_base *port)
{
    rq_end_all(&port->hub);
    events_free(&port->events);
    close(port->wakeup_descriptor);
}

uint32_t port_take(port_base *port, rio_port_event *events, uint32_t size)
{
    uint32_t count = cq_packets(&port->hub, events, size);
    if (RIO_UNLIKELY(events_wait(&port->events)))
        count += events_take(&port->events, events + count, size - count);
    if (count < size)
        count += (uint32_t)wakeup_take(&port->wakeup, events + count);
    return count;
}

int32_t port_pending(rio_port *handle)
{
    int32_t code = 0;
    const port_base *port = port_of(handle, NULL, &code);
    return port != NULL && port_ready(port); /* wait reports a refusal */
}

/* Called from any thread and any signal handler. */
static void port__wake(port_base *port, uint64_t key)
{
    static const uint64_t one = 1;

    if (!wakeup_post(&port->wakeup, key))
        return;
    int saved = errno; /* a signal handler may run between a call and its errno */
    ssize_t written = write(port->wakeup_descriptor, &one, sizeof one);
    (void)written; /* a full counter wakes, too */
    errno = saved;
}

/* Another thread may call this while the port is being closed: the pin keeps it alive. */
int32_t port_post(rio_port *handle, uint64_t key)
{
    handles_slot *slot = handles_pin(handle, HANDLES_PORT);
    if (slot == NULL)
        return RIO_EINVAL;
    port_base *port = slot->object;
    int32_t code = hub_ours(&port->hub) ? 0 : RIO_ENETDOWN;
    if (code == 0)
        port__wake(port, key);
    handles_unpin(slot);
    return code;
}

int32_t port_retire(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    port_base *port = port_of(handle, NULL, &code);
    if (port != NULL)
        rq_retire(&port->hub, socket);
    return code;
}

/* Ports on Linux report readiness, and completion only of request queues. */
int32_t port_join(rio_port *handle, rio_socket file)
{
    int32_t code = RIO_EOPNOTSUPP;
    (void)port_of(handle, NULL, &code);
    (void)file;
    return code;
}

/* Nothing joins. */
int32_t port_leave(rio_port *handle, rio_socket socket)
{
    (void)handle, (void)socket;
    return 0;
}

uintptr_t port_native(rio_port *handle)
{
    (void)handle;
    return 0;
}
