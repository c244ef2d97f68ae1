/* epoll_entries.h: what an epoll port's instances hold besides request queues (epoll_entries.c). */
#ifndef ZERIO_EPOLL_ENTRIES_H
#define ZERIO_EPOLL_ENTRIES_H

#include "linux/epoll_port.h"

int32_t epoll_entries_put(epoll_port *, int descriptor, enum interests_purpose, uint32_t mask,
                          uint64_t key);
void epoll_entries_drop(epoll_port *, int descriptor, enum interests_purpose);
/* The main instance has this descriptor for something else: makes that go aside. 1 if it did. */
int epoll_entries_move_aside(epoll_port *, int descriptor);

#endif
