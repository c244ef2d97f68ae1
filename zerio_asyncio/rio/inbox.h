/* inbox.h: events of a port that wait for its next wait (inbox.c). */
#ifndef ZERIO_INBOX_H
#define ZERIO_INBOX_H

#include "rio.h"

typedef struct rio_letter {
    rio_port_event event;
    rio_socket socket;
} rio_letter;

typedef struct rio_inbox {
    rio_letter *letters;
    uint32_t length; /* a power of two, or 0 */
    uint32_t head, tail;
} rio_inbox;

int rio_inbox_put(rio_inbox *, const rio_port_event *, rio_socket socket);
uint32_t rio_inbox_take(rio_inbox *, rio_port_event *, uint32_t size);
/* Withdraws what waits for this socket; connections that were accepted are closed, and what their
 * events point to is freed. */
void rio_inbox_withdraw(rio_inbox *, rio_socket socket, uint32_t kind);
void rio_inbox_free(rio_inbox *);

/* Closes a socket as this system does; each platform has one. */
void rio_socket_close(rio_socket);

#endif
