/* uring_polls.c: polls that an io_uring port keeps in the kernel.
 *
 * Four things are awaited this way, each by one operation in the ring (uring.c explains how the
 * ring is used):
 *   wake-up    a multishot poll of the eventfd that post() writes to. It is edge-triggered: each
 *              write is one result, and nothing needs to be read or armed again
 *   watches    a one-shot poll of an inner epoll instance (uring_watch.c)
 *   listeners  the same poll of another one (uring_accept.c)
 *   connects   a one-shot poll of each socket (uring_connect.c)
 *
 * A poll is listed when it should be in the kernel and is not: at the start, after a multishot ends
 * (the MORE flag is missing), and after a park, which cancels them all. Its function `told`
 * interprets its result, so the parts are above this file.
 *
 * Link: https://man7.org/linux/man-pages/man3/io_uring_prep_poll_multishot.3.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_polls.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

void uring_polls_list(uring_port *port, uring_poll *poll)
{
    if (poll->listed || poll->busy || poll->stopped)
        return;
    poll->listed = 1;
    poll->next = port->first_poll;
    port->first_poll = poll;
}

void uring_polls_unlist(uring_port *port, uring_poll *poll)
{
    uring_poll **link = &port->first_poll;
    if (!poll->listed)
        return;
    while (*link != poll)
        link = &(*link)->next;
    *link = poll->next;
    poll->listed = 0;
}

/* The port's wait checks the inner instances, and arms them again after that. */
static int uring_polls__watches_told(uring_port *port, uring_poll *poll, int32_t result)
{
    (void)poll;
    port->watches_stir |= result >= 0;
    return 0;
}

static int uring_polls__listeners_told(uring_port *port, uring_poll *poll, int32_t result)
{
    (void)poll;
    port->listeners_stir |= result >= 0;
    return 0;
}

void uring_polls_begin(uring_port *port)
{
    port->watched.epoll = port->listening.epoll = -1;
    port->wakeup =
        (uring_poll){ .what = POLLIN, .many = 1, .descriptor = port->base.wakeup_descriptor };
    port->watches =
        (uring_poll){ .told = uring_polls__watches_told, .what = POLLIN, .descriptor = -1 };
    port->listeners =
        (uring_poll){ .told = uring_polls__listeners_told, .what = POLLIN, .descriptor = -1 };
    uring_polls_list(port, &port->wakeup);
}

void uring_polls_end(uring_port *port)
{
    for (uint32_t i = 0; i < port->connects_length; i++)
        free(port->connects[i]);
    free(port->connects);
    interests_set *const inner[] = { &port->watched, &port->listening };
    for (int i = 0; i < 2; i++) {
        if (inner[i]->epoll >= 0)
            close(inner[i]->epoll);
        interests_free(inner[i]);
    }
}

void uring_polls_list_all(uring_port *port)
{
    uring_polls_list(port, &port->wakeup);
    if (port->watched.epoll >= 0)
        uring_polls_list(port, &port->watches);
    if (port->listening.epoll >= 0)
        uring_polls_list(port, &port->listeners);
    for (uint32_t i = 0; i < port->connects_length; i++)
        if (port->connects[i] != NULL)
            uring_polls_list(port, port->connects[i]);
}

void uring_polls_submit(uring_port *port)
{
    while (port->first_poll != NULL) {
        uring_poll *poll = port->first_poll;
        struct io_uring_sqe *entry = uring_port_next(port);
        if (entry == NULL)
            return;
        port->first_poll = poll->next;
        poll->listed = 0;
        poll->busy = 1;
        entry->opcode = IORING_OP_POLL_ADD;
        entry->fd = poll->descriptor;
        entry->user_data = (uint64_t)(uintptr_t)poll | URING_POLL;
        entry->poll32_events = uring_port_poll_events(poll->what);
        entry->len = poll->many ? IORING_POLL_ADD_MULTI : 0;
    }
}

void uring_polls_done(uring_port *port, uring_poll *poll, int32_t result, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0) {
        poll->busy = 0;
        counts_add(&port->base.hub.counts.in_kernel, -1);
    }
    if (poll->told != NULL && !poll->told(port, poll, result))
        return;
    if (poll->busy)
        return;
    if (poll->stopped && !poll->held)
        free(poll);
    else
        uring_polls_list(port, poll);
}

int32_t uring_polls_open_inner(uring_port *port, interests_set *set, uring_poll *poll)
{
    if (set->epoll >= 0)
        return 0;
    set->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (set->epoll < 0)
        return rio_code_of_errno(errno);
    poll->descriptor = set->epoll;
    uring_polls_list(port, poll);
    return 0;
}

int uring_polls_renew_inner(interests_set *set, uring_poll *poll, int *old)
{
    if (!interests_renew(set, old))
        return 0;
    poll->descriptor = set->epoll;
    return 1;
}
