/* epoll.c: the provider for any Linux: RIO's queues over epoll and non-blocking calls.
 *
 * How epoll works. An epoll instance is told once which descriptors matter and then reports those
 * that became ready. It knows readiness, not completion: the bytes still have to be moved by recv
 * and send. Level-triggered entries are reported as long as they are ready, edge-triggered
 * (EPOLLET) ones only when something new arrived.
 *
 * What we do. The socket of a request queue is registered once, edge-triggered, and never changed
 * while it lives, so a connection costs no epoll_ctl per message. Each request queue remembers what
 * it knows: `readable`, `writable`.
 *   - A receive is tried when the socket is known to be readable. A receive that returned less than
 *     was asked emptied the socket, the next data will be reported, so trying again would only get
 *     EAGAIN: the echo pattern costs one recv, one send and a share of one epoll_wait per message.
 *     After RDHUP, HUP or ERR no further edge is certain, so the socket counts as readable for good.
 *   - A send is tried at once. Several waiting requests go out in one sendmsg. When the socket is
 *     full, EPOLLOUT is added to its registration, once and for good: TCP reports it only after a
 *     send found no room, and a socket that never fills up never has to hear of it. (Registering it
 *     from the start would report every new connection, and every read by an AF_UNIX peer.)
 * Events of sockets become results in completion queues and take no room in the caller's array.
 * Everything else in the instance is level-triggered (watches, listeners, connects) and may
 * therefore simply be ignored when the array is full: it will be reported again.
 *
 * What can go wrong.
 *   - Descriptors are reused. Entries are tagged with a handle (request queues) or a generation
 *     (others), see linux.c; an event that fits nothing is dropped.
 *   - One descriptor can be in an instance only once, but may be watched while it has a request
 *     queue. Such a watch goes to a second instance, `aside`, which is itself in the first.
 *   - Sockets may be blocking: every call says MSG_DONTWAIT. SIGPIPE: every send says MSG_NOSIGNAL.
 *   - accept4 makes a descriptor before it looks for a connection, so a call in vain is expensive.
 *     As many calls are made as succeeded last time, doubling while all of them do.
 *   - A forked child shares the instance; the mark in linux.c keeps it away (rule 14).
 *
 * Links: https://man7.org/linux/man-pages/man7/epoll.7.html
 *        https://man7.org/linux/man-pages/man2/epoll_wait.2.html (epoll_pwait2: Linux 5.11)
 *        https://man7.org/linux/man-pages/man2/accept.2.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441 /* the same on every architecture */
#endif

/* Events fetched by one epoll_wait: 3 KiB of stack, and at 5 µs each a millisecond of work. */
#define EVENTS_MAX 256
/* Connections taken from one listener in one wait, so that a flood of them starves nobody. */
#define ACCEPT_MAX 64

#define NS_PER_SECOND 1000000000
#define NS_PER_MS 1000000

typedef struct epoll_port {
    rio_linux_port base; /* first: handles of ports lead to it */
    rio_interests main;
    rio_interests aside;
    uint8_t without_pwait2;
} epoll_port;

/* The driver's part of a request queue. */
typedef struct epoll_side {
    uint8_t readable;
    uint8_t writable;
    uint8_t hung_up; /* no further edge is certain */
    uint8_t hears_writable;
} epoll_side;

static const rio_driver epoll__driver;

static inline epoll_side *epoll__side(rio_rq *rq)
{
    return (epoll_side *)rq->driver;
}

static inline epoll_port *epoll__port(const rio_port *handle, int32_t *code)
{
    return (epoll_port *)rio_linux_port_of(handle, &epoll__driver, code);
}

/* ------------------------------------------------------------------------- bytes: receives */

static void epoll__receive_stream(rio_rq *rq, epoll_side *side)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];

    while (side->readable && rio_lane_waiting(lane) != 0) {
        rio_request *request = rio_lane_request(lane, 0);
        size_t room = request->length - request->done;
        if (RIO_UNLIKELY(room > RIO_TRANSFER_MAX))
            room = RIO_TRANSFER_MAX;
        ssize_t bytes = recv((int)rq->socket, request->memory + request->done, room,
                             MSG_DONTWAIT);
        rq->core->counts.system_calls++;
        rq->core->counts.submissions++;
        if (RIO_LIKELY(bytes >= 0)) {
            if (bytes != 0 && (size_t)bytes < room && !side->hung_up)
                side->readable = 0;
            rio_received(rq, (uint32_t)bytes);
        } else if (errno == EAGAIN) {
            side->readable = 0;
        } else if (errno != EINTR) {
            rio_failed(rq, RIO_RECEIVES, rio_code_of_errno(errno));
        }
    }
}

