/* uring_requests.c: bytes of request queues over the ring: operations are written, results handled.
 *
 * A request queue has at most one operation per direction in the kernel, because io_uring promises
 * no order between two:
 *   receive  RECV of the first waiting request. POLL_FIRST says not to try before data is there,
 *            because a receive that follows an echo would try in vain; it is omitted if the last
 *            completion said that the socket holds more (SOCK_NONEMPTY)
 *   send     SEND, or one SENDMSG for several waiting requests. MSG_WAITALL makes the kernel itself
 *            continue after a short send; what still comes back short is resumed
 * Datagrams are different: what a socket takes or provides at once is moved by calls, many in each
 * (datagrams.c), and the ring is for the first one that must wait. A request made while its
 * direction is busy waits in its lane and goes out with the others when the operation ends. RIOSend
 * and RIOReceive only put the queue on a list (`due`); the entries are written when the thread
 * waits. So all requests of one turn of the loop, and the wait for the next, are one system call.
 *
 * Link: https://man7.org/linux/man-pages/man3/io_uring_prep_recv.3.html
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "linux/uring_requests.h"

#include <errno.h>
#include <poll.h>

#include "linux/datagrams.h"
#include "linux/sockets.h"
#include "linux/uring_accept.h"
#include "linux/uring_edges.h"
#include "linux/uring_polls.h"
#include "linux/uring_rest.h"

/* After this many single datagrams, one is taken for the first of many again. A futile call costs a
 * tenth of a datagram; done this rarely, it is lost in the noise. */
#define LOOK_RARELY 15

/* A patient turn waits this long. */
#define PATIENCE_NS 1000000

/* Moves waiting datagrams, none of which is in the kernel, until one must wait. */
static void uring_requests__datagrams(rio_rq *rq, enum rio_direction direction)
{
    const rio_lane *lane = &rq->lanes[direction];
    uring_side *side = uring_port_side(rq);

    if (rq->retired || sockets_gone(rq))
        return;
    if (direction == RIO_RECEIVES)
        while (side->more && rq_waiting(lane) != 0)
            side->more = (uint8_t)datagrams_receive(rq);
    else
        while (!side->blocked && rq_waiting(lane) != 0)
            side->blocked = !datagrams_send(rq);
}

void uring_requests_start(rio_hub *hub, rio_rq *rq, enum rio_direction direction)
{
    (void)hub;
    if (rq->lanes[direction].flight != 0)
        return;
    if (RIO_UNLIKELY(!rq->stream)) {
        uring_requests__datagrams(rq, direction);
        if (rq_waiting(&rq->lanes[direction]) == 0)
            return;
    }
    uring_port_due(rq);
}

int64_t uring_requests_now(rio_rq *rq, enum rio_direction direction, char *memory, uint32_t length)
{
    int64_t moved = sockets_now(rq, direction, memory, length);
    if (direction == RIO_RECEIVES && moved < (int64_t)length)
        uring_port_side(rq)->more = 0; /* the next receive would try in vain */
    return moved;
}

/* --------------------------------------------------------------------------------- operations */

