/* inbox.c: events of a port that wait for its next wait: a ring that grows. */
#include "inbox.h"

#include <stdlib.h>

#define INBOX_MIN 16 /* events */

static void inbox__drop(const rio_port_event *event)
{
    if (event->kind != RIO_PORT_ACCEPT || event->status != 0)
        return;
    rio_socket_close((rio_socket)event->value);
    free(event->overlapped);
}

int rio_inbox_put(rio_inbox *inbox, const rio_port_event *event, rio_socket socket)
{
    if (inbox->tail - inbox->head == inbox->length) {
        uint32_t length = inbox->length ? 2 * inbox->length : INBOX_MIN;
        rio_letter *letters = malloc(length * sizeof *letters);
        if (letters == NULL)
            return 0;
        uint32_t count = 0;
        for (; inbox->head != inbox->tail; inbox->head++)
            letters[count++] = inbox->letters[inbox->head & (inbox->length - 1)];
        free(inbox->letters);
        *inbox = (rio_inbox){ letters, length, 0, count };
    }
    inbox->letters[inbox->tail++ & (inbox->length - 1)] = (rio_letter){ *event, socket };
    return 1;
}

uint32_t rio_inbox_take(rio_inbox *inbox, rio_port_event *events, uint32_t size)
{
    uint32_t count = 0;
    while (count < size && inbox->head != inbox->tail)
        events[count++] = inbox->letters[inbox->head++ & (inbox->length - 1)].event;
    return count;
}

void rio_inbox_withdraw(rio_inbox *inbox, rio_socket socket, uint32_t kind)
{
    uint32_t kept = inbox->head;
    for (uint32_t i = inbox->head; i != inbox->tail; i++) {
        rio_letter letter = inbox->letters[i & (inbox->length - 1)];
        if (letter.socket != socket || letter.event.kind != kind)
            inbox->letters[kept++ & (inbox->length - 1)] = letter;
        else
            inbox__drop(&letter.event);
    }
    inbox->tail = kept;
}

void rio_inbox_free(rio_inbox *inbox)
{
    for (uint32_t i = inbox->head; i != inbox->tail; i++)
        inbox__drop(&inbox->letters[i & (inbox->length - 1)].event);
    free(inbox->letters);
    *inbox = (rio_inbox){ 0 };
}
