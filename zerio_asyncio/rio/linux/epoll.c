/* epoll.c: the provider for any Linux: RIO's queues over epoll and non-blocking calls.
 *
 * How epoll works. An epoll instance is told once which descriptors matter and then reports those
 * that became ready. It knows readiness, not completion: recv and send still have to move the
 * bytes. Level-triggered entries are reported as long as they are ready, edge-triggered (EPOLLET)
 * ones only when something new has arrived.
 *
 * What we do. The socket of a request queue is registered once, edge-triggered, and never changed
 * while it exists, so a connection costs no epoll_ctl per message. Each request queue remembers
 * what it knows: `readable`, `writable`.
 *   - A receive is tried when the socket is known to be readable. A receive that returned less than
 *     was asked emptied the socket. The next data will be reported, so trying again would only get
 *     EAGAIN: the echo pattern costs one recv, one send and a share of one epoll_wait per message.
 *     After RDHUP or HUP no further edge is certain: the socket counts as readable for good. (ERR
 *     alone may be a queue of errors that nobody empties, and says nothing about bytes.)
 *   - A send is tried at once. Several waiting requests go out in one sendmsg. When the socket is
 *     full, EPOLLOUT is added to its registration, once and for good: TCP reports it only after a
 *     send found no room, and a socket that never fills up never hears of it. (Registering it from
 *     the start would report every new connection, and every read by an AF_UNIX peer.)
 * Events of sockets become results in completion queues and take no room in the caller's array.
 * Everything else in the instance (watches, listeners, connects) is level-triggered:
 * epoll_entries.c.
 *
 * What can go wrong.
 *   - Descriptors are reused. Entries are tagged with a handle (request queues) or a generation
 *     (others), see interests.c; an event that matches nothing is dropped.
 *   - Sockets may be blocking: every call sets MSG_DONTWAIT. SIGPIPE: every send sets MSG_NOSIGNAL.
 *   - A forked child shares the instance; the mark in fork.c keeps it away (rule 14).
 *
 * Links: https://man7.org/linux/man-pages/man7/epoll.7.html
 *        https://man7.org/linux/man-pages/man2/epoll_wait.2.html (epoll_pwait2: Linux 5.11)
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/epoll_port.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "linux/datagrams.h"
#include "linux/entries.h"
#include "linux/epoll_accept.h"
#include "linux/epoll_connect.h"
#include "linux/epoll_entries.h"
#include "linux/epoll_events.h"
#include "linux/epoll_watch.h"

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same on every architecture */
#endif

#define NS_PER_SECOND 1000000000
#define NS_PER_MS 1000000

/* The driver's part of a request queue. */
typedef struct epoll_side {
    uint8_t readable;
    uint8_t writable;
    uint8_t hung_up; /* no further edge is certain */
    uint8_t hears_writable;
} epoll_side;

static const rio_driver epoll__driver;

static inline epoll_port *epoll__port_of(const rio_port *handle, int32_t *code)
{
    return (epoll_port *)port_of(handle, &epoll__driver, code);
}

static inline epoll_side *epoll__side(rio_rq *rq)
{
    return (epoll_side *)rq->driver;
}

/* ------------------------------------------------------------------------- bytes: receives */

static int64_t epoll__now(rio_rq *rq, enum rio_direction direction, char *memory, uint32_t length)
{
    epoll_side *side = epoll__side(rq);
    int64_t moved = sockets_now(rq, direction, memory, length);
    int drained = (moved > 0 && moved < (int64_t)length) || moved == -RIO_EWOULDBLOCK;

    if (direction == RIO_RECEIVES && drained && !side->hung_up)
        side->readable = 0;
    return moved;
}

