/* errands.c: what an io_uring port asks of the kernel beside the bytes of request queues.
 *
 * Four errands, each one operation in the ring (uring.c tells how the ring is used):
 *   bell     a multishot poll of the eventfd that post() writes to. It is edge-triggered: each
 *            write is one result, and nothing has to be read or armed again
 *   watches  a one-shot poll of an inner epoll instance that holds all watched descriptors. When it
 *            fires, epoll_wait(0) tells which; then it is armed again. Polls in the ring itself
 *            would be one-shot or edge-triggered and would keep a closed descriptor's file alive;
 *            epoll is level-triggered, as rio.h promises, and forgets closed descriptors by itself
 *   listeners  the same poll of another inner instance, for what accepts (listeners.c tells why it
 *            is not the ring's own accept). What is ready there is looked at before a sleep ends,
 *            for another process may have been faster. Sockets of request queues are there, too, if
 *            their polls would always say ready, because of a queue of errors that nobody empties:
 *            by edges, each of which is tried without waiting, then silent until something comes
 *            Receives rest among the watches, too: those that several parks have taken back. To
 *            take back and hand over the receives of a thousand idle connections for each run of a
 *            loop would cost a millisecond; an entry here is made once, stays, and is silent after
 *            its event
 *   connect  connect() itself, which does not block, then a one-shot poll for writability. (The
 *            ring's own connect cannot be resumed after a park: the socket is already connecting.)
 *
 * An errand is listed when it should be in the kernel and is not: in the beginning, after each end
 * of a multishot (the MORE flag is missing), and after a park, which cancels them all.
 *
 * What can go wrong.
 *   - A stopped errand may still have results under way: it is cancelled, its results are fetched
 *     before the call returns, and the structure stays until the kernel's last word.
 *
 * Links: https://man7.org/linux/man-pages/man3/io_uring_prep_poll_multishot.3.html
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
/* A connection wakes all processes that share its listener and are idle, and the one that has just
 * served is awake already and would win every time. So it lets the others go first, for longer than
 * it takes to wake them. Whether there are others shows when one comes too late; who never does
 * soon stops being polite. */
#define POLITE_NS 100000
#define POLITE_TIMES 64

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
    port->watched.epoll = port->listening.epoll = -1;
    port->bell = (uring_errand){ .kind = URING_BELL, .descriptor = port->base.bell.descriptor };
    port->watches = (uring_errand){ .kind = URING_WATCHES, .descriptor = -1 };
    port->listeners = (uring_errand){ .kind = URING_LISTENERS, .descriptor = -1 };
    uring__list(port, &port->bell);
}

void uring_errands_end(uring_port *port)
{
    for (uint32_t i = 0; i < port->errands_length; i++)
        free(port->errands[i]);
    free(port->errands);
    rio_interests *const inner[] = { &port->watched, &port->listening };
    for (int i = 0; i < 2; i++) {
        if (inner[i]->epoll >= 0)
            close(inner[i]->epoll);
        rio_interests_free(inner[i]);
    }
}

void uring_errands_list(uring_port *port)
{
    uring__list(port, &port->bell);
    if (port->watched.epoll >= 0)
        uring__list(port, &port->watches);
    if (port->listening.epoll >= 0)
        uring__list(port, &port->listeners);
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
        case URING_LISTENERS:
            entry->poll32_events = uring_poll_events(POLLIN);
            break;
        default:
            entry->poll32_events = uring_poll_events(POLLOUT);
        }
    }
}

/* -------------------------------------------------------------------------------- connects */

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
    rio_count(&port->base.core.counts.system_calls, 1);
    rio_port_event event = rio_connect_event((rio_socket)errand->descriptor, error, errand->key);
    (void)rio_inbox_put(&port->base.inbox, &event, (rio_socket)errand->descriptor);
    port->errands[errand->descriptor] = NULL;
    errand->stopped = 1;
}

void uring_errand_done(uring_port *port, uring_errand *errand, int32_t result, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0) {
        errand->busy = 0;
        rio_count(&port->base.core.counts.in_kernel, -1);
    }
    switch (errand->kind) {
    case URING_BELL: /* wait looks at the bell itself */
        break;
    case URING_WATCHES:
        port->watches_stir |= result >= 0;
        return; /* armed again when they were looked at */
    case URING_LISTENERS:
        port->listeners_stir |= result >= 0;
        return;
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
    rio_count(&port->base.core.counts.system_calls, 1);
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

/* How the sockets are registered that are told of by edges. */
static const uint32_t uring__edge_events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

/* An inner instance, and the poll of it. 0 or a code. */
static int32_t uring__inner(uring_port *port, rio_interests *set, uring_errand *errand)
{
    set->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (set->epoll < 0)
        return rio_code_of_errno(errno);
    errand->descriptor = set->epoll;
    uring__list(port, errand);
    return 0;
}

static uint32_t uring__events_of(rio_rq *rq)
{
    return uring_side_of(rq)->edges ? uring__edge_events : 0;
}

/* After a stale event. Nothing in the kernel polls the old instance: its poll has just ended. */
static void uring__renew(uring_port *port, rio_interests *set, uring_errand *errand)
{
    int old;

    if (!rio_interests_renew(set, &old))
        return;
    if (set == &port->listening)
        rio_linux_move(&port->base.core, old, set->epoll, uring__events_of);
    errand->descriptor = set->epoll;
    close(old);
}

/* The inner instance, made when it is first needed. 0 or a code. */
static int32_t uring__watches_open(uring_port *port)
{
    if (port->watched.epoll >= 0)
        return 0;
    return uring__inner(port, &port->watched, &port->watches);
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
        rio_count(&port->base.core.counts.system_calls, 1);
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
        rio_count(&port->base.core.counts.system_calls, 1);
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
    rio_count(&port->base.core.counts.system_calls, 1);
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
    rio_count(&port->base.core.counts.system_calls, 1);
    for (int i = 0; i < found; i++)
        if ((happened[i].data.u64 & RIO_TAG_PURPOSE) == RIO_FOR_REST)
            uring__rested(port, happened[i].data.u64);
        else
            count += rio_watch_event(&port->watched, happened[i].data.u64, happened[i].events,
                                     events + count, size - count);
    port->watches_stir = 0;
    if (RIO_UNLIKELY(port->watched.stale != 0))
        uring__renew(port, &port->watched, &port->watches);
    uring__list(port, &port->watches);
    return count;
}

/* ------------------------------------------------------------------------------- listeners */

int32_t uring_accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);

    if (port == NULL || (code = rio_listener_check(listener)) != 0)
        return code;
    if (port->listening.epoll < 0) {
        code = uring__inner(port, &port->listening, &port->listeners);
        port->polite = POLITE_TIMES / 4; /* until it is known */
    }
    if (code == 0)
        return rio_interests_put(&port->listening, (int)listener, RIO_FOR_ACCEPT, RIO_WATCH_READ,
                                 key);
    if (code != RIO_EMFILE)
        return code;
    rio_port_event event = rio_accept_event(-1, EMFILE, key); /* as if the accept had met it */
    return rio_inbox_put(&port->base.inbox, &event, listener) ? 0 : RIO_ENOBUFS;
}

