/* errands.c: what an io_uring port asks of the kernel beside the bytes of request queues.
 *
 * Four errands, each one operation in the ring (uring.c tells how the ring is used):
 *   bell     a multishot poll of the eventfd that post() writes to. It is edge-triggered: each
 *            write is one result, and nothing has to be read or armed again
 *   watches  a one-shot poll of an inner epoll instance that holds all watched descriptors. When it
 *            fires, epoll_wait(0) tells which; then it is armed again. Polls in the ring itself
 *            would be one-shot or edge-triggered and would keep a closed descriptor's file alive;
 *            epoll is level-triggered, as rio.h promises, and forgets closed descriptors by itself
 *            Receives rest there, too: those that several parks have taken back. To take back and
 *            hand over the receives of a thousand idle connections for each run of a loop would
 *            cost a millisecond; an entry here is made once, stays, and is silent after its event
 *   accept   one multishot accept a listener; each result is a connection
 *   connect  connect() itself, which does not block, then a one-shot poll for writability. (The
 *            ring's own connect cannot be resumed after a park: the socket is already connecting.)
 *
 * An errand is listed when it should be in the kernel and is not: in the beginning, after each end
 * of a multishot (the MORE flag is missing), and after a park, which cancels them all.
 *
 * What can go wrong.
 *   - A stopped errand may still have results under way: it is cancelled, its results are fetched
 *     before the call returns, connections among them are closed, and the structure stays until the
 *     kernel's last word.
 *   - EMFILE ends a multishot accept; the connection stays in the listener's queue. That is
 *     reported once, and the caller decides when to go on (rio.h). Errors of one client that is
 *     gone only arm it again.
 *
 * Links: https://man7.org/linux/man-pages/man3/io_uring_prep_multishot_accept.3.html
 *        https://man7.org/linux/man-pages/man3/io_uring_prep_poll_multishot.3.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uring.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define TABLE_MIN 64    /* descriptors; the table doubles when a higher number comes */
#define WATCHES_MAX 256 /* events of the inner instance in one wait: 3 KiB of stack */

static void uring__list(uring_port *port, uring_errand *errand)
{
    if (errand->listed || errand->busy || errand->stopped)
        return;
    errand->listed = 1;
    errand->next = port->first_errand;
    port->first_errand = errand;
}

static void uring__unlist(uring_port *port, uring_errand *errand)
{
    uring_errand **link = &port->first_errand;
    if (!errand->listed)
        return;
    while (*link != errand)
        link = &(*link)->next;
    *link = errand->next;
    errand->listed = 0;
}

void uring_errands_begin(uring_port *port)
{
    port->watched.epoll = -1;
    port->bell = (uring_errand){ .kind = URING_BELL, .descriptor = port->base.bell.descriptor };
    port->watches = (uring_errand){ .kind = URING_WATCHES, .descriptor = -1 };
    uring__list(port, &port->bell);
}

void uring_errands_end(uring_port *port)
{
    for (uint32_t i = 0; i < port->errands_length; i++)
        free(port->errands[i]);
    free(port->errands);
    if (port->watched.epoll >= 0)
        close(port->watched.epoll);
    rio_interests_free(&port->watched);
}

void uring_errands_list(uring_port *port)
{
    uring__list(port, &port->bell);
    if (port->watched.epoll >= 0)
        uring__list(port, &port->watches);
    for (uint32_t i = 0; i < port->errands_length; i++)
        if (port->errands[i] != NULL)
            uring__list(port, port->errands[i]);
}

/* Hands every listed errand to the ring. */
void uring_errands_submit(uring_port *port)
{
    while (port->first_errand != NULL) {
        uring_errand *errand = port->first_errand;
        struct io_uring_sqe *entry = uring_next(port);
        if (entry == NULL)
            return;
        port->first_errand = errand->next;
        errand->listed = 0;
        errand->busy = 1;
        entry->opcode = IORING_OP_POLL_ADD;
        entry->fd = errand->descriptor;
        entry->user_data = (uint64_t)(uintptr_t)errand | URING_ERRAND;
        switch (errand->kind) {
        case URING_BELL:
            entry->poll32_events = uring_poll_events(POLLIN);
            entry->len = IORING_POLL_ADD_MULTI;
            break;
        case URING_WATCHES:
            entry->poll32_events = uring_poll_events(POLLIN);
            break;
        case URING_ACCEPT:
            entry->opcode = IORING_OP_ACCEPT;
            entry->ioprio = IORING_ACCEPT_MULTISHOT;
            entry->accept_flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
            break;
        default:
            entry->poll32_events = uring_poll_events(POLLOUT);
        }
    }
}

/* ----------------------------------------------------------------------- accepts, connects */

static uring_errand *uring__errand_of(const uring_port *port, rio_socket socket, uint8_t kind)
{
    if (socket >= port->errands_length || port->errands[socket] == NULL ||
        port->errands[socket]->kind != kind)
        return NULL;
    return port->errands[socket];
}

