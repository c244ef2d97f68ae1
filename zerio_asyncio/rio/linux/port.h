/* port.h: what the ports of both Linux providers share (port.c). */
#ifndef ZERIO_PORT_H
#define ZERIO_PORT_H

#include "table/emulation.h"
#include "table/events.h"
#include "table/wakeup.h"

/* Listeners handled in one wait, and connections taken from an unshared one: about as many as can
 * become transports in a tick before the existing ones wait too long. */
#define PORT_LISTENERS_MAX 16
#define PORT_BURST_MAX 16

/* Addresses kept: those of a wait, and as many later ones as rio.h promises. */
#define PORT_PEERS (RIO_PEERS_KEPT + PORT_LISTENERS_MAX * PORT_BURST_MAX)

/* First member of a provider's own port. */
typedef struct port_base {
    rio_hub hub; /* first: handles of ports lead to a hub */
    wakeup_state wakeup;
    int wakeup_descriptor; /* an eventfd, written to if the thread sleeps */
    events_list events;
    int64_t turns_until; /* accepting on listeners that others may share, see accept.c */
    uint32_t turns;
    uint32_t peer; /* counts up, around the ring of those reported last */
    rio_peer peers[PORT_PEERS];
} port_base;

/* As hub_of. */
static inline port_base *port_of(const rio_port *handle, const rio_driver *driver, int32_t *code)
{
    return (port_base *)hub_of(handle, driver, code);
}

/* A zeroed port of `bytes` with its wake-up; null and rio_last_error. */
port_base *port_begin(const rio_driver *, const rio_port_options *, size_t bytes);
/* Ends everything except the memory and what the provider added. */
void port_end(port_base *);
/* Events that are available without asking the system. */
uint32_t port_take(port_base *, rio_port_event *, uint32_t size);

/* 1 if port_take would find something. */
static inline uint32_t port_ready(const port_base *port)
{
    return port->hub.first_packet != NULL || events_wait(&port->events) ||
           wakeup_waits(&port->wakeup);
}

/* Entries of the port table that are the same for both. */
int32_t port_pending(rio_port *);
int32_t port_post(rio_port *, uint64_t key);
int32_t port_retire(rio_port *, rio_socket);
int32_t port_join(rio_port *, rio_socket);
int32_t port_leave(rio_port *, rio_socket);
uintptr_t port_native(rio_port *);

#endif
