/* connect.h: connecting on Linux, for both providers (connect.c). */
#ifndef ZERIO_CONNECT_H
#define ZERIO_CONNECT_H

#include "rio.h"

/* 0 if connect may be tried, else the code. */
int32_t connect_check(rio_socket, const void *address, uint32_t length);
/* Starts it: 1 if it is in progress, else 0 and its result. */
int connect_begin(rio_socket, const void *address, uint32_t length, uint64_t key,
                  rio_port_event *ended);
/* The result of one that was in progress. */
rio_port_event connect_ended(rio_socket, uint64_t key);
rio_port_event connect_event(rio_socket, int error, uint64_t key);

#endif
