/* uring.c: the provider for Linux 5.19 and later: RIO's queues over io_uring.
 *
 * How io_uring is used (ring.c tells what it is). A request queue has at most one operation in the
 * kernel for each direction, because io_uring promises no order between two:
 *   receive  RECV of the first waiting request. POLL_FIRST says not to try before data is there,
 *            for a receive that follows an echo would try in vain; if the last completion said
 *            that the socket holds more (SOCK_NONEMPTY) it is left out
 *   send     SEND, or one SENDMSG for several waiting requests. MSG_WAITALL makes the kernel itself
 *            go on after a short send; what still comes back short is resumed
 * Datagrams are different: what a socket takes or gives at once is moved by calls, many in each
 * (datagrams.c), and the ring is for the first one that has to wait.
 * A request that is made while its direction is busy waits in its lane and goes out with the others
 * when the operation ends. RIOSend and RIOReceive only put the queue on a list (`due`); the entries
 * are written when the thread waits. So all requests of one turn of the loop, and the wait for the
 * next, are one system call.
 *
 * Memory is not registered with the kernel: measured, it gains nothing for sockets (RIO_BUF is
 * resolved to an address), and every process has a limit for it.
 *
 * Threads. A ring of the modern kind belongs to the thread that first enters it. park() takes all
 * operations back, so the thread may end; requests that were not finished stay at the head of their
 * lanes and are written again by the next wait, in a new ring if that is another thread. Programs
 * that run a loop for each small thing park it each time, with all their idle connections; so a
 * receive that was taken back twice rests in an epoll instance, which belongs to no thread, until
 * there is something to receive (errands.c).
 *
 * What can go wrong.
 *   - Closing a descriptor does not end an operation on it, and keeps the connection open: retire
 *     cancels and fetches the results before it returns, so the peer sees the end at close.
 *   - Cancelling races with completing. Both outcomes are a result like any other; what was
 *     cancelled is ended (retired queue) or written again (all others).
 *   - A receive that is taken back (recall_receives) may have come: its bytes are its result.
 *   - Memory of a request belongs to the kernel until the result is here. Nothing is ended without
 *     it: close waits too.
 *   - Sends complete while they are submitted and end the sleep before it began: GATHER_US.
 *   - The completion ring overflows: the kernel keeps what does not fit (NODROP) and says so by a
 *     flag; entering fetches it.
 *   - fork: the child shares the instance. linux.c's mark keeps it away; its copies of the rings
 *     do not exist (ring.c).
 *   - Containers forbid io_uring. probe says so, and epoll is taken.
 *
 * Links: https://man7.org/linux/man-pages/man7/io_uring.7.html
 *        https://man7.org/linux/man-pages/man3/io_uring_prep_recv.3.html
 *        https://man7.org/linux/man-pages/man3/io_uring_prep_cancel.3.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "uring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 32768 /* the kernel's own limit; the option `depth` of a port may ask for less */

/* Sends usually complete while they are submitted, so that a sleep that waits for one result does
 * not sleep, and a second system call follows. Linux 6.12 can be asked to wait for one result more
 * than there are sends, but only so many microseconds; then any will do. That pays when many are
 * busy, for then a receive comes soon, and costs a timer that goes off in vain when few are.
 * Measured, CPU µs per 1 KiB echo, least of 9 rounds on a busy machine (never | with 8 sends and
 * more | always): 1 connection 27.2|27.8|41.0, 50: 7.0|6.6|6.2, 500: 8.9|8.7|9.9. */
#define GATHER_US 50
#define GATHER_SENDS 8

/* Datagrams that come alone before one is taken for the first of many again. A call in vain costs a
 * tenth of what a datagram costs; this way it is lost in the noise. */
#define LOOK_RARELY 15

/* A patient turn waits this long. */
#define PATIENCE_NS 1000000

#define NS_PER_SECOND 1000000000

/* ------------------------------------------------------------------------ lists of what is due */

