/* accept.h: accepting on Linux, for both providers (accept.c). */
#ifndef ZERIO_ACCEPT_H
#define ZERIO_ACCEPT_H

#include "linux/interests.h"
#include "linux/port.h"

/* 0 if it listens; from then on it is non-blocking. */
int32_t accept_check(rio_socket);
/* If `descriptor` is negative, accepting ended with `error`. */
rio_port_event accept_event(int descriptor, int error, uint64_t key);
/* Takes what a ready listener has, by its entry's tag; returns how many events it made. */
uint32_t accept_take(port_base *, interests_set *, uint64_t tag, rio_port_event *, uint32_t room);
/* 1 if there is such a listener. */
int accept_alone(interests_set *, rio_socket listener, uint32_t alone);

#endif