static void epoll__receive_stream(rio_rq *rq, epoll_side *side)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];

    while (side->readable && rq_waiting(lane) != 0) {
        rio_request *request = rq_request(lane, 0);
        size_t room = request->length - request->done;
        if (rq_probes(request)) {
            rq_complete(rq, RIO_RECEIVES, 0);
            continue;
        }
        if (RIO_UNLIKELY(room > RQ_TRANSFER_MAX))
            room = RQ_TRANSFER_MAX;
        ssize_t bytes = recv((int)rq->socket, request->memory + request->done, room, MSG_DONTWAIT);
        counts_add(&rq->hub->counts.system_calls, 1);
        counts_add(&rq->hub->counts.submissions, 1);
        if (RIO_LIKELY(bytes >= 0)) {
            if (bytes != 0 && (size_t)bytes < room && !side->hung_up)
                side->readable = 0;
            rq_received(rq, (uint32_t)bytes);
        } else if (errno == EAGAIN) {
            side->readable = 0;
        } else if (errno != EINTR) {
            rq_failed(rq, RIO_RECEIVES, rio_code_of_errno(errno));
        }
    }
}

static void epoll__receive_datagrams(rio_rq *rq, epoll_side *side)
{
    while (side->readable && rq_waiting(&rq->lanes[RIO_RECEIVES]) != 0)
        side->readable = (uint8_t)datagrams_receive(rq);
}

/* ---------------------------------------------------------------------------- bytes: sends */

/* The socket has no room: from now on ask to hear when it has. Changing an edge-triggered entry
 * makes the kernel check again, so room that appeared meanwhile is reported. */
static void epoll__blocked(rio_rq *rq, epoll_side *side)
{
    const epoll_port *port = (const epoll_port *)rq->hub;
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.u64 = (uint64_t)(uintptr_t)rq->handle };

    side->writable = 0;
    if (side->hears_writable)
        return;
    side->hears_writable = 1;
    counts_add(&rq->hub->counts.system_calls, 1);
    (void)epoll_ctl(port->main.epoll, EPOLL_CTL_MOD, (int)rq->socket, &event);
}

static void epoll__send_stream(rio_rq *rq, epoll_side *side)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];

    while (side->writable && rq_waiting(lane) != 0) {
        struct iovec pieces[RQ_GATHER_MAX];
        struct msghdr message = { .msg_iov = pieces };
        size_t total;
        uint32_t count = sockets_gather(lane, pieces, &total);
        message.msg_iovlen = count;
        ssize_t bytes =
            count == 1 ? send((int)rq->socket, pieces->iov_base, total, MSG_DONTWAIT | MSG_NOSIGNAL)
                       : sendmsg((int)rq->socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        counts_add(&rq->hub->counts.system_calls, 1);
        counts_add(&rq->hub->counts.submissions, 1);
        if (RIO_LIKELY(bytes >= 0)) {
            counts_add(&rq->hub->counts.gathered, count - 1);
            rq_sent(rq, (size_t)bytes);
            if (RIO_UNLIKELY((size_t)bytes < total))
                epoll__blocked(rq, side);
        } else if (errno == EAGAIN) {
            epoll__blocked(rq, side);
        } else if (errno != EINTR) {
            rq_failed(rq, RIO_SENDS, sockets_send_code(rq, errno));
        }
    }
}

static void epoll__send_datagrams(rio_rq *rq, epoll_side *side)
{
    while (side->writable && rq_waiting(&rq->lanes[RIO_SENDS]) != 0)
        if (!datagrams_send(rq))
            epoll__blocked(rq, side);
}

static void epoll__start(rio_hub *hub, rio_rq *rq, enum rio_direction direction)
{
    epoll_side *side = epoll__side(rq);
    (void)hub;
    if (direction == RIO_RECEIVES) {
        if (side->readable)
            (rq->stream ? epoll__receive_stream : epoll__receive_datagrams)(rq, side);
    } else if (side->writable) {
        (rq->stream ? epoll__send_stream : epoll__send_datagrams)(rq, side);
    }
}

/* ------------------------------------------------------------------------------ attachment */