static void epoll__receive_datagrams(rio_rq *rq, epoll_side *side)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];

    while (side->readable && rio_lane_waiting(lane) != 0) {
        rio_request *request = rio_lane_request(lane, 0);
        struct sockaddr_storage address;
        struct iovec piece = { request->memory, request->length };
        struct msghdr message = { .msg_name = &address,
                                  .msg_namelen = sizeof address,
                                  .msg_iov = &piece,
                                  .msg_iovlen = 1 };
        ssize_t bytes = recvmsg((int)rq->socket, &message, MSG_DONTWAIT);
        rq->core->counts.system_calls++;
        rq->core->counts.submissions++;
        if (bytes >= 0)
            rio_datagram_received(rq, (uint32_t)bytes, &address, message.msg_namelen,
                                  (uint32_t)message.msg_flags,
                                  (message.msg_flags & MSG_TRUNC) != 0);
        else if (errno == EAGAIN)
            side->readable = 0;
        else if (errno != EINTR)
            rio_failed(rq, RIO_RECEIVES, rio_code_of_errno(errno));
    }
}

/* ---------------------------------------------------------------------------- bytes: sends */

/* The socket has no room: from now on hear when it has. Changing an edge-triggered entry makes
 * the kernel look again, so room that appeared meanwhile is reported. */
static void epoll__blocked(rio_rq *rq, epoll_side *side)
{
    const epoll_port *port = (const epoll_port *)rq->core;
    struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                 .data.u64 = (uint64_t)(uintptr_t)rq->handle };

    side->writable = 0;
    if (side->hears_writable)
        return;
    side->hears_writable = 1;
    rq->core->counts.system_calls++;
    (void)epoll_ctl(port->main.epoll, EPOLL_CTL_MOD, (int)rq->socket, &event);
}

static void epoll__send_stream(rio_rq *rq, epoll_side *side)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];

    while (side->writable && rio_lane_waiting(lane) != 0) {
        struct iovec pieces[RIO_GATHER_MAX];
        struct msghdr message = { .msg_iov = pieces };
        size_t total;
        uint32_t count = rio_gather(lane, pieces, &total);
        message.msg_iovlen = count;
        ssize_t bytes = count == 1 ? send((int)rq->socket, pieces->iov_base, total,
                                          MSG_DONTWAIT | MSG_NOSIGNAL)
                                   : sendmsg((int)rq->socket, &message,
                                             MSG_DONTWAIT | MSG_NOSIGNAL);
        rq->core->counts.system_calls++;
        rq->core->counts.submissions++;
        if (RIO_LIKELY(bytes >= 0)) {
            rq->core->counts.gathered += count - 1;
            rio_sent(rq, (size_t)bytes);
            if (RIO_UNLIKELY((size_t)bytes < total))
                epoll__blocked(rq, side);
        } else if (errno == EAGAIN) {
            epoll__blocked(rq, side);
        } else if (errno != EINTR) {
            rio_failed(rq, RIO_SENDS, rio_send_code(rq, errno));
        }
    }
}

static void epoll__send_datagrams(rio_rq *rq, epoll_side *side)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];

    while (side->writable && rio_lane_waiting(lane) != 0) {
        rio_request *request = rio_lane_request(lane, 0);
        const rio_envelope *envelope = rio_lane_envelope(lane);
        ssize_t bytes = sendto((int)rq->socket, request->memory, request->length,
                               MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)envelope->remote,
                               rio_remote_length(envelope->remote));
        rq->core->counts.system_calls++;
        rq->core->counts.submissions++;
        if (bytes >= 0)
            rio_datagram_sent(rq, (uint32_t)bytes);
        else if (errno == EAGAIN)
            epoll__blocked(rq, side);
        else if (errno != EINTR)
            rio_failed(rq, RIO_SENDS, rio_send_code(rq, errno));
    }
}

static void epoll__start(rio_core *core, rio_rq *rq, enum rio_direction direction)
{
    epoll_side *side = epoll__side(rq);
    (void)core;
    if (direction == RIO_RECEIVES) {
        if (side->readable)
            (rq->stream ? epoll__receive_stream : epoll__receive_datagrams)(rq, side);
    } else if (side->writable) {
        (rq->stream ? epoll__send_stream : epoll__send_datagrams)(rq, side);
    }
}

