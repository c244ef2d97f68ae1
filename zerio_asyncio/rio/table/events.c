/* events.c: a port's events for its next wait: a ring that grows. */
#include "table/events.h"

#include <stdlib.h>

#define ENTRIES_MIN 16 /* events */

static void events__drop(const events_list *list, const rio_port_event *event)
{
    if (event->kind != RIO_PORT_ACCEPT || event->status != 0)
        return;
    list->close_socket((rio_socket)event->value);
    free(event->overlapped);
}

int events_put(events_list *list, const rio_port_event *event, rio_socket socket)
{
    if (list->tail - list->head == list->length) {
        uint32_t length = list->length ? 2 * list->length : ENTRIES_MIN;
        events_entry *entries = malloc(length * sizeof *entries);
        if (entries == NULL)
            return 0;
        uint32_t count = 0;
        for (; list->head != list->tail; list->head++)
            entries[count++] = list->entries[list->head & (list->length - 1)];
        free(list->entries);
        list->entries = entries;
        list->length = length;
        list->head = 0;
        list->tail = count;
    }
    list->entries[list->tail++ & (list->length - 1)] = (events_entry){ *event, socket };
    return 1;
}

uint32_t events_take(events_list *list, rio_port_event *events, uint32_t size)
{
    uint32_t count = 0;
    while (count < size && list->head != list->tail)
        events[count++] = list->entries[list->head++ & (list->length - 1)].event;
    return count;
}

void events_withdraw(events_list *list, rio_socket socket, uint32_t kind)
{
    uint32_t kept = list->head;
    for (uint32_t i = list->head; i != list->tail; i++) {
        events_entry entry = list->entries[i & (list->length - 1)];
        if (entry.socket != socket || entry.event.kind != kind)
            list->entries[kept++ & (list->length - 1)] = entry;
        else
            events__drop(list, &entry.event);
    }
    list->tail = kept;
}

void events_free(events_list *list)
{
    for (uint32_t i = list->head; i != list->tail; i++)
        events__drop(list, &list->entries[i & (list->length - 1)].event);
    free(list->entries);
    *list = (events_list){ .close_socket = list->close_socket };
}