static int32_t uring__errand_add(uring_port *port, int descriptor, uint8_t kind, uint64_t key)
{
    uint32_t length = port->errands_length ? port->errands_length : TABLE_MIN;
    while (length <= (uint32_t)descriptor)
        length *= 2;
    if (length != port->errands_length) {
        uring_errand **table = realloc(port->errands, length * sizeof(uring_errand *));
        if (table == NULL)
            return RIO_ENOBUFS;
        memset(table + port->errands_length, 0,
               (length - port->errands_length) * sizeof(uring_errand *));
        port->errands = table;
        port->errands_length = length;
    }
    uring_errand *errand = port->errands[descriptor];
    if (errand != NULL)
        return RIO_EALREADY;
    errand = calloc(1, sizeof *errand);
    if (errand == NULL)
        return RIO_ENOBUFS;
    *errand = (uring_errand){ .kind = kind, .descriptor = descriptor, .key = key };
    port->errands[descriptor] = errand;
    uring__list(port, errand);
    return 0;
}

/* Nobody wants it any more. On return the kernel has let go of the descriptor if it can. */
static void uring__errand_stop(uring_port *port, uring_errand *errand)
{
    uring__unlist(port, errand);
    errand->stopped = 1;
    port->errands[errand->descriptor] = NULL;
    if (!errand->busy) {
        free(errand);
        return;
    }
    errand->held = 1;
    uring_cancel(port, (uint64_t)(uintptr_t)errand | URING_ERRAND);
    uring_turn(port, 0);
    for (int i = 0; i < URING_PATIENCE && errand->busy; i++)
        uring_turn(port, 1);
    errand->held = 0;
    if (!errand->busy)
        free(errand);
}

static void uring__accepted(uring_port *port, uring_errand *errand, int32_t result)
{
    rio_port_event event;

    if (result < 0 && (result == -ECANCELED || result == -EAGAIN || rio_accept_survives(-result)))
        return;
    if (errand->stopped) {
        if (result >= 0)
            close(result);
        return;
    }
    event = rio_accept_event(result, -result, errand->key);
    if (!rio_inbox_put(&port->base.inbox, &event, (rio_socket)errand->descriptor) && result >= 0)
        close(result); /* no memory even for that: the client sees its connection end */
    if (result < 0) {
        port->errands[errand->descriptor] = NULL;
        errand->stopped = 1;
    }
}

static void uring__connected(uring_port *port, uring_errand *errand, int32_t result)
{
    int error = 0;
    socklen_t length = sizeof error;

    if (errand->stopped || result == -ECANCELED)
        return;
    if (result < 0)
        error = -result;
    else if (getsockopt(errand->descriptor, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    port->base.core.counts.system_calls++;
    rio_port_event event = rio_connect_event((rio_socket)errand->descriptor, error, errand->key);
    (void)rio_inbox_put(&port->base.inbox, &event, (rio_socket)errand->descriptor);
    port->errands[errand->descriptor] = NULL;
    errand->stopped = 1;
}

void uring_errand_done(uring_port *port, uring_errand *errand, int32_t result, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0) {
        errand->busy = 0;
        port->base.core.counts.in_kernel--;
    }
    switch (errand->kind) {
    case URING_BELL: /* wait looks at the bell itself */
        break;
    case URING_WATCHES:
        port->watches_stir |= result >= 0;
        return; /* armed again when they were looked at */
    case URING_ACCEPT:
        uring__accepted(port, errand, result);
        break;
    default:
        uring__connected(port, errand, result);
    }
    if (errand->busy)
        return;
    if (errand->stopped && !errand->held)
        free(errand);
    else
        uring__list(port, errand);
}

int32_t uring_accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);

    if (port == NULL || (code = rio_socket_listens(listener)) != 0)
        return code;
    uring_errand *known = uring__errand_of(port, listener, URING_ACCEPT);
    if (known == NULL)
        return uring__errand_add(port, (int)listener, URING_ACCEPT, key);
    known->key = key;
    return 0;
}

int32_t uring_accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);
    if (port == NULL)
        return code;
    uring_errand *errand = uring__errand_of(port, listener, URING_ACCEPT);
    if (errand != NULL)
        uring__errand_stop(port, errand);
    if (listener <= INT_MAX)
        rio_inbox_withdraw(&port->base.inbox, listener, RIO_PORT_ACCEPT);
    return 0;
}

int32_t uring_connect(rio_port *handle, rio_socket socket, const void *address, uint32_t length,
                      uint64_t key)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);

    if (port == NULL || (code = rio_connect_check(socket, address, length)) != 0)
        return code;
    if (uring__errand_of(port, socket, URING_CONNECT) != NULL)
        return RIO_EALREADY;
    int result = connect((int)socket, address, length);
    port->base.core.counts.system_calls++;
    if (result != 0 && (errno == EINPROGRESS || errno == EINTR))
        return uring__errand_add(port, (int)socket, URING_CONNECT, key);
    rio_port_event event = rio_connect_event(socket, result == 0 ? 0 : errno, key);
    return rio_inbox_put(&port->base.inbox, &event, socket) ? 0 : RIO_ENOBUFS;
}