void uring_due(rio_rq *rq)
{
    uring_port *port = (uring_port *)rq->core;
    uring_side *side = uring_side_of(rq);

    if (side->due)
        return;
    side->due = 1;
    side->next = NULL;
    side->previous = port->last_due;
    *(port->last_due != NULL ? &uring_side_of(port->last_due)->next : &port->first_due) = rq;
    port->last_due = rq;
}

void uring_not_due(rio_rq *rq)
{
    uring_port *port = (uring_port *)rq->core;
    uring_side *side = uring_side_of(rq);

    if (!side->due)
        return;
    side->due = 0;
    rio_rq **next = side->previous != NULL ? &uring_side_of(side->previous)->next
                                           : &port->first_due;
    rio_rq **previous = side->next != NULL ? &uring_side_of(side->next)->previous
                                           : &port->last_due;
    *next = side->next;
    *previous = side->previous;
}

void uring_receive(rio_rq *rq, int more)
{
    uring_side_of(rq)->more |= (uint8_t)more;
    uring_due(rq);
}

/* Moves waiting datagrams, of which none is in the kernel, until one must wait. */
static void uring__datagrams(rio_rq *rq, enum rio_direction direction)
{
    const rio_lane *lane = &rq->lanes[direction];
    uring_side *side = uring_side_of(rq);

    if (rq->retired || rio_linux_is_gone(rq))
        return;
    if (direction == RIO_RECEIVES)
        while (side->more && rio_lane_waiting(lane) != 0)
            side->more = (uint8_t)rio_linux_receive_datagrams(rq);
    else
        while (!side->blocked && rio_lane_waiting(lane) != 0)
            side->blocked = !rio_linux_send_datagrams(rq);
}

static void uring__start(rio_core *core, rio_rq *rq, enum rio_direction direction)
{
    (void)core;
    if (rq->lanes[direction].flight != 0)
        return;
    if (RIO_UNLIKELY(!rq->stream)) {
        uring__datagrams(rq, direction);
        if (rio_lane_waiting(&rq->lanes[direction]) == 0)
            return;
    }
    uring_due(rq);
}

/* -------------------------------------------------------------------------- submission entries */

/* One system call. Number submitted, or minus an errno. */
static int uring__enter(uring_port *port, int events, uint32_t least, int64_t timeout_ns,
                        uint32_t gather_us)
{
    int result = rio_ring_enter(&port->ring, events, least, timeout_ns, gather_us);
    rio_count(&port->base.core.counts.system_calls, 1);
    if (RIO_LIKELY(result > 0))
        rio_count(&port->base.core.counts.submissions, (uint32_t)result);
    port->sends = 0;
    return result;
}

struct io_uring_sqe *uring_next(uring_port *port)
{
    struct io_uring_sqe *entry = rio_ring_next(&port->ring);
    if (RIO_UNLIKELY(entry == NULL)) {
        (void)uring__enter(port, 0, 0, 0, 0);
        entry = rio_ring_next(&port->ring);
    }
    if (RIO_LIKELY(entry != NULL))
        rio_count(&port->base.core.counts.in_kernel, 1);
    return entry;
}

void uring_cancel(uring_port *port, uint64_t number)
{
    struct io_uring_sqe *entry = uring_next(port);
    if (entry == NULL)
        return;
    entry->opcode = IORING_OP_ASYNC_CANCEL;
    entry->fd = -1;
    entry->addr = number;
    entry->cancel_flags = number == URING_NOBODY
                              ? IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL
                              : 0;
    entry->user_data = URING_NOBODY;
}