int32_t uring_accept_alone(rio_port *handle, rio_socket listener, uint32_t alone)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);
    if (port == NULL)
        return code;
    return rio_linux_accept_alone(&port->listening, listener, alone) ? 0 : RIO_EINVAL;
}

int32_t uring_accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);
    if (port == NULL)
        return code;
    if (listener > INT_MAX)
        return 0;
    rio_interests_drop(&port->listening, (int)listener, RIO_FOR_ACCEPT);
    rio_inbox_withdraw(&port->base.inbox, listener, RIO_PORT_ACCEPT);
    return 0;
}

/* ----------------------------------------------------------------------------------- edges */

void uring_edges_begin(uring_port *port, rio_rq *rq)
{
    struct epoll_event event = { .events = uring__edge_events,
                                 .data.u64 = (uint64_t)(uintptr_t)rq->handle };

    if (rq->retired)
        return;
    if (port->listening.epoll < 0 &&
        uring__inner(port, &port->listening, &port->listeners) != 0)
        return;
    rio_count(&port->base.core.counts.system_calls, 1);
    if (epoll_ctl(port->listening.epoll, EPOLL_CTL_ADD, (int)rq->socket, &event) == 0)
        uring_side_of(rq)->edges = 1; /* the first one comes at once */
}

void uring_edges_end(uring_port *port, const rio_rq *rq)
{
    struct epoll_event unused = { 0 };
    rio_count(&port->base.core.counts.system_calls, 1);
    (void)epoll_ctl(port->listening.epoll, EPOLL_CTL_DEL, (int)rq->socket, &unused);
}

static void uring__edge(uint64_t tag, uint32_t what)
{
    rio_rq *rq = rio_handle_object((void *)(uintptr_t)tag, RIO_KIND_RQ);
    if (rq == NULL)
        return; /* retired since */
    uring_side *side = uring_side_of(rq);
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        side->readable = 1;
        side->edge = rq->lanes[RIO_RECEIVES].flight != 0;
    }
    if (what & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        side->blocked = 0;
    uring_due(rq);
}

int uring_listeners_look(uring_port *port)
{
    struct epoll_event happened[RIO_ACCEPTS_MAX];

    if (port->calls_count != 0)
        return 1;
    int found = epoll_wait(port->listening.epoll, happened, RIO_ACCEPTS_MAX, 0);
    rio_count(&port->base.core.counts.system_calls, 1);
    for (int i = 0; i < found; i++) {
        if ((happened[i].data.u64 & RIO_TAG_PURPOSE) == RIO_KIND_RQ)
            uring__edge(happened[i].data.u64, happened[i].events);
        else if (rio_interests_told(&port->listening, happened[i].data.u64) != NULL)
            port->calls[port->calls_count++] = happened[i].data.u64;
    }
    if (RIO_UNLIKELY(port->listening.stale != 0))
        uring__renew(port, &port->listening, &port->listeners);
    port->listeners_stir = port->calls_count != 0;
    if (port->listeners_stir)
        return 1;
    if (found == 0)
        port->polite = POLITE_TIMES;
    uring__list(port, &port->listeners);
    return 0;
}

int64_t uring_listeners_rest(uring_port *port)
{
    int64_t rest = port->polite_until - uring_clock();
    if (rest > 0)
        return rest;
    port->polite_until = 0;
    uring__list(port, &port->listeners);
    return 0;
}

/* Connections of the listeners that are ready, at most `size`. */
uint32_t uring_listeners_take(uring_port *port, rio_port_event *events, uint32_t size)
{
    uint32_t count = 0, shared = 0;

    if (!uring_listeners_look(port))
        return 0;
    for (uint32_t i = 0; i < port->calls_count && count < size; i++) {
        const rio_interest *interest = rio_interests_of(&port->listening, port->calls[i]);
        uint32_t alone = interest != NULL && interest->burst != 0;
        uint32_t taken = rio_linux_accept(&port->base, &port->listening, port->calls[i],
                                          events + count, size - count);
        shared += alone ? 0 : taken;
        count += taken;
    }
    port->calls_count = 0; /* who found no room is ready again */
    port->listeners_stir = 0;
    if (shared != 0 && port->polite != 0) {
        port->polite--;
        port->polite_until = uring_clock() + POLITE_NS;
    } else {
        uring__list(port, &port->listeners);
    }
    return count;
}
