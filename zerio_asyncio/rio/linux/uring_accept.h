/* uring_accept.h: listeners of an io_uring port (uring_accept.c). */
#ifndef ZERIO_URING_ACCEPT_H
#define ZERIO_URING_ACCEPT_H

#include "linux/uring_port.h"

int32_t uring_accept(uring_port *, rio_socket, uint64_t key);
int32_t uring_accept_alone(uring_port *, rio_socket, uint32_t alone);
void uring_accept_stop(uring_port *, rio_socket);
/* Checks which listeners are ready, after the kernel said that one was; 1 if any is. */
int uring_accept_look(uring_port *);
/* Nanoseconds for which others still go first; after that the listeners are awaited again. */
int64_t uring_accept_rest(uring_port *);
/* Takes connections of ready listeners, at most `size`. */
uint32_t uring_accept_take(uring_port *, rio_port_event *, uint32_t size);

#endif