static void uring__receive(rio_rq *rq, struct io_uring_sqe *entry)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    rio_request *request = rio_lane_request(lane, 0);
    uring_side *side = uring_side_of(rq);
    uint32_t rest = request->length - request->done;

    entry->fd = (int)rq->socket;
    entry->ioprio = side->more ? 0 : IORING_RECVSEND_POLL_FIRST;
    entry->user_data = (uint64_t)(uintptr_t)rq | URING_RECEIVE;
    entry->msg_flags = 0;
    if (RIO_UNLIKELY(side->edges)) {
        entry->ioprio = 0;
        entry->msg_flags = MSG_DONTWAIT;
    }
    lane->flight = 1;
    if (rq->stream && rio_probes(request)) {
        entry->ioprio = 0;
        entry->msg_flags = 0;
        entry->opcode = IORING_OP_POLL_ADD;
        entry->poll32_events = uring_poll_events(POLLIN | POLLRDHUP);
        return;
    }
    if (RIO_LIKELY(rq->stream)) {
        entry->opcode = IORING_OP_RECV;
        entry->addr = (uint64_t)(uintptr_t)(request->memory + request->done);
        entry->len = rest < RIO_TRANSFER_MAX ? rest : RIO_TRANSFER_MAX;
        if (RIO_UNLIKELY(request->flags & RIO_MSG_WAITALL) && !side->edges)
            entry->msg_flags = MSG_WAITALL;
        return;
    }
    side->piece = (struct iovec){ request->memory, request->length };
    side->message = (struct msghdr){ .msg_name = &side->address,
                                     .msg_namelen = sizeof side->address,
                                     .msg_iov = &side->piece,
                                     .msg_iovlen = 1 };
    entry->opcode = IORING_OP_RECVMSG;
    entry->addr = (uint64_t)(uintptr_t)&side->message;
    entry->len = 1;
}

static void uring__send(uring_port *port, rio_rq *rq, struct io_uring_sqe *entry)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];
    rio_request *request = rio_lane_request(lane, 0);
    uring_side *side = uring_side_of(rq);
    uint32_t rest = request->length - request->done;

    port->sends++;
    entry->fd = (int)rq->socket;
    entry->ioprio = side->blocked ? IORING_RECVSEND_POLL_FIRST : 0;
    entry->user_data = (uint64_t)(uintptr_t)rq | URING_SEND;
    entry->msg_flags = MSG_NOSIGNAL | (RIO_UNLIKELY(side->edges) ? MSG_DONTWAIT : MSG_WAITALL);
    if (RIO_LIKELY(rq->stream && rio_lane_waiting(lane) == 1)) {
        entry->opcode = IORING_OP_SEND;
        entry->addr = (uint64_t)(uintptr_t)(request->memory + request->done);
        entry->len = rest < RIO_TRANSFER_MAX ? rest : RIO_TRANSFER_MAX;
        lane->flight = 1;
        return;
    }
    uring_gather *gather = &port->gathers[entry - port->ring.submissions];
    entry->opcode = IORING_OP_SENDMSG;
    entry->addr = (uint64_t)(uintptr_t)&gather->message;
    entry->len = 1;
    gather->message = (struct msghdr){ .msg_iov = gather->pieces };
    if (rq->stream) {
        size_t total;
        lane->flight = rio_gather(lane, gather->pieces, &total);
        rio_count(&port->base.core.counts.gathered, lane->flight - 1);
    } else {
        char *remote = rio_lane_envelope(lane, 0)->remote;
        gather->pieces[0] = (struct iovec){ request->memory, request->length };
        gather->message.msg_name = remote;
        gather->message.msg_namelen = rio_remote_length(remote);
        entry->msg_flags &= ~(uint32_t)MSG_WAITALL;
        lane->flight = 1;
    }
    gather->message.msg_iovlen = lane->flight;
}