/* ------------------------------------------------------------------------------ attachment */

/* Into the second instance, which is made when it is first needed. */
static int32_t epoll__put_aside(epoll_port *port, int descriptor, enum rio_purpose purpose,
                                uint32_t mask, uint64_t key)
{
    if (port->aside.epoll < 0) {
        struct epoll_event event = { .events = EPOLLIN, .data.u64 = RIO_FOR_ASIDE };
        int aside = epoll_create1(EPOLL_CLOEXEC);
        if (aside < 0 || epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, aside, &event) != 0) {
            int32_t code = rio_code_of_errno(errno);
            if (aside >= 0)
                close(aside);
            return code;
        }
        port->aside.epoll = aside;
    }
    return rio_interests_put(&port->aside, descriptor, purpose, mask, key);
}

static int32_t epoll__put(epoll_port *port, int descriptor, enum rio_purpose purpose,
                          uint32_t mask, uint64_t key)
{
    port->base.core.counts.system_calls++;
    if (rio_interests_at(&port->aside, descriptor, purpose) == NULL) {
        int32_t code = rio_interests_put(&port->main, descriptor, purpose, mask, key);
        if (code != RIO_EALREADY)
            return code;
    }
    return epoll__put_aside(port, descriptor, purpose, mask, key);
}

static void epoll__drop(epoll_port *port, int descriptor, enum rio_purpose purpose)
{
    port->base.core.counts.system_calls++;
    rio_interests_drop(&port->main, descriptor, purpose);
    rio_interests_drop(&port->aside, descriptor, purpose);
}

/* The main instance has this descriptor for something else: make it go aside. */
static int epoll__move_aside(epoll_port *port, int descriptor)
{
    if ((uint32_t)descriptor >= port->main.length)
        return 0;
    rio_interest interest = port->main.table[descriptor];
    enum rio_purpose purpose = (enum rio_purpose)interest.purpose;
    if (purpose == RIO_FOR_NOTHING || !rio_interests_drop(&port->main, descriptor, purpose))
        return 0;
    return epoll__put_aside(port, descriptor, purpose, interest.mask, interest.key) == 0;
}

static int32_t epoll__attach(rio_core *core, rio_rq *rq)
{
    epoll_port *port = (epoll_port *)core;
    epoll_side *side = epoll__side(rq);
    struct epoll_event event = { .events = EPOLLIN | EPOLLRDHUP | EPOLLET,
                                 .data.u64 = (uint64_t)(uintptr_t)rq->handle };
    int32_t code = rio_socket_kind(rq->socket, &rq->stream);

    if (code != 0)
        return code;
    int descriptor = (int)rq->socket;
    int result = epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, descriptor, &event);
    if (result != 0 && errno == EEXIST && epoll__move_aside(port, descriptor))
        result = epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, descriptor, &event);
    core->counts.system_calls++;
    if (result != 0)
        return errno == ENOSPC ? RIO_ENOBUFS : errno == EEXIST ? RIO_EINVAL
                                                               : rio_code_of_errno(errno);
    /* Whatever the table says of this number is of a file that was closed. */
    rio_interests_forget(&port->main, descriptor);
    side->writable = 1;
    return 0;
}

static void epoll__detach(rio_core *core, rio_rq *rq)
{
    struct epoll_event unused = { 0 };
    if (!rio_core_ours(core))
        return;
    core->counts.system_calls++;
    (void)epoll_ctl(((epoll_port *)core)->main.epoll, EPOLL_CTL_DEL, (int)rq->socket, &unused);
}

/* ---------------------------------------------------------------------------------- events */

static void epoll__socket_event(uint64_t tag, uint32_t what)
{
    rio_rq *rq = rio_handle_object((void *)(uintptr_t)tag, RIO_KIND_RQ);
    if (RIO_UNLIKELY(rq == NULL))
        return;
    epoll_side *side = epoll__side(rq);
    if (RIO_UNLIKELY(what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))) {
        side->hung_up = 1;
        side->writable |= (what & (EPOLLHUP | EPOLLERR)) != 0;
    }
    if (what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        side->readable = 1;
    if (what & EPOLLOUT)
        side->writable = 1;
    if (rio_lane_waiting(&rq->lanes[RIO_RECEIVES]) != 0)
        epoll__start(rq->core, rq, RIO_RECEIVES);
    if (RIO_UNLIKELY(rio_lane_waiting(&rq->lanes[RIO_SENDS]) != 0))
        epoll__start(rq->core, rq, RIO_SENDS);
}