static int32_t epoll__attach(rio_hub *hub, rio_rq *rq)
{
    epoll_port *port = (epoll_port *)hub;
    epoll_side *side = epoll__side(rq);
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                                 .data.u64 = (uint64_t)(uintptr_t)rq->handle };
    int32_t code = sockets_learn(rq);

    if (code != 0)
        return code;
    int descriptor = (int)rq->socket;
    int result = epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, descriptor, &event);
    if (result != 0 && errno == EEXIST && epoll_entries_move_aside(port, descriptor))
        result = epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, descriptor, &event);
    counts_add(&hub->counts.system_calls, 1);
    if (result != 0)
        return errno == ENOSPC   ? RIO_ENOBUFS
               : errno == EEXIST ? RIO_EINVAL
                                 : rio_code_of_errno(errno);
    /* What the table says about this number concerns a file that was closed. */
    interests_forget(&port->main, descriptor);
    side->writable = 1;
    return 0;
}

static void epoll__detach(rio_hub *hub, rio_rq *rq)
{
    struct epoll_event unused = { 0 };
    if (!hub_ours(hub))
        return;
    counts_add(&hub->counts.system_calls, 1);
    (void)epoll_ctl(((epoll_port *)hub)->main.epoll, EPOLL_CTL_DEL, (int)rq->socket, &unused);
}

/* ---------------------------------------------------------------------------------- events */

static void epoll__socket_event(uint64_t tag, uint32_t what)
{
    rio_rq *rq = handles_object((void *)(uintptr_t)tag, HANDLES_RQ);
    if (RIO_UNLIKELY(rq == NULL || sockets_gone(rq)))
        return;
    epoll_side *side = epoll__side(rq);
    if (RIO_UNLIKELY(what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
        side->hung_up |= (what & (EPOLLRDHUP | EPOLLHUP)) != 0;
        side->writable |= (what & (EPOLLHUP | EPOLLERR)) != 0;
    }
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        side->readable = 1;
    if (what & EPOLLOUT)
        side->writable = 1;
    if (rq_waiting(&rq->lanes[RIO_RECEIVES]) != 0)
        epoll__start(rq->hub, rq, RIO_RECEIVES);
    if (RIO_UNLIKELY(rq_waiting(&rq->lanes[RIO_SENDS]) != 0))
        epoll__start(rq->hub, rq, RIO_SENDS);
}

static uint32_t epoll__events_of(rio_rq *rq)
{
    return EPOLLIN | EPOLLRDHUP | EPOLLET |
           (epoll__side(rq)->hears_writable ? (uint32_t)EPOLLOUT : 0u);
}

/* After a stale event. Edges in transit come again: registering reports what is ready. */
static void epoll__renew(epoll_port *port)
{
    struct epoll_event wakeup = { .events = EPOLLIN | EPOLLET, .data.u64 = FOR_WAKEUP };
    struct epoll_event aside = { .events = EPOLLIN, .data.u64 = FOR_ASIDE };
    int old;

    if (!interests_renew(&port->main, &old))
        return;
    interests_move(&port->base.hub, old, port->main.epoll, epoll__events_of);
    (void)epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, port->base.wakeup_descriptor, &wakeup);
    if (port->aside.epoll >= 0)
        (void)epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, port->aside.epoll, &aside);
    close(old);
}

/* -------------------------------------------------------------------------------- the wait */

static int epoll__sleep(epoll_port *port, struct epoll_event *happened, int64_t timeout_ns)
{
    counts_add(&port->base.hub.counts.system_calls, 1);
    if (timeout_ns > 0 && !port->without_pwait2) {
        struct {
            int64_t seconds, nanoseconds; /* __kernel_timespec, 64-bit everywhere */
        } until = { timeout_ns / NS_PER_SECOND, timeout_ns % NS_PER_SECOND };
        long count = syscall(SYS_epoll_pwait2, port->main.epoll, happened, EPOLL_EVENTS_MAX, &until,
                             NULL, (size_t)0);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return (int)count;
        port->without_pwait2 = 1; /* Linux before 5.11, or a filter that does not know it */
    }
    int64_t ms = -1;
    if (timeout_ns >= 0)
        ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0); /* never too early */
    return epoll_wait(port->main.epoll, happened, EPOLL_EVENTS_MAX,
                      ms > INT_MAX ? INT_MAX : (int)ms);
}

