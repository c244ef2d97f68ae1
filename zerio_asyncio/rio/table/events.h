/* events.h: a port's events for its next wait (events.c). */
#ifndef ZERIO_EVENTS_H
#define ZERIO_EVENTS_H

#include "rio.h"

typedef struct events_entry {
    rio_port_event event;
    rio_socket socket;
} events_entry;

typedef struct events_list {
    events_entry *entries;
    uint32_t length; /* a power of two, or 0 */
    uint32_t head, tail;
    void (*close_socket)(rio_socket); /* of a connection that nobody will hear of */
} events_list;

int events_put(events_list *, const rio_port_event *, rio_socket socket);
uint32_t events_take(events_list *, rio_port_event *, uint32_t size);
/* Withdraws the events of this socket; accepted connections are closed, and what their events point
 * to is freed. */
void events_withdraw(events_list *, rio_socket socket, uint32_t kind);
void events_free(events_list *);

/* 1 if there are any. */
static inline int events_wait(const events_list *list)
{
    return list->head != list->tail;
}

/* 1 if `mask` is valid for watch. */
static inline int events_watchable(uint32_t mask)
{
    return (mask & ~(RIO_WATCH_READ | RIO_WATCH_WRITE | RIO_WATCH_ONCE)) == 0 &&
           mask != RIO_WATCH_ONCE;
}

#endif