static uint32_t epoll__accept_event(epoll_port *port, rio_interests *set, int listener,
                                    rio_interest *interest, rio_port_event *events, uint32_t room)
{
    uint32_t count = 0, tries = interest->burst < room ? interest->burst : room;

    for (uint32_t i = 0; i < tries; i++) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        port->base.core.counts.system_calls++;
        if (descriptor < 0 && errno == EAGAIN) {
            interest->burst = (uint16_t)(count != 0 ? count : 1);
            return count;
        }
        if (descriptor < 0 && rio_accept_survives(errno))
            continue;
        events[count++] = rio_accept_event(descriptor, errno, interest->key);
        if (descriptor < 0) {
            rio_interests_drop(set, listener, RIO_FOR_ACCEPT);
            return count;
        }
    }
    if (tries == interest->burst && tries < ACCEPT_MAX)
        interest->burst = (uint16_t)(2 * tries);
    return count;
}

static uint32_t epoll__connect_event(epoll_port *port, rio_interests *set, int descriptor,
                                     const rio_interest *interest, rio_port_event *event)
{
    int error = 0;
    socklen_t length = sizeof error;
    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    *event = rio_connect_event((rio_socket)descriptor, error, interest->key);
    port->base.core.counts.system_calls += 2;
    rio_interests_drop(set, descriptor, RIO_FOR_CONNECT);
    return 1;
}

/* One event of an instance; returns how many of ours it made, at most `room`. */
static uint32_t epoll__event(epoll_port *port, rio_interests *set, uint64_t tag, uint32_t what,
                             rio_port_event *events, uint32_t room)
{
    int descriptor = (int)(tag >> RIO_TAG_DESCRIPTOR_SHIFT);
    rio_interest *interest = rio_interests_of(set, tag);

    if (interest == NULL || room == 0)
        return 0;
    switch (interest->purpose) {
    case RIO_FOR_ACCEPT:
        return epoll__accept_event(port, set, descriptor, interest, events, room);
    case RIO_FOR_CONNECT:
        return epoll__connect_event(port, set, descriptor, interest, events);
    default:
        *events = (rio_port_event){ .kind = RIO_PORT_READY,
                                    .key = interest->key,
                                    .value = rio_watch_mask(what, interest->mask) };
        return events->value != 0;
    }
}

static uint32_t epoll__aside_events(epoll_port *port, rio_port_event *events, uint32_t room)
{
    struct epoll_event happened[EVENTS_MAX];
    uint32_t count = 0;
    int size = room == 0 ? 0 : epoll_wait(port->aside.epoll, happened,
                                          room < EVENTS_MAX ? (int)room : EVENTS_MAX, 0);
    port->base.core.counts.system_calls++;
    for (int i = 0; i < size; i++)
        count += epoll__event(port, &port->aside, happened[i].data.u64, happened[i].events,
                              events + count, room - count);
    return count;
}

/* -------------------------------------------------------------------------------- the wait */

static int epoll__sleep(epoll_port *port, struct epoll_event *happened, int64_t timeout_ns)
{
    port->base.core.counts.system_calls++;
    if (timeout_ns > 0 && !port->without_pwait2) {
        struct {
            int64_t seconds, nanoseconds; /* __kernel_timespec, 64-bit everywhere */
        } until = { timeout_ns / NS_PER_SECOND, timeout_ns % NS_PER_SECOND };
        long count = syscall(SYS_epoll_pwait2, port->main.epoll, happened, EVENTS_MAX, &until,
                             NULL, (size_t)0);
        if (count >= 0 || (errno != ENOSYS && errno != EPERM))
            return (int)count;
        port->without_pwait2 = 1; /* Linux before 5.11, or a filter that does not know it */
    }
    int64_t ms = -1;
    if (timeout_ns >= 0)
        ms = timeout_ns / NS_PER_MS + (timeout_ns % NS_PER_MS != 0); /* never too early */
    return epoll_wait(port->main.epoll, happened, EVENTS_MAX, ms > INT_MAX ? INT_MAX : (int)ms);
}