int32_t uring_connect_stop(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);
    if (port == NULL)
        return code;
    uring_errand *errand = uring__errand_of(port, socket, URING_CONNECT);
    if (errand != NULL)
        uring__errand_stop(port, errand);
    if (socket <= INT_MAX)
        rio_inbox_withdraw(&port->base.inbox, socket, RIO_PORT_CONNECT);
    return 0;
}

/* --------------------------------------------------------------------------------- watches */

/* The inner instance, made when it is first needed. 0 or a code. */
static int32_t uring__watches_open(uring_port *port)
{
    if (port->watched.epoll >= 0)
        return 0;
    port->watched.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (port->watched.epoll < 0)
        return rio_code_of_errno(errno);
    port->watches.descriptor = port->watched.epoll;
    uring__list(port, &port->watches);
    return 0;
}

int uring_rest(uring_port *port, rio_rq *rq)
{
    uring_side *side = (uring_side *)rq->driver;

    if (RIO_LIKELY(side->idle < URING_IDLE_PARKS) || !rq->stream)
        return 0;
    if (!side->rests) {
        if (uring__watches_open(port) != 0 ||
            rio_interests_put(&port->watched, (int)rq->socket, RIO_FOR_REST,
                              RIO_WATCH_READ | RIO_WATCH_ONCE, (uint64_t)(uintptr_t)rq) != 0) {
            side->idle = 0; /* watched by the program, or no memory: it waits in the ring */
            return 0;
        }
        side->rests = 1;
        port->base.core.counts.system_calls++;
    }
    return 1;
}

void uring_rest_end(uring_port *port, rio_rq *rq)
{
    uring_side *side = (uring_side *)rq->driver;
    const rio_interest *interest =
        rio_interests_at(&port->watched, (int)rq->socket, RIO_FOR_REST);

    side->rests = 0;
    side->idle = 0;
    if (interest != NULL && interest->key == (uint64_t)(uintptr_t)rq) {
        rio_interests_drop(&port->watched, (int)rq->socket, RIO_FOR_REST);
        port->base.core.counts.system_calls++;
    }
}

/* A resting queue has something to receive: the receive is due, and will not have to wait. */
static void uring__rested(uring_port *port, uint64_t tag)
{
    const rio_interest *interest = rio_interests_of(&port->watched, tag);
    if (interest == NULL)
        return;
    rio_rq *rq = (rio_rq *)(uintptr_t)interest->key;
    uring_side *side = (uring_side *)rq->driver;
    side->rests = 0;
    side->idle = 0;
    uring_receive(rq, 1);
}

int32_t uring_watch(rio_port *handle, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);

    if (port == NULL)
        return code;
    if (socket > INT_MAX)
        return RIO_EBADF;
    if (!rio_watch_valid(mask))
        return RIO_EINVAL;
    port->base.core.counts.system_calls++;
    if (mask == 0) {
        if (port->watched.epoll >= 0)
            rio_interests_drop(&port->watched, (int)socket, RIO_FOR_WATCH);
        return 0;
    }
    if (port->watched.epoll < 0 && fcntl((int)socket, F_GETFD) < 0)
        return RIO_EBADF; /* asked now: the instance may get this very number */
    if ((code = uring__watches_open(port)) != 0)
        return code;
    const rio_interest *rest = rio_interests_at(&port->watched, (int)socket, RIO_FOR_REST);
    if (rest != NULL) { /* a descriptor can be there once: the receive goes back to the ring */
        rio_rq *rq = (rio_rq *)(uintptr_t)rest->key;
        uring_rest_end(port, rq);
        uring_receive(rq, 0);
    }
    return rio_interests_put(&port->watched, (int)socket, RIO_FOR_WATCH, mask, key);
}

/* What the inner instance has, at most `size`; then it is armed again. */
uint32_t uring_watches_take(uring_port *port, rio_port_event *events, uint32_t size)
{
    struct epoll_event happened[WATCHES_MAX];
    uint32_t count = 0;

    if (size == 0)
        return 0;
    int found = epoll_wait(port->watched.epoll, happened,
                           size < WATCHES_MAX ? (int)size : WATCHES_MAX, 0);
    port->base.core.counts.system_calls++;
    for (int i = 0; i < found; i++)
        if ((happened[i].data.u64 & RIO_TAG_PURPOSE) == RIO_FOR_REST)
            uring__rested(port, happened[i].data.u64);
        else
            count += rio_watch_event(&port->watched, happened[i].data.u64, happened[i].events,
                                     events + count, size - count);
    port->watches_stir = 0;
    uring__list(port, &port->watches);
    return count;
}