/* Polls the instance once. Returns the number of events, or minus a code. */
static int32_t epoll__look(epoll_port *port, rio_port_event *events, uint32_t room,
                           int64_t timeout_ns)
{
    struct epoll_event happened[EPOLL_EVENTS_MAX];
    uint32_t count = 0;
    int size = epoll__sleep(port, happened, timeout_ns);

    if (RIO_UNLIKELY(size < 0))
        return errno == EINTR ? 0 : -rio_code_of_errno(errno);
    for (int i = 0; i < size; i++) {
        uint64_t tag = happened[i].data.u64;
        uint32_t purpose = tag & TAG_PURPOSE;
        if (RIO_LIKELY(purpose == HANDLES_RQ))
            epoll__socket_event(tag, happened[i].events);
        else if (purpose == FOR_ASIDE)
            count += epoll_events_aside(port, events + count, room - count);
        else if (purpose != FOR_WAKEUP) /* wait checks the wake-up itself */
            count += epoll_events_take(port, &port->main, tag, happened[i].events, events + count,
                                       room - count);
    }
    if (RIO_UNLIKELY(port->main.stale != 0))
        epoll__renew(port);
    return (int32_t)count;
}

typedef struct epoll_poll {
    epoll_port *port;
    rio_port_event *events;
    uint32_t room;
    int32_t found;
} epoll_poll;

static int epoll__poll(void *object)
{
    epoll_poll *poll = object;
    const port_base *base = &poll->port->base;
    uint32_t loud = base->hub.loud;

    poll->found = epoll__look(poll->port, poll->events, poll->room, 0);
    return poll->found != 0 || loud != base->hub.loud || port_ready(base);
}

static int32_t epoll__wait(rio_port *handle, rio_port_event *events, uint32_t size,
                           int64_t timeout_ns)
{
    int32_t code = 0;
    epoll_port *port = epoll__port_of(handle, &code);

    if (RIO_UNLIKELY(port == NULL))
        return -code;
    if (RIO_UNLIKELY(events == NULL || size == 0))
        return -(events == NULL ? RIO_EFAULT : RIO_EINVAL);
    counts_add(&port->base.hub.counts.waits, 1);
    spin_state *spin = &port->base.hub.spin;
    uint32_t ready = port_ready(&port->base);
    epoll_poll poll = { port, events, size - ready, 0 }; /* room for one ready event remains */
    int spins = !ready && timeout_ns != 0 && spin->limit_ns != 0;
    if (spins)
        timeout_ns = spin_poll(spin, timeout_ns, epoll__poll, &poll);
    if (ready || (timeout_ns != 0 && !wakeup_may_sleep(&port->base.wakeup)))
        timeout_ns = 0;
    if (size > ready && (!spins || timeout_ns != 0))
        poll.found = epoll__look(port, events, poll.room, timeout_ns);
    wakeup_awake(&port->base.wakeup);
    if (RIO_UNLIKELY(poll.found < 0))
        return poll.found;
    int32_t count = poll.found;
    count += (int32_t)port_take(&port->base, events + count, size - (uint32_t)count);
    if (count != 0)
        spin_heard(spin);
    return count;
}

static void epoll__progress(rio_hub *hub)
{
    (void)epoll__look((epoll_port *)hub, NULL, 0, 0);
}

/* An epoll instance belongs to no thread and holds no operation: there is nothing to take back. */
static int32_t epoll__park(rio_port *handle)
{
    int32_t code = 0;
    (void)epoll__port_of(handle, &code);
    return code;
}

/* ------------------------------------------------------------------------ entries of the port */

static int32_t epoll__watch(rio_port *handle, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll__port_of(handle, &code);
    return port != NULL ? epoll_watch(port, socket, mask, key) : code;
}

static int32_t epoll__accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll__port_of(handle, &code);
    return port != NULL ? epoll_accept(port, listener, key) : code;
}