/* One look at the instance. Returns the number of events, or minus a code. */
static int32_t epoll__look(epoll_port *port, rio_port_event *events, uint32_t room,
                           int64_t timeout_ns)
{
    struct epoll_event happened[EVENTS_MAX];
    uint32_t count = 0;
    int size = epoll__sleep(port, happened, timeout_ns);

    if (RIO_UNLIKELY(size < 0))
        return errno == EINTR ? 0 : -rio_code_of_errno(errno);
    for (int i = 0; i < size; i++) {
        uint64_t tag = happened[i].data.u64;
        uint32_t purpose = tag & RIO_TAG_PURPOSE;
        if (RIO_LIKELY(purpose == RIO_KIND_RQ))
            epoll__socket_event(tag, happened[i].events);
        else if (purpose == RIO_FOR_ASIDE)
            count += epoll__aside_events(port, events + count, room - count);
        else if (purpose != RIO_FOR_BELL) /* wait looks at the bell itself */
            count += epoll__event(port, &port->main, tag, happened[i].events, events + count,
                                  room - count);
    }
    return (int32_t)count;
}

static int32_t epoll__wait(rio_port *handle, rio_port_event *events, uint32_t size,
                           int64_t timeout_ns)
{
    int32_t code = 0;
    epoll_port *port = epoll__port(handle, &code);

    if (RIO_UNLIKELY(port == NULL))
        return -code;
    if (RIO_UNLIKELY(events == NULL || size == 0))
        return -(events == NULL ? RIO_EFAULT : RIO_EINVAL);
    port->base.core.counts.waits++;
    uint32_t ready = rio_linux_ready(&port->base);
    int32_t found = 0;
    if (ready || (timeout_ns != 0 && !rio_bell_may_sleep(&port->base.bell)))
        timeout_ns = 0;
    if (size > ready) { /* room for at least one of those that are ready stays */
        found = epoll__look(port, events, size - ready, timeout_ns);
        rio_bell_awake(&port->base.bell);
        if (RIO_UNLIKELY(found < 0))
            return found;
    }
    return found + (int32_t)rio_linux_take(&port->base, events + found, size - (uint32_t)found);
}

static void epoll__progress(rio_core *core)
{
    (void)epoll__look((epoll_port *)core, NULL, 0, 0);
}

/* ------------------------------------------------------------ watches, listeners, connects */

static int32_t epoll__watch(rio_port *handle, rio_socket socket, uint32_t mask, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll__port(handle, &code);

    if (port == NULL)
        return code;
    if (socket > INT_MAX)
        return RIO_EBADF;
    if (mask & ~(RIO_WATCH_READ | RIO_WATCH_WRITE))
        return RIO_EINVAL;
    if (mask != 0)
        return epoll__put(port, (int)socket, RIO_FOR_WATCH, mask, key);
    epoll__drop(port, (int)socket, RIO_FOR_WATCH);
    return 0;
}

static int32_t epoll__accept(rio_port *handle, rio_socket listener, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll__port(handle, &code);

    if (port == NULL)
        return code;
    code = rio_socket_listens(listener);
    if (code != 0)
        return code;
    return epoll__put(port, (int)listener, RIO_FOR_ACCEPT, RIO_WATCH_READ, key);
}

static int32_t epoll__accept_stop(rio_port *handle, rio_socket listener)
{
    int32_t code = 0;
    epoll_port *port = epoll__port(handle, &code);

    if (port == NULL)
        return code;
    if (listener <= INT_MAX)
        epoll__drop(port, (int)listener, RIO_FOR_ACCEPT);
    return 0;
}

static int32_t epoll__connect(rio_port *handle, rio_socket socket, const void *address,
                              uint32_t length, uint64_t key)
{
    int32_t code = 0;
    epoll_port *port = epoll__port(handle, &code);

    if (port == NULL || (code = rio_connect_check(socket, address, length)) != 0)
        return code;
    int descriptor = (int)socket;
    int result = connect(descriptor, address, length);
    port->base.core.counts.system_calls++;
    if (result != 0 && (errno == EINPROGRESS || errno == EINTR))
        return epoll__put(port, descriptor, RIO_FOR_CONNECT, RIO_WATCH_WRITE, key);
    rio_port_event event = rio_connect_event(socket, result == 0 ? 0 : errno, key);
    return rio_inbox_put(&port->base.inbox, &event, descriptor) ? 0 : RIO_ENOBUFS;
}

