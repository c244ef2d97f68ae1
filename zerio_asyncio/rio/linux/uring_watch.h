/* uring_watch.h: watched descriptors of an io_uring port (uring_watch.c). */
#ifndef ZERIO_URING_WATCH_H
#define ZERIO_URING_WATCH_H

#include "linux/uring_port.h"

int32_t uring_watch(uring_port *, rio_socket, uint32_t mask, uint64_t key);
/* Takes what the inner instance has, at most `size`; then it is armed again. */
uint32_t uring_watch_take(uring_port *, rio_port_event *, uint32_t size);

#endif