static void uring_requests__receive(rio_rq *rq, struct io_uring_sqe *entry)
{
    rio_lane *lane = &rq->lanes[RIO_RECEIVES];
    rio_request *request = rq_request(lane, 0);
    uring_side *side = uring_port_side(rq);
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
    if (rq->stream && rq_probes(request)) {
        entry->ioprio = 0;
        entry->msg_flags = 0;
        entry->opcode = IORING_OP_POLL_ADD;
        entry->poll32_events = uring_port_poll_events(POLLIN | POLLRDHUP);
        return;
    }
    if (RIO_LIKELY(rq->stream)) {
        entry->opcode = IORING_OP_RECV;
        entry->addr = (uint64_t)(uintptr_t)(request->memory + request->done);
        entry->len = rest < RQ_TRANSFER_MAX ? rest : RQ_TRANSFER_MAX;
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

static void uring_requests__send(uring_port *port, rio_rq *rq, struct io_uring_sqe *entry)
{
    rio_lane *lane = &rq->lanes[RIO_SENDS];
    rio_request *request = rq_request(lane, 0);
    uring_side *side = uring_port_side(rq);
    uint32_t rest = request->length - request->done;

    port->sends++;
    entry->fd = (int)rq->socket;
    entry->ioprio = side->blocked ? IORING_RECVSEND_POLL_FIRST : 0;
    entry->user_data = (uint64_t)(uintptr_t)rq | URING_SEND;
    entry->msg_flags = MSG_NOSIGNAL | (RIO_UNLIKELY(side->edges) ? MSG_DONTWAIT : MSG_WAITALL);
    if (RIO_LIKELY(rq->stream && rq_waiting(lane) == 1)) {
        entry->opcode = IORING_OP_SEND;
        entry->addr = (uint64_t)(uintptr_t)(request->memory + request->done);
        entry->len = rest < RQ_TRANSFER_MAX ? rest : RQ_TRANSFER_MAX;
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
        lane->flight = sockets_gather(lane, gather->pieces, &total);
        counts_add(&port->base.hub.counts.gathered, lane->flight - 1);
    } else {
        char *remote = rq_envelope(lane, 0)->remote;
        gather->pieces[0] = (struct iovec){ request->memory, request->length };
        gather->message.msg_name = remote;
        gather->message.msg_namelen = sockets_remote_length(remote);
        entry->msg_flags &= ~(uint32_t)MSG_WAITALL;
        lane->flight = 1;
    }
    gather->message.msg_iovlen = lane->flight;
}

void uring_requests_write(uring_port *port)
{
    struct io_uring_sqe *entry;
    rio_rq *rq;

    if (RIO_UNLIKELY(port->polite_until != 0))
        (void)uring_accept_rest(port);
    if (RIO_UNLIKELY(port->first_poll != NULL))
        uring_polls_submit(port);
    while ((rq = port->first_due) != NULL) {
        const uring_side *side = uring_port_side(rq);
        if (RIO_UNLIKELY(sockets_gone(rq))) {
            uring_port_not_due(rq);
            continue;
        }
        if (rq->lanes[RIO_SENDS].flight == 0 && rq_waiting(&rq->lanes[RIO_SENDS]) != 0 &&
            !(side->edges && side->blocked)) {
            if ((entry = uring_port_next(port)) == NULL)
                return;
            uring_requests__send(port, rq, entry);
        }
        if (rq->lanes[RIO_RECEIVES].flight == 0 && rq_waiting(&rq->lanes[RIO_RECEIVES]) != 0 &&
            side->edges <= side->readable && !uring_rest(port, rq)) {
            if ((entry = uring_port_next(port)) == NULL)
                return;
            uring_requests__receive(rq, entry);
        }
        uring_port_not_due(rq);
    }
}

/* ------------------------------------------------------------------------------------ results */

/* 1 if the operation did nothing and should be written again. */
static inline int uring_requests__again(int32_t result)
{
    return result == -ECANCELED || result == -EAGAIN || result == -EINTR;
}

/* A datagram came. The kernel does not tell whether a datagram socket holds more, so if other
 * receives wait, a call tries: always while that succeeds, else rarely. */
static void uring_requests__look(rio_rq *rq, uring_side *side)
{
    if (rq_waiting(&rq->lanes[RIO_RECEIVES]) == 0)
        return;
    if (side->vain != 0) {
        side->vain--;
        return;
    }
    uint32_t head = rq->lanes[RIO_RECEIVES].head;
    side->more = 1;
    uring_requests__datagrams(rq, RIO_RECEIVES);
    if (rq->lanes[RIO_RECEIVES].head == head)
        side->vain = LOOK_RARELY;
}

/* The poll of a receive reports something, but there is nothing: a queue of errors that nobody
 * empties (IP_RECVERR, time stamps). Asked again at once, it would report that for ever. */
static void uring_requests__nothing(rio_rq *rq, uring_side *side)
{
    if (!side->edges)
        uring_edges_begin((uring_port *)rq->hub, rq);
    else if (!side->edge)
        side->readable = 0;
    side->edge = 0;
}

static inline void uring_requests__received(rio_rq *rq, int32_t result, uint32_t flags)
{
    uring_side *side = uring_port_side(rq);

    rq->lanes[RIO_RECEIVES].flight = 0;
    side->more = (flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    if (RIO_UNLIKELY(result < 0)) {
        if (result == -EAGAIN)
            uring_requests__nothing(rq, side);
        if (result == -ECANCELED && ((uring_port *)rq->hub)->parking &&
            side->idle < URING_IDLE_PARKS)
            side->idle++;
        if (!uring_requests__again(result))
            rq_failed(rq, RIO_RECEIVES, rio_code_of_errno(-result));
    } else if (rq->stream && rq_probes(rq_request(&rq->lanes[RIO_RECEIVES], 0))) {
        if (RIO_UNLIKELY(result == POLLERR)) /* `result` is what poll() would return */
            uring_requests__nothing(rq, side);
        else
            rq_complete(rq, RIO_RECEIVES, 0);
    } else if (RIO_LIKELY(rq->stream)) {
        side->idle = 0;
        rq_received(rq, (uint32_t)result);
    } else {
        rq_datagram_received(rq, (uint32_t)result, &side->address, side->message.msg_namelen,
                             (uint32_t)side->message.msg_flags,
                             (side->message.msg_flags & MSG_TRUNC) != 0);
        uring_requests__look(rq, side);
    }
}

static inline void uring_requests__sent(rio_rq *rq, int32_t result)
{
    uring_side *side = uring_port_side(rq);

    rq->lanes[RIO_SENDS].flight = 0;
    if (RIO_UNLIKELY(result == -EAGAIN && side->blocked && !side->edges))
        uring_edges_begin((uring_port *)rq->hub, rq); /* it asked for room first, in vain */
    side->blocked = 0;
    if (RIO_UNLIKELY(result < 0)) {
        side->blocked = result == -EAGAIN;
        if (!uring_requests__again(result))
            rq_failed(rq, RIO_SENDS, sockets_send_code(rq, -result));
    } else if (RIO_LIKELY(rq->stream)) {
        rq_sent(rq, (size_t)result);
    } else {
        rq_datagram_sent(rq, (uint32_t)result);
        uring_requests__datagrams(rq, RIO_SENDS);
    }
}

static inline void uring_requests__result(uring_port *port, uint64_t number, int32_t result,
                                          uint32_t flags)
{
    uint64_t owner = number & URING_OWNER_BITS;
    void *object = (void *)(uintptr_t)(number & ~URING_OWNER_BITS);
    rio_rq *rq = object;

    if (RIO_UNLIKELY(owner == URING_POLL)) {
        uring_polls_done(port, object, result, flags);
        return;
    }
    counts_add(&port->base.hub.counts.in_kernel, -1);
    if (RIO_UNLIKELY(owner == URING_NOBODY))
        return;
    assert(rq->lanes[owner].flight != 0);
    if (owner == URING_RECEIVE)
        uring_requests__received(rq, result, flags);
    else
        uring_requests__sent(rq, result);
    if (RIO_UNLIKELY(rq->retired)) {
        if (rq->retired == 2)
            rq_settle(rq);
    } else if (rq_waiting(&rq->lanes[owner]) != 0) {
        uring_port_due(rq);
    }
}

/* Handles every result in the ring; returns how many. */
static uint32_t uring_requests__reap(uring_port *port)
{
    ring_state *ring = &port->ring;
    uint32_t head = atomic_load_explicit(ring->results_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(ring->results_tail, memory_order_acquire);
    uint32_t count = tail - head;

    while (head != tail) {
        struct io_uring_cqe result = ring->results[head & ring->results_mask];
        head++;
        uring_requests__result(port, result.user_data, result.res, result.flags);
    }
    atomic_store_explicit(ring->results_head, head, memory_order_release);
    return count;
}

uint32_t uring_requests_fetch(uring_port *port)
{
    uint32_t count = uring_requests__reap(port);
    while (RIO_UNLIKELY(ring_flags(&port->ring) & IORING_SQ_CQ_OVERFLOW)) {
        if (uring_port_enter(port, 1, 0, 0, 0) < 0)
            break;
        count += uring_requests__reap(port);
    }
    return count;
}

void uring_requests_turn(uring_port *port, int patient)
{
    (void)uring_port_enter(port, 1, patient ? 1 : 0, PATIENCE_NS, 0);
    uring_requests_fetch(port);
}