/* Writes an entry for everything that waits and whose direction is free. */
static void uring__write(uring_port *port)
{
    struct io_uring_sqe *entry;
    rio_rq *rq;

    if (RIO_UNLIKELY(port->polite_until != 0))
        (void)uring_listeners_rest(port);
    if (RIO_UNLIKELY(port->first_errand != NULL))
        uring_errands_submit(port);
    while ((rq = port->first_due) != NULL) {
        const uring_side *side = uring_side_of(rq);
        if (RIO_UNLIKELY(rio_linux_is_gone(rq))) {
            uring_not_due(rq);
            continue;
        }
        if (rq->lanes[RIO_SENDS].flight == 0 && rio_lane_waiting(&rq->lanes[RIO_SENDS]) != 0 &&
            !(side->edges && side->blocked)) {
            if ((entry = uring_next(port)) == NULL)
                return;
            uring__send(port, rq, entry);
        }
        if (rq->lanes[RIO_RECEIVES].flight == 0 &&
            rio_lane_waiting(&rq->lanes[RIO_RECEIVES]) != 0 && side->edges <= side->readable &&
            !uring_rest(port, rq)) {
            if ((entry = uring_next(port)) == NULL)
                return;
            uring__receive(rq, entry);
        }
        uring_not_due(rq);
    }
}

static int64_t uring__now(rio_rq *rq, enum rio_direction direction, char *memory, uint32_t length)
{
    int64_t moved = rio_linux_now(rq, direction, memory, length);
    if (direction == RIO_RECEIVES && moved < (int64_t)length)
        uring_side_of(rq)->more = 0; /* the next receive would try in vain */
    return moved;
}

/* -------------------------------------------------------------------------------------- results */

/* 1 if the operation did not do anything and should be written again. */
static inline int uring__again(int32_t result)
{
    return result == -ECANCELED || result == -EAGAIN || result == -EINTR;
}

/* A datagram came. The kernel does not say of a datagram socket whether it holds more, so if other
 * receives wait, a call tries: always while that succeeds, else rarely. */
static void uring__look(rio_rq *rq, uring_side *side)
{
    if (rio_lane_waiting(&rq->lanes[RIO_RECEIVES]) == 0)
        return;
    if (side->vain != 0) {
        side->vain--;
        return;
    }
    uint32_t head = rq->lanes[RIO_RECEIVES].head;
    side->more = 1;
    uring__datagrams(rq, RIO_RECEIVES);
    if (rq->lanes[RIO_RECEIVES].head == head)
        side->vain = LOOK_RARELY;
}

/* The poll of a receive says that there is something, and there is nothing: a queue of errors that
 * nobody empties (IP_RECVERR, time stamps). Asked again at once, it would say so for ever. */
static void uring__nothing(rio_rq *rq, uring_side *side)
{
    if (!side->edges)
        uring_edges_begin((uring_port *)rq->core, rq);
    else if (!side->edge)
        side->readable = 0;
    side->edge = 0;
}