static int32_t epoll__accept_alone(rio_port *handle, rio_socket listener, uint32_t alone)
{
    int32_t code = 0;
    epoll_port *port = epoll__port_of(handle, &code);
    return port != NULL ? epoll_accept_alone(port, listener, alone) : code;
}

static int32_t epoll__accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    epoll_port *port = epoll__port_of(handle, &code);
    if (port != NULL)
        epoll_accept_stop(port, listener);
    return code;
}

static int32_t epoll__connect(rio_port *handle, rio_socket socket, const void *address,
                              uint32_t length, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll__port_of(handle, &code);
    return port != NULL ? epoll_connect(port, socket, address, length, key) : code;
}

static int32_t epoll__connect_stop(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    epoll_port *port = epoll__port_of(handle, &code);
    if (port != NULL)
        epoll_connect_stop(port, socket);
    return code;
}

/* -------------------------------------------------------------------------- birth and death */

static void epoll__shut(rio_hub *hub)
{
    epoll_port *port = (epoll_port *)hub;

    port_end(&port->base);
    interests_free(&port->main);
    interests_free(&port->aside);
    if (port->main.epoll >= 0)
        close(port->main.epoll);
    if (port->aside.epoll >= 0)
        close(port->aside.epoll);
    free(port);
}

static rio_hub *epoll__open(const rio_port_options *options)
{
    epoll_port *port = (epoll_port *)port_begin(&epoll__driver, options, sizeof *port);
    if (port == NULL)
        return NULL;
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = FOR_WAKEUP };
    port->aside.epoll = -1;
    port->main.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (port->main.epoll < 0 ||
        epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, port->base.wakeup_descriptor, &event) != 0) {
        int32_t code = rio_code_of_errno(errno);
        epoll__shut(&port->base.hub);
        errors_refuse(code);
        return NULL;
    }
    return &port->base.hub;
}

static rio_port *epoll__create(const rio_port_options *options)
{
    return hub_publish(epoll__open(options));
}

static void epoll__close(rio_port *handle)
{
    rio_hub *hub = handles_object(handle, HANDLES_PORT);
    if (hub != NULL && hub->driver == &epoll__driver)
        epoll__shut(hub);
}

static int32_t epoll__probe(char *reason, uint32_t size)
{
    int instance = epoll_create1(EPOLL_CLOEXEC);
    if (instance >= 0) {
        close(instance);
        return 0;
    }
    int error = errno;
    if (reason != NULL && size != 0)
        snprintf(reason, size,
                 "epoll_create1 failed (%s): raise the limit of open files or allow "
                 "epoll in the sandbox.",
                 strerror(error));
    return error;
}

/* ------------------------------------------------------------------------------ the tables */

EMULATION_CREATORS(epoll_, &epoll__driver)

static const rio_driver epoll__driver = {
    .rq_bytes = sizeof(epoll_side),
    .open = epoll__open,
    .shut = epoll__shut,
    .attach = epoll__attach,
    .detach = epoll__detach,
    .start = epoll__start,
    .now = epoll__now,
    .datagrams_now = datagrams_now,
    .progress = epoll__progress,
};

const rio_provider epoll_provider = {
    .size = sizeof(rio_provider),
    .capabilities = RIO_CAP_SEND_MEMORY | RIO_CAP_RECEIVE_MEMORY | RIO_CAP_DATAGRAM | RIO_CAP_NOW |
                    RIO_CAP_SEND_NOW,
    .name = "epoll",
    .probe = epoll__probe,
    .rio = EMULATION_TABLE(epoll__create_completion_queue, epoll__create_request_queue),
    .port = {
        ENTRIES_OF_PORT,
        .create = epoll__create,
        .close = epoll__close,
        .wait = epoll__wait,
        .pending = port_pending,
        .watch = epoll__watch,
        .accept = epoll__accept,
        .accept_stop = epoll__accept_stop,
        .accept_alone = epoll__accept_alone,
        .connect = epoll__connect,
        .connect_stop = epoll__connect_stop,
        .park = epoll__park,
    },
    ENTRIES_OF_PROVIDER,
};