static int32_t epoll__connect_stop(rio_port *handle, rio_socket socket)
{
    int32_t code = 0;
    epoll_port *port = epoll__port(handle, &code);

    if (port == NULL)
        return code;
    if (socket <= INT_MAX) {
        epoll__drop(port, (int)socket, RIO_FOR_CONNECT);
        rio_inbox_withdraw(&port->base.inbox, (int)socket, RIO_PORT_CONNECT);
    }
    return 0;
}

/* An epoll instance belongs to no thread and holds no operation: there is nothing to take back. */
static int32_t epoll__park(rio_port *handle)
{
    int32_t code = 0;
    (void)epoll__port(handle, &code);
    return code;
}

/* -------------------------------------------------------------------------- birth and death */

static void epoll__shut(rio_core *core)
{
    epoll_port *port = (epoll_port *)core;

    rio_linux_port_end(&port->base);
    rio_interests_free(&port->main);
    rio_interests_free(&port->aside);
    if (port->main.epoll >= 0)
        close(port->main.epoll);
    if (port->aside.epoll >= 0)
        close(port->aside.epoll);
    free(port);
}

static rio_core *epoll__open(const rio_port_options *options)
{
    epoll_port *port = (epoll_port *)rio_linux_port_begin(&epoll__driver, options, sizeof *port);
    if (port == NULL)
        return NULL;
    struct epoll_event event = { .events = EPOLLIN | EPOLLET, .data.u64 = RIO_FOR_BELL };
    port->aside.epoll = -1;
    port->main.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (port->main.epoll < 0 ||
        epoll_ctl(port->main.epoll, EPOLL_CTL_ADD, port->base.bell.descriptor, &event) != 0) {
        int32_t code = rio_code_of_errno(errno);
        epoll__shut(&port->base.core);
        rio_refuse(code);
        return NULL;
    }
    return &port->base.core;
}

static rio_port *epoll__create(const rio_port_options *options)
{
    return rio_linux_port_create(epoll__open(options));
}

static void epoll__close(rio_port *handle)
{
    rio_core *core = rio_handle_object(handle, RIO_KIND_PORT);
    if (core != NULL && core->driver == &epoll__driver)
        epoll__shut(core);
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
        snprintf(reason, size, "epoll_create1 failed (%s): raise the limit of open files or allow "
                 "epoll in the sandbox.", strerror(error));
    return error;
}

/* ------------------------------------------------------------------------------ the tables */

static RIO_CQ RIO_CALL epoll__create_completion_queue(uint32_t size,
                                                      RIO_NOTIFICATION_COMPLETION *notification)
{
    return rio_emulation_create_completion_queue(&epoll__driver, size, notification);
}

static RIO_RQ RIO_CALL epoll__create_request_queue(rio_socket socket, uint32_t max_receives,
                                                   uint32_t max_receive_buffers,
                                                   uint32_t max_sends, uint32_t max_send_buffers,
                                                   RIO_CQ receive_cq, RIO_CQ send_cq,
                                                   void *context)
{
    return rio_emulation_create_request_queue(&epoll__driver, socket, max_receives,
                                              max_receive_buffers, max_sends, max_send_buffers,
                                              receive_cq, send_cq, context);
}

static const rio_driver epoll__driver = {
    .rq_bytes = sizeof(epoll_side),
    .open = epoll__open,
    .shut = epoll__shut,
    .attach = epoll__attach,
    .detach = epoll__detach,
    .start = epoll__start,
    .progress = epoll__progress,
};

const rio_provider rio_provider_epoll = {
    .size = sizeof(rio_provider),
    .capabilities = RIO_CAP_SEND_MEMORY | RIO_CAP_RECEIVE_MEMORY | RIO_CAP_DATAGRAM,
    .name = "epoll",
    .probe = epoll__probe,
    .rio = RIO_EMULATION_TABLE(epoll__create_completion_queue, epoll__create_request_queue),
    .port = {
        .size = sizeof(rio_port_table),
        .create = epoll__create,
        .close = epoll__close,
        .wait = epoll__wait,
        .pending = rio_linux_pending,
        .post = rio_linux_post,
        .watch = epoll__watch,
        .accept = epoll__accept,
        .accept_stop = epoll__accept_stop,
        .connect = epoll__connect,
        .connect_stop = epoll__connect_stop,
        .retire = rio_linux_retire,
        .park = epoll__park,
        .statistics = rio_linux_statistics,
    },
    .send_memory = rio_emulation_send_memory,
    .receive_memory = rio_emulation_receive_memory,
};