static inline void uring__received(rio_rq *rq, int32_t result, uint32_t flags)
{
    uring_side *side = uring_side_of(rq);

    rq->lanes[RIO_RECEIVES].flight = 0;
    side->more = (flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    if (RIO_UNLIKELY(result < 0)) {
        if (result == -EAGAIN)
            uring__nothing(rq, side);
        if (result == -ECANCELED && ((uring_port *)rq->core)->recalls &&
            side->idle < URING_IDLE_PARKS)
            side->idle++;
        if (!uring__again(result))
            rio_failed(rq, RIO_RECEIVES, rio_code_of_errno(-result));
    } else if (rq->stream && rio_probes(rio_lane_request(&rq->lanes[RIO_RECEIVES], 0))) {
        if (RIO_UNLIKELY(result == POLLERR)) /* `result` is what poll() would say */
            uring__nothing(rq, side);
        else
            rio_complete(rq, RIO_RECEIVES, 0);
    } else if (RIO_LIKELY(rq->stream)) {
        side->idle = 0;
        rio_received(rq, (uint32_t)result);
    } else {
        rio_datagram_received(rq, (uint32_t)result, &side->address, side->message.msg_namelen,
                              (uint32_t)side->message.msg_flags,
                              (side->message.msg_flags & MSG_TRUNC) != 0);
        uring__look(rq, side);
    }
}

static inline void uring__sent(rio_rq *rq, int32_t result)
{
    uring_side *side = uring_side_of(rq);

    rq->lanes[RIO_SENDS].flight = 0;
    if (RIO_UNLIKELY(result == -EAGAIN && side->blocked && !side->edges))
        uring_edges_begin((uring_port *)rq->core, rq); /* it asked for room first, in vain */
    side->blocked = 0;
    if (RIO_UNLIKELY(result < 0)) {
        side->blocked = result == -EAGAIN;
        if (!uring__again(result))
            rio_failed(rq, RIO_SENDS, rio_send_code(rq, -result));
    } else if (RIO_LIKELY(rq->stream)) {
        rio_sent(rq, (size_t)result);
    } else {
        rio_datagram_sent(rq, (uint32_t)result);
        uring__datagrams(rq, RIO_SENDS);
    }
}

static inline void uring__result(uring_port *port, uint64_t number, int32_t result, uint32_t flags)
{
    uint64_t owner = number & URING_OWNER_BITS;
    void *object = (void *)(uintptr_t)(number & ~URING_OWNER_BITS);
    rio_rq *rq = object;

    if (RIO_UNLIKELY(owner == URING_ERRAND)) {
        uring_errand_done(port, object, result, flags);
        return;
    }
    rio_count(&port->base.core.counts.in_kernel, -1);
    if (RIO_UNLIKELY(owner == URING_NOBODY))
        return;
    assert(rq->lanes[owner].flight != 0);
    if (owner == URING_RECEIVE)
        uring__received(rq, result, flags);
    else
        uring__sent(rq, result);
    if (RIO_UNLIKELY(rq->retired)) {
        if (rq->retired == 2)
            rio_rq_settle(rq);
    } else if (rio_lane_waiting(&rq->lanes[owner]) != 0) {
        uring_due(rq);
    }
}

/* Handles every result that is in the ring; returns how many. */
static uint32_t uring__reap(uring_port *port)
{
    rio_ring *ring = &port->ring;
    uint32_t head = atomic_load_explicit(ring->results_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(ring->results_tail, memory_order_acquire);
    uint32_t count = tail - head;

    while (head != tail) {
        struct io_uring_cqe result = ring->results[head & ring->results_mask];
        head++;
        uring__result(port, result.user_data, result.res, result.flags);
    }
    atomic_store_explicit(ring->results_head, head, memory_order_release);
    return count;
}

static uint32_t uring__fetch(uring_port *port)
{
    uint32_t count = uring__reap(port);
    while (RIO_UNLIKELY(rio_ring_flags(&port->ring) & IORING_SQ_CQ_OVERFLOW)) {
        if (uring__enter(port, 1, 0, 0, 0) < 0)
            break;
        count += uring__reap(port);
    }
    return count;
}

void uring_turn(uring_port *port, int patient)
{
    (void)uring__enter(port, 1, patient ? 1 : 0, PATIENCE_NS, 0);
    uring__fetch(port);
}

/* ------------------------------------------------------------------------------------- the wait */

/* The ring, made ready for this thread. 0 or a code. */
static int32_t uring__here(uring_port *port)
{
    uint64_t thread = rio_thread();
    int error = 0;

    if (RIO_LIKELY(port->thread == thread && !port->parked))
        return 0;
    if (port->thread != 0 && port->thread != thread) {
        if (!port->parked)
            return RIO_EINVAL; /* rule 10: between two threads stands a park */
        assert(port->base.core.counts.in_kernel == 0);
        uint32_t entries = port->ring.entries;
        rio_ring_close(&port->ring);
        error = rio_ring_open(&port->ring, entries);
    }
    if (error == 0)
        error = rio_ring_enable(&port->ring);
    if (error != 0)
        return rio_code_of_errno(error);
    port->thread = thread;
    port->parked = 0;
    uring_errands_list(port);
    return 0;
}

int64_t uring_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * (int64_t)NS_PER_SECOND + now.tv_nsec;
}

/* 1 if the caller has something to hear of. */
static inline int uring__tells(uring_port *port, uint32_t loud)
{
    return loud != port->base.core.loud || port->watches_stir || rio_linux_ready(&port->base) ||
           (RIO_UNLIKELY(port->listeners_stir) && uring_listeners_look(port));
}

/* Sleeps until there is something to tell, or until the time is over. 0 or minus a code. */
static int32_t uring__sleep(uring_port *port, int64_t timeout_ns)
{
    uint32_t loud = port->base.core.loud;
    int64_t end = timeout_ns > 0 ? uring_clock() + timeout_ns : 0;

    for (;;) {
        int gathers = port->sends >= GATHER_SENDS &&
                      (port->ring.features & IORING_FEAT_MIN_TIMEOUT) != 0;
        uint32_t least = 1 + (gathers ? port->sends : 0);
        int64_t part_ns = timeout_ns;
        int naps = RIO_UNLIKELY(port->polite_until != 0);
        if (naps) {
            int64_t rest_ns = uring_listeners_rest(port);
            if (timeout_ns < 0 || rest_ns < timeout_ns)
                part_ns = rest_ns;
        }
        int result = uring__enter(port, 1, least, part_ns, gathers ? GATHER_US : 0);
        uint32_t found = uring__fetch(port);
        if (RIO_UNLIKELY(result < 0 && result != -ETIME && result != -EINTR && result != -EBUSY &&
                         result != -EAGAIN))
            return -rio_code_of_errno(-result);
        if (RIO_LIKELY(uring__tells(port, loud)) || (found < least && !(naps && result == -ETIME)))
            return 0;
        if (timeout_ns > 0 && (timeout_ns = end - uring_clock()) <= 0)
            return 0;
        uring__write(port);
    }
}

/* Polls: results, and work that the kernel does only when it is entered, show in shared memory. */
static int uring__poll(void *object)
{
    uring_port *port = object;
    uint32_t loud = port->base.core.loud;

    if (port->first_due != NULL || port->first_errand != NULL || port->polite_until != 0)
        uring__write(port);
    if (rio_ring_written(&port->ring) != 0 || rio_ring_stirs(&port->ring))
        uring_turn(port, 0);
    return uring__tells(port, loud);
}

static int32_t uring__wait(rio_port *handle, rio_port_event *events, uint32_t size,
                           int64_t timeout_ns)
{
    int32_t code = 0;
    uring_port *port = uring_port_of(handle, &code);

    if (RIO_UNLIKELY(port == NULL || (code = uring__here(port)) != 0))
        return -code;
    if (RIO_UNLIKELY(events == NULL || size == 0))
        return -(events == NULL ? RIO_EFAULT : RIO_EINVAL);
    rio_count(&port->base.core.counts.waits, 1);
    uring__write(port);
    if (timeout_ns != 0 && uring__tells(port, port->base.core.loud))
        timeout_ns = 0;
    if (timeout_ns != 0 && port->base.core.spin.limit_ns != 0) {
        timeout_ns = rio_spin_poll(&port->base.core.spin, timeout_ns, uring__poll, port);
        uring__write(port); /* what the last look made due */
    }
    if (timeout_ns != 0 && rio_bell_may_sleep(&port->base.bell))
        code = uring__sleep(port, timeout_ns);
    else if (rio_ring_written(&port->ring) != 0 || rio_ring_stirs(&port->ring))
        uring_turn(port, 0);
    rio_bell_awake(&port->base.bell);
    if (RIO_UNLIKELY(code < 0))
        return code;
    uint32_t ready = rio_linux_ready(&port->base), count = 0; /* room for one of these stays */
    if (RIO_UNLIKELY(port->listeners_stir))
        count = uring_listeners_take(port, events, size - ready);
    if (RIO_UNLIKELY(port->watches_stir))
        count += uring_watches_take(port, events + count, size - ready - count);
    count += rio_linux_take(&port->base, events + count, size - count);
    if (count != 0)
        rio_spin_heard(&port->base.core.spin);
    return (int32_t)count;
}

static int32_t uring__pending(rio_port *handle)
{
    int32_t code = 0;
    const uring_port *port = uring_port_of(handle, &code);
    if (port == NULL)
        return 0;
    return port->first_due != NULL || port->first_errand != NULL || port->watches_stir ||
           port->listeners_stir || port->polite_until != 0 || rio_linux_ready(&port->base) ||
           rio_ring_written(&port->ring) != 0 || rio_ring_stirs(&port->ring);
}

static void uring__progress(rio_core *core)
{
    uring_port *port = (uring_port *)core;
    if (uring__here(port) != 0)
        return;
    uring__write(port);
    if (rio_ring_written(&port->ring) != 0 || rio_ring_stirs(&port->ring))
        uring_turn(port, 0);
}

/* ----------------------------------------------------------------------------- birth and death */

static int32_t uring__attach(rio_core *core, rio_rq *rq)
{
    (void)core;
    return rio_socket_kind(rq->socket, &rq->stream);
}

static void uring__shut(rio_core *core)
{
    uring_port *port = (uring_port *)core;

    if (!rio_core_ours(core))
        rio_ring_orphan(&port->ring);
    else if (uring_take_back(port) != 0) /* not our thread's: the kernel cancels by itself */
        rio_ring_close(&port->ring);
    rio_linux_port_end(&port->base);
    uring_errands_end(port);
    rio_ring_close(&port->ring);
    free(port->gathers);
    free(port);
}

static rio_core *uring__open(const rio_port_options *options)
{
    uint32_t depth = options != NULL && options->depth != 0 ? options->depth
                                                               : RIO_RING_ENTRIES;
    if (depth > DEPTH_MAX)
        depth = DEPTH_MAX;
    uring_port *port = (uring_port *)rio_linux_port_begin(&uring_driver, options, sizeof *port);
    if (port == NULL)
        return NULL;
    uring_errands_begin(port);
    int error = rio_ring_open(&port->ring, depth);
    if (error == 0)
        port->gathers = calloc(port->ring.entries, sizeof *port->gathers);
    if (error == 0 && port->gathers != NULL)
        return &port->base.core;
    uring__shut(&port->base.core);
    rio_refuse(error != 0 ? rio_code_of_errno(error) : RIO_ENOBUFS);
    return NULL;
}

static rio_port *uring__create(const rio_port_options *options)
{
    return rio_core_publish(uring__open(options));
}

static void uring__close(rio_port *handle)
{
    rio_core *core = rio_handle_object(handle, RIO_KIND_PORT);
    if (core != NULL && core->driver == &uring_driver)
        uring__shut(core);
}

/* ----------------------------------------------------------------------------------- the tables */

RIO_EMULATION_CREATORS(uring_, &uring_driver)

const rio_driver uring_driver = {
    .rq_bytes = sizeof(uring_side),
    .open = uring__open,
    .shut = uring__shut,
    .attach = uring__attach,
    .detach = uring_detach,
    .start = uring__start,
    .recall = uring_recall_receive,
    .now = uring__now,
    .datagrams_now = rio_linux_datagrams_now,
    .progress = uring__progress,
};

const rio_provider rio_provider_uring = {
    .size = sizeof(rio_provider),
    .capabilities = RIO_CAP_SEND_MEMORY | RIO_CAP_RECEIVE_MEMORY | RIO_CAP_DATAGRAM | RIO_CAP_NOW |
                    RIO_CAP_SEND_NOW | RIO_CAP_BATCH | RIO_CAP_PENDING, /* by TASKRUN */
    .name = "uring",
    .probe = rio_ring_probe,
    .rio = RIO_EMULATION_TABLE(uring__create_completion_queue, uring__create_request_queue),
    .port = {
        RIO_LINUX_PORT_ENTRIES,
        .create = uring__create,
        .close = uring__close,
        .wait = uring__wait,
        .pending = uring__pending,
        .watch = uring_watch,
        .accept = uring_accept,
        .accept_stop = uring_accept_stop,
        .accept_alone = uring_accept_alone,
        .connect = uring_connect,
        .connect_stop = uring_connect_stop,
        .park = uring_park,
    },
    RIO_LINUX_ENTRIES,
};
